"""Continuity on a model: jumps and their size by hand, steep slopes, and what is no jump of the method."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from attribcheck import get_method, method
from attribcheck.methods.registry import as_method
from attribcheck.models.subject import Subject
from attribcheck.sanity import continuity
from attribcheck.sanity.outcome import NotApplicable
from attribcheck.sanity.study import SCALES, Study
from torch import nn


class Function(nn.Module):
    """The logits (f(x), -f(x))."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        value = self.f(x)
        return torch.stack([value, -value], 1)


def dense(activation, seed=0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Linear(6, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 2))
        return nn.Sequential(*layers).eval().requires_grad_(False)


def subject_of(model, x) -> Subject:
    x = torch.as_tensor(x, dtype=torch.float32)
    labels = torch.zeros(len(x), dtype=torch.long)
    present = torch.nn.functional.one_hot(labels, 2)
    return Subject("m", "d", model, x, labels, present, None, x, ("a", "b"), None, 1.0, 0.0)


def random_points(count=5, n=6, seed=0):
    return torch.randn(count, n, generator=torch.Generator().manual_seed(seed))


def outcome(model, x, name, scale="default", **changes):
    found = as_method(name) if callable(name) else get_method(name)
    (only,) = continuity.CHECK.run(Study(subject_of(model, x), found, replace(SCALES[scale], **changes)))
    assert only.check == "continuity"
    assert only.interval is None
    json.dumps(dict(only.figures), allow_nan=False)
    return only


def test_the_maximum_of_the_paper_by_hand():
    maximum = Function(lambda x: x.amax(1))
    found = outcome(maximum, [[2, 3], [3, 2.1]], "gradient-times-input")
    assert found.observed == "violated"
    # From (0, e) to (e, 0) at once, where both entries are e: |R(a) - 2 R(b) + R(c)|_1 = 2e, and 3 is the largest |R|_1.
    equal = 2 + 1 / 1.9
    assert found.figures["largest jump, share of the map"] == pytest.approx(2 * equal / 3)
    assert found.value == pytest.approx(1)
    assert (found.figures["paths"], found.figures["paths with a jump"]) == (2, 2)
    assert found.paper["source"] == "Ancona et al. 2019, Table 2"
    assert outcome(maximum, [[2, 3], [3, 2]], "occlusion-1").observed == "holds"


def test_one_relu_by_hand():
    relu = Function(lambda x: x[:, 0].relu())
    found = outcome(relu, [[-1.0], [2.0]], "gradient")
    assert found.observed == "violated"
    assert found.figures["largest jump, share of the map"] == 1
    bends = found.figures["bend after each halving, share of the map"]
    assert bends == [1] * (continuity.MOST_HALVINGS + 1)
    # The jump of 1 happens on the last interval: two of the grid's twelfths of 3, halved again and again.
    assert found.figures["steepest on the last interval"] == pytest.approx(
        12 / 6 * 2.0**continuity.MOST_HALVINGS, rel=1e-3
    )
    assert found.figures["steepest on the grid"] == pytest.approx(12 / 3)
    continuous = outcome(relu, [[-1.0], [2.0]], "gradient-times-input")
    assert (continuous.observed, continuous.value) == ("holds", 0)
    assert continuous.figures["paths with a jump"] == 0
    assert continuous.figures["largest jump, share of the map"] == 0


def test_the_interval_closes_in_on_the_kink():
    relu = Function(lambda x: (x[:, 0] - 0.3).relu())
    study = Study(subject_of(relu, [[0.0], [1.0]]), get_method("gradient"), SCALES["default"])
    paths = continuity.Paths(continuity.in_double(study), 2)
    seen = continuity.descend(paths, 20)
    kink = torch.tensor([0.3, 0.7]).double()
    assert bool(((seen.ends[:, 0] <= kink) & (kink <= seen.ends[:, 1])).all())
    lengths = (seen.ends[:, 1] - seen.ends[:, 0])[:, 0]
    assert lengths.tolist() == pytest.approx([2 / 12 / 2**k for k in range(21)], rel=1e-6)
    assert paths.at(torch.tensor([0.25, 0.25]).double()).flatten().tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("activation", "name", "expected"),
    [
        (nn.Tanh, "gradient", "holds"),
        (nn.Softplus, "gradient-times-input", "holds"),
        (nn.Tanh, "smoothgrad", "holds"),
        (nn.ReLU, "gradient", "violated"),
        (nn.ReLU, "gradient-times-input", "violated"),
        (nn.ReLU, "guided-backprop", "violated"),
        (nn.ReLU, "smoothgrad", "violated"),
        (nn.ReLU, "integrated-gradients", "holds"),
        (nn.ReLU, "lrp-epsilon", "holds"),
        (nn.ReLU, "occlusion-1", "holds"),
        (nn.ReLU, "shapley", "holds"),
    ],
)
def test_known_methods(activation, name, expected):
    assert outcome(dense(activation), random_points(), name, rows=200_000).observed == expected


def test_a_slope_that_is_steep_is_no_jump():
    steep = Function(lambda x: torch.nn.functional.softplus(1e6 * x[:, 0]) / 1e6)
    found = outcome(steep, [[-0.9], [1.1]], "gradient")
    assert (found.observed, found.value) == ("holds", 0)
    bends = found.figures["bend after each halving, share of the map"]
    assert bends[12] > 0.9
    # With few halvings, the slope lies within the last interval and cannot be told from a jump.
    assert outcome(steep, [[-0.9], [1.1]], "gradient", rows=4 * (13 + 15)).observed == "violated"


@method
def rounded(model, x, target, baseline=None):
    """Wrong: rounded to three digits."""
    return (1000 * x).round() / 1000


@method
def small_jump(model, x, target, baseline=None):
    """Wrong: a hundred-thousandth jumps."""
    return 2 + x + 1e-5 * (x > 0.1234)


@method
def one_jump(model, x, target, baseline=None):
    """Wrong between the first two samples alone."""
    return 1 + x + 0.1 * (x[:, :1] > 5)


def test_jumps_of_any_size():
    smooth = dense(nn.Tanh)
    assert outcome(smooth, random_points(), rounded).observed == "violated"
    found = outcome(Function(lambda x: x[:, 0]), [[-1.0], [1.0]], small_jump)
    assert found.observed == "violated"
    assert found.figures["largest jump, share of the map"] == pytest.approx(1e-5 / 3, rel=1e-3)


def test_one_path_with_a_jump_refutes():
    x = random_points(4).clamp(-2, 2)
    x[1, 0] = 9
    found = outcome(dense(nn.Tanh), x, one_jump)
    assert found.observed == "violated"
    assert found.figures["paths with a jump"] == 2


class Step(nn.Module):
    """Logits that jump themselves where the first entry passes zero."""

    def forward(self, x):
        value = (x[:, 0] > 0).to(x) + x[:, 1]
        return torch.stack([value, -value], 1)


def test_what_it_says_nothing_of():
    with pytest.raises(NotApplicable, match="output itself"):
        outcome(Step(), [[-1.0, 1.0], [1.0, 2.0]], "occlusion-1")
    with pytest.raises(NotApplicable, match="same"):
        outcome(dense(nn.Tanh), torch.ones(4, 6), "gradient")
    with pytest.raises(NotApplicable, match="same"):
        outcome(dense(nn.Tanh), torch.ones(1, 6), "gradient")
    with pytest.raises(NotApplicable, match="zero"):
        outcome(Function(lambda x: 0 * x[:, 0]), random_points(), "gradient")
    with pytest.raises(NotApplicable, match="rows"):
        outcome(dense(nn.Tanh), random_points(), "shapley", "tiny")


def test_costly_methods_are_halved_less_often():
    few = outcome(dense(nn.ReLU), random_points(), "smoothgrad")
    assert few.figures["halvings"] == 8000 // (50 * 4) - 13
    assert outcome(dense(nn.ReLU), random_points(), "gradient").figures["halvings"] == continuity.MOST_HALVINGS


def test_paths_are_a_share_of_the_images():
    assert outcome(dense(nn.Tanh), random_points(60), "gradient", images=60).figures["paths"] == 15
    assert outcome(dense(nn.Tanh), random_points(16), "gradient").figures["paths"] == 4


def test_the_share_left_by_hand():
    halved = torch.tensor([[2.0**-k, 1.0, 2.0**-k if k < 12 else 2.0**-12, 0.0, 1e-9] for k in range(16)])
    left = continuity.share_left(halved.double(), torch.ones(5).double())
    assert left.tolist() == [2.0**-10, 1, 2.0**-7, 0, 0]
    short = continuity.share_left(torch.tensor([[1.0], [0.25]]), torch.ones(1))
    assert short.tolist() == [0.25]


def test_the_same_seed_gives_the_same_figures():
    assert outcome(dense(nn.ReLU), random_points(), "smoothgrad") == outcome(
        dense(nn.ReLU), random_points(), "smoothgrad"
    )
