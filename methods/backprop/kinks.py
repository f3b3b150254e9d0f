"""What a forward pass is made of: whether it is piecewise linear in the input, and where its pieces meet.

A torch function mode sees every operation, whatever the form of the code (module, function, method), and follows which
tensors depend on the input. Operations that are affine in the dependent tensors are known by name; piecewise linear ones
report the quantities whose sign decides the piece, and so do some that are curved on their pieces; these, and anything
else, make the network "not piecewise linear".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ...compat.torch_parts import WeakIdKeyDictionary
from .operations import BILINEAR, FIRST, FRESH, LINEAR, QUIET, operation_name, random_or_training, tensors


class KinkTrace(TorchFunctionMode):
    """Records a forward pass under `with`: feed it the input by `watch`.

    deciders   for each operation that is made of pieces, in call order, the quantities [P, K] whose sign decides the piece
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
        depending = [t for t in tensors((args, kwargs)) if t in self._dependent]
        if not depending:
            return func(*args, **kwargs)
        name = operation_name(func)
        if name in _IGNORED or (name in FIRST and args[0] not in self._dependent):
            return func(*args, **kwargs)
        decide = _DECIDERS.get(name) or _CURVED.get(name)
        if name in _CURVED:
            self._give_up(name)
        if decide is not None:
            # Before the call: an in-place operation overwrites what decides.
            decided = decide(*args, **kwargs)
            if decided is None:
                self._give_up(name)
            else:
                self.deciders.append(decided.detach().reshape(len(decided), -1).clone())
        elif not _affine(name, args, kwargs, depending):
            self._give_up(name)
        result = func(*args, **kwargs)
        for out in tensors(result):
            self._dependent[out] = True
            if decide is None and not out.is_floating_point():
                self._give_up(
                    name
                )  # a cast to whole numbers is a staircase; the indices of a maximum follow its deciders
        if name == "setitem":
            self._dependent[args[0]] = True
        return result

    def _give_up(self, name: str) -> None:
        self.linear = False
        self.unknown.add(name)


_IGNORED = QUIET | FRESH


def _affine(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], depending: list[Tensor]) -> bool:
    """Whether an operation is affine in the arguments that depend on the input."""
    if name in BILINEAR:
        return len(depending) == 1
    if name == "div":
        return len(depending) == 1 and depending[0] is args[0] and kwargs.get("rounding_mode") is None
    if name in ("batch_norm", "dropout"):
        return not random_or_training(name, args, kwargs)
    return name in LINEAR


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
    entries = [entry.reshape(len(entry), -1) for entry in entries]
    if len(entries) < 2:
        return entries[0][:, :0]
    return torch.cat([a - b for a, b in itertools.combinations(entries, 2)], 1)


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
    "relu6": lambda z, *args, **kwargs: torch.stack([z, z - 6.0], 1),
    "hardtanh": _hardtanh,
    "clamp": _clamp,
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
}
# Pieces that are not linear, with jumps of the first derivative or of the second between them.
_CURVED: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(("elu", "celu", "selu", "softsign"), _itself),
    "hardswish": lambda z, *args, **kwargs: torch.stack([z - 3.0, z + 3.0], 1),
}
