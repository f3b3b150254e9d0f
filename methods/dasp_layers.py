"""Layers of random values: the means and variances of activations when a random coalition of the features is present.

A value is either `Inputs`, entries that each depend on one feature and are known exactly, or `Gaussian`, entries with a mean
and a variance that are taken to be independent and normal (the assumption of lightweight probabilistic networks). Each rule
computes the value of an operation from the values of its arguments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import Unsupported
from .backprop.operations import argument
from .backprop.passes import Operation
from .guided import rectifies


@dataclass(frozen=True)
class Coalitions:
    """How many of the other features are present in each row.

    share: [rows], k / others. others: how many features there are besides the one that is explained.
    """

    share: Tensor
    others: int

    def like(self, value: Tensor) -> Tensor:
        """The shares, to be multiplied with a value [rows, ...]."""
        if value.dim() == 0 or len(value) != len(self.share):
            raise Unsupported("DASP cannot follow values in which the samples of the batch are mixed")
        return self.share.reshape(-1, *[1] * (value.dim() - 1))


@dataclass(frozen=True)
class Gaussian:
    """Independent normal entries: mean and variance [rows, ...]."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Inputs:
    """Entries [rows, ...] that are `low` where their feature is absent, `high` where it is present.

    feature: the number of the feature, from 1; 0 for a constant.
    """

    low: Tensor
    high: Tensor
    feature: Tensor

    def mean(self, coalitions: Coalitions) -> Tensor:
        return self.low + coalitions.like(self.low) * (self.high - self.low)

    def gaussian(self, coalitions: Coalitions) -> Gaussian:
        """The entries as independent ones, each present with the probability k / others."""
        share = coalitions.like(self.low)
        return Gaussian(self.mean(coalitions), share * (1 - share) * (self.high - self.low).square())

    def distinct(self) -> bool:
        """Whether no feature stands in two entries of a row; the rows are alike."""
        ordered = self.feature[:1].flatten().sort().values
        return not bool(((ordered[1:] == ordered[:-1]) & (ordered[1:] > 0)).any())


Value = Gaussian | Inputs
Rule = Callable[[Coalitions, Operation, Sequence[Value]], Any]


def _gaussians(coalitions: Coalitions, values: Sequence[Value]) -> list[Gaussian]:
    return [v.gaussian(coalitions) if isinstance(v, Inputs) else v for v in values]


def _each(function: Callable[..., Value], *results: Any) -> Any:
    """A value from the tensors that runs of one operation returned; a tuple of values where it returns several."""
    if isinstance(results[0], Tensor):
        return function(*results)
    return tuple(_each(function, *parts) for parts in zip(*results, strict=True))


# -- affine operations ---------------------------------------------------------------------------------------------


def selecting(coalitions: Coalitions, operation: Operation, values: Sequence[Value]) -> Any:
    """Entries are moved, copied, or joined with constants."""
    if all(isinstance(v, Inputs) for v in values):
        inputs = [v for v in values if isinstance(v, Inputs)]
        zero = [torch.zeros_like(v.low) for v in inputs]
        runs = ([v.low for v in inputs], [v.high for v in inputs], [v.feature for v in inputs], zero)
        results = [operation.run_on(*run) for run in runs]
        return _each(lambda low, high, feature, none: Inputs(low, high, feature - none), *results)
    normal = _gaussians(coalitions, values)
    means, variances = [v.mean for v in normal], [v.variance for v in normal]
    none = [torch.zeros_like(mean) for mean in means]
    results = [operation.run_on(*run) for run in (means, variances, none)]
    return _each(lambda mean, variance, constant: Gaussian(mean, variance - constant), *results)


def adding(coalitions: Coalitions, operation: Operation, values: Sequence[Value]) -> Value:
    """A sum or difference of values, or an elementwise affine function of one."""
    first = values[0]
    if isinstance(first, Inputs) and all(isinstance(v, Inputs) and _same(v, first) for v in values):
        inputs = [v for v in values if isinstance(v, Inputs)]
        low, high = operation.run_on(*(v.low for v in inputs)), operation.run_on(*(v.high for v in inputs))
        return Inputs(low, high, first.feature + torch.zeros_like(low))
    normal = _gaussians(coalitions, values)
    zeros = [torch.zeros_like(v.mean) for v in normal]
    at_zero, variance = operation.run_on(*zeros), 0.0
    for k, v in enumerate(normal):
        slope = operation.run_on(*(torch.ones_like(z) if j == k else z for j, z in enumerate(zeros))) - at_zero
        variance = variance + slope.square() * v.variance
    return Gaussian(operation.run_on(*(v.mean for v in normal)), torch.as_tensor(variance).expand_as(at_zero))


def _same(a: Inputs, b: Inputs) -> bool:
    return a.feature.shape == b.feature.shape and bool((a.feature[:1] == b.feature[:1]).all())


def scaling(coalitions: Coalitions, operation: Operation, values: Sequence[Value]) -> Value:
    """A product or quotient with constants."""
    if len(values) > 1 or (operation.name == "div" and operation.inputs[0] is not operation.args[0]):
        raise Unsupported(f"DASP has no rule for {operation.name} by a value that depends on the input")
    if operation.name == "div" and operation.kwargs.get("rounding_mode") is not None:
        raise Unsupported("DASP has no rule for a rounded quotient")
    return adding(coalitions, operation, values)


def mixing(squared: Callable[[Operation, Tensor], Tensor]) -> Rule:
    """An operation that adds up entries with weights; `squared` does the same with the squares of the weights.

    Of Inputs the sum over a random coalition has an exact mean and variance (drawing without replacement): with the
    contributions c_j of the M other features, k of which are present,
    variance = k (M - k) / (M (M - 1)) (sum c_j^2 - (sum c_j)^2 / M).
    """

    def rule(coalitions: Coalitions, operation: Operation, values: Sequence[Value]) -> Value:
        if len(values) > 1:
            raise Unsupported(f"DASP has no rule for {operation.name} of two values that depend on the input")
        value = values[0]
        if isinstance(value, Gaussian) or not value.distinct():
            (normal,) = _gaussians(coalitions, [value])
            return Gaussian(operation.run_on(normal.mean), squared(operation, normal.variance))
        mean = operation.run_on(value.mean(coalitions))
        m = coalitions.others
        if m < 2:
            return Gaussian(mean, torch.zeros_like(mean))
        total = operation.run_on(value.high) - operation.run_on(value.low)
        # (M times both terms: on whole numbers the difference is then exactly zero where it should be.)
        spread = m * squared(operation, (value.high - value.low).square()) - total.square()
        share = coalitions.like(mean)
        return Gaussian(mean, share * (1 - share) / (m - 1) * spread.clamp(min=0))

    return rule


def _squared_weights(operation: Operation, value: Tensor) -> Tensor:
    name, (through,) = operation.name, operation.inputs
    if name in ("matmul", "mm"):
        a, b = operation.args[0], argument(operation.args, operation.kwargs, 1, "other" if name == "matmul" else "mat2")
        return value @ b.square() if through is a else a.square() @ value
    weight = argument(operation.args, operation.kwargs, 1, "weight")
    if through is not operation.args[0]:
        raise Unsupported(f"DASP has no rule for {name} with weights that depend on the input")
    if name == "linear":
        return F.linear(value, weight.square())
    settings = {
        key: argument(operation.args, operation.kwargs, place, key, default)
        for place, (key, default) in enumerate((("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)), start=3)
    }
    convolution: Callable[..., Tensor] = getattr(F, name)
    return convolution(value, weight.square(), None, **settings)


def _squared_mean(operation: Operation, value: Tensor) -> Tensor:
    """Each of the n entries of a mean has the weight 1 / n, squared; n where it is the same for all."""
    args, kwargs = operation.args, operation.kwargs
    result: Tensor = operation.run_on(value)
    if operation.name == "mean":
        return result * (result.numel() / value.numel())
    dims = int(operation.name[-2])
    if operation.name.startswith("adaptive"):
        sizes, new = value.shape[-dims:], result.shape[-dims:]
        if any(a % b for a, b in zip(sizes, new, strict=True)):
            raise Unsupported("DASP has no rule for average pooling with windows of different sizes")
        return result * (math.prod(new) / math.prod(sizes))
    kernel = _per_axis(argument(args, kwargs, 1, "kernel_size"), dims)
    padding = _per_axis(argument(args, kwargs, 3, "padding", 0), dims)
    if any(padding) or argument(args, kwargs, 4, "ceil_mode", False) or argument(args, kwargs, 6, "divisor_override"):
        raise Unsupported("DASP has no rule for average pooling over padding")
    return result / math.prod(kernel)


def _per_axis(value: Any, dims: int) -> tuple[int, ...]:
    each = tuple(value) if isinstance(value, tuple | list) else (value,)
    return each * dims if len(each) == 1 else each


# -- what is not affine -------------------------------------------------------------------------------------------


# In units of the standard deviation: beyond, the other side has no weight in double precision.
_FAR = 37.0


def _tails(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For 0 <= t <= _FAR: P(n < -t), E max(-t - n, 0) and E max(-t - n, 0)^2 of a standard normal n."""
    below = torch.special.erfc(t * 0.5**0.5) / 2
    density = torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
    first = (density - t * below).clamp(min=0)
    return below, first, ((t.square() + 1) * below - t * density).clamp(min=0)


def rectified(z: Gaussian) -> Gaussian:
    """Mean and variance of max(z, 0), in forms without cancellation on either side."""
    deviation = z.variance.sqrt()
    spread = deviation > 0
    t = (z.mean.abs() / torch.where(spread, deviation, torch.ones_like(deviation))).clamp(max=_FAR)
    t = torch.where(spread, t, torch.full_like(t, _FAR))
    _, first, second = _tails(t)
    positive = z.mean > 0
    mean = z.mean.clamp(min=0) + deviation * first
    inside = second - first.square()  # of max(-|z|, 0), the small side
    ratio = torch.where(positive, 1 - second - first.square() - 2 * t * first, inside)
    return Gaussian(mean, z.variance * torch.where(spread, ratio, torch.zeros_like(ratio)).clamp(min=0))


def larger(a: Gaussian, b: Gaussian) -> Gaussian:
    """Mean and variance of the maximum of two independent normal values (Clark 1961), that with the larger mean first."""
    swap = b.mean > a.mean
    m1, m2 = torch.where(swap, b.mean, a.mean), torch.where(swap, a.mean, b.mean)
    v1, v2 = torch.where(swap, b.variance, a.variance), torch.where(swap, a.variance, b.variance)
    total = v1 + v2
    deviation, spread = total.sqrt(), total > 0
    t = ((m1 - m2) / torch.where(spread, deviation, torch.ones_like(deviation))).clamp(max=_FAR)
    t = torch.where(spread & ~t.isnan(), t, torch.full_like(t, _FAR))  # (padding against padding)
    below, first, second = _tails(t)
    variance = v1 - total * (second + first.square() + 2 * t * first) + 2 * v2 * below
    return Gaussian(m1 + deviation * first, torch.where(spread, variance, torch.zeros_like(variance)).clamp(min=0))


def rectifying(coalitions: Coalitions, operation: Operation, values: Sequence[Value]) -> Value:
    """A ReLU, or the maximum of two values."""
    if rectifies(operation):
        value = values[0]
        if isinstance(value, Inputs):
            return Inputs(value.low.clamp(min=0), value.high.clamp(min=0), value.feature)
        return rectified(value)
    if operation.name in ("maximum", "max") and len(values) == 2:
        a, b = _gaussians(coalitions, values)
        shape = torch.broadcast_shapes(a.mean.shape, b.mean.shape)
        a, b = (Gaussian(v.mean.expand(shape), v.variance.expand(shape)) for v in (a, b))
        return larger(a, b)
    raise Unsupported(f"DASP has no rule for {operation.name} but for ReLU and the maximum of two values")


def pooling(coalitions: Coalitions, operation: Operation, values: Sequence[Value]) -> Value:
    """Max-pooling: the maximum of two, along the window in its order, rows first."""
    args, kwargs, dims = operation.args, operation.kwargs, int(operation.name[-2])
    (z,) = _gaussians(coalitions, values)
    kernel = _per_axis(argument(args, kwargs, 1, "kernel_size"), dims)
    stride = _per_axis(argument(args, kwargs, 2, "stride", None) or kernel, dims)
    padding, dilation = (
        _per_axis(argument(args, kwargs, k, name, v), dims) for k, name, v in ((3, "padding", 0), (4, "dilation", 1))
    )
    if argument(args, kwargs, 5, "ceil_mode", False) or argument(args, kwargs, 6, "return_indices", False):
        raise Unsupported("DASP has no rule for max-pooling with ceil_mode or return_indices")
    pads = [side for p in reversed(padding) for side in (p, p)]
    mean, variance = F.pad(z.mean, pads, value=-math.inf), F.pad(z.variance, pads)
    best: Gaussian | None = None
    for offsets in itertools.product(*map(range, kernel)):
        place: list[Any] = [...]
        for offset, size, k, s, d in zip(offsets, mean.shape[-dims:], kernel, stride, dilation, strict=True):
            count = (size - d * (k - 1) - 1) // s + 1
            place.append(slice(offset * d, offset * d + (count - 1) * s + 1, s))
        entry = Gaussian(mean[tuple(place)], variance[tuple(place)])
        best = entry if best is None else larger(best, entry)
    assert best is not None
    return best


_SELECTING = (
    "flatten", "reshape", "view", "view_as", "unsqueeze", "squeeze", "permute", "transpose", "t", "movedim", "swapaxes",
    "swapdims", "ravel", "unflatten", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "chunk", "split",
    "tensor_split", "unbind", "clone", "contiguous", "expand", "expand_as", "reshape_as", "broadcast_to", "gather",
    "index_select", "masked_fill", "where", "narrow", "select", "roll", "flip", "pad", "getitem", "identity", "alias",
    "T", "mT",
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_SELECTING, selecting),
    **dict.fromkeys(("add", "sub", "rsub", "neg", "positive", "batch_norm", "dropout"), adding),
    **dict.fromkeys(("mul", "div"), scaling),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "matmul", "mm"), mixing(_squared_weights)),
    "sum": mixing(lambda operation, value: operation.run_on(value)),
    **dict.fromkeys(("mean", "avg_pool1d", "avg_pool2d", "avg_pool3d"), mixing(_squared_mean)),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), mixing(_squared_mean)),
    **dict.fromkeys(("relu", "clamp", "clamp_min", "threshold", "maximum", "max"), rectifying),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), pooling),
}
