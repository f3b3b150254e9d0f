"""The mean of squares and the variance of another method's maps over noisy copies of the input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import Claim, Method, fails, holds
from .smoothgrad import N_SAMPLES, SIGMA, check_noise, inherited, noisy_maps, over_noise

_SQUARED_DOC = """SmoothGrad-squared over {base}: R = mean of R_base(x + n)^2, n normal.

R_i(x) = 1/n_samples sum_k R_base,i(x + sigma (max x - min x) n_k)^2, n_k ~ N(0, 1)

Source: Hooker et al. 2019, section 3 (SmoothGrad-squared). The noise is that of `smoothgrad`: relative to the range of
the sample's values. The baseline, where the base takes one, stays.

What holds: what compares maps of the base at the same noisy points: dummy, implementation invariance, the class axioms
but for parity; input invariance under constant shifts. What fails: the sign is gone, so parity and linearity; a square
grows with the square of the output.
"""

_VARIANCE_DOC = """VarGrad over {base}: R = variance of R_base(x + n), n normal.

R_i(x) = 1/n_samples sum_k (R_base,i(x_k) - mean)^2, x_k = x + sigma (max x - min x) n_k, n_k ~ N(0, 1)

Source: Adebayo et al. 2018 (VarGrad). The noise is that of `smoothgrad`: relative to the range of the sample's values.
The baseline, where the base takes one, stays. The variance is that of the drawn maps (divided by n_samples).

What holds: what compares maps of the base at the same noisy points: dummy, implementation invariance, the class axioms
but for parity; input invariance under constant shifts. Over the gradient it is zero on linear networks, whatever their
weights. What fails: the sign is gone, so parity; variances do not add up, so linearity.
"""

_REST = """
Args:
    model: maps [B, *shape] to logits [B, C], in eval mode.
    x: inputs [B, *shape].
    target: [B], the logit of each sample.
    baseline: [B, *shape] where the base takes one.

Returns:
    [B, *shape], in the squared units of the base, none negative.
"""

# A square, or a variance, of the base's figures: equal where these are. It is even, so neither odd nor linear.
_INHERITED = (
    "implementation-invariance", "dummy", "class-sensitivity/other-logits", "class-sensitivity/logit-permutation",
)  # fmt: skip


def smoothgrad_squared(base: Method, *, n_samples: int = N_SAMPLES, sigma: float = SIGMA) -> Method:
    """The method that takes the mean of the squares of another one's maps under noise.

    Raises:
        UsageError: n_samples is not a positive whole number, or sigma is not a positive number.
    """
    check_noise("smoothgrad-squared", n_samples, sigma)

    def attribute(
        model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, **options: Any
    ) -> Tensor:
        total = torch.zeros_like(x)
        for maps in noisy_maps(base, n_samples, sigma, model, x, target, baseline, options):
            total += maps.square().sum(0)
        return total / n_samples

    return over_noise("smoothgrad-squared", base, attribute, _without_sign(base), _SQUARED_DOC + _REST)


def vargrad(base: Method, *, n_samples: int = N_SAMPLES, sigma: float = SIGMA) -> Method:
    """The method that takes the variance of another one's maps under noise.

    Raises:
        UsageError: n_samples is not a positive whole number, or sigma is not a positive number.
    """
    check_noise("vargrad", n_samples, sigma)

    def attribute(
        model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, **options: Any
    ) -> Tensor:
        # Means and squared deviations of batches, merged: no difference of large squares is taken.
        seen, mean, deviations = 0, torch.zeros_like(x), torch.zeros_like(x)
        for maps in noisy_maps(base, n_samples, sigma, model, x, target, baseline, options):
            here = maps.mean(0)
            gap, total = here - mean, seen + len(maps)
            deviations += (maps - here).square().sum(0) + gap.square() * (seen * len(maps) / total)
            mean += gap * (len(maps) / total)
            seen = total
        return deviations / n_samples

    return over_noise("vargrad", base, attribute, _without_sign(base), _VARIANCE_DOC + _REST)


def _without_sign(base: Method) -> tuple[Claim, ...]:
    """What the base's claims become where maps are squared."""
    found = {(claim.axiom, claim.on): claim for claim in (*_class_axioms(base), *inherited(base, _INHERITED))}
    return tuple(found.values())


def _class_axioms(base: Method) -> tuple[Claim, ...]:
    """Of a base that has all class axioms, those that are left without the sign."""
    return tuple(
        holds(f"class-sensitivity/{variant}", on=claim.on, tol=claim.tol, source=f"inherited from {base.name}")
        for claim in base.claims
        if claim.kind == "holds" and claim.axiom == "class-sensitivity"
        for variant in ("other-logits", "logit-permutation")
    )


_EVEN = "f and -f get one map: what is squared has no sign"
_RANGE = "the noise is relative to max x - min x, which the shift changes"
_DRAWN = "the noise of the two features differs at finitely many samples"


def squared_over_gradient(gradient: Method) -> Method:
    """The built-in `smoothgrad-squared`, with the claims that are particular to the gradient."""
    made = smoothgrad_squared(gradient)
    own = (
        fails("class-sensitivity/parity", on="linear", reason=_EVEN),
        fails("linearity", on="linear", reason="f = x, g = x: the map of f + g is 4, the sum of the maps 2"),
        fails("scale-equivariance", on="linear", reason="the map of c f is c^2 times the map of f"),
        fails("symmetry", on="relu", reason=_DRAWN),
        fails("input-invariance/arbitrary", on="relu", reason=_RANGE),
    )
    return made.but(name="smoothgrad-squared", claims=(*made.claims, *own))


def variance_over_gradient(gradient: Method) -> Method:
    """The built-in `vargrad`, with the claims that are particular to the gradient."""
    made = vargrad(gradient)
    kinks = "where noise crosses the kink of ReLU(x), "
    own = (
        fails("class-sensitivity/parity", on="smooth", reason=_EVEN),
        fails("linearity", on="relu", reason=f"{kinks}f + f has four times the variance of f, not twice"),
        fails("scale-equivariance", on="relu", reason=f"{kinks}c f has c^2 times the variance of f"),
        fails("symmetry", on="relu", reason=_DRAWN),
        fails("input-invariance/arbitrary", on="relu", reason=_RANGE),
    )
    # Where all gradients are one, as on linear networks, the map is zero and says nothing: not on any family.
    curved = [
        replace(claim, on=family) if claim.on == "any" else claim
        for claim in made.claims
        for family in (("smooth", "product") if claim.on == "any" else (claim.on,))
    ]
    return made.but(name="vargrad", claims=(*curved, *own))
