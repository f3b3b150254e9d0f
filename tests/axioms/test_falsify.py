"""What a search keeps of the residuals that it saw."""

from __future__ import annotations

import numpy as np
import pytest
from attribcheck import axioms
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.falsify import Tally, _outcome
from attribcheck.errors import Defect
from attribcheck.methods.registry import get_method
from torch import Tensor, nn


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


@pytest.mark.parametrize("answers", [True, False], ids=["violated", "error"])
def test_a_case_that_is_not_finite_accuses_nobody(answers: bool) -> None:
    """It is a defect of what drew it: a method may answer what it likes to infinite weights."""

    def attribute(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        if not answers:
            raise ValueError("not finite")
        return x * model(x).sum()

    network = Network((1,), {"linear1": Layer("linear", weight=[[np.inf]])}, [Call("h1", "linear1", ("x",))])
    axiom, variant = axioms.find("completeness/output")
    bench = Bench(axiom, variant or "", get_method("gradient").but(function=attribute), "linear")
    with pytest.raises(Defect, match="not finite"):
        _outcome(bench, Case(network, np.ones((1, 1)), (0,)), Tally(), shrinking=False)
    with pytest.raises(Defect, match="not finite"):
        _outcome(bench, Case(network, np.full((1, 1), np.nan), (0,)), Tally(), shrinking=False)
