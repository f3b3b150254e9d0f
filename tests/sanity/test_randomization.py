"""Layers in order, new weights, and both randomization checks on right and broken methods."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from attribcheck.claims import Method
from attribcheck.methods.gradients import input_gradient
from attribcheck.methods.registry import get_method
from attribcheck.models.subject import Subject
from attribcheck.sanity import data_randomization, parameter_randomization
from attribcheck.sanity.outcome import NotApplicable, Outcome
from attribcheck.sanity.randomize import layers, randomised
from attribcheck.sanity.study import SCALES, Study
from scipy.stats import spearmanr
from torch import Tensor, nn

# Rows for the curves of one initialiser.
SCALE = replace(SCALES["tiny"], images=12, rows=250)


def subject(model: nn.Module, x: Tensor, group_axis: int | None = None) -> Subject:
    model = model.eval().requires_grad_(False)
    logits = model(x)
    return Subject(
        "tiny", "drawn", model, x, logits.argmax(1), torch.eye(logits.shape[1])[logits.argmax(1)], None, x,
        tuple(map(str, range(logits.shape[1]))), group_axis, 1.0, 0.0,
    )  # fmt: skip


def perceptron(seed: int = 0, black: float = 0.0, hidden: int = 3) -> Subject:
    """Random weights; a share of the features of each sample is 0."""
    torch.manual_seed(seed)
    inner = [part for _ in range(hidden - 1) for part in (nn.Linear(64, 64), nn.ReLU())]
    model = nn.Sequential(nn.Linear(60, 64), nn.ReLU(), *inner, nn.Linear(64, 10))
    torch.manual_seed(7)
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


def below_the_top(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The gradient of what the first two layers of a perceptron say: blind to all above."""
    assert isinstance(model, nn.Sequential)
    lower = nn.Sequential(*list(model)[:3])
    return input_gradient(nn.Sequential(lower, Sum()), x, torch.zeros_like(target))


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1, keepdim=True)


INPUT = made(lambda model, x, target: x.abs())
BLIND = made(below_the_top)
NOTHING = made(lambda model, x, target: torch.zeros_like(x))


# -- layers ---------------------------------------------------------------------------------------------------------


class Backwards(nn.Module):
    """Registered in the opposite order of use, with a parameter of its own, a tied layer and one that never runs itself."""

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.tied = nn.Linear(4, 4)
        self.read = nn.Linear(4, 4)
        self.bottom = nn.Linear(5, 4)
        self.shift = nn.Parameter(torch.arange(5.0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.tied(self.bottom(x + self.shift)).relu()
        return self.top(self.norm(nn.functional.linear(self.tied(hidden), self.read.weight)))


def test_layers_stand_as_they_run_from_the_output_down() -> None:
    model = Backwards().eval()
    assert layers(model, torch.zeros(1, 5)) == ["top", "norm", "read", "tied", "bottom", ""]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert layers(convolutional().model, convolutional().x[:1]) == ["8", "6", "2", "0"]
    attention = nn.MultiheadAttention(4, 2, batch_first=True)

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.attention, self.head = nn.LSTM(3, 4, batch_first=True), attention, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            words = self.cell(x)[0]
            return self.head(self.attention(words, words, words)[0].mean(1))

    assert layers(Attends().eval(), torch.zeros(1, 2, 3)) == ["head", "attention.out_proj", "attention", "cell"]


def test_a_model_without_parameters_has_no_layers() -> None:
    with pytest.raises(NotApplicable, match="no parameters"):
        layers(nn.ReLU(), torch.zeros(1, 3))


@pytest.mark.parametrize("initialiser", ["own", "variance", "deviation"])
def test_one_layer_of_a_copy_is_new_and_the_same_for_the_same_seed(initialiser: str) -> None:
    model = perceptron().model
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    new, again, other = (
        randomised(model, "2", initialiser, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        for seed in (3, 3, 4)
    )
    assert torch.equal(state, torch.get_rng_state())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(new.state_dict()[name], value) is not name.startswith("2.")
        assert torch.equal(new.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(new.state_dict()["2.weight"], other.state_dict()["2.weight"])
    assert not torch.equal(new.state_dict()["2.bias"], other.state_dict()["2.bias"])
    expected = {"own": (1 / 8) / 3**0.5, "variance": 0.1, "deviation": 0.01}[initialiser]
    assert float(new.state_dict()["2.weight"].std()) == pytest.approx(expected, rel=0.05)
    assert not any(parameter.requires_grad for parameter in new.parameters())


def test_what_belongs_to_the_data_and_to_other_layers_stays() -> None:
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))
            self.inner = nn.Linear(4, 4)
            self.norm = nn.BatchNorm1d(4)

        def reset_parameters(self) -> None:
            nn.init.uniform_(self.scale, 2, 3)
            self.inner.reset_parameters()

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.inner(x * self.scale))

    model = Owner()
    model(torch.randn(9, 4))
    model.eval()
    new = randomised(model, "", "own", torch.Generator().manual_seed(0))
    assert (new.scale > 2).all()  # type: ignore[operator]
    assert torch.equal(new.inner.weight, model.inner.weight)  # type: ignore[union-attr]
    for name, buffer in randomised(model, "norm", "own", torch.Generator()).named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name])


def test_parameters_without_an_initialiser_are_put_in_another_order() -> None:
    model = Backwards().eval()
    shift = randomised(model, "", "own", torch.Generator().manual_seed(0)).shift
    assert shift.tolist() != model.shift.tolist()
    assert sorted(shift.tolist()) == model.shift.tolist()
    drawn = randomised(model, "", "variance", torch.Generator().manual_seed(0)).shift
    assert drawn.abs().max() < 0.5


# -- parameter randomization ------------------------------------------------------------------------------------------


def findings(of: Subject, by: str | Method, **scale: int) -> dict[str, Outcome]:
    by = get_method(by) if isinstance(by, str) else by
    outcomes = list(parameter_randomization.run(Study(of, by, replace(SCALE, **scale))))
    for outcome in outcomes:
        json.dumps([outcome.figures, outcome.value, outcome.interval], allow_nan=False)
    assert tuple(outcome.check for outcome in outcomes) == parameter_randomization.CHECK.full_names
    return {outcome.check.partition("/")[2]: outcome for outcome in outcomes}


@pytest.mark.parametrize("name", ["gradient", "saliency", "gradient-times-input", "deeplift"])
@pytest.mark.parametrize("black", [0.0, 0.6])
def test_right_methods_depend_on_the_upper_layers(name: str, black: float) -> None:
    for outcome in findings(perceptron(black=black), name).values():
        assert outcome.observed == "holds"


@pytest.mark.parametrize(
    "by", ["guided-backprop", "lrp-alpha1-beta0", pytest.param(INPUT, id="input"), pytest.param(BLIND, id="blind")]
)
def test_methods_that_see_the_input_or_the_lower_layers_do_not(by: str | Method) -> None:
    # Guided backprop forgets what is above more and more the more layers lie below.
    for outcome in findings(perceptron(hidden=5 if by == "guided-backprop" else 3), by).values():
        assert outcome.observed == "violated"
        assert outcome.value is not None
        assert outcome.value > (0.999 if by in (INPUT, BLIND) else 0.6)


def test_a_blind_method_changes_once_its_own_layers_are_new() -> None:
    figures = findings(perceptron(), BLIND)["cascade"].figures["own initialiser"]
    assert figures["maps, up to sign"][:2] == [pytest.approx(1)] * 2
    assert max(figures["maps, up to sign"][2:]) < 0.5
    alone = findings(perceptron(), BLIND)["independent"].figures["own initialiser"]
    assert alone["maps, up to sign"][:2] == [pytest.approx(1)] * 2
    assert alone["layer"] == [1, 2, 3, 4]


def test_one_forgotten_layer_is_found_by_the_layer_alone() -> None:
    """The second layer from above is replaced by a fixed one: the top is new, so the cascade sees a change."""
    fixed = copy.deepcopy(perceptron().model.get_submodule("4"))

    def forgets(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        model = copy.deepcopy(model)
        assert isinstance(model, nn.Sequential)
        model[4] = fixed
        return input_gradient(model, x, target)

    found = findings(perceptron(), made(forgets))
    assert found["cascade"].observed == "holds"
    assert found["independent"].observed == "violated"
    assert found["independent"].value == pytest.approx(1)


def test_images_are_compared_as_images_under_each_initialiser() -> None:
    figures = findings(convolutional(), "gradient", rows=10_000)["cascade"].figures
    assert figures["layers from the output"] == ["8", "6", "2", "0"]
    for initialiser in ("own initialiser", "N(0, variance 0.01)", "N(0, standard deviation 0.01)"):
        for name in ("spearman", "spearman of |R|", "spearman of HOG", "SSIM of |R|", "maps that vanished"):
            assert len(figures[initialiser][name]) == 4
    assert "excess similarity" in figures["own initialiser"]
    assert findings(convolutional(), "gradcam")["cascade"].observed == "holds"
    assert (
        findings(convolutional(), INPUT)["cascade"].figures["own initialiser"]["SSIM of |R|"] == [pytest.approx(1)] * 4
    )


def test_a_dear_method_gets_fewer_curves_and_no_fewer_samples() -> None:
    calls = 0

    def dear(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += len(x)
        model(x.repeat(9, *[1] * (x.dim() - 1)))
        return input_gradient(model, x, target)

    # 10 rows a map; 4 maps for the findings, 8 for the curves of one initialiser, 22 for all.
    for rows, maps, initialisers in ((22 * 120, 22, 3), (8 * 120, 8, 1), (4 * 120, 4, 1)):
        calls = 0
        found = findings(perceptron(), made(dear), rows=rows)
        assert calls == 1 + 2 + 12 * maps
        assert len(found["cascade"].figures) == 1 + initialisers
        assert {outcome.observed for outcome in found.values()} == {"holds"}
    assert found["cascade"].figures["own initialiser"]["layer"] == [1, 2]
    with pytest.raises(NotApplicable, match="rows of forward passes"):
        findings(perceptron(), made(dear), rows=100)


def test_zeros_everywhere_decide_nothing() -> None:
    assert {outcome.observed for outcome in findings(perceptron(), NOTHING).values()} == {"inconclusive"}


def test_a_layer_that_does_not_matter_to_the_function_does_not_count() -> None:
    """A normalisation as it is initialised: new weights are the old ones."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5), nn.BatchNorm1d(5))
    found = findings(subject(model, torch.rand(12, 20)), "gradient")
    figures = found["independent"].figures["own initialiser"]
    assert figures["functions, up to sign"][0] == pytest.approx(1)
    assert found["independent"].observed == "holds"
    assert found["independent"].value == pytest.approx(0)


def test_the_statistic_is_that_of_a_slow_twin_and_the_same_again() -> None:
    of = perceptron()
    study = Study(of, get_method("guided-backprop"), SCALE)
    target = of.model(of.x).argmax(1)
    s, plain, scaled = [], [], []
    for draw in range(4):
        model = of.model
        for name in ("6", "4"):
            model = randomised(model, name, "own", study.random(f"new layer: own, {draw}, {name}"))
        for i in range(3 * draw, 3 * draw + 3):
            x, t = of.x[i : i + 1], target[i : i + 1]
            maps = [study.method(network, x, t)[0].numpy() for network in (of.model, model)]
            gradients = [input_gradient(network, x, t)[0].numpy() for network in (of.model, model)]
            s.append(spearmanr(*maps).statistic)
            plain.append(spearmanr(*gradients).statistic)
            scaled.append(spearmanr(*(x[0].numpy() * gradient for gradient in gradients)).statistic)
    control = max(plain, scaled, key=lambda values: float(np.abs(values).mean()))
    readings = []
    for similarity, functions in ((np.mean(s), np.mean(control)), (np.abs(s).mean(), np.abs(control).mean())):
        functions = max(functions, 0)
        readings.append((similarity - functions) / (1 - functions))
    outcome = findings(of, "guided-backprop")["cascade"]
    assert outcome.value == pytest.approx(max(readings), abs=1e-6)
    assert findings(of, "guided-backprop")["cascade"] == outcome


# -- data randomization -----------------------------------------------------------------------------------------------


def by_data(by: str | Method, accuracy: float = 0.99, black: float = 0.0) -> Outcome:
    by = get_method(by) if isinstance(by, str) else by
    other = replace(perceptron(seed=1, black=black), accuracy=accuracy)
    of = replace(perceptron(black=black), permuted=lambda: other)
    (outcome,) = data_randomization.run(Study(of, by, SCALE))
    json.dumps([outcome.figures, outcome.value, outcome.interval], allow_nan=False)
    return outcome


@pytest.mark.parametrize("black", [0.0, 0.6])
@pytest.mark.parametrize("name", ["gradient", "gradient-times-input", "saliency"])
def test_maps_of_another_network_are_others(name: str, black: float) -> None:
    outcome = by_data(name, black=black)
    assert outcome.observed == "holds"
    assert outcome.figures["training accuracy"] == 0.99


def test_a_map_of_the_input_is_the_same_for_every_network() -> None:
    outcome = by_data(INPUT)
    assert outcome.observed == "violated"
    assert outcome.value == pytest.approx(1)


@pytest.mark.parametrize("by", [pytest.param(INPUT, id="input"), "gradient"])
def test_labels_that_were_not_learnt_decide_nothing(by: str | Method) -> None:
    outcome = by_data(by, accuracy=0.97)
    assert outcome.observed == "inconclusive"
    assert "97.0%" in str(outcome.note)
    assert outcome.value is not None


def test_a_network_without_permuted_labels_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="permuted labels"):
        list(data_randomization.run(Study(perceptron(), INPUT, SCALE)))
