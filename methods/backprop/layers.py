"""Convolutional layers: finding them in a network, with the values they have and the gradients that reach them.

A layer is named by its module ("features.28"), by a VGG block ("B1" to "B5"), or by

last  the last spatial activations (the default): what the activation after the last convolution computed, or the convolution
      itself (with its batch normalisation) if none follows. Of parallel branches each has a last one. The channels of all
      of them are one layer: for branches that are concatenated, it is that of the concatenation.
all   every spatial activation, and convolutions that none follows.

Blocks are what Khakzar et al. 2020 call B1, ..., B5: "the convolutional maps at different resolution blocks". A block ends
where its maps are pooled, and its layer is the last spatial activation before the pooling: the maps at the resolution of the
block. B5 of VGG-16 is the last layer of its features, the one that the paper uses for GradCAM. These names stand before those
of modules.

Layers are found by the operations of the forward pass, so module, functional, method and in-place forms are alike; modules
are looked at only where one is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...compat.torch_parts import unseen
from ...errors import Unsupported, UsageError
from .operations import PIECEWISE
from .passes import Operation
from .places import CONVOLUTIONS, NOWHERE, Axes, Following

LAST, ALL = "last", "all"

ACTIVATIONS = (PIECEWISE | {
    "tanh", "sigmoid", "softplus", "gelu", "silu", "mish", "elu", "celu", "selu", "logsigmoid", "softsign", "tanhshrink",
})  # fmt: skip

# A maximum or minimum with a constant is an activation, too.
_AGAINST_CONSTANT = frozenset({"maximum", "minimum", "max", "min"})

# What leaves a map of channels and space one (besides activations, convolutions and pooling).
_KEEPS = frozenset({
    "batch_norm", "group_norm", "instance_norm", "local_response_norm", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "feature_dropout", "add", "sub", "rsub", "neg", "mul", "div", "clone", "contiguous", "to", "pad", "interpolate", "cat",
    "concat", "concatenate", "maximum", "minimum", "identity", "alias", "positive", "double", "float",
})  # fmt: skip


@dataclass(eq=False)
class Layer:
    """The maps of a layer, and the gradient of the target logit there.

    activation  [B, K, *sizes]
    gradient    [B, K, *sizes], in units of output per activation; zeros where none reaches the layer
    axes        for each axis of the sizes, the axis of the input [B, *shape] that it runs along
    """

    activation: Tensor
    gradient: Tensor
    axes: Axes
    convolution: bool = False
    covered: bool = False


@dataclass(frozen=True)
class _Note:
    """What is known of a value: the layers that it was computed from (the last of each branch), whether it still is a
    convolutional map, and whether it is the very output of a layer."""

    layers: frozenset[int] = frozenset()
    spatial: bool = False
    exact: int | None = None


_NOTE = "_attribcheck_note"


@dataclass
class _Found:
    layers: list[Layer] = field(default_factory=list)
    passed: set[int] = field(default_factory=set)
    """Layers that another one reads: not the last ones."""
    blocks: list[frozenset[int]] = field(default_factory=list)


class LayerPass(Following):
    """A forward pass that finds the layers of a network, and the gradients that reach them."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.found = _Found()

    def note(self, value: Tensor) -> _Note:
        known: _Note = getattr(value, _NOTE, _Note())
        return known

    def before(self, operation: Operation) -> _Note:
        notes = [self.note(t) for t in operation.inputs]
        merged = frozenset().union(*(note.layers for note in notes))
        return _Note(merged, any(note.spatial for note in notes), notes[0].exact)

    def last(self, layers: frozenset[int]) -> frozenset[int]:
        """Those of the layers that no other one reads."""
        return layers - self.found.passed

    def after(self, operation: Operation, outputs: list[Tensor], known: _Note) -> None:
        name = operation.name
        for value in outputs:
            spatial = known.spatial and value.dim() > 2
            layers, exact = known.layers, None
            if name in CONVOLUTIONS and value.dim() > 2:
                exact, spatial = self.put(value, known.layers, convolution=True), True
            elif (
                spatial
                and name == "batch_norm"
                and known.exact is not None
                and self.found.layers[known.exact].convolution
            ):
                self.found.layers[known.exact].covered = True
                exact = self.put(value, known.layers, convolution=True)
            elif spatial and _activates(operation, value):
                for k in self.last(known.layers):
                    self.found.layers[k].covered |= self.found.layers[k].convolution
                exact = self.put(value, known.layers, convolution=False)
            elif spatial and "pool" in name:
                block = self.last(known.layers)
                if block and block not in self.found.blocks[-1:]:
                    self.found.blocks.append(block)
                # Pooled over all of space: channels only are left (the gates of squeeze-and-excitation read them).
                spatial = not name.startswith("adaptive") or any(size > 1 for size in value.shape[2:])
            elif name not in _KEEPS:
                spatial = False
            if exact is not None:
                layers = frozenset({exact})
            setattr(value, _NOTE, _Note(layers, spatial, exact))

    def put(self, value: Tensor, read: frozenset[int], *, convolution: bool) -> int:
        """Keep a layer with what it computed; the gradient comes with the backward pass."""
        self.found.passed |= read
        self.found.layers.append(self.watched(value, convolution))
        return len(self.found.layers) - 1

    def watched(self, value: Tensor, convolution: bool = False) -> Layer:
        """A value as a layer. What the model writes into it later is no longer the layer's: neither value nor gradient."""
        kept = value.detach().clone()
        axes = self.axes(value)
        layer = Layer(kept, torch.zeros_like(kept), axes[2:] if axes[:1] == (0,) else (), convolution)

        def reached(g: Tensor) -> None:
            layer.gradient = g.detach().clone()

        if value.requires_grad:
            value.register_hook(reached)
        return layer

    def chosen(self, output: Tensor, layer: str) -> list[Layer]:
        """The layers of a pass that ended in the output."""
        found, last = self.found, self.last(self.note(output).layers)
        if not found.layers:
            raise Unsupported(f"{self.method} needs a layer with space, and the network has no convolution")
        if layer == LAST:
            numbers = sorted(last)
        elif layer == ALL:
            numbers = [k for k, each in enumerate(found.layers) if not each.covered]
        else:
            blocks = found.blocks if last <= set().union(*found.blocks) else [*found.blocks, last]
            if int(layer[1:]) > len(blocks):
                raise Unsupported(
                    f"{self.method}: layer={layer!r}, but the network has {len(blocks)} blocks of convolutions"
                )
            numbers = sorted(blocks[int(layer[1:]) - 1])
        if not numbers:
            raise Unsupported(f"{self.method}: the output does not depend on any convolution")
        return [found.layers[k] for k in numbers]


def _activates(operation: Operation, value: Tensor) -> bool:
    if operation.name in _AGAINST_CONSTANT:
        return len(operation.inputs) == 1 and value.shape == operation.inputs[0].shape and len(operation.args) > 1
    return operation.name in ACTIVATIONS


def layers_of(method: str, model: nn.Module, x: Tensor, target: Tensor, layer: str | None = LAST) -> list[Layer]:
    """The layers that a name stands for, with their values and the gradients of each sample's target logit.

    Args:
        method: the name that refusals mention.
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        layer: a module's dotted name, "B1" to "B5", "last" or "all" (see above); None: "last".

    Returns:
        One Layer or more; model, parameters and hooks are as before.

    Raises:
        UsageError: there is no such layer.
        Unsupported: the network has no layer with space, or the layer's place over the input is not known.
    """
    layer = LAST if layer is None else layer
    modules = {name: module for name, module in model.named_modules() if name}
    block = isinstance(layer, str) and layer[:1] == "B" and layer[1:].isdecimal() and int(layer[1:]) > 0
    named = not block and layer not in (LAST, ALL)  # so no module's name changes what the default means
    if named and layer not in modules:
        raise _unknown(method, layer, list(modules))
    tracing = LayerPass(method)
    if named:
        with _named(tracing, modules[layer], layer) as seen:
            tracing.gradient(model, x, target)
        if len(seen) != 1:
            times = "is not called" if not seen else f"is called {len(seen)} times: which one is meant is not clear"
            raise Unsupported(f"{method}: the module {layer!r} {times}")
        layers = seen
    else:
        _, _, output = tracing.gradient(model, x, target)
        layers = tracing.chosen(output, layer)
    for each in layers:
        if not each.axes or NOWHERE in each.axes or len(each.axes) > 3:
            raise Unsupported(f"{method}: the layer {layer!r} has no space that can be laid over the input")
    return layers


@contextmanager
def _named(tracing: LayerPass, module: nn.Module, name: str) -> Iterator[list[Layer]]:
    """Collects what a module returns, by a hook for the duration."""
    seen: list[Layer] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        with unseen():  # what is copied here is no part of the model
            if not isinstance(output, Tensor) or not tracing.depends(output):
                raise Unsupported(f"{tracing.method}: the module {name!r} returns no tensor that depends on the input")
            seen.append(tracing.watched(output))

    handle = module.register_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _unknown(method: str, layer: Any, names: list[str]) -> UsageError:
    close = difflib.get_close_matches(layer, names, n=3) if isinstance(layer, str) else []
    some = close or names[:3]
    modules = f"modules such as {', '.join(map(repr, some))}" if some else "no modules"
    return UsageError(f"{method}: there is no layer {layer!r}; known are 'last', 'B1', 'B2', ... and {modules}")
