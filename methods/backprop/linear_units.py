"""Operations that are linear in what they read, one call at a time, as units with weights: what patterns are fitted to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import Unsupported
from .operations import argument
from .passes import Operation

KERNELS = frozenset({"linear", "matmul", "mm", "addmm", "conv1d", "conv2d", "conv3d", "convolution"})
POOLS = frozenset({
    "sum", "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
})  # fmt: skip


class Units(ABC):
    """One call y = L(x; w) of an operation, without its bias: L is linear in its inputs and in their weights.

    inputs: what it reads and the input decides. weights: one tensor for each of them. A unit is an output that has weights of
    its own; outputs that share theirs (places of a convolution, rows of a matrix) are samples of one unit.
    """

    def __init__(self, operation: Operation, weights: Sequence[Tensor]) -> None:
        self.operation, self.inputs, self.weights = operation, tuple(operation.inputs), tuple(weights)

    @abstractmethod
    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """y, without the bias."""

    @abstractmethod
    def samples(self, y: Tensor) -> tuple[int, ...]:
        """The axes of the output along which the weights are shared."""

    @abstractmethod
    def totals(self, terms: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The sum of each unit's terms, one tensor [as the weights] for each input: beside each of the weights, beside y."""

    def slopes(self) -> list[Tensor]:
        """dy / d(weight * input) beside each of the weights: 1, unless the operation has weights besides."""
        return [torch.ones_like(w) for w in self.weights]


class Kernel(Units):
    """A dense or convolutional layer: `weight` [units, ...], or [..., units] for a product of matrices."""

    def __init__(self, operation: Operation) -> None:
        args, kwargs, name = operation.args, operation.kwargs, operation.name
        x = argument(args, kwargs, 1, "mat1") if name == "addmm" else args[0]
        places = {"addmm": (2, "mat2"), "matmul": (1, "other"), "mm": (1, "mat2")}
        self.place, self.label = places.get(name, (1, "weight"))
        weight = argument(args, kwargs, self.place, self.label)
        if len(operation.inputs) != 1 or operation.inputs[0] is not x or not isinstance(weight, Tensor):
            raise Unsupported(f"patterns belong to constant weights on the right side: {name} has others")
        self.axis = len(weight.shape) - 1 if name in places else 0
        if (name in places and weight.dim() != 2) or (name.startswith("conv") and x.dim() != weight.dim()):
            raise Unsupported(f"patterns: {name} of {tuple(x.shape)} with weights of {tuple(weight.shape)}")
        if argument(args, kwargs, 6, "transposed", False) is True or kwargs.keys() & {"alpha", "beta"}:
            raise Unsupported(f"patterns: {name} transposed or with factors has no weights that its outputs share")
        self.kernel = name.startswith("conv")
        super().__init__(operation, [weight])

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        if self.operation.name == "addmm":
            return inputs[0] @ weights[0]
        args, kwargs = [inputs[0], *self.operation.args[1:]], dict(self.operation.kwargs)
        _put(args, kwargs, self.place, self.label, weights[0])
        if self.axis == 0:
            _put(args, kwargs, 2, "bias", None)
        result: Tensor = self.operation.function(*args, **kwargs)
        return result

    def samples(self, y: Tensor) -> tuple[int, ...]:
        own = 1 if self.kernel else y.dim() - 1
        return tuple(axis for axis in range(y.dim()) if axis != own)

    def totals(self, terms: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        others = tuple(axis for axis in range(terms[0].dim()) if axis != self.axis)
        total = terms[0].sum(others, keepdim=True)
        places = len(self.weights[0].shape) - 2 if self.kernel else 0
        return [total], total.reshape(-1, *[1] * places)


class Junction(Units):
    """A sum or difference of two values: each entry is a unit with the weights 1 and 1, or 1 and -1."""

    def __init__(self, operation: Operation) -> None:
        first, second = operation.inputs[0], operation.inputs[-1]
        factor = operation.kwargs.get("alpha", 1)
        if len(operation.inputs) != 2 or first.shape != second.shape or isinstance(factor, Tensor):
            raise Unsupported(f"patterns: {operation.name} of values of different shapes")
        other = -factor if operation.name == "sub" else factor
        ones = torch.ones_like(first[:1])
        super().__init__(operation, [ones, other * ones])

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        return weights[0] * inputs[0] + weights[1] * inputs[1]

    def samples(self, y: Tensor) -> tuple[int, ...]:
        return (0,)

    def totals(self, terms: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        total = terms[0] + terms[1]
        return [total, total], total


class Pool(Units):
    """A sum or mean of disjoint sets of entries: each output is a unit. The weights are factors of one on its inputs."""

    def __init__(self, operation: Operation) -> None:
        if not _disjoint(operation):
            raise Unsupported(f"patterns: {operation.name} whose sets of entries overlap, or run over the samples")
        super().__init__(operation, [torch.ones_like(operation.inputs[0][:1])])

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        result: Tensor = self.operation.run_on(weights[0] * inputs[0])
        return result

    def samples(self, y: Tensor) -> tuple[int, ...]:
        return (0,)

    def _back(self, y: Tensor, like: Tensor) -> Tensor:
        """The transposed operation: each entry gets the value of its output times its weight in there."""
        with torch.enable_grad():
            x = torch.zeros_like(like).requires_grad_()
            (result,) = torch.autograd.grad(self.operation.run_on(x), x, y)
        return result

    def slopes(self) -> list[Tensor]:
        like = self.weights[0]
        return [self._back(torch.ones_like(self.operation.run_on(like)), like)]

    def totals(self, terms: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        # The operation's sum carries the weight of its entries: a mean of n terms is 1/n of what they add up to.
        own, ones = self.slopes()[0], torch.ones_like(terms[0])
        total: Tensor = self.operation.run_on(terms[0])
        total = total * self.operation.run_on(ones) / self.operation.run_on(own)
        return [self._back(total, terms[0]) / own], total


def _disjoint(operation: Operation) -> bool:
    args, kwargs, name = operation.args, operation.kwargs, operation.name
    x = operation.inputs[0]
    if len(operation.inputs) != 1 or x is not args[0]:
        return False
    if name in ("sum", "mean"):
        axes = argument(args, kwargs, 1, "dim")
        axes = (axes,) if isinstance(axes, int) else axes
        return isinstance(axes, tuple | list) and len(axes) > 0 and all(a % x.dim() != 0 for a in axes)
    dims = int(name[-2])
    if x.dim() != dims + 2:
        return False
    if name.startswith("adaptive"):
        sizes = argument(args, kwargs, 1, "output_size")
        wanted = (sizes,) * dims if isinstance(sizes, int) else tuple(sizes)
        return all(w is None or s % w == 0 for w, s in zip(wanted, x.shape[2:], strict=True))
    kernel, stride = (
        _sizes(argument(args, kwargs, place, key), dims) for place, key in ((1, "kernel_size"), (2, "stride"))
    )
    plain = not any(argument(args, kwargs, place, key) for place, key in ((3, "padding"), (4, "ceil_mode"))
                    if argument(args, kwargs, place, key) not in ((0,) * dims, [0] * dims))  # fmt: skip
    return plain and (not stride or kernel == stride) and argument(args, kwargs, 6, "divisor_override") is None


def _sizes(value: Any, dims: int) -> tuple[int, ...]:
    return () if value is None else (value,) * dims if isinstance(value, int) else tuple(value)


def _put(args: list[Any], kwargs: dict[str, Any], place: int, name: str, value: Any) -> None:
    if name in kwargs:
        kwargs[name] = value
    elif len(args) > place:
        args[place] = value


def units_of(operation: Operation) -> Units:
    """The units of a call.

    Raises:
        Unsupported: the operation is none that patterns are defined for.
    """
    if operation.name in KERNELS:
        return Kernel(operation)
    return Pool(operation) if operation.name in POOLS else Junction(operation)


def has_units(operation: Operation) -> bool:
    """Whether an operation forms sums over values that depend on the input: adding a constant to one does not."""
    if operation.name in ("add", "sub"):
        return len(operation.inputs) > 1
    return operation.name in KERNELS | POOLS
