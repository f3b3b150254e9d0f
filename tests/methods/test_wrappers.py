"""Wrappers: their twins, worked values, options, and what they pass on from their base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck import get_method
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink
from attribcheck.axioms.networks.sources import Small
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from attribcheck.claims import Method, declaration
from attribcheck.errors import UsageError
from attribcheck.methods.competition import competition, survivors
from attribcheck.methods.expected_gradients import expected_gradients
from attribcheck.methods.noise_ensembles import smoothgrad_squared, vargrad
from attribcheck.methods.shapley import shapley_sampling
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ..support import slow_twins, twins_wrappers

GRADIENT = get_method("gradient")


def _noise(x: np.ndarray) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 1, *x.shape, dtype=torch.float64, generator=generator)[:, 0].numpy()


def _gradient_times_input(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    return x * slow_twins.gradient(network, x, target)


PAIRS: dict[str, tuple[Method, Callable[..., np.ndarray]]] = {
    "smoothgrad-squared": (
        smoothgrad_squared(GRADIENT),
        lambda n, x, t, b: twins_wrappers.smoothgrad_squared(n, x, t, _noise(x)),
    ),
    "vargrad": (vargrad(GRADIENT), lambda n, x, t, b: twins_wrappers.vargrad(n, x, t, _noise(x))),
    "cgi": (competition(get_method("gradient-times-input")), twins_wrappers.competition(_gradient_times_input)),
    "competition(occlusion-1)": (
        competition(get_method("occlusion-1")),
        twins_wrappers.competition(slow_twins.occlusion),
    ),
}


@pytest.mark.parametrize("family", ["relu", "smooth", "maxpool", "linear"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_wrapper_equals_its_twin(name: str, family: str) -> None:
    method, twin = PAIRS[name]
    compared: list[Case] = []

    @settings(max_examples=4, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        case = Setting(Small(data.draw), FAMILIES[family]).base()
        assert isinstance(case.network, Network) and case.baseline is not None
        assume(not on_kink(case.network, torch.tensor(case.x[:1])))
        torch.manual_seed(0)
        x, start = torch.tensor(case.x[:1]), torch.tensor(case.baseline[:1])
        got = method(build(case.network), x, torch.tensor(case.target[:1]), start)[0].numpy()
        expected = twin(case.network, case.x[0], case.target[0], case.baseline[0])
        assert np.abs(got - expected).max() < 1e-9 * max(1.0, np.abs(expected).max())
        compared.append(case)

    check()
    assert compared


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False).double()
    layer.weight.data = torch.tensor(rows, dtype=torch.float64)
    return layer


def row(method: Method, model: nn.Module, x: list[float], target: int) -> list[float]:
    found: Tensor = method(model, torch.tensor([x], dtype=torch.float64), torch.tensor([target]))
    result: list[float] = found[0].tolist()
    return result


# -- competition ------------------------------------------------------------------------------------------------------

CGI = competition(get_method("gradient-times-input"))


def test_the_other_label_takes_what_it_claims_more_of() -> None:
    model = linear([1.0, 1.0], [2.0, -1.0])
    assert row(CGI, model, [1.0, 1.0], 0) == [0.0, 1.0]
    assert row(CGI, model, [1.0, 1.0], 1) == [2.0, -1.0]


def test_negative_scores_compete_downwards() -> None:
    model = linear([-1.0, -3.0, 1.0], [-2.0, 1.0, -1.0], [1.0, -1.0, -2.0])
    assert row(CGI, model, [1.0, 1.0, 1.0], 0) == [0.0, -3.0, 1.0]
    assert row(CGI, model, [1.0, 1.0, 1.0], 1) == [-2.0, 1.0, 0.0]
    assert row(CGI, model, [1.0, 1.0, 1.0], 2) == [1.0, 0.0, -2.0]


def test_ties_keep_both_labels_to_rounding() -> None:
    model = linear([0.1 + 0.2, -1.0], [0.3, -1.0])
    assert row(CGI, model, [1.0, 1.0], 0) == [0.1 + 0.2, -1.0]
    assert row(CGI, model, [1.0, 1.0], 1) == [0.3, -1.0]


def test_a_single_logit_keeps_everything() -> None:
    assert row(CGI, linear([1.0, -2.0, 0.0]), [3.0, 1.0, 1.0], 0) == [3.0, -2.0, 0.0]


class Curves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x**2, x], 1)


def test_the_winner_changes_with_a_jump() -> None:
    occluding = competition(get_method("occlusion-1"))
    assert row(occluding, Curves(), [0.999], 0) == [0.0]
    assert row(occluding, Curves(), [1.001], 0) == [pytest.approx(1.002001)]


def test_how_often_a_feature_survives() -> None:
    """(2 / k) (1 - 2^-k) for scores that are independent and symmetric about zero."""
    for k in (2, 3, 10):
        scores = torch.randn(k, 1, 200_000, generator=torch.Generator().manual_seed(0))
        kept = float((survivors(scores, torch.tensor([0])) != 0).float().mean())
        assert kept == pytest.approx(2 / k * (1 - 2.0**-k), abs=0.005)


def test_all_labels_see_the_same_random_numbers() -> None:
    sampled = declaration(shapley_sampling)
    assert sampled is not None
    wrapped = competition(sampled)
    assert wrapped.stochastic and wrapped.baseline == "given"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    x, target = torch.randn(2, 4).double(), torch.tensor([0, 2])
    torch.manual_seed(1)
    got = wrapped(model, x, target)
    after = torch.rand(1)
    maps = []
    for label in range(3):
        torch.manual_seed(1)
        maps.append(sampled(model, x, torch.full((2,), label)))
    assert torch.equal(got, survivors(torch.stack(maps), target))
    assert torch.equal(after, torch.rand(1))  # as many numbers as one call of the base


def test_data_reach_the_base() -> None:
    base = declaration(expected_gradients)
    assert base is not None
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double().eval()
    x, data, target = torch.randn(2, 3).double(), torch.randn(4, 3).double(), torch.tensor([0, 1])
    for wrapper in (competition, smoothgrad_squared, vargrad):
        wrapped = wrapper(base)
        assert wrapped.data and wrapped.needs_data
        assert wrapped.function(model, x, target, None, data=data).shape == x.shape


# -- ensembles under noise ---------------------------------------------------------------------------------------------


def test_on_a_linear_network_the_square_is_that_of_the_gradient_and_nothing_varies() -> None:
    model = linear([1.0, -2.0], [0.5, 3.0])
    assert row(smoothgrad_squared(GRADIENT), model, [1.0, 2.0], 0) == pytest.approx([1.0, 4.0])
    assert row(vargrad(GRADIENT), model, [1.0, 2.0], 1) == [0.0, 0.0]


def test_the_variance_is_the_mean_square_less_the_square_of_the_mean() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double().eval()
    x, target = torch.randn(300, 3).double(), torch.zeros(300, dtype=torch.long)
    maps = []
    for method in (smoothgrad_squared(GRADIENT), get_method("smoothgrad"), vargrad(GRADIENT)):
        torch.manual_seed(1)
        maps.append(method(model, x, target))
    torch.testing.assert_close(maps[2], maps[0] - maps[1] ** 2)


@pytest.mark.parametrize("wrapper", [smoothgrad_squared, vargrad])
@pytest.mark.parametrize("options", [{"n_samples": 0}, {"n_samples": 1.5}, {"sigma": 0}, {"sigma": float("inf")}])
def test_wrong_noise(wrapper: Callable[..., Method], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be a positive"):
        wrapper(GRADIENT, **options)
