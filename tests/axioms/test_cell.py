"""One cell: on how many cases a verdict rests, whose mistake an error is, and what a process that died leaves."""

from __future__ import annotations

import json
from typing import Any

import attribcheck as ac
import numpy as np
import pytest
import torch
from attribcheck import axioms
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.axioms.search import cell as cells
from attribcheck.axioms.search.falsify import ENOUGH
from attribcheck.axioms.search.plan import Cell, Options
from attribcheck.errors import UsageError
from torch import Tensor, nn


@pytest.mark.parametrize("number", [0, -3, 1.5, True, "10"])
def test_fewer_than_one_example_is_refused_everywhere(number: Any) -> None:
    """A method that returns ones would pass on none."""

    def ones(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return torch.ones_like(x)

    said = f"max_examples must be a whole number of at least 1, not {number!r}"
    for refused in (
        lambda: ac.check(ones, claims=[ac.holds("dummy", on="linear")], max_examples=number),
        lambda: ac.parametrize_with_axioms([ac.get_method("gradient")], max_examples=number),
        lambda: Options(max_examples=number),
    ):
        with pytest.raises(UsageError) as error:
            refused()
        assert str(error.value) == said


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_holds_was_tried_whatever_the_number(number: int) -> None:
    (result,) = ac.check("gradient", claims=[ac.holds("dummy", on="linear")], max_examples=number).results
    assert result.verdict == "pass"
    assert result.examples - result.vacuous >= ENOUGH * number


def test_a_mistake_of_ours_is_charged_to_no_method(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> None:
        raise KeyError("shift")

    monkeypatch.setattr("attribcheck.axioms.search.cell.search", broken)
    (result,) = ac.check("gradient", claims=[ac.holds("dummy", on="linear")], max_examples=4).results
    assert (result.observed, result.verdict) == ("error", "error")
    said = "a defect of attribcheck, please report it: KeyError: 'shift' (test_cell.py"
    assert str(result.note).startswith(said)


@pytest.mark.parametrize(("weight", "shown"), [(2.0, True), (np.inf, False)], ids=["finite", "not finite"])
def test_a_cell_whose_process_died(weight: float, shown: bool) -> None:
    """Its case is the witness, if strict JSON can tell it."""
    network = Network((1,), {"linear1": Layer("linear", weight=[[weight]])}, [Call("h1", "linear1", ("x",))])
    claim = ac.holds("dummy", on="linear")
    cell = Cell(ac.get_method("gradient"), axioms.AXIOMS["dummy"], ("",), "linear", claim)
    drawn = {"feature": 0}
    case = Case(network, np.ones((1, 1)), (0,), drawn=drawn)
    result = cells.lost(cell, Options(), None, "ended the process, with exit code 3", "dummy", case)
    assert (result.observed, result.verdict, result.claim) == ("error", "error", "holds")
    assert result.note == "ended the process, with exit code 3"
    assert (result.witness is not None) == shown
    json.dumps(result.document(), allow_nan=False)
    unknown = cells.lost(cell, Options(), None, "was killed", None, None)
    assert (unknown.observed, unknown.witness) == ("error", None)
