"""Each built-in method equals its independent slow twin, on drawn networks of every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck import get_method
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink, segment_in_kink
from attribcheck.axioms.networks.sources import Small, Wide
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from attribcheck.calling import baseline_for
from attribcheck.claims import Method
from attribcheck.errors import Unsupported
from attribcheck.methods.registry import BUILTIN
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ..support import slow_twins, twins_lrp, twins_reveal

Twin = Callable[[Network, np.ndarray, int, np.ndarray], np.ndarray]


def _by_recursion(name: str) -> Twin:
    """The method of that name as a twin. Either of the pair, engine and recursion, is the other's: they share no code."""

    def twin(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
        chosen = get_method(name)
        one = torch.tensor(start)[None] if chosen.baseline else None
        return chosen(build(network), torch.tensor(x)[None], torch.tensor([target]), one)[0].numpy()

    return twin


def _noise(x: np.ndarray) -> np.ndarray:
    """What a generator seeded with 0 draws for one sample."""
    return torch.randn(50, 1, *x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))[:, 0].numpy()


TWINS: dict[str, Twin] = {
    "gradient": lambda n, x, t, b: slow_twins.gradient(n, x, t),
    "saliency": lambda n, x, t, b: np.abs(slow_twins.gradient(n, x, t)),
    "gradient-times-input": lambda n, x, t, b: x * slow_twins.gradient(n, x, t),
    **{f"integrated-gradients{kind}": slow_twins.integrated_gradients for kind in ("", "-zero", "-min", "-mean")},
    "occlusion-1": slow_twins.occlusion,
    "lrp-0": _by_recursion("lrp-epsilon-recursion(epsilon=0.0)"),
    "lrp-epsilon": _by_recursion("lrp-epsilon-recursion"),
    "lrp-epsilon-recursion": _by_recursion("lrp-epsilon"),
    "lrp-gamma": lambda n, x, t, b: twins_lrp.relevance(n, x, t, twins_lrp.gamma(0.25)),
    "lrp-alpha1-beta0": lambda n, x, t, b: twins_lrp.relevance(n, x, t, twins_lrp.alpha_beta(1.0, 0.0)),
    "lrp-alpha2-beta1": lambda n, x, t, b: twins_lrp.relevance(n, x, t, twins_lrp.alpha_beta(2.0, 1.0)),
    "z-plus": lambda n, x, t, b: twins_lrp.relevance(n, x, t, twins_lrp.z_plus),
    "excitation-backprop": lambda n, x, t, b: twins_lrp.relevance(
        n, x, t, twins_lrp.z_plus, start=lambda f: 1 / f if f else 0.0
    ),
    "deep-taylor": lambda n, x, t, b: twins_lrp.relevance(n, x, t, twins_lrp.z_plus, first=twins_lrp.w_squared),
    "deep-taylor-bounded": lambda n, x, t, b: twins_lrp.relevance(n, x, t, twins_lrp.z_plus, first=twins_lrp.z_beta),
    "deep-taylor-zero": _by_recursion("lrp-epsilon-recursion(epsilon=0.0)"),
    "lrp-composite": lambda n, x, t, b: twins_lrp.relevance(
        n, x, t, twins_lrp.by_contributions(1e-6), conv=twins_lrp.z_plus
    ),
    "taylor-near-origin": lambda n, x, t, b: (1 - 1e-6) * x * slow_twins.gradient(n, 1e-6 * x, t),
    "deeplift": _by_recursion("deeplift-recursion"),
    "deeplift-revealcancel": twins_reveal.reveal_cancel,
    "deeplift-recursion": _by_recursion("deeplift"),
    "guided-backprop": lambda n, x, t, b: slow_twins.guided(n, x, t),
    "smoothgrad": lambda n, x, t, b: slow_twins.smoothed_gradient(n, x, t, _noise(x)),
}


# The recursions have no equation for products.
NO_TWIN = {
    (name, family)
    for name in TWINS
    for family in ("product", "recurrent", "attention")
    if name.startswith(("lrp", "deeplift", "deep-taylor")) or name in ("z-plus", "excitation-backprop")
} | {("deeplift-revealcancel", family) for family in ("maxpool", "maximum", "vgg", "embedding")}


# Compared with twins of their own, which need more than a network, a target and a baseline, or fewer families.
ELSEWHERE = {
    "test_rectified": "deconvnet rectgrad rectgrad-tau rectgrad-mod rectgrad-mod-tau rectgrad-percentile",
    "test_patterns": "patternnet pattern-attribution patternnet-printed pattern-attribution-printed",
    "test_gradcam": "cam gradcam gradcam-pre-relu gradcam-plus-plus gradcam-pos gradmid "
    "cumulative-gradcam cumulative-gradmid",
    "test_fullgrad": "fullgrad fullgrad-complete",
    "test_perturbation": "box-occlusion shapley shapley-sampling expected-gradients",
    "test_dasp": "dasp",
    "test_wrappers": "smoothgrad-squared vargrad cgi clrp cdasp",
    "test_regressions": "lime kernel-shap",
}


def test_every_builtin_method_has_a_twin() -> None:
    elsewhere = {name for names in ELSEWHERE.values() for name in names.split()}
    assert TWINS.keys() | elsewhere == BUILTIN.keys()
    assert not TWINS.keys() & elsewhere
    for module in ELSEWHERE:
        assert (Path(__file__).parent / f"{module}.py").exists()


def largest_gap(method: Method, case: Case) -> float:
    """The largest difference between a method and its twin, on two samples, relative to the largest attribution."""
    assert isinstance(case.network, Network) and case.baseline is not None
    case = case.but(x=case.x[:2], target=case.target[:2], baseline=case.baseline[:2])
    x, target = torch.tensor(case.x), torch.tensor(case.target)
    data = None if case.data is None else torch.tensor(case.data)
    start = baseline_for(method.baseline, x, torch.tensor(case.baseline), data)
    if method.stochastic:  # the twin draws the noise of a single sample
        case, x, target, start = case.but(x=case.x[:1], target=case.target[:1]), x[:1], target[:1], start[:1]
        torch.manual_seed(0)
    got = method(build(case.network), x, target, None if method.baseline is None else start).numpy()
    expected = np.stack([
        TWINS[method.name](case.network, case.x[b], case.target[b], start[b].numpy()) for b in range(len(case.x))
    ])  # fmt: skip
    return float(np.abs(got - expected).max() / max(1e-3, np.abs(expected).max()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", TWINS)
def test_a_method_equals_its_twin_on_small_networks(name: str, family: str) -> None:
    method = get_method(name)

    # (The twin of integrated gradients takes seconds where there are many kinks.)
    @settings(
        max_examples=2 if name.startswith("integrated") and family in ("vgg", "attention") else 4,
        derandomize=True,
        database=None,
        deadline=None,
    )
    @given(st.data())
    def check(data: Any) -> None:
        case = Setting(Small(data.draw), FAMILIES[family], data=method.needs_data).base()
        assert isinstance(case.network, Network)
        x = torch.tensor(case.x)
        assume(not on_kink(case.network, x, inside=True))
        if method.baseline is not None:
            given_data = None if case.data is None else torch.tensor(case.data)
            start = baseline_for(method.baseline, x, torch.tensor(case.baseline), given_data)
            assume(not segment_in_kink(case.network, start, x))
        try:
            assert largest_gap(method, case) < 1e-9
            compared.append(case)
        except Unsupported:  # a product, or a relevance that is 0 / 0, in either of the two
            pass

    compared: list[Case] = []
    check()
    assert bool(compared) == ((name, family) not in NO_TWIN)


@pytest.mark.parametrize("family", ["relu", "smooth", "product"])
@pytest.mark.parametrize("name", ["gradient", "integrated-gradients", "occlusion-1"])
def test_a_method_equals_its_twin_on_a_wide_network(name: str, family: str) -> None:
    method = get_method(name)
    case = Setting(Wide(5), FAMILIES[family]).base()
    one = case.but(x=case.x[:1], baseline=case.baseline[:1], target=case.target[:1])  # type: ignore[index]
    assert largest_gap(method, one) < 1e-9
