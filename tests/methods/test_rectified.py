"""DeconvNet, RectGrad and RectGrad_Mod: worked values, equality with explicit loops, every name of a ReLU, options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck import get_method
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink
from attribcheck.axioms.networks.sources import Small, Wide
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods.gradients import gradient
from attribcheck.methods.guided import guided_backprop
from attribcheck.methods.rectgrad_mod import rectgrad_mod, rectgrad_mod_tau, rectgrad_percentile
from attribcheck.methods.rectified import deconvnet, rectgrad, rectgrad_tau
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ..support import twins_rectified as twins

Attribute = Callable[..., Tensor]

TWINS: dict[str, tuple[Attribute, twins.AtRelu]] = {
    "deconvnet": (deconvnet, twins.deconvolution),
    "rectgrad": (rectgrad, twins.above(0.0)),
    "rectgrad-tau": (rectgrad_tau, twins.above(0.6)),
    "rectgrad-mod": (rectgrad_mod, twins.above(0.0, absolute=True)),
    "rectgrad-mod-tau": (rectgrad_mod_tau, twins.above(0.6, absolute=True)),
    "rectgrad-percentile": (rectgrad_percentile, twins.without_lowest(50)),
    "rectgrad-percentile-absolute": (
        functools.partial(rectgrad_percentile, percentile=30.0, absolute=True),
        twins.without_lowest(30, absolute=True),
    ),
}


def _gap(name: str, network: Network, x: np.ndarray, target: tuple[int, ...]) -> float:
    method, at_relu = TWINS[name]
    got = method(build(network), torch.tensor(x), torch.tensor(target)).numpy()
    expected = np.stack([twins.back(network, x[b], target[b], at_relu) for b in range(len(x))])
    return float(np.abs(got - expected).max() / max(1e-3, np.abs(expected).max()))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("name", TWINS)
def test_a_method_equals_its_twin(name: str, family: str) -> None:
    @settings(max_examples=8, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        case = Setting(Small(data.draw), FAMILIES[family]).base()
        assert isinstance(case.network, Network)
        assume(not on_kink(case.network, torch.tensor(case.x)))
        assert _gap(name, case.network, case.x[:2], case.target[:2]) < 1e-9

    check()


@pytest.mark.parametrize("family", ["relu", "vgg"])
@pytest.mark.parametrize("name", TWINS)
def test_a_method_equals_its_twin_on_a_wide_network(name: str, family: str) -> None:
    case = Setting(Wide(5), FAMILIES[family]).base()
    assert isinstance(case.network, Network)
    assert _gap(name, case.network, case.x[:1], case.target[:1]) < 1e-9


# -- worked values ------------------------------------------------------------------------------------------------


def _units(into: list[list[float]], out: list[float], bias: list[float] | None = None) -> nn.Module:
    first = nn.Linear(len(into[0]), len(into), dtype=torch.float64)
    last = nn.Linear(len(out), 1, bias=False, dtype=torch.float64)
    first.weight.data, last.weight.data = (torch.tensor(w, dtype=torch.float64) for w in (into, [out]))
    first.bias.data = torch.tensor(bias or [0.0] * len(into), dtype=torch.float64)
    return nn.Sequential(first, nn.ReLU(), last).eval()


def _at(method: Attribute, model: nn.Module, *x: float) -> list[float]:
    flat: list[float] = method(model, torch.tensor([x], dtype=torch.float64), torch.tensor([0]))[0].tolist()
    return flat


@pytest.mark.parametrize("method", [deconvnet, rectgrad, guided_backprop])
def test_two_units_of_both_signs_in_place_of_one(method: Attribute) -> None:
    assert _at(method, _units([[1.0]], [-1.0]), 1.0) == [0.0]
    assert _at(method, _units([[1.0], [1.0]], [1.0, -2.0]), 1.0) == [1.0]


@pytest.mark.parametrize("method", [deconvnet, rectgrad, guided_backprop])
def test_nothing_gets_something(method: Attribute) -> None:
    assert _at(method, _units([[1.0], [1.0]], [1.0, -1.0]), 1.0) == [1.0]


@pytest.mark.parametrize("method", [deconvnet, rectgrad, guided_backprop])
def test_a_symmetric_function_with_an_asymmetric_map(method: Attribute) -> None:
    assert _at(method, _units([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [1.0, 2.0, -1.0]), 1.0, 1.0) == [1.0, 2.0]


def test_a_unit_that_is_never_active_is_heard_by_deconvnet_alone() -> None:
    alone, beside = _units([[1.0]], [1.0]), _units([[1.0], [1.0]], [1.0, 1.0], [0.0, -9.0])
    assert [_at(deconvnet, net, 1.0) for net in (alone, beside)] == [[1.0], [2.0]]
    for method in (rectgrad, rectgrad_mod, rectgrad_tau, rectgrad_mod_tau, guided_backprop):
        assert [_at(method, net, 1.0) for net in (alone, beside)] == [[1.0], [1.0]]


@pytest.mark.parametrize("method", [rectgrad_tau, rectgrad_mod_tau])
def test_halves_of_a_unit_stay_below_an_absolute_threshold(method: Attribute) -> None:
    assert _at(method, _units([[1.0]], [1.0]), 1.0) == [1.0]
    assert _at(method, _units([[1.0], [1.0]], [0.5, 0.5]), 1.0) == [0.0]


@pytest.mark.parametrize("method", [rectgrad, rectgrad_mod])
def test_an_absolute_threshold_does_not_scale(method: Attribute) -> None:
    at_half = functools.partial(method, tau=0.5)
    assert _at(at_half, _units([[1.0]], [1.0]), 0.4) == [0.0]
    assert _at(at_half, _units([[1.0]], [2.0]), 0.4) == [2.0]


def test_two_logits_with_one_positive_part_get_one_map() -> None:
    identity = [[1.0, 0.0], [0.0, 1.0]]
    for method in (deconvnet, rectgrad):
        assert _at(method, _units(identity, [1.0, -1.0]), 3.0, 1.0) == [1.0, 0.0]
        assert _at(method, _units(identity, [1.0, -5.0]), 3.0, 1.0) == [1.0, 0.0]


def test_a_percentile_drops_a_share_of_the_scores_of_a_layer_and_what_ties() -> None:
    model = _units(np.eye(4).tolist(), [1.0, 1.0, 1.0, 1.0])
    half = functools.partial(rectgrad_percentile, percentile=50.0)
    assert _at(half, model, 1.0, 2.0, 3.0, 4.0) == [0.0, 0.0, 1.0, 1.0]
    assert _at(half, model, 1.0, 2.0, 2.0, 4.0) == [0.0, 0.0, 0.0, 1.0]
    assert _at(functools.partial(rectgrad_percentile, percentile=24.0), model, 1.0, 2.0, 3.0, 4.0) == [1.0] * 4
    signed = _units(np.eye(4).tolist(), [1.0, 1.0, -1.0, -1.0])
    assert _at(half, signed, 1.0, 2.0, 3.0, 4.0) == [1.0, 1.0, 0.0, 0.0]
    assert _at(functools.partial(half, absolute=True), signed, 1.0, 2.0, 3.0, 4.0) == [0.0, 0.0, -1.0, -1.0]


def test_deconvnet_on_relus_does_not_depend_on_the_input() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 3)).double().eval()
    maps = deconvnet(net, torch.randn(5, 4, dtype=torch.float64), torch.full((5,), 1))
    assert torch.equal(maps, maps[:1].expand(5, 4))


# -- names of a ReLU, and other tables -------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "function": torch.relu,
    "method": lambda z: z.relu(),
    "in place": lambda z: F.relu_(z * 1),
    "clamp": lambda z: z.clamp(min=0),
    "clamp_min": lambda z: torch.clamp_min(z, 0),
    "threshold": lambda z: F.threshold(z, 0.0, 0.0),
    "maximum": lambda z: torch.maximum(z, torch.zeros(())),
    "maximum with zeros first": lambda z: torch.maximum(torch.zeros(4, dtype=z.dtype), z),
    "max": lambda z: torch.max(z, torch.zeros_like(z)),
}


class _Written(nn.Module):
    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last, self.relu = nn.Linear(3, 4).double(), nn.Linear(4, 2).double(), relu

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.relu(self.first(x)))
        return logits


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TWINS)
def test_a_relu_is_one_under_any_of_its_names(name: str, form: str) -> None:
    x, target = (
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)),
        torch.tensor([0, 1, 1]),
    )
    method = TWINS[name][0]
    expected = method(_Written(nn.ReLU()), x, target)
    assert torch.allclose(method(_Written(FORMS[form]), x, target), expected)
    assert name in ("rectgrad-mod", "rectgrad-percentile-absolute") or not torch.allclose(
        expected, gradient(_Written(nn.ReLU()), x, target)
    )


def test_shared_relus_and_captum_agree_on_a_chain_of_modules() -> None:
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)
    ).double().eval()  # fmt: skip
    x, target = torch.randn(2, 1, 6, 6, dtype=torch.float64), torch.tensor([0, 2])
    assert torch.allclose(deconvnet(net, x, target), captum.Deconvolution(net).attribute(x, target=target))
    assert torch.allclose(rectgrad(net, x, target), captum.GuidedBackprop(net).attribute(x, target=target))

    shared = nn.ReLU()
    twice = nn.Sequential(net[0], shared, *net[2:5], shared, net[6])
    for method, _ in TWINS.values():
        assert torch.equal(method(twice, x, target), method(net, x, target))


# -- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [rectgrad, rectgrad_tau, rectgrad_mod, rectgrad_mod_tau])
@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf")])
def test_a_threshold_is_finite_and_not_negative(method: Attribute, tau: float) -> None:
    with pytest.raises(UsageError, match="tau must be"):
        method(_units([[1.0]], [1.0]), torch.ones(1, 1, dtype=torch.float64), torch.tensor([0]), tau=tau)


@pytest.mark.parametrize("percentile", [-1.0, 100.0, float("nan")])
def test_a_percentile_is_below_one_hundred(percentile: float) -> None:
    model, x = _units([[1.0]], [1.0]), torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(UsageError, match="percentile must be"):
        rectgrad_percentile(model, x, torch.tensor([0]), percentile=percentile)


@pytest.mark.parametrize("name", TWINS)
def test_what_hides_its_operations_is_refused(name: str) -> None:
    scripted = torch.jit.script(_units([[1.0]], [1.0]))
    with pytest.raises(Unsupported):
        TWINS[name][0](scripted, torch.ones(1, 1, dtype=torch.float64), torch.tensor([0]))


def test_options_are_written_in_brackets() -> None:
    model = _units([[1.0], [1.0]], [0.5, 0.5])
    assert _at(get_method("rectgrad-tau(tau=0.4)"), model, 1.0) == [1.0]
