"""DASP: its twin, exact cases, forms of a network, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.sources import Small
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods.dasp import dasp
from attribcheck.methods.dasp_layers import Gaussian, larger, rectified
from attribcheck.methods.shapley import shapley
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ..support import twins_dasp


class Net(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x)
        return result


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


W1, B1, W2 = seeded(5, 4, seed=1), seeded(5, seed=2), seeded(3, 5, seed=3)
X, START, TARGET = seeded(3, 4, seed=4), seeded(3, 4, seed=5), torch.tensor([0, 2, 1])


@pytest.mark.parametrize(
    "family", ["relu", "linear", "relu-nobias", "residual", "functional", "maximum", "conv", "maxpool"]
)
def test_it_equals_its_twin(family: str) -> None:
    compared = []

    @settings(max_examples=8, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        case = Setting(Small(data.draw), FAMILIES[family]).base()
        assert isinstance(case.network, Network) and case.baseline is not None
        assume(case.x[0].size <= 8)
        got = dasp(build(case.network), torch.tensor(case.x), torch.tensor(case.target), torch.tensor(case.baseline))
        expected = twins_dasp.dasp(case.network, case.x[0], case.target[0], case.baseline[0])
        assert np.abs(got[0].numpy() - expected).max() < 1e-9 * max(1.0, np.abs(expected).max())
        compared.append(case)

    check()
    assert compared


def test_sizes_are_the_middles_of_equal_parts() -> None:
    model = Net(lambda x: F.linear(torch.relu(F.linear(x, W1, B1)), W2))
    full, some = dasp(model, X, TARGET, START), dasp(model, X, TARGET, START, sizes=2)
    assert not torch.allclose(full, some)
    assert torch.equal(full, dasp(model, X, TARGET, START, sizes=4))


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_features_have_exact_shapley_values(n: int) -> None:
    model = nn.Sequential(nn.Linear(n, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    x, start = seeded(3, n, seed=6), seeded(3, n, seed=7)
    torch.testing.assert_close(dasp(model, x, TARGET, start), shapley(model, x, TARGET, start), rtol=0, atol=1e-12)


def test_it_is_near_shapley_values_on_wide_networks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)).double().eval()
    x = seeded(3, 8, seed=8)
    exact, got = shapley(model, x, TARGET), dasp(model, x, TARGET)
    assert float((exact - got).abs().sum() / exact.abs().sum()) < 0.1
    assert float((exact - got).abs().sum()) > 1e-6


def test_a_value_of_one_feature_is_exact() -> None:
    model = Net(lambda x: F.linear(torch.relu(x) - torch.relu(-x), W1, B1))
    torch.testing.assert_close(dasp(model, X, TARGET, START), W1[TARGET] * (X - START))


FORMS = {
    "functional": lambda x: F.linear(F.relu(F.linear(x, W1, B1)), W2),
    "method": lambda x: F.linear(F.linear(x, W1, B1).relu(), W2),
    "in place": lambda x: F.linear(F.linear(x, W1, B1).relu_(), W2),
    "in-place argument": lambda x: F.linear(F.relu(F.linear(x, W1, B1), inplace=True), W2),
    "clamp": lambda x: (x @ W1.T + B1).clamp(min=0) @ W2.T,
    "maximum": lambda x: torch.maximum(x @ W1.T + B1, torch.zeros(5).double()) @ W2.T,
    "reshaped": lambda x: F.linear(torch.relu(F.linear(x.reshape(-1, 2, 2).flatten(1), W1, B1)), W2),
    "cut and joined": lambda x: F.linear(torch.relu(F.linear(torch.cat([x[:, :2], x[:, 2:]], 1), W1, B1)), W2),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_code_does_not_matter(form: str) -> None:
    expected = dasp(Net(FORMS["functional"]), X, TARGET, START)
    torch.testing.assert_close(dasp(Net(FORMS[form]), X, TARGET, START), expected)


REFUSED = {
    "tanh": lambda x: torch.tanh(F.linear(x, W1)),
    "product": lambda x: F.linear(x, W1) * F.linear(x, W1),
    "softmax": lambda x: torch.softmax(F.linear(x, W1), 1),
    "written into": lambda x: torch.zeros(len(x), 4).double().copy_(x),
    "pooled over padding": lambda x: F.avg_pool1d(x[:, None], 2, padding=1).flatten(1),
    "a maximum along an axis": lambda x: F.linear(x, W1).amax(1, keepdim=True).expand(-1, 3),
    "leaky": lambda x: F.leaky_relu(F.linear(x, W1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_follow_is_refused(name: str) -> None:
    with pytest.raises(Unsupported):
        dasp(Net(REFUSED[name]), X, TARGET, START)


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0]


def test_hidden_operations_are_refused() -> None:
    with pytest.raises(Unsupported):
        dasp(Net(lambda x: F.linear(Hidden.apply(F.linear(x, W1)), W2)), X, TARGET, START)
    with pytest.raises(Unsupported):
        dasp(Net(lambda x: Hidden.apply(F.linear(x, W1))), X, TARGET, START)
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).double().eval())
    with pytest.raises(Unsupported):
        dasp(scripted, X, TARGET, START)


@pytest.mark.parametrize("sizes", [0, -1, 1.5, True])
def test_sizes_must_be_whole_and_positive(sizes: Any) -> None:
    with pytest.raises(UsageError, match="sizes"):
        dasp(Net(FORMS["functional"]), X, TARGET, sizes=sizes)


def test_averages_add_variances_of_their_entries() -> None:
    pooled = Net(lambda x: F.linear(torch.relu(F.avg_pool1d(F.linear(x, W1[:4])[:, None], 2).flatten(1)), W2[:, :2]))
    halves = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]).double()
    written = Net(lambda x: F.linear(torch.relu(F.linear(F.linear(x, W1[:4]), halves)), W2[:, :2]))
    adaptive = Net(
        lambda x: F.linear(torch.relu(F.adaptive_avg_pool1d(F.linear(x, W1[:4])[:, None], 2).flatten(1)), W2[:, :2])
    )
    mean = Net(lambda x: F.linear(torch.relu(F.linear(x, W1[:4]).reshape(-1, 2, 2).mean(2)), W2[:, :2]))
    expected = dasp(written, X, TARGET, START)
    for model in (pooled, adaptive, mean):
        torch.testing.assert_close(dasp(model, X, TARGET, START), expected)


@pytest.mark.parametrize("mean", [-40.0, -3.0, -0.1, 0.0, 0.1, 3.0, 40.0])
@pytest.mark.parametrize("variance", [0.0, 1e-12, 0.3, 4.0])
def test_moments(mean: float, variance: float) -> None:
    def normal(m: float, v: float) -> Gaussian:
        return Gaussian(torch.tensor([m], dtype=torch.float64), torch.tensor([v], dtype=torch.float64))

    got, expected = rectified(normal(mean, variance)), twins_dasp.rectified(mean, variance)
    assert got.mean.item() == pytest.approx(expected[0], rel=1e-12, abs=1e-15)
    assert got.variance.item() == pytest.approx(expected[1], rel=1e-10, abs=1e-15)
    for m2, v2 in ((0.0, 0.0), (0.05, 2.0), (40.0, 1e-12), (-math.inf, 0.0)):
        best = larger(normal(mean, variance), normal(m2, v2))
        clark = (mean, variance) if m2 == -math.inf else twins_dasp.maximum(mean, variance, m2, v2)
        assert best.mean.item() == pytest.approx(clark[0], rel=1e-12, abs=1e-15)
        assert best.variance.item() == pytest.approx(clark[1], rel=1e-10, abs=1e-15)


def test_nothing_stays_behind() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).double().eval()
    x = X.clone()
    dasp(model, x, TARGET, START)
    assert torch.equal(x, X) and not x.requires_grad
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
