"""Class-sensitivity and its statistic: right and broken methods, the trap of signs, figures by hand and by a slow twin."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.claims import Method
from attribcheck.methods.gradients import input_gradient
from attribcheck.methods.registry import get_method
from attribcheck.models.subject import Subject
from attribcheck.sanity import class_sensitivity, excess
from attribcheck.sanity.excess import Explained, compared
from attribcheck.sanity.outcome import NotApplicable, Outcome
from attribcheck.sanity.study import SCALES, Study
from scipy.stats import spearmanr
from torch import Tensor, nn

SCALE = replace(SCALES["tiny"], images=12, rows=10_000)


def subject(model: nn.Module, x: Tensor, group_axis: int | None = None) -> Subject:
    model = model.eval().requires_grad_(False)
    logits = model(x)
    return Subject(
        "tiny", "drawn", model, x, logits.argmax(1), torch.eye(logits.shape[1])[logits.argmax(1)], None, x,
        tuple(map(str, range(logits.shape[1]))), group_axis, 1.0, 0.0,
    )  # fmt: skip


def perceptron(classes: int = 10, black: float = 0.0) -> Subject:
    """Three hidden layers with random weights; a share of the features of each sample is 0."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(60, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, classes)
    )
    return subject(model, torch.rand(12, 60) * (torch.rand(12, 60) >= black))


def convolutional() -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * 16, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    return subject(model, torch.randn(12, 1, 12, 12), group_axis=0)


def made(function: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Method:
    return Method("made", lambda model, x, target, baseline=None: function(model, x, target))


INPUT = made(lambda model, x, target: x.abs())
NO_TARGET = made(lambda model, x, target: input_gradient(model, x, torch.zeros_like(target)))
NOTHING = made(lambda model, x, target: torch.zeros_like(x))


def finding(of: Subject, by: str | Method) -> Outcome:
    by = get_method(by) if isinstance(by, str) else by
    (outcome,) = class_sensitivity.run(Study(of, by, SCALE))
    json.dumps([outcome.figures, outcome.value, outcome.interval, outcome.paper], allow_nan=False)
    assert outcome.check == "class-sensitivity"
    return outcome


@pytest.mark.parametrize(
    "name", ["gradient", "saliency", "gradient-times-input", "deeplift", "integrated-gradients-zero"]
)
@pytest.mark.parametrize("black", [0.0, 0.6])
def test_right_methods_are_sensitive_on_black_background_too(name: str, black: float) -> None:
    outcome = finding(perceptron(black=black), name)
    assert outcome.observed == "holds"
    assert outcome.value is not None
    assert outcome.value < 0.25


@pytest.mark.parametrize(
    "by",
    ["guided-backprop", "lrp-alpha1-beta0", pytest.param(INPUT, id="input"), pytest.param(NO_TARGET, id="no-target")],
)
def test_methods_that_forget_the_class_are_not(by: str | Method) -> None:
    outcome = finding(perceptron(), by)
    assert outcome.observed == "violated"
    assert outcome.value is not None
    assert outcome.value > 0.6


def test_a_map_without_the_target_has_excess_1_exactly() -> None:
    for by in (INPUT, NO_TARGET):
        outcome = finding(perceptron(), by)
        assert (outcome.value, outcome.interval) == (pytest.approx(1), (pytest.approx(1), pytest.approx(1)))


def test_images_have_all_similarities_and_words_have_those_of_ranks() -> None:
    assert {"spearman", "spearman of |R|", "spearman of HOG", "SSIM of |R|"} <= set(
        finding(convolutional(), INPUT).figures
    )
    figures = finding(perceptron(), INPUT).figures
    assert figures["spearman of |R|"] == 1
    assert "SSIM of |R|" not in figures


def test_gradcam_is_sensitive_and_its_sum_of_positive_gradients_is_not() -> None:
    assert finding(convolutional(), "gradcam").observed == "holds"
    assert finding(convolutional(), "gradcam-pos").observed == "violated"


def test_a_negative_correlation_does_not_pass_for_sensitivity() -> None:
    outcome = finding(perceptron(), "lrp-alpha1-beta0")
    assert outcome.figures["spearman"] < -0.8
    assert outcome.figures["spearman of |R|"] > 0.9
    assert outcome.observed == "violated"
    logit = made(lambda model, x, target: x.abs() * model(x).gather(1, target[:, None]))
    assert finding(perceptron(), logit).figures["spearman"] == pytest.approx(-1)
    assert finding(perceptron(), logit).value == pytest.approx(1)


def test_two_opposite_logits_say_nothing_of_a_map() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1))
    head = nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[1.0], [-1.0]])
    outcome = finding(subject(nn.Sequential(inner, head), torch.rand(12, 20)), INPUT)
    assert (outcome.observed, outcome.value) == ("not-applicable", None)
    assert "derivatives of the functions are alike" in str(outcome.note)


def test_one_output_has_no_other_class() -> None:
    with pytest.raises(NotApplicable, match="one output"):
        finding(perceptron(classes=1), "gradient")


def test_what_the_paper_reports_stands_beside_it() -> None:
    outcome = finding(perceptron(), "guided-backprop")
    assert outcome.paper is not None
    assert outcome.paper["value"] == 0.99
    assert "table 4" in outcome.paper["source"]
    assert finding(perceptron(), INPUT).paper is None
    for name in class_sensitivity.PAPER:
        assert get_method(name).name == name


# -- the statistic --------------------------------------------------------------------------------------------------


def test_maps_of_zeros_leave_their_sample_out_and_too_many_decide_nothing() -> None:
    def some(share: int) -> Method:
        # The first `share` samples of each batch have no map.
        keep = (torch.arange(12) >= share).float()[:, None]
        return made(lambda model, x, target: x.abs() if len(x) < 12 else x.abs() * keep)

    outcome = finding(perceptron(), some(5))
    assert outcome.observed == "violated"
    assert "5 of 12 samples are left out" in str(outcome.note)
    outcome = finding(perceptron(), some(7))
    assert (outcome.observed, outcome.value) == ("inconclusive", None)
    assert finding(perceptron(), NOTHING).observed == "inconclusive"


def test_a_map_that_vanishes_has_changed() -> None:
    def highest_only(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return x.abs() * (model(x).argmax(1) == target).float()[:, None]

    outcome = finding(perceptron(), made(highest_only))
    assert outcome.observed == "holds"
    assert outcome.figures["maps that vanished"] == 12
    constant = made(lambda model, x, target: torch.ones_like(x) * (model(x).argmax(1) == target).float()[:, None])
    assert finding(perceptron(), constant).figures["maps, up to sign"] == 0


def explained(maps: Any, gradients: Any, away: Any = None) -> Explained:
    maps, gradients = (torch.as_tensor(values, dtype=torch.float64).numpy() for values in (maps, gradients))
    away = np.ones(maps.shape, dtype=bool) if away is None else np.array(away)
    return Explained(maps, None, np.stack([gradients, gradients * away]), away)


def test_the_statistic_by_hand() -> None:
    gradients = [[1.0, -2, 3, -4]], [[1.0, -2, -4, 3]]
    # The maps are opposite. The gradients' ranks are (3, 2, 4, 1) and (3, 2, 1, 4): 1 - 6 * 18 / 60 = -0.8.
    pair = compared(explained([[3, 1, -1, -3]], gradients[0]), explained([[-3, -1, 1, 3]], gradients[1]))
    np.testing.assert_allclose(pair.maps, [[-1, 1]])
    np.testing.assert_allclose(pair.functions, [[-0.8, 0.8]])
    assert pair.similarities["spearman"] == pytest.approx(-1)
    # Maps of one sign: their sizes (1, 2, 3, 4) and (4, 3, 2, 1) show other places. Those of the gradients are (1, 2, 3, 4)
    # and (1, 2, 4, 3): 1 - 6 * 2 / 60 = 0.8.
    pair = compared(explained([[1, 2, 3, 4]], gradients[0]), explained([[-4, -3, -2, -1]], gradients[1]))
    np.testing.assert_allclose(pair.maps, [[-1, -1]])
    np.testing.assert_allclose(pair.functions, [[0.8, 0.8]])


def test_the_excess_by_hand() -> None:
    rows = np.array([[0.9, 0.5], [0.7, 0.3]])
    assert excess.excess(rows) == pytest.approx((0.8 - 0.4) / 0.6)
    assert excess.excess(np.hstack([rows[:, ::-1], rows])) == pytest.approx((0.8 - 0.4) / 0.6)  # the larger one
    assert excess.excess(np.array([[0.6, -0.2], [0.4, -0.4]])) == pytest.approx(0.5)  # a control is at least 0
    assert excess.excess(np.array([[1.0, 1.0]])) == 0


def test_maps_that_agree_where_the_functions_are_opposed_are_alike() -> None:
    """Guided backprop between two classes: up to sign the functions are as much alike as the maps, with sign not at all."""
    torch.manual_seed(0)
    first = torch.randn(12, 30)
    opposed = -first + 0.7 * torch.randn(12, 30)
    maps = torch.randn(12, 30)
    similar = maps + 0.7 * torch.randn(12, 30)
    pair = compared(explained(maps, first), explained(similar, opposed))
    assert pair.functions is not None
    assert abs(pair.maps[:, 1].mean() - pair.functions[:, 1].mean()) < 0.1
    found = excess.finding(Study(perceptron(), get_method("gradient"), SCALE), "class-sensitivity", [pair], {})
    assert found.observed == "violated"
    assert found.value == pytest.approx(pair.maps[:, 0].mean())


def test_forced_zeros_do_not_count_and_other_zeros_do() -> None:
    away = [[True, True, True, False, False, False]]
    a, b = [[1.0, 2, 3, 0, 0, 0]], [[3.0, 2, 1, 0, 0, 0]]
    gradients = [[1.0, 2, 3, 4, 5, 6]], [[1.0, 3, 2, 6, 5, 4]]
    black = compared(explained(a, gradients[0], away), explained(b, gradients[1], away))
    np.testing.assert_allclose(black.maps, [[-1, -1]])
    np.testing.assert_allclose(black.functions, [[0.5, 0.5]])  # (1, 2, 3) and (1, 3, 2)
    free = compared(explained(a, gradients[0]), explained(b, gradients[1]))
    np.testing.assert_allclose(free.maps[0], spearmanr(a[0], b[0]).statistic)
    # Where one of the maps has something on the background, the gradients are compared there too, not their products with 0.
    b[0][4] = 0.5
    seen = compared(explained(a, gradients[0], away), explained(b, gradients[1], away))
    np.testing.assert_allclose(seen.functions[0], spearmanr([1, 2, 3, 5], [1, 3, 2, 5]).statistic)


def test_a_slow_twin_agrees() -> None:
    of = perceptron()
    method = get_method("guided-backprop")
    logits = of.model(of.x)
    s, plain, scaled = [], [], []
    for i in range(12):
        x, high, low = of.x[i : i + 1], logits[i].argmax()[None], logits[i].argmin()[None]
        maps = [method(of.model, x, target)[0].numpy() for target in (high, low)]
        gradients = [input_gradient(of.model, x, target)[0].numpy() for target in (high, low)]
        s.append(spearmanr(*maps).statistic)
        plain.append(spearmanr(*gradients).statistic)
        scaled.append(spearmanr(*(x[0].numpy() * gradient for gradient in gradients)).statistic)
    control = max(plain, scaled, key=lambda values: float(np.abs(values).mean()))
    readings = []
    for maps, functions in ((np.mean(s), np.mean(control)), (np.abs(s).mean(), np.abs(control).mean())):
        functions = max(functions, 0)
        readings.append((maps - functions) / (1 - functions))
    outcome = finding(of, "guided-backprop")
    assert outcome.value == pytest.approx(max(readings), abs=1e-6)
    assert outcome.figures["maps, with sign"] == pytest.approx(np.mean(s), abs=1e-6)
    assert outcome.interval is not None
    assert outcome.interval[0] < outcome.value < outcome.interval[1]


def test_the_same_seed_gives_the_same_figures() -> None:
    assert finding(perceptron(), "smoothgrad") == finding(perceptron(), "smoothgrad")
