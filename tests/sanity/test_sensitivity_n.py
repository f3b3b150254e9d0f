"""Sensitivity-n on models whose correlations are known by hand, right and broken methods, and a slow twin."""

from __future__ import annotations

import itertools
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
from attribcheck.sanity import occluded, sensitivity_n
from attribcheck.sanity.outcome import NotApplicable, Outcome
from attribcheck.sanity.study import SCALES, Scale, Study
from torch import Tensor, nn

TINY = SCALES["tiny"]


def subject(model: nn.Module, x: Tensor, labels: Tensor | None = None, group_axis: int | None = None) -> Subject:
    labels = torch.zeros(len(x), dtype=torch.long) if labels is None else labels
    classes = int(model(x[:1]).shape[1])
    return Subject(
        "tiny", "hand-made", model.eval().requires_grad_(False), x, labels, torch.eye(classes)[labels], None, x,
        tuple(map(str, range(classes))), group_axis, 1.0, 0.0,
    )  # fmt: skip


def linear(n: int = 20, seed: int = 0) -> Subject:
    torch.manual_seed(seed)
    return subject(nn.Linear(n, 3), torch.rand(6, n) + 0.1, torch.arange(6) % 3)


def deep(seed: int = 0, n: int = 16) -> Subject:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    return subject(model, torch.randn(6, n) * 2)


def method(function: Callable[..., Any], **options: Any) -> Method:
    return Method("made", lambda model, x, target, baseline=None: function(model, x, target), **options)


def finding(of: Subject, by: str | Method, scale: Scale = TINY) -> Outcome:
    by = get_method(by) if isinstance(by, str) else by
    (outcome,) = sensitivity_n.run(Study(of, by, scale))
    assert outcome.check == "sensitivity-n"
    json.dumps(dict(outcome.figures), allow_nan=False)
    return outcome


@pytest.mark.parametrize(
    "name", ["gradient-times-input", "integrated-gradients-zero", "deeplift", "lrp-0", "occlusion-1"]
)
def test_on_a_linear_model_every_size_correlates_perfectly(name: str) -> None:
    found = finding(linear(), name)
    assert np.allclose(found.figures["correlation by size"], 1, atol=1e-4)
    assert found.figures["sign agreement at n = 1"] == 1
    assert found.observed == "holds"
    assert found.value == pytest.approx(1 - found.figures["control area"], abs=1e-4)


def test_an_inverted_map_falls_with_correlation_minus_one() -> None:
    right = get_method("gradient-times-input").function
    found = finding(linear(), method(lambda model, x, target: -right(model, x, target)))
    assert np.allclose(found.figures["correlation by size"], -1, atol=1e-4)
    assert found.figures["sign agreement at n = 1"] == 0
    assert found.observed == "violated"


def test_a_constant_map_predicts_nothing_and_falls() -> None:
    found = finding(linear(), method(lambda model, x, target: torch.ones_like(x)))
    assert set(found.figures["correlation by size"]) == {0.0}
    assert found.figures["area"] == 0
    assert (found.figures["control"], found.observed) == ("random map", "violated")


def test_the_input_itself_is_no_better_than_the_control_that_it_is() -> None:
    torch.manual_seed(3)
    model = nn.Linear(20, 1)
    model.weight.data = model.weight.data.abs() + 0.05
    found = finding(subject(model, torch.rand(6, 20)), method(lambda model, x, target: x))
    assert found.figures["control"] == "x - baseline"
    assert found.figures["area"] > 0.3
    assert (found.value, found.interval, found.observed) == (0, (0, 0), "violated")


def test_the_control_is_the_strongest_of_three() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 20)
    absolute = nn.Linear(20, 1, bias=False)
    absolute.weight.data = torch.ones(1, 20)

    class Sizes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.abs() + 0.3 * x * torch.linspace(-1, 1, 20)).sum(1, keepdim=True)

    assert finding(subject(Sizes(), x), "occlusion-1").figures["control"] == "|x - baseline|"
    negative = nn.Linear(20, 1)
    negative.weight.data = -torch.rand(1, 20)
    found = finding(subject(negative, x.abs()), "occlusion-1")
    assert (found.figures["control"], found.figures["control area"]) == ("random map", 0)
    with pytest.raises(NotApplicable, match="no map can do better"):
        finding(subject(absolute, x), "occlusion-1")


def test_occlusion_is_perfect_for_single_features_and_worse_for_many() -> None:
    found = finding(deep(), "occlusion-1", replace(TINY, subsets=60, images=6, steps=6))
    curve = found.figures["correlation by size"]
    assert curve[0] == pytest.approx(1, abs=1e-5)
    assert max(curve) == curve[0]
    assert curve[-1] < 0.99
    assert found.paper is not None
    assert "Figure 4" in found.paper["source"]


def test_correlations_are_those_of_a_slow_twin() -> None:
    of = deep(1)
    study = Study(of, get_method("gradient-times-input"), TINY)
    at = torch.full_like(of.x[0], 0.25)
    removal = occluded.removals(study, 2, at)
    scores = study.maps(of.labels[:4])[2].double().numpy()
    chosen = np.unpackbits(removal.packed, axis=-1, count=16).astype(bool)
    here = of.model(of.x[2:3])[0, 0]
    twin = []
    for size, subsets in zip(removal.sizes, chosen, strict=True):
        sums, changes = [], []
        for subset in subsets:
            assert subset.sum() == size
            without = of.x[2].clone()
            without[torch.tensor(subset)] = 0.25
            sums.append(scores[subset].sum())
            changes.append(float(here - of.model(without[None])[0, 0]))
        twin.append(np.corrcoef(sums, changes)[0, 1])
    assert sensitivity_n.correlations(scores[None], [removal])[0] == pytest.approx(twin, abs=1e-4)


def test_samples_whose_output_does_not_move_are_counted_and_left_out() -> None:
    of = linear()
    x = of.x.clone()
    x[1] = 0
    found = finding(replace(of, x=x), "gradient-times-input", replace(TINY, images=6))
    sizes = len(found.figures["subset sizes"])
    assert found.figures["samples"] == 5
    assert found.figures["void pairs of sample and size"] == sizes
    assert np.allclose(found.figures["correlation by size"], 1, atol=1e-4)
    with pytest.raises(NotApplicable, match="no removal"):
        finding(replace(of, x=torch.zeros_like(x)), "gradient-times-input")


def test_two_features_and_one() -> None:
    model = nn.Linear(2, 1)
    model.weight.data = torch.tensor([[3.0, -1.0]])
    found = finding(subject(model, torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 3.0], [3.0, 1.0]])), "occlusion-1")
    assert found.figures["subset sizes"] == [1]
    assert found.figures["correlation by size"] == [pytest.approx(1)]
    with pytest.raises(NotApplicable, match="no subsets"):
        finding(subject(nn.Linear(1, 1), torch.ones(4, 1)), "gradient")


def test_features_of_a_group_are_removed_together() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    words = subject(model, torch.randn(4, 4, 3), group_axis=-1)
    assert words.n_features == 4
    found = finding(words, "gradient-times-input")
    assert found.figures["subset sizes"] == [1, 2, 3]
    assert np.allclose(found.figures["correlation by size"], 1, atol=1e-4)


def test_features_are_set_to_the_baseline_that_the_method_refers_to() -> None:
    of = linear()
    study = Study(of, get_method("integrated-gradients-min"), TINY)
    assert torch.equal(occluded.reference(study, 2), of.x[:2].amin(1, keepdim=True).expand(2, 20))
    mean = Study(of, get_method("integrated-gradients-mean"), TINY)
    assert torch.allclose(occluded.reference(mean, 2), of.data.mean(0).expand(2, 20))
    for name in ("integrated-gradients-min", "integrated-gradients-mean"):
        assert np.allclose(finding(of, name).figures["correlation by size"], 1, atol=1e-4)
    # An attribution from zeros is none from the mean.
    shifted = method(lambda model, x, target: x * model.weight[target], baseline="mean", data=False)
    assert min(finding(of, shifted).figures["correlation by size"]) < 0.99


def test_subset_sizes_are_evenly_spaced_on_a_logarithmic_axis() -> None:
    assert occluded.sizes(784, 12) == (1, 2, 3, 6, 10, 19, 34, 60, 108, 194, 349, 627)
    assert occluded.sizes(2, 12) == (1,)
    assert occluded.sizes(1, 12) == ()
    assert max(occluded.sizes(10, 12)) == 8


def test_subsets_are_drawn_uniformly() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = occluded.random_subsets(5, 2, 20_000, generator)
    assert (drawn.sum(1) == 2).all()
    pairs = [(drawn[:, i] & drawn[:, j]).double().mean() for i, j in itertools.combinations(range(5), 2)]
    assert np.allclose(pairs, 0.1, atol=0.01)


def test_the_forward_passes_are_made_once_for_all_methods() -> None:
    of = deep(2)
    rows = 0

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    handle = of.model.register_forward_pre_hook(count)
    Study(of, get_method("gradient"), TINY)
    list(sensitivity_n.run(Study(of, get_method("gradient-times-input"), TINY)))
    first, rows = rows, 0
    list(sensitivity_n.run(Study(of, get_method("gradient"), TINY)))
    handle.remove()
    sizes = len(occluded.sizes(16, TINY.steps))
    assert first > TINY.images * sizes * TINY.subsets
    assert rows < 30


def test_a_sample_has_the_same_subsets_whatever_else_is_looked_at() -> None:
    of = deep(3)
    few, many = (finding(of, "gradient-times-input", replace(TINY, images=images)) for images in (4, 6))
    again = finding(deep(3), "gradient-times-input", replace(TINY, images=4))
    assert few == again
    assert few.figures["samples"] == 4
    assert many.figures["samples"] == 6
    other = occluded.removals(Study(of, get_method("gradient"), TINY, seed=1), 0, torch.zeros(16))
    same = occluded.removals(Study(of, get_method("gradient"), TINY), 0, torch.zeros(16))
    assert not np.array_equal(other.packed, same.packed)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occluded, "BUDGET", 1)
    occluded._known.clear()
    finding(deep(4), "gradient")
    assert len(occluded._known) == 1


@pytest.mark.parametrize("flatten", [nn.Flatten(), None])
def test_convolutions_give_the_same_logits_in_either_memory_layout(flatten: nn.Module | None) -> None:
    class Viewing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(len(x), -1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), flatten or Viewing(), nn.Linear(64, 3)).eval()
    x = torch.randn(5, 2, 6, 6)
    with torch.no_grad():
        assert torch.allclose(occluded.forward(model, x), model(x), atol=1e-6)


def test_how_scattered_and_how_concentrated_maps_are() -> None:
    torch.manual_seed(0)
    of = subject(nn.Sequential(nn.Flatten(), nn.Linear(400, 1)), torch.rand(2, 1, 20, 20), group_axis=0)
    noise = sensitivity_n.map_figures(of, torch.randn(200, 1, 20, 20))
    assert noise["local variance"] == pytest.approx(1, abs=0.02)
    ramp = sensitivity_n.map_figures(of, torch.arange(20.0).expand(2, 1, 20, 20))
    assert ramp["local variance"] == pytest.approx((2 / 3) / np.arange(20).var() * 9 / 8)
    spike = torch.ones(1, 1, 20, 20)
    spike[0, 0, 3, :4] = -100
    assert sensitivity_n.map_figures(of, spike)["share of |R| in the top 1 % of features"] == pytest.approx(400 / 796)
    assert sensitivity_n.map_figures(of, torch.zeros(1, 1, 20, 20)) == {}


def test_the_logit_at_zeros_stands_beside_the_figures() -> None:
    of = linear()
    found = finding(of, "gradient-times-input")
    assert found.figures["mean logit at zeros"] == pytest.approx(float(of.model.bias[of.labels[:4]].mean()), abs=1e-6)
    assert found.figures["mean logit at x"] == pytest.approx(
        float(of.model(of.x)[torch.arange(4), of.labels[:4]].mean()), abs=1e-5
    )
