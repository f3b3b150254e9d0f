"""Input invariance: the networks that undo a shift, the planted picture, and who keeps the map and who does not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from attribcheck import Unsupported, get_method, method
from attribcheck.methods.registry import as_method
from attribcheck.models.subject import Subject
from attribcheck.sanity import input_invariance, input_invariance_paper, shifts
from attribcheck.sanity.double_precision import in_double
from attribcheck.sanity.outcome import NotApplicable
from attribcheck.sanity.study import SCALES, Study
from torch import nn

SHAPE = (1, 8, 8)


def seeded(build, seed=0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval().requires_grad_(False)


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))


def convolutional(padding=0):
    side = 6 + 2 * padding
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(side * side, 3)
    )


def subject_of(model, count=6, shape=SHAPE, seed=0) -> Subject:
    x = torch.rand(count + 40, *shape, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 3
    present = torch.nn.functional.one_hot(labels, 3)
    return Subject("m", "d", model, x[:count], labels, present, None, x[count:], ("a", "b", "c"), None, 1.0, 0.0)


def outcomes(subject, name, scale="default"):
    found = as_method(name) if callable(name) else get_method(name)
    study = Study(subject, found, SCALES[scale])
    return {o.check.partition("/")[2]: o for o in input_invariance.CHECK.run(study)}


def observed(subject, name):
    return [outcome.observed for outcome in outcomes(subject, name).values()]


ALL, NONE, CONSTANT = ["holds"] * 3, ["violated"] * 3, ["holds", "violated", "violated"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gradient", ALL),
        ("guided-backprop", ALL),
        ("patternnet", ALL),
        ("pattern-attribution", ALL),
        ("deeplift", ALL),
        ("integrated-gradients-mean", ALL),
        ("gradient-times-input", NONE),
        ("lrp-0", NONE),
        ("deep-taylor-zero", NONE),
        ("integrated-gradients-zero", NONE),
        ("patternnet-printed", NONE),
        ("integrated-gradients-min", CONSTANT),
        ("smoothgrad", CONSTANT),
    ],
)
def test_on_a_dense_network(name, expected):
    assert observed(subject_of(seeded(dense)), name) == expected


@pytest.mark.parametrize(("name", "expected"), [("gradient", ALL), ("gradcam", ALL), ("lrp-alpha1-beta0", NONE)])
@pytest.mark.parametrize("padding", [0, 1])
def test_on_a_convolutional_network(name, expected, padding):
    assert observed(subject_of(seeded(lambda: convolutional(padding))), name) == expected


def test_what_is_found_in_figures():
    found = outcomes(subject_of(seeded(dense)), "deeplift")
    for outcome in found.values():
        assert outcome.interval[1] < 1e-12
        assert outcome.figures["difference with a baseline of zeros in both"] > 0.1
        assert outcome.figures["outputs differ by"] < 1e-13
        assert outcome.figures["images"] == 6
        json.dumps(dict(outcome.figures), allow_nan=False)
    assert found["constant"].figures["divergence from the maps of the mean of the data"] > 0.1
    assert "divergence from the maps of the mean of the data" not in found["planted"].figures
    lrp = outcomes(subject_of(seeded(dense)), "lrp-0")
    assert 0 < lrp["constant"].figures["divergence from the maps of pattern-attribution"] <= 2
    for outcome in lrp.values():
        assert outcome.figures["difference after subtracting the mean of the data"] < 1e-12


def test_gradient_times_input_of_a_linear_model_by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval().requires_grad_(False)
    model[1].weight.copy_(torch.arange(3)[:, None] + torch.linspace(-1, 1, 64))
    subject = subject_of(model)
    data = subject.data.clone()
    data[0, 0, 0, 0], data[0, 0, 0, 1] = 0, 1
    subject = replace(subject, data=data)
    found = outcomes(subject, "gradient-times-input")
    for variant, m in (("constant", -torch.ones(64)), ("checkerboard", shifts.checkerboard(SHAPE).flatten())):
        w, x = model[1].weight[subject.labels], subject.x.flatten(1)
        larger = torch.maximum((w * x).abs().sum(1), (w * (x + m)).abs().sum(1))
        by_hand = ((w * m).abs().sum(1) / larger).mean()
        # The samples are a thousandth off, so that there are no ties.
        assert found[variant].value == pytest.approx(float(by_hand), rel=5e-3)


def test_differences_by_hand():
    a = torch.tensor([[1.0, -1], [0, 0], [0, 0], [2, 2]])
    b = torch.tensor([[1.0, -1], [0, 0], [1, -1], [-2, -3]])
    assert input_invariance.differences(a, b).tolist() == pytest.approx([0, 1, 9 / 5])


def _gradient(model, x, target):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


@method
def leaks_a_little(model, x, target, baseline=None):
    """Wrong: a hundred-thousandth of the input is added to the gradient."""
    gradient = _gradient(model, x, target)
    return gradient + 1e-5 * gradient.abs().mean() * x


@method
def reads_the_first_image(model, x, target, baseline=None):
    """Wrong, on one image alone."""
    gradient = _gradient(model, x, target)
    gradient[:1] *= x[:1]
    return gradient


@method
def zero(model, x, target, baseline=None):
    """A map that says nothing."""
    return torch.zeros_like(x)


def test_small_and_rare_violations():
    assert observed(subject_of(seeded(dense)), leaks_a_little) == NONE
    # Of one image in six, a third of the resamples has none: no verdict.
    assert set(observed(subject_of(seeded(dense)), reads_the_first_image)) == {"inconclusive"}


def test_a_constant_background_makes_no_ties():
    subject = subject_of(seeded(convolutional))
    x = subject.x.clone()
    x[:, :, :, 2:] = 0
    assert observed(replace(subject, x=x), "gradient") == ALL


def test_what_it_says_nothing_of():
    with pytest.raises(NotApplicable, match="zero"):
        outcomes(subject_of(seeded(dense)), zero)
    with pytest.raises(NotApplicable, match="rows"):
        outcomes(subject_of(seeded(dense)), "shapley-sampling", "tiny")
    with pytest.raises(NotApplicable, match="same function"):
        outcomes(subject_of(nn.Sequential(nn.Dropout(0.5).train(), *seeded(dense))), "gradient")
    with pytest.raises(Unsupported):
        outcomes(subject_of(seeded(dense)), "gradcam")


def test_a_method_that_refuses_the_shifted_range():
    found = outcomes(subject_of(seeded(dense)), "deep-taylor-bounded(low=0.0, high=1.0)")
    assert {o.observed for o in found.values()} == {"not-applicable"}
    assert "refuses" in found["constant"].note
    assert found["constant"].value is None


def test_the_model_stays_and_the_study_is_in_float64():
    model = seeded(dense)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    subject = subject_of(model)
    outcomes(subject, "gradient")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    study = in_double(Study(subject, get_method("gradient"), SCALES["tiny"], seed=3))
    assert study.seed == 3
    assert study.maps(subject.labels).dtype == torch.float64
    assert torch.equal(study.subject.x, subject.x.double())


class Single(nn.Module):
    """Computes in float32 whatever it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x):
        return self.layer(x.flatten(1).float())


def test_a_model_that_does_not_compute_in_float64():
    with pytest.raises(NotApplicable, match="float64"):
        outcomes(subject_of(seeded(Single)), "gradient")


# -- the networks ------------------------------------------------------------------------------------------------------


def pair(model, m, shape=SHAPE):
    x = torch.rand(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = model.double()
    found = shifts.compensated(model, x, m.double())
    with torch.no_grad():
        assert torch.allclose(found.two(x + m), model(x), atol=1e-12)
        assert torch.equal(found.one(x), model(x))
    return found


def test_the_bias_of_a_dense_layer():
    model, m = seeded(dense).double(), torch.rand(SHAPE).double()
    found = pair(model, m)
    assert found.one is model
    assert torch.allclose(found.two[1].bias, model[1].bias - model[1].weight @ m.flatten(), atol=1e-14)
    bare = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)))
    assert "the bias of the first layer" in pair(bare, m).how
    assert bare[1].bias is None
    assert "the bias of the first layer" in pair(seeded(lambda: nn.Linear(5, 3)), torch.rand(5), (5,)).how


def test_the_bias_of_a_convolution():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, stride=2), nn.Flatten(), nn.Linear(54, 3)))
    m = torch.arange(4.0).reshape(4, 1, 1).expand(4, 8, 8)
    found = pair(model, m, (4, 8, 8))
    assert "the bias of the first layer" in found.how
    sums = model[0].weight.sum((2, 3))
    by_hand = [sums[o] @ torch.arange(4.0).double()[2 * (o // 3) : 2 * (o // 3) + 2] for o in range(6)]
    assert torch.allclose(found.two[0].bias, model[0].bias - torch.stack(by_hand))


@pytest.mark.parametrize(("padding", "constant"), [(0, False), (1, True), (1, False)])
def test_a_bias_for_each_unit_where_one_for_each_channel_does_not_do(padding, constant):
    m = torch.full(SHAPE, -1.0) if constant else shifts.checkerboard(SHAPE)
    found = pair(seeded(lambda: convolutional(padding)), m)
    assert "each unit" in found.how
    assert [type(module) for module in found.one] == [type(module) for module in found.two]


class Words(nn.Module):
    """A dense layer for each word, and the mean over words."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x).relu().mean(1)


class Skips(nn.Module):
    """Two readers of x."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(64, 3), nn.Linear(64, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.one(x).relu() + self.two(x)


class Twice(nn.Module):
    """One layer on x and on what it gives."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x):
        return self.layer(self.layer(x).relu())


def test_other_readers_of_the_input():
    assert "the bias of the first layer" in pair(seeded(Words), torch.arange(4.0).expand(6, 4), (6, 4)).how
    assert "each unit" in pair(seeded(Words), torch.rand(6, 4), (6, 4)).how
    assert "explicit" in pair(seeded(Skips), torch.rand(SHAPE)).how
    assert "explicit" in pair(seeded(Twice), torch.rand(5), (5,)).how
    assert (
        "explicit" in pair(seeded(lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))), torch.rand(5), (5,)).how
    )


# -- the shifts --------------------------------------------------------------------------------------------------------


def test_a_planted_shift_makes_gradient_times_input_the_picture():
    x, gradient = torch.rand(SHAPE).double(), torch.randn(SHAPE).double()
    gradient[0, 0, 0] = 0
    picture = shifts.drawing(SHAPE) * 0.01
    m = shifts.planted(x, gradient, picture, 1e9)
    expected = picture.clone()
    expected[0, 0, 0] = 0
    assert torch.allclose(gradient * (x + m), expected, atol=1e-15)
    assert m[0, 0, 0] == 0
    clipped = shifts.planted(x, gradient, picture, 0.3)
    assert float(clipped.abs().max()) == 0.3
    assert torch.equal(clipped, m.clamp(-0.3, 0.3))


def test_the_picture_shows_in_gradient_times_input_and_not_in_the_gradient():
    subject = subject_of(seeded(dense))
    fooled = outcomes(subject, "gradient-times-input")["planted"].figures["similarity to the planted picture"]
    assert fooled["planted sample, after"] > fooled["planted sample, before"] + 0.2
    kept = outcomes(subject, "gradient")["planted"].figures["similarity to the planted picture"]
    for whose in ("planted sample", "other samples"):
        assert kept[f"{whose}, after"] == pytest.approx(kept[f"{whose}, before"])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (400, 32), (12,), (8, 8)])
def test_pictures_of_any_shape(shape):
    for picture in (shifts.checkerboard(shape), shifts.drawing(shape)):
        assert picture.shape == shape
        assert set(picture.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(shifts.drawing(shape), shifts.drawing(shape).flip(-1))
    if len(shape) == 3:
        assert torch.equal(shifts.drawing(shape)[0], shifts.drawing(shape)[-1])


def test_the_cells_of_the_checkerboard():
    cells = shifts.checkerboard((1, 28, 28))[0]
    assert torch.equal(cells[:8, :8], torch.kron(torch.tensor([[0, 1], [1, 0]]), torch.ones(4, 4)).double())


def test_similarity_is_pearsons():
    numbers = np.random.default_rng(0)
    maps, picture = numbers.normal(size=(4, 20)), numbers.normal(size=20)
    maps[3] = 2
    found = input_invariance._similarities(maps, picture)
    assert found[:3] == pytest.approx([np.corrcoef(row, picture)[0, 1] for row in maps[:3]])
    assert found[3] == 0


def test_the_paper_is_quoted():
    assert input_invariance_paper.reported("constant", "integrated-gradients-min")["value"] == "invariant"
    found = input_invariance_paper.reported("planted", "integrated-gradients-min")
    assert found == {"source": "Kindermans et al. 2017, Figure 6", "value": "not invariant"}
    assert input_invariance_paper.reported("checkerboard", "gradient") is None
    for variant in input_invariance.VARIANTS:
        for name in ("gradient-times-input", "pattern-attribution", "lrp-0"):
            said = input_invariance_paper.reported(variant, name)["value"]
            assert (said == "invariant") == (name == "pattern-attribution")


def test_the_same_seed_gives_the_same_figures():
    subject = subject_of(seeded(dense))
    assert outcomes(subject, "smoothgrad") == outcomes(subject, "smoothgrad")
