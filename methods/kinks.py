"""What a forward pass is made of: whether it is piecewise linear in the input, and where its pieces meet.

A torch function mode sees every operation, whatever the form of the code (module, function, method), and follows which
tensors depend on the input. Operations that are affine in the dependent tensors are known by name; piecewise linear ones
report the quantities whose sign decides the piece; anything else makes the network "not piecewise linear".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.weak import WeakIdKeyDictionary

# Affine in all tensor arguments together.
_LINEAR = {
    "add", "sub", "rsub", "neg", "sum", "mean", "flatten", "reshape", "view", "view_as", "unsqueeze", "squeeze", "permute",
    "transpose", "t", "movedim", "swapaxes", "cat", "concat", "stack", "hstack", "vstack", "chunk", "split", "unbind",
    "clone", "contiguous", "to", "type_as", "double", "float", "expand", "expand_as", "reshape_as",
    "repeat", "tile", "gather", "index_select",
    "narrow", "select", "roll", "flip", "pad", "getitem", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "identity", "unfold", "positive",
}  # fmt: skip
# Affine as long as at most one argument depends on the input (with running statistics, for batch_norm).
_BILINEAR = {
    "linear", "mul", "matmul", "mm", "bmm", "addmm", "einsum", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "bilinear", "dot", "mv",
}  # fmt: skip
# Take their values from the first argument, and only the shape, dtype or device from another.
_FIRST = {"to", "type_as", "view_as", "expand_as", "reshape_as"}
# Take no values from their arguments.
_FRESH = {
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
}  # fmt: skip
# Read the shape or the kind of a tensor, not its values.
_QUIET = {
    "size", "dim", "numel", "is_floating_point", "get_device", "type", "is_complex", "__get__", "__len__", "ndimension",
    "element_size", "stride", "is_contiguous", "has_names",
}  # fmt: skip


class KinkTrace(TorchFunctionMode):
    """Records a forward pass under `with`: feed it the input by `watch`.

    deciders   for each piecewise linear operation in call order, the quantities [P, K] whose sign decides the piece
    linear     False as soon as an operation is neither affine nor known to be piecewise linear
    """

    def __init__(self) -> None:
        super().__init__()
        self.deciders: list[Tensor] = []
        self.linear = True
        self.unknown: set[str] = set()
        self._dependent: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def watch(self, x: Tensor) -> Tensor:
        """Declare x [P, *shape] to be the input; returns it."""
        self._dependent[x] = True
        return x

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        depending = [t for t in _tensors((args, kwargs)) if t in self._dependent]
        if not depending:
            return func(*args, **kwargs)
        name = _name(func)
        if name in _QUIET or name in _FRESH or (name in _FIRST and args[0] not in self._dependent):
            return func(*args, **kwargs)
        decide = _DECIDERS.get(name)
        if decide is not None:
            # Before the call: an in-place operation overwrites what decides.
            decided = decide(*args, **kwargs)
            if decided is None:
                self._give_up(name)
            else:
                self.deciders.append(decided.detach().flatten(1))
        elif name in _BILINEAR:
            if len(depending) > 1:
                self._give_up(name)
        elif name == "div":
            if (
                len(args) < 2
                or (isinstance(args[1], Tensor) and args[1] in self._dependent)
                or kwargs.get("rounding_mode")
            ):
                self._give_up(name)
        elif name == "batch_norm":
            if kwargs.get("training", args[5] if len(args) > 5 else False):
                self._give_up(name)
        elif name == "dropout":
            if kwargs.get("training", args[2] if len(args) > 2 else True):
                self._give_up(name)
        elif name not in _LINEAR:
            self._give_up(name)
        result = func(*args, **kwargs)
        for out in _tensors(result):
            self._dependent[out] = True
        return result

    def _give_up(self, name: str) -> None:
        self.linear = False
        self.unknown.add(name)


def _name(func: Callable[..., Any]) -> str:
    """The plain name of a torch function: add for torch.add, Tensor.add, Tensor.__add__, Tensor.__iadd__ and add_."""
    full = resolve_name(func) or getattr(func, "__name__", "")
    name = full.rpartition(".")[2]
    if name.startswith("__") and name.endswith("__"):
        if name == "__get__" or name == "__len__":
            return name
        name = name.strip("_")
        name = name[1:] if name[:1] in "ir" and name[1:] in ("add", "sub", "mul", "matmul", "truediv") else name
        return {"truediv": "div"}.get(name, name)
    name = name.rstrip("_")
    return {"subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg"}.get(
        name, name
    )


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [t for item in value for t in _tensors(item)]


# -- deciders: the quantities whose sign decides the piece ------------------------------------------------------


def _itself(z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return z


def _hardtanh(z: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    return torch.stack([z - min_val, z - max_val], 1)


def _clamp(z: Tensor, min: Any = None, max: Any = None) -> Tensor | None:
    limits = [limit for limit in (min, max) if limit is not None]
    if any(isinstance(limit, Tensor) for limit in limits):
        return None
    return torch.stack([z - limit for limit in limits], 1)


def _threshold(z: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor | None:
    return z - threshold if value == threshold == 0 else None  # other thresholds jump


def _two(a: Tensor, b: Any) -> Tensor:
    return a - b


def _max(z: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
    """torch.max in its three forms, and amax: pairwise differences along the reduced axis, or of two tensors."""
    other = args[0] if args else kwargs.get("other")
    if isinstance(other, Tensor):
        return z - other
    dim = kwargs.get("dim", other)
    if isinstance(dim, tuple | list) and len(dim) == 1:
        dim = dim[0]
    if not isinstance(dim, int) or dim % z.dim() == 0:
        return None  # a maximum over several axes, or over the batch
    return _pairwise(z.unbind(dim))


def _pairwise(entries: Any) -> Tensor:
    entries = list(entries)
    if len(entries) < 2:
        return entries[0].flatten(1)[:, :0]
    return torch.cat([(a - b).flatten(1) for a, b in itertools.combinations(entries, 2)], 1)


def _max_pool(dims: int) -> Callable[..., Tensor]:
    def decide(
        z: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Tensor:  # fmt: skip
        def each(value: Any) -> list[int]:
            return list(value) if isinstance(value, tuple | list) else [value] * dims

        kernel, steps, pads, gaps = each(kernel_size), each(stride or kernel_size), each(padding), each(dilation)
        # In ceil mode a last window may hang over the edge: pad generously, extra differences only cut pieces finer.
        over = [s - 1 if ceil_mode else 0 for s in steps]
        widths = [w for p, o in zip(reversed(pads), reversed(over), strict=True) for w in (p, p + o)]
        padded = F.pad(z, widths, value=-torch.inf)
        counts = [(padded.shape[2 + d] - gaps[d] * (kernel[d] - 1) - 1) // steps[d] + 1 for d in range(dims)]
        entries = []
        for offset in itertools.product(*(range(k) for k in kernel)):
            places = tuple(
                slice(o * g, o * g + (c - 1) * s + 1, s) for o, g, c, s in zip(offset, gaps, counts, steps, strict=True)
            )
            entries.append(padded[(slice(None), slice(None), *places)])
        return _pairwise(entries)

    return decide


_DECIDERS: dict[str, Callable[..., Tensor | None]] = {
    "relu": _itself,
    "leaky_relu": _itself,
    "prelu": _itself,
    "abs": _itself,
    "absolute": _itself,
    "relu6": lambda z, *args, **kwargs: torch.stack([z, z - 6.0], 1),
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda z, min: z - min,
    "clamp_max": lambda z, max: z - max,
    "threshold": _threshold,
    "maximum": _two,
    "minimum": _two,
    "max": _max,
    "min": _max,
    "amax": _max,
    "amin": _max,
    **{f"max_pool{d}d": _max_pool(d) for d in (1, 2, 3)},
    **{f"max_pool{d}d_with_indices": _max_pool(d) for d in (1, 2, 3)},
}
