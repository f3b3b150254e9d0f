"""Each built-in method equals its independent slow twin, on drawn networks of every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck import get_method
from attribcheck.axioms.cases import Case, Setting
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink
from attribcheck.axioms.networks.sources import Small, Wide
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.trial import baseline_for
from attribcheck.claims import Method
from attribcheck.methods.registry import BUILTIN
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from . import slow_twins

Twin = Callable[[Network, np.ndarray, int, np.ndarray], np.ndarray]

TWINS: dict[str, Twin] = {
    "gradient": lambda n, x, t, b: slow_twins.gradient(n, x, t),
    "saliency": lambda n, x, t, b: np.abs(slow_twins.gradient(n, x, t)),
    "gradient-times-input": lambda n, x, t, b: x * slow_twins.gradient(n, x, t),
    **{f"integrated-gradients{kind}": slow_twins.integrated_gradients for kind in ("", "-zero", "-min", "-mean")},
    "occlusion-1": slow_twins.occlusion,
}


def test_every_builtin_method_has_a_twin() -> None:
    assert TWINS.keys() == BUILTIN.keys()


def largest_gap(method: Method, case: Case) -> float:
    """The largest difference between a method and its twin, relative to the largest attribution."""
    assert isinstance(case.network, Network)
    x, target = torch.tensor(case.x), torch.tensor(case.target)
    data = None if case.data is None else torch.tensor(case.data)
    start = baseline_for(method, x, torch.tensor(case.baseline), data)
    got = method(build(case.network), x, target, None if method.baseline is None else start).numpy()
    expected = np.stack([
        TWINS[method.name](case.network, case.x[b], case.target[b], start[b].numpy()) for b in range(len(case.x))
    ])  # fmt: skip
    return float(np.abs(got - expected).max() / max(1e-3, np.abs(expected).max()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", TWINS)
def test_a_method_equals_its_twin_on_small_networks(name: str, family: str) -> None:
    method = get_method(name)

    @settings(max_examples=8, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        case = Setting(Small(data.draw), FAMILIES[family], data=method.needs_data).base()
        assert isinstance(case.network, Network)
        assume(not on_kink(case.network, torch.tensor(case.x)))
        assert largest_gap(method, case) < 1e-9

    check()


@pytest.mark.parametrize("family", ["relu", "smooth", "product"])
@pytest.mark.parametrize("name", ["gradient", "integrated-gradients", "occlusion-1"])
def test_a_method_equals_its_twin_on_a_wide_network(name: str, family: str) -> None:
    method = get_method(name)
    case = Setting(Wide(5), FAMILIES[family]).base()
    one = case.but(x=case.x[:1], baseline=case.baseline[:1], target=case.target[:1])  # type: ignore[index]
    assert largest_gap(method, one) < 1e-9
