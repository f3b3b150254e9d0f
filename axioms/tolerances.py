"""The one place for tolerances: when a normalised residual is a violation, and why that number.

Unit roundoff: u = 2**-53 (float64), 2**-24 (float32).

Residuals are dimensionless: gap / (sum of the absolute terms that were subtracted), see `comparison`. A sum of K terms
that are each right to a few u is right to about K u relative to that scale in the worst case, sqrt(K) u typically; maps
that two equivalent networks produce differ by the rounding along their paths. Measured over data scales 0.01 to 100 and
widths 8 to 784, right methods reach 2e-16 (float64) and 1e-7 (float32). TOLERANCE leaves five orders of magnitude in
float64 and two in float32; a broken rule is off by 1e-3 and more.

Cancellation: where all terms cancel (a map that is zero but for rounding), the scale itself is rounding and the ratio
means nothing. Rounding of the function and of its gradient is at most (operations per path) * u * A, where A is the sum
over all paths of absolute values (`networks.build.magnitude`). With up to 2**8 operations on a path, and a factor 4 for
two evaluations that are compared and for the method's own arithmetic, the noise is below 2**10 u A. A gap below the noise
is no violation: the scale is never taken smaller than 2**10 u A / TOLERANCE, which is 1.1e-3 A in float64. Of a user's model,
whose weights are not known as data, only a part of A is seen (`networks.build.seen_magnitude`: outputs and gradients, in
which paths cancel): 32 of 372 for the digits network, so its 2**10 leave room for a hundred operations on a path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .comparison import Comparison, all_finite

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
NOISE_OPERATIONS = 2.0**10

# A rewrite, a shift or a symmetrisation that changes the function by more than this (relative to its largest output
# magnitude) is a defect of attribcheck. Rounding is below 2**10 u = 1e-13; a wrong rewrite is off by 1e-2 and more.
PRESERVED = 1e-9


@dataclass(frozen=True)
class Judgement:
    """A normalised residual (None: not finite) against its tolerance, and the least scale that it was normalised by."""

    residual: float | None
    tolerance: float
    violated: bool
    empty: bool
    floor: float = 0.0


def judge(
    comparison: Comparison,
    dtype: str,
    tol: float | None,
    magnitude: Callable[[], float] | None,
    finite: bool = True,
) -> Judgement:
    """Decide one comparison.

    Args:
        dtype: the arithmetic in which the method ran.
        tol: the tolerance that a claim states for a method that approximates; None: rounding only.
        magnitude: computes A (see above). It is only called when it can matter: the floor can lower a residual, never raise
            it.
        finite: whether the attributions behind the figures were finite in every entry.
    """
    tolerance = max(TOLERANCE[dtype], tol or 0.0)
    if not finite or not all_finite(comparison):
        return Judgement(None, tolerance, True, False)
    empty = bool(comparison.empty.all())
    gap, scale = comparison.gap.double(), comparison.scale.double()

    def largest(floor: float) -> float:
        ratio = gap / scale.clamp(min=max(floor, 5e-324))
        return float(ratio.where(gap > 0, gap).max())

    residual, floor = largest(0.0), 0.0
    if comparison.exact:
        return Judgement(residual, 0.0, residual > 0, empty)
    if residual > tolerance and magnitude is not None:
        floor = NOISE_OPERATIONS * ROUNDOFF[dtype] * magnitude() / TOLERANCE[dtype]
        residual = largest(floor)
    return Judgement(residual, tolerance, residual > tolerance, empty and not residual > tolerance, floor)
