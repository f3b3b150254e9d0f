"""The families: named sets of networks. A new family is one function and one entry of FAMILIES."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from .kinds import kind_of
from .sources import Array, Source
from .spec import Layer, Network, Sketch


class Draft:
    """A network while it is being drawn: knows the values at the samples, so that units can be kept alive.

    x: the samples [B, *shape] of the case. kinks: "off" puts biases on the ladder and moves pre-activations away from
    zero; "on" lets them fall where they fall. clear: every output of a layer with weights keeps this far away from zero.
    """

    clear = 0.0

    def __init__(self, source: Source, x: Array, classes: int, kinks: str = "off", dead: bool = False) -> None:
        self.source, self.classes, self.kinks, self.dead = source, classes, kinks, dead
        self.sketch = Sketch(x.shape[1:])
        self.at: dict[str, Tensor] = {"x": torch.tensor(x)}
        self.level = {"x": 0}

    def put(self, layer: Layer, *inputs: str) -> str:
        """Append a layer and compute its value at the samples."""
        value = self.sketch.add(layer, *inputs)
        self.at[value] = kind_of(layer).apply(layer, *(self.at[name] for name in inputs))
        self.level[value] = max(self.level[name] for name in inputs) + ("weight" in layer.settings)
        return value

    def weighted(
        self, h: str, kind: str, shape: Sequence[int], *, bias: bool = True, soft: bool = False, **settings: Any
    ) -> str:
        """Append a linear or convolutional layer with drawn weights [out, in, ...]."""
        ladder = self.kinks == "off"
        weight = self.source.weights(shape, soft)
        shift = self.source.bias(shape[0], self.level[h] + 1, ladder) if bias else None
        layer = Layer(kind, weight=weight, bias=shift, **settings)
        if self.source.tier == "small":
            layer = self._repaired(layer, h)
        if self.clear:
            layer = self._cleared(layer, h)
        return self.put(layer, h)

    def linear(self, h: str, width: int, *, bias: bool = True, soft: bool = False) -> str:
        """Append a dense layer."""
        return self.weighted(h, "linear", (width, self.at[h].shape[1]), bias=bias, soft=soft)

    def logits(self, h: str, *, bias: bool = True, soft: bool = False) -> Network:
        """Append the output layer (after flattening) and return the network."""
        if self.at[h].dim() > 2:
            h = self.put(Layer("flatten"), h)
        self.linear(h, self.classes, bias=bias, soft=soft)
        return self.sketch.network()

    def _repaired(self, layer: Layer, h: str) -> Layer:
        """Keep units off their kinks, and the first unit active at the first sample (unless the case is to be dead)."""
        weight = np.array(layer["weight"])
        rows = weight.reshape(len(weight), -1)
        bias = None if layer.get("bias") is None else np.array(layer["bias"])

        def response() -> Array:
            z = kind_of(layer).apply(layer.but(weight=weight, bias=bias), self.at[h])
            return z.reshape(z.shape[0], z.shape[1], -1).numpy()

        if self.kinks == "off" and bias is None:
            for attempt in range(rows.shape[1]):
                stuck = (response() == 0).any(axis=(0, 2))
                rows[stuck, attempt] += 1.0
        if not self.dead and response()[0, 0].max() < 0:
            rows[0] *= -1.0
            if bias is not None:
                bias[0] *= -1.0
        return layer.but(weight=weight, bias=bias)

    def _cleared(self, layer: Layer, h: str) -> Layer:
        """Move the bias of each unit by the smallest multiple of half the distance that clears it at all samples."""
        z = kind_of(layer).apply(layer, self.at[h]).transpose(0, 1).flatten(1)
        moves = torch.zeros(len(z), dtype=torch.float64)
        for unit, responses in enumerate(z):
            moves[unit] = next(
                move
                for k in itertools.count()
                for move in (k * self.clear / 2, -k * self.clear / 2)
                if float((responses + move).abs().min()) >= self.clear
            )
        return layer.but(bias=(0.0 if layer.get("bias") is None else layer["bias"]) + moves.numpy())


@dataclass(frozen=True)
class Family:
    """A named set of networks.

    shape      draws the input shape (without batch), with at least so many features
    write      writes the network into a draft
    has        what its networks contain, by which rewrites and claims know whether they apply
    soft       inputs and weights small enough for saturating units
    distinct   samples without equal features, so that maxima over inputs have no ties
    """

    name: str
    summary: str
    shape: Callable[[Source, int], tuple[int, ...]]
    write: Callable[[Draft], Network]
    has: frozenset[str] = field(default_factory=frozenset)
    soft: bool = False
    distinct: bool = False


def _flat(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.features(at_least),)


def _signal(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.pick(1, 2), source.length(max(2, at_least)))


def _image(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.pick(1, 2), source.length(2), source.length(max(2, (at_least + 1) // 2)))


def _signal_or_image(source: Source, at_least: int) -> tuple[int, ...]:
    return source.pick(_signal, _image)(source, at_least)


def _linear(draft: Draft) -> Network:
    h = "x"
    for _ in range(draft.source.pick(0, 1, 2)):
        h = draft.linear(h, draft.source.width())
    if draft.source.pick(False, False, True):  # two branches that meet: still a linear graph
        width = draft.source.width()
        h = draft.put(Layer("add"), draft.linear("x", width), draft.linear(h, width))
    return draft.logits(h)


def _dense(
    activations: Sequence[str], *, bias: bool = True, soft: bool = False, **form: str
) -> Callable[[Draft], Network]:
    def write(draft: Draft) -> Network:
        activation = draft.source.pick(*activations)
        h = "x"
        for _ in range(draft.source.layers()):
            h = draft.linear(h, draft.source.width(), bias=bias, soft=soft)
            h = draft.put(Layer(activation, **form), h)
        return draft.logits(h, bias=bias, soft=soft)

    return write


def _residual(draft: Draft) -> Network:
    """A skip around two layers, with or without a ReLU on the sum, or around the ReLU alone: z + ReLU(z)."""
    width = draft.source.width()
    h = draft.put(Layer("relu"), draft.linear("x", width))
    z = draft.linear(h, width)
    form = draft.source.pick("around the activation", "around two layers", "activated sum")
    if form == "around the activation":
        return draft.logits(draft.put(Layer("add"), z, draft.put(Layer("relu"), z)))
    total = draft.put(Layer("add"), h, draft.linear(draft.put(Layer("relu"), z), width))
    return draft.logits(total if form == "around two layers" else draft.put(Layer("relu"), total))


def _stacked(draft: Draft) -> Network:
    h = draft.linear("x", draft.source.width(), soft=True)
    for activation in draft.source.pick(("relu", "tanh"), ("tanh", "relu"), ("relu", "relu"), ("sigmoid", "tanh")):
        h = draft.put(Layer(activation), h)
    return draft.logits(h, soft=True)


CLEARANCE = 0.5


def _clear(draft: Draft) -> Network:
    draft.clear = CLEARANCE
    return _dense(["relu"])(draft)


def _convolve(draft: Draft, h: str) -> str:
    """One convolution with a drawn kernel, stride, padding and dilation that fit."""
    source = draft.source
    channels, *sizes = draft.at[h].shape[1:]
    stride, padding, dilation = source.pick(1, 1, 2), source.pick(0, 0, 1), source.pick(1, 1, 2)
    kernel = [min(source.pick(2, 1, 3), size) for size in sizes]
    if any(dilation * (k - 1) + 1 > size + 2 * padding for k, size in zip(kernel, sizes, strict=True)):
        dilation = 1
    shape = (source.pick(1, 2, 3), channels, *kernel)
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    plain: dict[str, Any] = {
        name: value for name, value in settings.items() if value != (0 if name == "padding" else 1)
    }
    return draft.weighted(h, f"conv{len(sizes)}d", shape, **plain)


def _conv(draft: Draft) -> Network:
    h = draft.put(Layer("relu"), _convolve(draft, "x"))
    if draft.source.pick(False, False, True):
        h = draft.put(Layer("relu"), _convolve(draft, h))
    return draft.logits(h)


def _maxpool(draft: Draft) -> Network:
    source = draft.source
    h = "x"
    if source.pick(False, True):
        h = _convolve(draft, h)
    activation = source.pick("none", "before", "after")
    if activation == "before":
        h = draft.put(Layer("relu"), h)
    _, *sizes = draft.at[h].shape[1:]
    kernel = min(source.pick(2, 2, 3), *sizes)
    # A stride below the kernel makes windows overlap.
    h = draft.put(Layer(f"maxpool{len(sizes)}d", kernel=kernel, stride=source.pick(kernel, 1, 2)), h)
    if activation == "after":
        h = draft.put(Layer("relu"), h)
    return draft.logits(h)


def _max_of_branches(draft: Draft) -> Network:
    width = draft.source.width()
    h = draft.put(Layer("maximum"), draft.linear("x", width), draft.linear("x", width))
    return draft.logits(h)


def _product(draft: Draft) -> Network:
    source = draft.source
    width = source.width()
    factors = []
    for _ in range(2):
        h = draft.linear("x", width)
        factors.append(draft.put(Layer("relu"), h) if source.pick(False, True) else h)
    h = draft.put(Layer("mul"), *factors)
    if source.pick(False, False, True):
        h = draft.put(Layer("add"), h, draft.linear("x", width))
    return draft.logits(h)


def _has(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DRAWN = (
    Family("relu", "dense networks with ReLU and biases", _flat, _dense(["relu"]), has=_has("dense relu nested bias")),
    Family(
        "linear", "linear graphs: dense layers with biases, also in a row and in branches that add up", _flat, _linear,
        has=_has("dense bias linear"),
    ),
    Family(
        "relu-nobias", "dense networks with ReLU and no bias: positively homogeneous", _flat,
        _dense(["relu"], bias=False), has=_has("dense relu homogeneous"),
    ),
    Family(
        "smooth", "dense networks with tanh, sigmoid, softplus or GELU, with biases", _flat,
        _dense(["tanh", "sigmoid", "softplus", "gelu"], soft=True), has=_has("dense smooth bias"), soft=True,
    ),
    Family(
        "odd-nobias", "dense networks with tanh and no bias: odd functions, f(0) = 0", _flat,
        _dense(["tanh"], bias=False, soft=True), has=_has("dense smooth odd"), soft=True,
    ),
    Family(
        "conv", "1-d and 2-d convolutions with ReLU, stride, padding and dilation, and a dense head",
        _signal_or_image, _conv, has=_has("conv relu bias"),
    ),
    Family(
        "maxpool", "max-pooling (1-d, 2-d, overlapping too), on inputs or convolutions, before or after ReLU",
        _signal_or_image, _maxpool, has=_has("max bias"), distinct=True,
    ),
    Family("maximum", "maxima of two dense branches", _flat, _max_of_branches, has=_has("max bias"), distinct=True),
    Family(
        "relu-clear", f"dense ReLU networks whose linear outputs all keep {CLEARANCE} away from zero at the samples", _flat,
        _clear, has=_has("dense relu bias"),
    ),
    Family(
        "residual", "dense ReLU networks with skips: around layers, around an activation, activated sums", _flat, _residual,
        has=_has("dense relu bias"),
    ),
    Family(
        "functional", "dense networks whose ReLUs are functions in the forward pass, not modules", _flat,
        _dense(["relu"], form="functional"), has=_has("dense relu bias"),
    ),
    Family(
        "stacked", "dense networks with two activations in a row (ReLU, tanh, sigmoid)", _flat, _stacked,
        has=_has("dense bias"), soft=True,
    ),
    Family(
        "product", "products of two branches, with or without ReLU, plus a linear branch", _flat, _product,
        has=_has("product bias"),
    ),
)  # fmt: skip

ANY = "any"
MODEL = "model"

FAMILIES: dict[str, Family] = {family.name: family for family in _DRAWN}
SUMMARIES = {
    **{family.name: family.summary for family in _DRAWN},
    ANY: "a network of any of the families above",
    MODEL: "your own network, given by --model and --data",
}


def members(name: str) -> tuple[Family, ...]:
    """The families that a name draws from: itself, or all of them for "any".

    Raises UsageError for an unknown name, and for "model", which is given and not drawn.
    """
    if name == ANY:
        return _DRAWN
    if name not in FAMILIES:
        raise UsageError(f"unknown family {name!r}; known: {', '.join(SUMMARIES)}")
    return (FAMILIES[name],)
