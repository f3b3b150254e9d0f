"""The gradient, its absolute value, and its product with the input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method


def input_gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The gradient of each sample's target logit with respect to its input.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.

    Returns:
        [B, *shape]; parameters and their gradients are untouched.
    """
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        chosen = model(point).gather(1, target[:, None])
        (gradient,) = torch.autograd.grad(chosen.sum(), point, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


_INVARIANT = (
    holds("implementation-invariance", on="any", source="proved here: the derivative belongs to the function"),
    holds("dummy", on="any", source="proved here: df/dx_i = 0 where f does not depend on x_i"),
    holds("symmetry", on="any", source="proved here: the partial derivatives of a symmetric function agree"),
    holds("scale-equivariance", on="any", source="proved here: the derivative of c f is c f'"),
    holds("feature-permutation", on="any", source="proved here: partial derivatives move with their variables"),
    holds(
        "continuity", on="smooth", source="proved here: the derivative is continuous (Ancona et al. 2019, section 2.4)"
    ),
)
_LINEAR = (
    holds("class-sensitivity", on="any", source="proved here: the derivative of the target logit, odd in it"),
    holds("linearity", on="any", source="proved here: differentiation is linear; on a kink both sides pick one slope"),
)
_JUMPS = "the slope of a ReLU jumps: f = ReLU(x - 1/2) on the way from 0 to 1"


@method(
    claims=[
        *_INVARIANT,
        *_LINEAR,
        holds("input-invariance", on="any", source="Kindermans et al. 2019, section 3.1"),
        fails("continuity", on="relu", reason=_JUMPS),
    ],
)
def gradient(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The gradient of the target logit: R = df/dx.

    Source: Simonyan et al. 2014, section 3 (before the absolute value); Baehrens et al. 2010.

    What holds: everything that depends on the function alone and not on the zero of the input: implementation invariance,
    dummy and symmetry away from kinks (automatic differentiation gives x and ReLU(x) - ReLU(-x) different derivatives
    at 0), input invariance; linearity and class sensitivity, at kinks too. Completeness and sensitivity-n are not meant: a
    gradient is not in units of the output. What fails: continuity, as soon as there are kinks.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.

    Returns:
        [B, *shape], in units of output per input.
    """
    return input_gradient(model, x, target)


@method(
    claims=[
        *_INVARIANT,
        holds("input-invariance", on="any", source="Kindermans et al. 2019, section 3.1"),
        holds("class-sensitivity/other-logits", on="any", source="proved here: the derivative of the target logit"),
        holds(
            "class-sensitivity/logit-permutation", on="any", source="proved here: the derivative of the target logit"
        ),
        fails("class-sensitivity/parity", on="any", reason="f = x and -f = -x both have the map 1"),
        fails("linearity", on="linear", reason="f = x, g = -x: the map of f + g = 0 is 0, the sum of the maps 2"),
        fails("continuity", on="relu", reason=_JUMPS),
    ],
)
def saliency(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The absolute value of the gradient: R = |df/dx|.

    Source: Simonyan et al. 2014, section 3.1 (here per input value; the paper takes the maximum over channels).

    What holds: what holds for the gradient, except for linearity and parity: it does not tell evidence for a class from
    evidence against it.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.

    Returns:
        [B, *shape], in units of output per input, none negative.
    """
    return input_gradient(model, x, target).abs()


_PIECEWISE_LINEAR = (
    "linear", "relu", "relu-nobias", "conv", "maxpool", "maximum", "residual", "functional", "gap", "vgg",
)  # fmt: skip
_HOMOGENEOUS = "proved here: Euler's theorem for positively homogeneous functions, f = x * grad f"
_BIAS = "biases: f = ReLU(x - 1) at x = 2 gives x f' = 2, but f(x) - f(0) = 1"
_SHIFT = "the map is multiplied by the input, which the shift moved (Kindermans et al. 2019, section 3.2)"


@method(
    claims=[
        *_INVARIANT,
        *_LINEAR,
        *(
            holds("approximate-completeness", on=family, source="proved here: Euler's theorem in the input and the biases")
            for family in _PIECEWISE_LINEAR
        ),
        holds("completeness/delta", on="relu-nobias", source=_HOMOGENEOUS),
        holds("completeness/output", on="relu-nobias", source=_HOMOGENEOUS),
        holds("completeness/delta", on="linear", source="Ancona et al. 2018, Proposition 4"),
        holds("sensitivity-n", on="linear", source="Ancona et al. 2018, Proposition 4"),
        holds("sensitivity-n/N", on="relu-nobias", source=_HOMOGENEOUS),
        fails("completeness/output", on="linear", reason="the bias belongs to no feature"),
        fails("completeness/delta", on="relu", reason=_BIAS),
        fails("completeness/delta", on="conv", reason=_BIAS),
        fails("completeness/delta", on="smooth", reason="x tanh'(x) is not tanh(x)"),
        fails("completeness/delta", on="odd-nobias", reason="x tanh'(x) is not tanh(x)"),
        fails("completeness/delta", on="maxpool", reason="biases of the branches and rectifiers are lost"),
        fails("completeness/delta", on="product", reason="f = x1 x2 has degree two: the sum is 2 f"),
        fails("sensitivity-n/1", on="relu-nobias", reason="ReLU(x1 - x2) at (2, 1): R_1 = 2, removing x1 costs 1"),
        fails("sensitivity-n/n", on="relu", reason="biases and interactions (Ancona et al. 2018, Proposition 4)"),
        fails("input-invariance/constant", on="any", reason=_SHIFT),
        fails("input-invariance/arbitrary", on="linear", reason=_SHIFT),
        fails("continuity", on="relu", reason=_JUMPS),
    ],
)  # fmt: skip
def gradient_times_input(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The gradient times the input: R_i = x_i df/dx_i.

    Source: Shrikumar et al. 2016; Ancona et al. 2018, Table 1.

    What holds: completeness iff f - f(0) is positively homogeneous (networks of linear layers, ReLU and max without
    bias, at kinks too); every sensitivity-n on linear graphs; what holds for the gradient except input invariance.
    What fails: completeness as soon as there are biases, saturation or products; input invariance; continuity at kinks.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the method refers to zeros.

    Returns:
        [B, *shape], in units of the output.
    """
    return x * input_gradient(model, x, target)
