"""When a residual is a violation: rounding is none, a small error is one, and nothing is judged by a zero scale."""

from __future__ import annotations

import pytest
import torch
from attribcheck.axioms.comparison import compare_entries, compare_maps, compare_sums
from attribcheck.axioms.tolerances import TOLERANCE, judge

MAP = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)


def test_rounding_passes_and_one_part_in_a_million_does_not() -> None:
    for error, violated in ((1e-15, False), (1e-6, True)):
        judgement = judge(compare_maps("", MAP * (1 + error), MAP), "float64", None, None)
        assert judgement.violated is violated


def test_what_is_not_finite_is_a_violation_without_a_residual() -> None:
    for bad in (float("nan"), float("inf")):
        broken = MAP.clone()
        broken[0, 1] = bad
        judgement = judge(compare_maps("", broken, MAP), "float64", None, None)
        assert judgement.violated
        assert judgement.residual is None
    hidden = judge(compare_entries("", MAP[:, 0], MAP[:, 0], MAP), "float64", None, None, finite=False)
    assert hidden.violated


def test_the_worst_sample_decides() -> None:
    both = torch.cat([MAP, MAP])
    wrong = both.clone()
    wrong[1, 0] += 0.1
    assert judge(compare_maps("", wrong, both), "float64", None, None).violated


def test_a_stated_tolerance_widens_and_never_narrows() -> None:
    off = compare_maps("", MAP * 1.001, MAP)
    assert not judge(off, "float64", 1e-2, None).violated
    assert judge(off, "float64", 1e-300, None).tolerance == TOLERANCE["float64"]


def test_where_everything_cancels_the_path_magnitude_is_the_scale() -> None:
    noise = torch.tensor([[1e-16, -1e-16]], dtype=torch.float64)
    comparison = compare_maps("", noise, torch.zeros_like(noise))
    assert judge(comparison, "float64", None, None).violated
    assert not judge(comparison, "float64", None, lambda: 1.0).violated
    assert judge(compare_maps("", MAP, 0 * MAP), "float64", None, lambda: 10.0).violated  # no excuse for a real map


def test_single_precision_has_its_own_tolerance() -> None:
    off = compare_maps("", MAP.float() * (1 + 1e-6), MAP.float())
    assert not judge(off, "float32", None, None).violated
    assert judge(off, "float64", None, None).violated


@pytest.mark.parametrize("size", [0.0, 1e-13])
def test_a_zero_map_next_to_the_baseline_says_nothing(size: float) -> None:
    one, gained = torch.ones(1, dtype=torch.float64), torch.full((1,), size, dtype=torch.float64)
    comparison = compare_sums("", 0 * one, gained, 2 * one, 0 * MAP)
    judgement = judge(comparison, "float64", None, None)
    assert judgement.empty
    assert not judgement.violated
    assert not judge(compare_sums("", one, one, 2 * one, MAP), "float64", None, None).empty
