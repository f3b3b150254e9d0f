"""Region perturbation on models whose curves are known by hand, right and broken methods, and a slow twin."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.claims import Method
from attribcheck.methods.registry import get_method
from attribcheck.models.subject import Subject
from attribcheck.sanity import occluded, region_perturbation
from attribcheck.sanity.outcome import NotApplicable, Outcome
from attribcheck.sanity.region_perturbation import both_orders, counts, crossing, single_features, square_blocks
from attribcheck.sanity.study import SCALES, Scale, Study
from torch import Tensor, nn

TINY = SCALES["tiny"]


def subject(model: nn.Module, x: Tensor, group_axis: int | None = None) -> Subject:
    labels = torch.zeros(len(x), dtype=torch.long)
    return Subject(
        "tiny", "hand-made", model.eval().requires_grad_(False), x, labels, torch.ones(len(x), 1), None, x, ("one",),
        group_axis, 1.0, 0.0,
    )  # fmt: skip


def weighted(weights: Tensor) -> nn.Module:
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = weights[None].clone()
    return layer


def image(weights: Tensor) -> nn.Module:
    return nn.Sequential(nn.Flatten(), weighted(weights.flatten()))


def method(function: Callable[..., Any], **options: Any) -> Method:
    return Method("made", lambda model, x, target, baseline=None: function(model, x, target), **options)


def findings(of: Subject, by: str | Method, scale: Scale = TINY) -> dict[str, Outcome]:
    by = get_method(by) if isinstance(by, str) else by
    found = {outcome.check: outcome for outcome in region_perturbation.run(Study(of, by, scale))}
    assert tuple(found) == region_perturbation.CHECK.full_names
    for outcome in found.values():
        json.dumps(dict(outcome.figures), allow_nan=False)
    return found


def inverted(of: str) -> Method:
    right = get_method(of).function
    return method(lambda model, x, target: -right(model, x, target))


FOUR = torch.tensor([-1.0, 4.0, -2.0, 3.0])


def test_the_curves_of_a_sum_of_four_features() -> None:
    of = subject(weighted(FOUR), torch.ones(4, 4))
    found = findings(of, "gradient-times-input")["region-perturbation"]
    assert found.figures["regions removed"] == [0, 1, 2, 3, 4]
    assert found.figures["logit, highest first"] == pytest.approx([4, 0, -3, -2, 0])
    assert found.figures["logit, lowest first"] == pytest.approx([4, 6, 7, 4, 0])
    assert found.value == pytest.approx((6 + 10 + 6) / 4)
    assert found.interval == (found.value, found.value)
    assert found.observed == "holds"
    assert found.figures["regions removed where the orders cross"] == "never"
    assert found.figures["largest drop"] == pytest.approx(7)
    assert found.figures["largest rise, lowest first"] == pytest.approx(3)


def test_an_inverted_map_has_the_inverted_area() -> None:
    of = subject(weighted(FOUR), torch.ones(4, 4))
    found = findings(of, inverted("gradient-times-input"))["region-perturbation"]
    assert found.value == pytest.approx(-5.5)
    assert found.observed == "violated"


def test_a_constant_map_has_no_area_at_all() -> None:
    torch.manual_seed(0)
    of = subject(image(torch.randn(6, 6)), torch.rand(4, 1, 6, 6), group_axis=0)
    found = findings(of, method(lambda model, x, target: torch.ones_like(x)))
    for name in ("region-perturbation", "region-perturbation/blocks"):
        assert (found[name].value, found[name].interval, found[name].observed) == (0, (0, 0), "violated")


def test_a_random_map_is_not_told_from_none() -> None:
    torch.manual_seed(0)
    of = subject(weighted(torch.randn(40)), torch.rand(60, 40))
    scale = replace(TINY, images=60)
    found = findings(of, method(lambda model, x, target: torch.sin(1e4 * x)), scale)
    assert found["region-perturbation"].observed == "inconclusive"
    assert found["region-perturbation"].interval[0] < 0 < found["region-perturbation"].interval[1]  # type: ignore[index]


def test_the_input_itself_falls_against_the_control_and_an_attribution_holds() -> None:
    torch.manual_seed(0)
    of = subject(weighted(torch.randn(30) + 0.5), torch.rand(8, 30) + 0.1)
    scale = replace(TINY, images=8, steps=8)
    itself = findings(of, method(lambda model, x, target: x), scale)["region-perturbation/input"]
    assert (itself.value, itself.interval, itself.observed) == (0, (0, 0), "violated")
    right = findings(of, "gradient-times-input", scale)["region-perturbation/input"]
    assert right.observed == "holds"
    assert right.value == pytest.approx(right.figures["area"] - right.figures["control area"])


def test_the_control_is_the_stronger_of_the_input_and_its_size() -> None:
    class Sizes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.abs() * (1 + torch.arange(12.0))).sum(1, keepdim=True)

    torch.manual_seed(0)
    found = findings(subject(Sizes(), torch.randn(4, 12)), "occlusion-1")["region-perturbation/input"]
    assert found.figures["control"] == "|x - baseline|"
    found = findings(subject(weighted(1 + torch.rand(12)), torch.randn(4, 12)), "occlusion-1")[
        "region-perturbation/input"
    ]
    assert found.figures["control"] == "x - baseline"


def test_blocks_are_removed_as_a_whole_by_the_sum_of_their_attributions() -> None:
    weights = torch.tensor(
        [[1.0, 1, 5, -4], [1, 1, 0, 0], [-1, -1, 0, 0], [-1, -1, 0, 3]]
    )  # sums of the 2x2 blocks: 4, 1, -4, 3
    of = subject(image(weights), torch.ones(4, 1, 4, 4), group_axis=0)
    blocks = square_blocks(of)
    assert blocks is not None
    assert blocks[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    found = findings(of, "gradient-times-input")["region-perturbation/blocks"]
    assert found.figures["logit, highest first"] == pytest.approx([4, 0, -3, -4, 0])
    assert found.figures["logit, lowest first"] == pytest.approx([4, 8, 7, 4, 0])
    assert found.value == pytest.approx((8 + 10 + 8) / 4)


def test_blocks_have_a_seventh_of_the_side_and_are_cut_at_the_edge() -> None:
    def of(*shape: int) -> Tensor | None:
        return square_blocks(subject(image(torch.zeros(shape)), torch.zeros(1, *shape)))

    small, large, odd = of(1, 28, 28), of(3, 64, 64), of(1, 5, 5)
    assert small is not None and large is not None and odd is not None
    assert int(small.max()) + 1 == 49
    assert int(large.max()) + 1 == 8 * 8
    assert (large == 0).sum() == 3 * 81
    assert odd.unique(return_counts=True)[1].tolist() == [4, 4, 2, 4, 4, 2, 2, 2, 1]
    assert of(1, 2, 2) is None


def test_words_are_removed_whole_and_have_no_blocks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False))
    of = subject(model, torch.randn(4, 4, 3), group_axis=-1)
    regions = single_features(of)
    assert regions.tolist() == [[0] * 3, [1] * 3, [2] * 3, [3] * 3]
    found = findings(of, "gradient-times-input")
    assert found["region-perturbation/blocks"].observed == "not-applicable"
    assert found["region-perturbation"].figures["regions removed"] == [0, 1, 2, 3, 4]
    assert found["region-perturbation"].observed == "holds"


def test_curves_are_those_of_a_slow_twin() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 1))
    of = subject(model, torch.randn(3, 9))
    study = Study(of, get_method("gradient-times-input"), replace(TINY, steps=9))
    at, maps = torch.full((3, 9), 0.5), study.maps(of.labels)
    curves = both_orders(study, maps, at, single_features(of))
    assert curves.removed.tolist() == list(range(10))
    for index in range(3):
        for found, order in (
            (curves.highest, maps[index].argsort(descending=True)),
            (curves.lowest, maps[index].argsort()),
        ):
            x, expected = of.x[index].clone(), []
            for feature in (None, *order.tolist()):
                if feature is not None:
                    x[feature] = 0.5
                expected.append(float(model(x[None])[0, 0]))
            assert found[index] == pytest.approx(expected, abs=1e-5)


def test_features_are_set_to_the_baseline_that_the_method_refers_to() -> None:
    of = subject(weighted(FOUR), torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 4))
    found = findings(of, "integrated-gradients-min")["region-perturbation"]
    assert found.figures["logit, highest first"][-1] == pytest.approx(float(FOUR.sum()))
    assert found.figures["baseline"] == "min"


def test_points_are_dense_at_the_start_and_reach_the_end() -> None:
    assert counts(4, 4).tolist() == [0, 1, 2, 3, 4]
    many = counts(784, 12)
    assert many[:4].tolist() == [0, 1, 2, 3]
    assert many[-1] == 784
    assert {65, 392, 719} <= set(many.tolist())


def test_where_two_curves_cross() -> None:
    removed = np.array([0, 10, 20, 40])
    level = np.zeros(4)
    assert crossing(removed, level, np.array([0, 2.0, -2, -5])) == 15
    assert crossing(removed, level, np.array([0, 2.0, 0, -2])) == 25
    assert crossing(removed, level, np.array([0, 2.0, 0, 0])) == "never"
    assert crossing(removed, level, level) == "never"


def test_equal_attributions_go_in_one_order_whatever_the_direction() -> None:
    torch.manual_seed(0)
    of = subject(weighted(torch.rand(6) + 0.5), torch.ones(4, 6))
    study = Study(of, get_method("gradient"), replace(TINY, steps=6))
    maps = torch.tensor([[0.0, 0, 0, 0, 0, 1]] * 4)
    curves = both_orders(study, maps, torch.zeros(4, 6), single_features(of))
    drops = -np.diff(curves.highest, axis=1)[:, 1:], -np.diff(curves.lowest, axis=1)[:, :-1]
    assert np.allclose(*drops, atol=1e-6)
    assert not np.allclose(drops[0], drops[0][:1])


def test_random_orders_lie_between_and_are_made_once() -> None:
    torch.manual_seed(0)
    of = subject(weighted(torch.randn(50)), torch.rand(8, 50))
    scale, rows = replace(TINY, images=8, steps=6), 0

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    handle = of.model.register_forward_pre_hook(count)
    occluded._known.clear()
    found = findings(of, "gradient-times-input", scale)["region-perturbation"]
    first, rows = rows, 0
    again = findings(of, "gradient-times-input", scale)["region-perturbation"]
    handle.remove()
    assert rows < first / 3
    assert found == again
    assert found.figures["highest first below random"][1] > 0
    assert found.figures["lowest first above random"][1] > 0
    assert found.figures["highest first below random"][0] + found.figures["lowest first above random"][
        0
    ] == pytest.approx(found.value)


def test_one_feature_has_no_order() -> None:
    with pytest.raises(NotApplicable, match="no order"):
        findings(subject(nn.Linear(1, 1), torch.ones(4, 1)), "gradient")
