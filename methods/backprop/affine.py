"""Taking a layer with weights apart: its input, its weight and its bias, and the same layer with others in their places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import Unsupported
from .operations import argument, tensors
from .passes import Operation

Apply = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Affine:
    """z = apply(x, weight, bias), linear in x and in weight.

    x: the one argument that depends on the input; weight, bias: constants, of any layout that the operation has.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    apply: Apply

    def shared_by(self, x: Tensor, weight: Tensor) -> Tensor:
        """sum_i x_i weight_ji: what the inputs contribute to each output, without the bias."""
        return self.apply(x, weight, None)


# Where weight and bias stand among the arguments, and the bias's name.
_LAYERS = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
_PRODUCTS = ("matmul", "mm", "bmm", "mv", "dot", "inner", "tensordot", "einsum")
_SUMS = ("addmm", "addmv", "baddbmm")


def affine(operation: Operation, method: str) -> Affine:
    """The parts of a layer with weights.

    Raises:
        Unsupported: its weight depends on the input too, or it has more than one weight.
    """
    name = operation.name
    if len(operation.inputs) > 1:
        raise Unsupported(f"{method} has no rule for {name} of two values that depend on the input")
    x = operation.inputs[0]
    if name == "batch_norm":
        return _normalisation(operation, x)
    bias: Tensor | None = None
    if name in _LAYERS:
        bias = argument(operation.args, operation.kwargs, 2, "bias")
    elif name in _SUMS:
        bias = operation.args[0]
    elif name not in _PRODUCTS:
        raise Unsupported(f"{method} has no rule for {name}")
    weights = [t for t in tensors((operation.args, operation.kwargs)) if t is not x and t is not bias]
    if len(weights) != 1 or x is bias:
        raise Unsupported(f"{method} needs one weight and one input to {name}")
    weight = weights[0]

    def apply(x_: Tensor, weight_: Tensor, bias_: Tensor | None) -> Tensor:
        if bias is not None and bias_ is None and name in _SUMS:
            bias_ = torch.zeros_like(bias)
        there = {id(x): x_, id(weight): weight_, **({} if bias is None else {id(bias): bias_})}
        result: Tensor = operation.run_with(there)
        return result

    return Affine(x, weight, bias, apply)


def _normalisation(operation: Operation, x: Tensor) -> Affine:
    """Batch normalisation with stored statistics: a weight and a bias for each channel."""
    args, kwargs = operation.args, operation.kwargs
    mean, variance = argument(args, kwargs, 1, "running_mean"), argument(args, kwargs, 2, "running_var")
    scale, shift = argument(args, kwargs, 3, "weight"), argument(args, kwargs, 4, "bias")
    weight = torch.rsqrt(variance + argument(args, kwargs, 7, "eps", 1e-5))
    weight = weight if scale is None else weight * scale
    bias = -mean * weight if shift is None else shift - mean * weight
    layout = (1, -1, *[1] * (x.dim() - 2))

    def apply(x_: Tensor, weight_: Tensor, bias_: Tensor | None) -> Tensor:
        product = x_ * weight_.reshape(layout)
        return product if bias_ is None else product + bias_.reshape(layout)

    return Affine(x, weight, bias, apply)
