"""What a search keeps of the residuals that it saw."""

from __future__ import annotations

import pytest
from attribcheck.search import Tally


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        ([(1e-14, 1e-10), (1e-9, 1e-4), (1e-13, 1e-10)], (1e-13, 1e-10)),
        ([(0.0, 1e-10), (0.0, 1e-4)], (0.0, 1e-10)),
        ([(3.0, 1.0), (2.0, 0.0)], (2.0, 0.0)),
        ([(1.0, 1e-10), (None, 1e-4), (5.0, 1e-10)], (None, 1e-4)),
    ],
    ids=["the larger for its tolerance", "nothing", "a tolerance of none", "not finite, beyond any number"],
)
def test_the_worst_residual_is_the_largest_for_its_own_tolerance(
    seen: list[tuple[float | None, float]], kept: tuple[float | None, float]
) -> None:
    """A cell has cases in single and in double precision: residuals of the former are larger, and so are their bounds."""
    tally = Tally()
    for residual, tolerance in seen:
        tally.saw(residual, tolerance)
    assert (tally.residual, tally.tolerance) == kept
