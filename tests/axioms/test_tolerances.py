"""When a residual is a violation: rounding is none, a small error is one, and nothing is judged by a zero scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attribcheck import axioms
from attribcheck.axioms import user_model as given_models
from attribcheck.axioms.case import Case
from attribcheck.axioms.comparison import compare_entries, compare_maps, compare_sums
from attribcheck.axioms.networks.build import build, magnitude, seen_magnitude
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.streams import Origin, Stream
from attribcheck.axioms.search.witnesses import evaluate
from attribcheck.axioms.tolerances import TOLERANCE, judge
from attribcheck.methods.registry import as_method, get_method
from torch import Tensor, nn

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


@pytest.mark.parametrize("family", ["linear", "relu", "conv", "residual", "maximum", "smooth", "product"])
def test_what_is_seen_of_a_model_is_no_more_than_its_path_magnitude(family: str) -> None:
    axiom, variant = axioms.find("completeness/delta")
    cases = Stream(Origin.of(axiom, variant or "", family, get_method("gradient-times-input")), 0)
    for sample in [*cases.chunk(False, 20, 0).samples, *cases.chunk(True, 5, 0).samples]:
        network, x = sample.case.network, torch.tensor(sample.case.x)
        assert isinstance(network, Network)
        model, target = build(replace(network, returns="logits")), torch.tensor(sample.case.target)
        seen, whole = seen_magnitude(model, x, target), magnitude(network, x.abs())
        outputs = model(x).detach().gather(1, target[:, None])
        assert float(outputs.abs().max()) <= seen <= whole * (1 + 1e-12)


class FiveTimes(nn.Module):
    """Hides its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach() * 5


def test_a_model_may_overwrite_its_input_or_have_no_gradient() -> None:
    x, target = torch.tensor([[3.0, 4.0]]), torch.tensor([1])
    assert seen_magnitude(nn.ReLU(inplace=True), x, target) == 4.0
    share = float(torch.tensor(1.0).sigmoid())
    assert seen_magnitude(nn.Softmax(1), x, target) == pytest.approx((3 + 4) * share * (1 - share))
    assert seen_magnitude(FiveTimes(), x, target) == 20.0
    assert x.tolist() == [[3.0, 4.0]]


def test_the_rounding_of_a_users_model_is_no_violation() -> None:
    """From a baseline that is x, occlusion is the difference of two equal outputs, which a larger batch rounds otherwise."""
    given = given_models.load("attribcheck.models.digits:network", "attribcheck.models.digits:images")
    axiom, _ = axioms.find("batch-independence")
    x = given.batch[:8]
    violated = []

    def forgetful(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return gradient.function(model, x, target) * (2 if len(x) == 1 else 1)

    gradient = get_method("gradient")
    for method in (get_method("occlusion-1"), get_method("box-occlusion"), as_method(forgetful, "forgetful")):
        case = Case(
            given.reference, x, (0, 1, 2, 3, 4, 5, 6, 7), x.copy(), options={"tier": "model", "family": "model"}
        )
        judgement, comparison, _ = evaluate(Bench(axiom, "", method, "model", given=given), case)
        violated.append(judgement.violated)
        if not judgement.violated:
            assert 0 < float(comparison.gap.max()) < 1e-13
    assert violated == [False, False, True]
