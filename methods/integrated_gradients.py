"""Integrated gradients, from each of four baselines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..claims import Claim, fails, holds, method
from ..errors import UsageError
from .path_integral import integrate_gradients

_LINE = "Sundararajan et al. 2017, Proposition 1; at kinks too: Bolte and Pauwels 2020"
_ADDITIVE = "Ancona et al. 2018, Proposition 4"
_OFF_FACETS = (
    "proved here: a jump of the gradient is met at single points of the path, unless its hyperplane has the baseline"
)
_ON_FACETS = "every kink of a network without biases lies in a hyperplane through zero: across it the whole path flips"
_CLAIMS = (
    holds("completeness/delta", on="any", source=_LINE),
    holds("sensitivity-n/N", on="any", source=_LINE),
    holds("sensitivity-n", on="linear", source=_ADDITIVE),
    holds("implementation-invariance", on="any", source="Sundararajan et al. 2017, section 2.2"),
    holds("dummy", on="any", source="Sundararajan et al. 2017, section 3"),
    holds("symmetry", on="any", source="Sundararajan et al. 2017, Theorem 1"),
    holds("class-sensitivity", on="any", source="proved here: an integral over derivatives of the target logit"),
    holds("linearity", on="any", source="Sundararajan et al. 2017, section 3"),
    holds("scale-equivariance", on="any", source="Sundararajan et al. 2017, section 3 (linearity)"),
    holds("feature-permutation", on="any", source="proved here: the path moves with the features, and so does its start"),
    fails("sensitivity-n/1", on="product", reason="f = x1 x2 at (1, 1): R = (1/2, 1/2), removing x1 costs 1"),
    fails("sensitivity-n/n", on="relu", reason="interactions: Ancona et al. 2018, Proposition 4"),
    fails("sensitivity-n/1", on="smooth", reason="interactions: the mean slope is not the finite difference"),
)  # fmt: skip


def _moves(kind: str, outcome: bool, reason: str) -> Claim:
    if outcome:
        return holds(f"input-invariance/{kind}", on="any", source=reason)
    return fails(f"input-invariance/{kind}", on="any", reason=reason)


@method(
    name="integrated-gradients",
    baseline="given",
    claims=[
        *_CLAIMS,
        holds("continuity", on="relu", source=_OFF_FACETS),
        holds("continuity", on="smooth", source="proved here: an integral of continuous functions"),
        fails("completeness/output", on="relu", reason="the output at the baseline belongs to no feature"),
        fails("continuity", on="relu-nobias", reason=f"a given baseline can be zero, and {_ON_FACETS}"),
        _moves("constant", True, "proved here: the given baseline moves with the input"),
        _moves("arbitrary", True, "proved here: the given baseline moves with the input"),
    ],
)  # fmt: skip
def integrated_gradients(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, steps: int = 0
) -> Tensor:
    """Integrated gradients from a given baseline: R = (x - x0) * integral_0^1 grad f(x0 + a (x - x0)) da.

    Source: Sundararajan et al. 2017, equation 1. (Ancona et al. 2019, equation 19, prints x for x - x0: that form is not
    complete unless x0 = 0.)

    The integral is exact on piecewise linear networks: the breakpoints of the path are computed layer by layer and the
    gradient is constant between them. Other networks go through adaptive quadrature with an error estimate.

    What holds: completeness, also at kinks; implementation invariance, dummy and symmetry, unless the path runs inside a
    kink; every sensitivity-n on linear graphs; input invariance, when the baseline moves with the input; linearity, class
    sensitivity; continuity, unless the hyperplane of a kink contains the baseline.
    What fails: sensitivity-n for 1 <= n < N as soon as features interact: f = x1 x2 at (1, 1) gives (1/2, 1/2).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], where the path starts; zeros where None.
        steps: nodes of a Gauss-Legendre rule on the path, as papers use; 0: exact.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: the integral does not converge.
        UsageError: fewer than 0 steps.
    """
    return integrate_gradients(model, x, target, torch.zeros_like(x) if baseline is None else baseline, steps)


_BIASES = "f = ReLU(x - 1) at x = 2: sum R = 1, but f without the relevance of its bias, -1, is 2"


@method(
    name="integrated-gradients-zero",
    baseline="zeros",
    claims=[
        *_CLAIMS,
        holds("completeness/output", on="relu-nobias", source="f(0) = 0 without biases"),
        holds("completeness/output", on="odd-nobias", source="f(0) = 0 for odd functions"),
        fails("approximate-completeness", on="relu", reason=_BIASES),
        holds("continuity", on="relu", source=_OFF_FACETS),
        fails("continuity", on="relu-nobias", reason=_ON_FACETS),
        _moves("constant", False, "black stays black when the data move (Kindermans et al. 2019, section 3.2)"),
        _moves("arbitrary", False, "black stays black when the data move (Kindermans et al. 2019, section 3.2)"),
    ],
)
def integrated_gradients_zero(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, steps: int = 0
) -> Tensor:
    """Integrated gradients from the zero input.

    Source: Sundararajan et al. 2017, with the black image as a baseline; Ancona et al. 2018.

    What holds: as for `integrated-gradients`, and sum R = f(x) where f(0) = 0. What fails: input invariance, since the
    reference stays where it is when the data move.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        steps: nodes of a Gauss-Legendre rule on the path, as papers use; 0: exact.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: the integral does not converge.
        UsageError: fewer than 0 steps.
    """
    return integrate_gradients(model, x, target, torch.zeros_like(x), steps)


@method(
    name="integrated-gradients-min",
    baseline="min",
    claims=[
        *_CLAIMS,
        fails("continuity", on="relu-nobias", reason="the hyperplane of ReLU(x2 - x3) contains every constant input"),
        _moves("constant", True, "proved here: the minimum of x moves by the same constant"),
        _moves("arbitrary", False, "the minimum over features does not follow an arbitrary shift"),
    ],
)  # fmt: skip
def integrated_gradients_min(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, steps: int = 0
) -> Tensor:
    """Integrated gradients from the smallest value of each sample ("black"), a constant input.

    Source: Kindermans et al. 2019, section 3.2 (the black reference, read as the minimum of the input).

    What holds: as for `integrated-gradients`; input invariance under constant shifts only.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; computed from x.
        steps: nodes of a Gauss-Legendre rule on the path, as papers use; 0: exact.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: the integral does not converge.
        UsageError: fewer than 0 steps.
    """
    black = x.flatten(1).amin(1).reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)
    return integrate_gradients(model, x, target, black, steps)


@method(
    name="integrated-gradients-mean",
    baseline="mean",
    claims=[
        *_CLAIMS,
        holds("continuity", on="smooth", source="proved here: an integral of continuous functions"),
        _moves("constant", True, "proved here: the mean of the data moves with the data"),
        _moves("arbitrary", True, "proved here: the mean of the data moves with the data"),
    ],
)
def integrated_gradients_mean(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, steps: int = 0
) -> Tensor:
    """Integrated gradients from the mean of the data.

    Source: Kindermans et al. 2019, section 3.2 (a reference that is computed from the data).

    What holds: as for `integrated-gradients`; input invariance under arbitrary shifts, since the mean moves with the data;
    continuity, unless the mean lies in the hyperplane of a kink.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the mean of the data in each row.
        steps: nodes of a Gauss-Legendre rule on the path, as papers use; 0: exact.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: no baseline was given: the mean of the data cannot be known from x alone; fewer than 0 steps.
        Unsupported: the integral does not converge.
    """
    if baseline is None:
        raise UsageError("integrated-gradients-mean needs the mean of the data as its baseline")
    return integrate_gradients(model, x, target, baseline, steps)
