"""Where values lie along the input: a forward pass that follows the axes of the input through the operations.

Every value that depends on the input carries, for each of its axes, the axis of the input that it runs along, or NOWHERE
where an operation has mixed what lay there. A convolution keeps the axes of space and mixes the channels; a dense layer
mixes the last axis; transposed axes are followed. So a map of an inner layer can be laid over the input again, whatever
the form of the code is.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import Unsupported
from .operations import PIECEWISE, SMOOTH, argument, in_place, tensors
from .passes import Operation, Pass, undisturbed

Axes = tuple[int, ...]
NOWHERE = -1

CONVOLUTIONS = frozenset({
    "conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
})  # fmt: skip

_ELEMENTWISE = PIECEWISE | SMOOTH | {
    "neg", "clone", "contiguous", "to", "type_as", "double", "float", "type", "positive", "identity", "alias", "masked_fill",
    "where", "add", "sub", "rsub", "mul", "div", "maximum", "minimum", "max", "min", "dropout", "dropout1d", "dropout2d",
    "dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "batch_norm", "layer_norm", "group_norm",
    "instance_norm", "local_response_norm", "softmax", "log_softmax",
}  # fmt: skip
"""What leaves each entry of a tensor in its place (normalisations and the softmax mix values, but move none)."""

_RESAMPLED = frozenset({"pad", "interpolate", "upsample"})

# What takes values out of the graph: the gradient would not be that of the function.
_CUTS = frozenset({"detach", "item", "numpy", "tolist"})

_AXES = "_attribcheck_axes"


class Following(Pass):
    """A forward pass that knows the axes of each value, and shows each operation to `before` and `after`."""

    def __init__(self, method: str) -> None:
        super().__init__(method, {})
        self.batch = 0

    def axes(self, value: Tensor) -> Axes:
        """For each axis of a value the axis of the input that it runs along, or NOWHERE."""
        known: Axes = getattr(value, _AXES, ())
        return known if len(known) == value.dim() else (NOWHERE,) * value.dim()

    def before(self, operation: Operation) -> Any:
        """Called with each operation on values that depend on the input, before it is run."""

    def after(self, operation: Operation, outputs: list[Tensor], known: Any) -> None:
        """Called with what the operation computed (or wrote into), and what `before` returned."""

    def unseen(self, name: str) -> None:
        raise Unsupported(
            f"{self.method} cannot follow the input into {name}: a value came out of something that hides its operations "
            "(a scripted or compiled module, a custom autograd function), or has a gradient and is no parameter"
        )

    def computed(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor]
    ) -> Any:
        if name in _CUTS:
            raise Unsupported(f"{self.method}: the model takes values out of the gradient ({name})")
        if not torch.is_grad_enabled():
            raise Unsupported(f"{self.method}: the model switches gradients off before {name}")
        operation = Operation(name, func, args, kwargs, inputs)
        known, axes = self.before(operation), [self.axes(t) for t in inputs]
        result = func(*args, **kwargs)
        if in_place(func, args, kwargs):
            outputs = [self.overwritten(args[0])]
        else:
            outputs = [t for t in tensors(result) if t.is_floating_point() and not any(t is i for i in inputs)]
        for t in outputs:
            setattr(t, _AXES, axes_after(operation, axes, t, self.batch))
        self.after(operation, outputs, known)
        return result

    def gradient(self, model: nn.Module, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the model and differentiate each sample's target logit.

        Returns:
            The logits explained [B], the gradient at x [B, *shape], and the output tensor [B, C] of the pass.
        """
        self.batch = len(x)
        with undisturbed(self.method, model), torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            start = self.watch(point.clone())  # the model may write into its input, which it may not into a leaf
            setattr(start, _AXES, tuple(range(x.dim())))
            with self:
                output: Tensor = model(start)
            if output.requires_grad and not self.depends(output):
                self.unseen("the output")
            chosen = output.gather(1, target[:, None])[:, 0]
            if not output.requires_grad:  # a constant
                return chosen, torch.zeros_like(x), output
            try:
                (gradient,) = torch.autograd.grad(chosen.sum(), point, allow_unused=True)
            except RuntimeError as error:
                if "modified by an inplace operation" not in str(error):
                    raise
                raise Unsupported(f"{self.method}: the model overwrites a value that its gradient needs") from error
            return chosen.detach(), torch.zeros_like(x) if gradient is None else gradient, output


def axes_after(operation: Operation, axes: Sequence[Axes], output: Tensor, batch: int) -> Axes:
    """The axes of what an operation computed, from those of its inputs; NOWHERE where they are not known.

    Args:
        axes: of each of operation.inputs.
        batch: how many samples there are: an unknown operation is trusted to leave them on the first axis only if they
            were there, and as many still are.
    """
    name, args, kwargs, inputs = operation.name, operation.args, operation.kwargs, operation.inputs
    own, n = axes[0], output.dim()
    first = bool(args) and args[0] is inputs[0]
    if name in CONVOLUTIONS and first and len(own) == n:
        return (own[0], NOWHERE, *own[2:])
    if ("pool" in name or name in _RESAMPLED) and len(own) == n:
        return own
    alike = [a for a, t in zip(axes, inputs, strict=True) if t.shape == output.shape]
    if name in _ELEMENTWISE and alike:
        return _merged(alike)
    if first:
        moved = _moved(name, args, kwargs, own)
        if moved is not None and len(moved) == n:
            return moved
        if (name == "linear" or (name == "matmul" and args[1].dim() == 2)) and len(inputs) == 1 and len(own) == n:
            return (*own[:-1], NOWHERE)
    if name in ("cat", "concat", "concatenate", "hstack") and n:
        along = 1 if name == "hstack" else argument(args, kwargs, 1, "dim", 0) % n
        merged = _merged([a for a in axes if len(a) == n])
        return tuple(NOWHERE if k == along else a for k, a in enumerate(merged))
    stays = all(a[:1] == (0,) for a in axes) and n > 0 and output.shape[0] == batch
    return tuple(0 if k == 0 and stays else NOWHERE for k in range(n))


def _merged(axes: Sequence[Axes]) -> Axes:
    """The axes of values of one shape that are combined entry by entry."""
    return tuple(column[0] if len(set(column)) == 1 else NOWHERE for column in zip(*axes, strict=True))


def _moved(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], own: Axes) -> Axes | None:
    """The axes after an operation that exchanges, adds or removes some, else None."""
    n = len(own)
    match name:
        case "transpose" | "swapaxes" | "swapdims":
            a, b = (argument(args, kwargs, k + 1, f"{'axis' if name == 'swapaxes' else 'dim'}{k}") for k in (0, 1))
            order = list(range(n))
            order[a % n], order[b % n] = order[b % n], order[a % n]
            return tuple(own[k] for k in order)
        case "permute":
            dims = kwargs.get("dims", args[1:])
            dims = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
            return tuple(own[k] for k in dims)
        case "t" | "T" | "mT":
            return (*own[:-2], *own[:-3:-1]) if n == 2 or name == "mT" else own[::-1]
        case "unsqueeze":
            at = argument(args, kwargs, 1, "dim") % (n + 1)
            return (*own[:at], NOWHERE, *own[at:])
        case "select" | "unbind":
            at = argument(args, kwargs, 1, "dim", 0) % n
            return (*own[:at], *own[at + 1 :])
        case "squeeze":
            dims = argument(args, kwargs, 1, "dim", ())
            gone = {d % n for d in (dims if isinstance(dims, tuple | list) else (dims,))}
            return tuple(a for k, a in enumerate(own) if k not in gone)
        case "getitem":
            return _indexed(own, args[1])
        case _:
            return None


def _indexed(own: Axes, index: Any) -> Axes | None:
    """The axes after indexing with whole numbers (an axis goes), slices (a part of one is somewhere) and None."""
    items = index if isinstance(index, tuple) else (index,)
    if any(not (i is None or i is Ellipsis or isinstance(i, int | slice)) for i in items):
        return None
    taken = sum(isinstance(i, int | slice) for i in items)
    if Ellipsis not in items:
        items = (*items, Ellipsis)
    at, kept = 0, []
    for i in items:
        if i is None:
            kept.append(NOWHERE)
        elif i is Ellipsis:
            kept += own[at : at + len(own) - taken]
            at += len(own) - taken
        else:
            if isinstance(i, slice):
                kept.append(own[at] if i == slice(None) else NOWHERE)
            at += 1
    return tuple(kept)


# -- back to the input ------------------------------------------------------------------------------------------


def upsampled(values: Tensor, axes: Sequence[int], x: Tensor) -> Tensor:
    """A map over some axes of the input as a map over all of it, by linear interpolation (align_corners=False).

    Args:
        values: [B, *sizes].
        axes: for each axis of the sizes, the axis of x that it runs along.
        x: the input [B, *shape].

    Returns:
        [B, *shape], the same along the other axes (channels).
    """
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(axes)]
    size = [x.shape[a] for a in axes]
    if list(values.shape[1:]) != size:
        values = F.interpolate(values[:, None], size=size, mode=mode, align_corners=False)[:, 0]
    return _laid_out(values, axes, x)


def spread(values: Tensor, axes: Sequence[int], x: Tensor) -> Tensor:
    """A map over some axes of the input, spread over all of it so that the total of each sample stays.

    Each entry is shared out among the places to which linear interpolation would carry it, in proportion, and evenly along
    the other axes. Without any axes it is a number [B], which all entries share.

    Args:
        values: [B, *sizes]; axes, x: see `upsampled`.

    Returns:
        [B, *shape].
    """
    for k, a in enumerate(axes):
        values = torch.tensordot(values, _shares(values.shape[k + 1], x.shape[a], x), dims=([k + 1], [0])).movedim(
            -1, k + 1
        )
    others = x[0].numel() // max(1, values[0].numel())
    return _laid_out(values, axes, x) / others


def _shares(sources: int, places: int, like: Tensor) -> Tensor:
    """How the entries of an axis [sources] are shared out among [places]; each row adds up to 1."""
    unit = torch.eye(sources, dtype=like.dtype, device=like.device)
    shares = F.interpolate(unit[None], size=places, mode="linear", align_corners=False)[0]
    # An axis that is longer than the input's (padding) has entries that interpolation skips: they go to the next place.
    nearest = ((torch.arange(sources, device=like.device) + 0.5) * places / sources).long()
    skipped = shares.sum(1, keepdim=True) == 0
    shares = torch.where(skipped, F.one_hot(nearest, places).to(shares), shares)
    return shares / shares.sum(1, keepdim=True)


def _laid_out(values: Tensor, axes: Sequence[int], x: Tensor) -> Tensor:
    """[B, *sizes] with the sizes of x along the axes, repeated along the others: [B, *shape]."""
    letters = string.ascii_letters[: x.dim()]
    here = letters[0] + "".join(letters[a] for a in axes)
    inner = torch.einsum(f"{here}->{''.join(sorted(here))}", values)
    shape = [size if k == 0 or k in axes else 1 for k, size in enumerate(x.shape)]
    return inner.reshape(shape).expand_as(x).clone()
