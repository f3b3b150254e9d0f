"""PatternNet and PatternAttribution: worked values, equality with explicit loops, options and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink
from attribcheck.axioms.networks.sources import Small, Wide
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods import pattern_attribution
from attribcheck.methods.pattern_rules import mapped, rules
from attribcheck.methods.patterns import fitted
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ..support import twins_patterns

METHODS: dict[str, tuple[Callable[..., Tensor], bool, bool]] = {
    "patternnet": (pattern_attribution.patternnet, False, False),
    "pattern-attribution": (pattern_attribution.pattern_attribution, True, False),
    "patternnet-printed": (pattern_attribution.patternnet_printed, False, True),
    "pattern-attribution-printed": (pattern_attribution.pattern_attribution_printed, True, True),
}
REFUSED = {"smooth", "odd-nobias", "product", "recurrent", "attention", "activations", "ratios"}
PATTERNNET, ATTRIBUTION = pattern_attribution.patternnet, pattern_attribution.pattern_attribution


def _t(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _dense(*layers: tuple[Any, Any], relu: bool = True) -> nn.Sequential:
    """Linear layers of (weight, bias), with ReLUs between them."""
    modules: list[nn.Module] = []
    for weight, bias in layers:
        w = _t(weight)
        layer = nn.Linear(w.shape[1], w.shape[0], dtype=torch.float64)
        layer.weight.data, layer.bias.data = w, _t(bias)
        modules += [layer, nn.ReLU()] if relu else [layer]
    return nn.Sequential(*(modules[:-1] if relu else modules)).eval()


def _gap(name: str, network: Network, x: np.ndarray, target: tuple[int, ...], data: np.ndarray) -> float | None:
    """The largest relative difference between a method and its twin; None where both refuse."""
    method, relevance, printed = METHODS[name]
    try:
        expected = np.stack([
            twins_patterns.attributed(network, x[b], target[b], data, relevance, printed) for b in range(len(x))
        ])  # fmt: skip
    except Unsupported:
        with pytest.raises(Unsupported):
            method(build(network), torch.tensor(x), torch.tensor(target), data=torch.tensor(data))
        return None
    got = method(build(network), torch.tensor(x), torch.tensor(target), data=torch.tensor(data)).numpy()
    return float(np.abs(got - expected).max() / max(1e-3, np.abs(expected).max()))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("name", METHODS)
def test_a_method_equals_its_twin(name: str, family: str) -> None:
    gaps: list[float | None] = []

    @settings(max_examples=12, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(drawn: Any) -> None:
        case = Setting(Small(drawn.draw), FAMILIES[family], data=True).base()
        assert isinstance(case.network, Network) and case.data is not None
        assume(not on_kink(case.network, torch.tensor(case.x)))
        gap = _gap(name, case.network, case.x[:2], case.target[:2], case.data)
        assert gap is None or gap < 1e-9
        gaps.append(gap)

    check()
    assert any(gap is not None for gap in gaps) == (family not in REFUSED)


@pytest.mark.parametrize("family", ["relu", "residual", "conv", "maxpool"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_equals_its_twin_on_a_wide_network(name: str, family: str) -> None:
    gaps = []
    for seed in range(3, 6):
        case = Setting(Wide(seed), FAMILIES[family], data=True).base()
        assert isinstance(case.network, Network)
        data = np.random.default_rng(0).normal(size=(9, *case.x.shape[1:]))
        gaps.append(_gap(name, case.network, case.x[:1], case.target[:1], data))
    compared = [gap for gap in gaps if gap is not None]
    assert compared and max(compared) < 1e-8


# -- worked values ------------------------------------------------------------------------------------------------

DATA = _t([[-1.0, 0.0], [1.0, 1.0], [3.0, 1.0]])
SHIFT = _t([0.0, 1.0])


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("patternnet", [1.0, 0.0], [1.0, 0.0]), ("patternnet-printed", [1.0, 1 / 3], [1.0, 2 / 3])],
)
def test_the_printed_formula_moves_with_a_shift(name: str, before: list[float], after: list[float]) -> None:
    method = METHODS[name][0]
    x, target = _t([[1.0, 1.0]]), torch.tensor([0])
    net = _dense(([[1.0, 0.0]], [0.0]), ([[1.0]], [0.0]))
    moved = _dense(([[1.0, 0.0]], [-float(SHIFT[0])]), ([[1.0]], [0.0]))
    assert method(net, x, target, data=DATA)[0].tolist() == pytest.approx(before)
    assert method(moved, x + SHIFT, target, data=DATA + SHIFT)[0].tolist() == pytest.approx(after)


def test_a_correlated_feature_without_weight_has_a_signal_but_no_relevance() -> None:
    data = _t([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    net, x, target = _dense(([[1.0, 0.0]], [0.5])), _t([[3.0, 5.0]]), torch.tensor([0])
    assert PATTERNNET(net, x, target, data=data).tolist() == [[3.5, 7.0]]
    assert ATTRIBUTION(net, x, target, data=data).tolist() == [[3.5, 0.0]]


def test_relevance_is_deep_taylor_decomposition_from_the_root_point_of_the_pattern() -> None:
    rng = np.random.default_rng(1)
    data, w, x = _t(rng.normal(size=(6, 3))), _t(rng.normal(size=3)), _t(rng.normal(size=3))
    centred = data - data.mean(0)
    covariance = centred.T @ (centred @ w)
    a = covariance / (w @ covariance)
    root = x - a * (w @ x)
    assert float(a @ w) == pytest.approx(1.0) and float(w @ root) == pytest.approx(0.0, abs=1e-12)
    expected = w * (x - root) / (w @ x) * (w @ x)
    net = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    net.weight.data = w[None]
    assert torch.allclose(ATTRIBUTION(net, x[None], torch.tensor([0]), data=data)[0], expected)


def test_relevance_adds_up_to_the_output_where_every_unit_is_active() -> None:
    net, target = _dense(([[1.0, -2.0], [0.5, 1.0]], [9.0, 9.0]), ([[1.0, -1.0]], [0.25])), torch.tensor([0])
    data = _t(np.random.default_rng(6).normal(size=(8, 2)))
    active, masked = _t([[1.0, 2.0]]), _t([[-20.0, 2.0]])
    assert float(ATTRIBUTION(net, active, target, data=data).sum()) == pytest.approx(float(net(active)))
    assert float(ATTRIBUTION(net, masked, target, data=data).sum()) != pytest.approx(float(net(masked)))


@pytest.mark.parametrize("printed", [False, True])
def test_patterns_are_normalised(printed: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4, 2)
    ).double()  # fmt: skip
    patterns = fitted(
        "p", rules("p", "relevance", iter(())), net, torch.randn(20, 2, 4, 4, dtype=torch.float64), printed
    )
    for pattern in patterns:
        shares = pattern.relevance[0].flatten(1).sum(1)
        assert torch.allclose(shares, torch.ones_like(shares))


def test_groups_are_layers_side_by_side() -> None:
    torch.manual_seed(0)
    whole = nn.Conv1d(2, 2, 3, groups=2, padding=1).double().requires_grad_(False)
    x, data = torch.randn(1, 2, 5, dtype=torch.float64), torch.randn(4, 2, 5, dtype=torch.float64)
    head = nn.Linear(10, 1).double().requires_grad_(False)
    net = nn.Sequential(whole, nn.ReLU(), nn.Flatten(), head)

    class Apart(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            parts = [
                F.conv1d(x[:, k : k + 1], whole.weight[k : k + 1], whole.bias[k : k + 1], padding=1) for k in (0, 1)
            ]
            return head(torch.relu(torch.cat(parts, 1)).flatten(1))

    for method in (PATTERNNET, ATTRIBUTION):
        target = torch.tensor([0])
        assert torch.allclose(method(net, x, target, data=data), method(Apart(), x, target, data=data))


class _Written(nn.Module):
    """One network, written in several ways."""

    def __init__(self, form: str) -> None:
        super().__init__()
        rng = np.random.default_rng(2)
        self.w, self.b, self.v = (nn.Parameter(_t(rng.normal(size=s))) for s in ((4, 3), (4,), (2, 4)))
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        match self.form:
            case "linear":
                h = torch.relu(F.linear(x, self.w, self.b))
            case "in place":
                h = F.linear(x, self.w, self.b)
                F.relu_(h)
            case "matmul":
                h = (x @ self.w.T + self.b).clamp(min=0)
            case "iadd":
                h = x @ self.w.T
                h += self.b
                h = torch.maximum(h, torch.zeros(()))
            case "addmm":
                h = torch.addmm(self.b, x, self.w.T).view(-1, 2, 2).relu().flatten(1)
            case _:
                h = F.conv1d(x[:, :, None], self.w[:, :, None], self.b)[..., 0].relu()
        return F.linear(h, self.v)


@pytest.mark.parametrize("form", ["in place", "matmul", "iadd", "addmm", "conv"])
@pytest.mark.parametrize("name", METHODS)
def test_the_form_does_not_matter(name: str, form: str) -> None:
    rng = np.random.default_rng(3)
    x, data = _t(rng.normal(size=(2, 3))), _t(rng.normal(size=(8, 3)))
    method, target = METHODS[name][0], torch.tensor([0, 1])
    expected = method(_Written("linear"), x, target, data=data)
    assert torch.allclose(method(_Written(form), x, target, data=data), expected)


def test_pools_are_units_whose_inputs_share_by_covariance() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1, keepdim=True)

    dense = _dense(([[0.25] * 4], [0.0]))
    x, data = _t([[1.0, 2.0, -1.0, 5.0]]), _t(np.random.default_rng(4).normal(size=(7, 4)))
    for method in (PATTERNNET, ATTRIBUTION):
        target = torch.tensor([0])
        assert torch.allclose(method(Mean(), x, target, data=data), method(dense, x, target, data=data))


def test_average_pooling_is_a_mean_over_its_windows() -> None:
    rng = np.random.default_rng(5)
    x, data = _t(rng.normal(size=(2, 1, 6))), _t(rng.normal(size=(5, 1, 6)))
    head = nn.Linear(3, 1).double().requires_grad_(False)
    forms: list[Callable[[Tensor], Tensor]] = [
        lambda x: head(F.avg_pool1d(x, 2).flatten(1)),
        lambda x: head(F.adaptive_avg_pool1d(x, 3).flatten(1)),
        lambda x: head(x.reshape(-1, 3, 2).mean(2)),
    ]
    for method in (PATTERNNET, ATTRIBUTION):
        first, *others = [method(_Module(f), x, torch.zeros(2, dtype=torch.long), data=data) for f in forms]
        assert all(torch.allclose(first, other) for other in others)


class _Module(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


# -- what is refused ----------------------------------------------------------------------------------------------

W = _t([[1.0, -2.0], [0.5, 1.0]])


@pytest.mark.parametrize(
    ("what", "function"),
    [
        ("another activation", lambda x: torch.tanh(x @ W)),
        ("another activation", lambda x: F.leaky_relu(x @ W)),
        ("another activation", lambda x: (x @ W).clamp(min=-1.0)),
        ("another activation", lambda x: torch.maximum(x @ W, torch.ones(2, dtype=torch.float64))),
        ("a product", lambda x: (x @ W) * x),
        ("weights on the left", lambda x: torch.matmul(W, x[:, :, None])[..., 0]),
        ("a sum over samples", lambda x: x - x.sum(0, keepdim=True)),
        ("a sum of values of different shapes", lambda x: x + x[:, :1]),
        ("overlapping windows", lambda x: F.avg_pool1d(x[:, None], 2, stride=1)[:, 0]),
        ("a transposed convolution", lambda x: F.conv_transpose1d(x[:, None], W[None, :1])[:, 0]),
        ("a constant over a value", lambda x: 1 / (x @ W)),
        ("a running sum", lambda x: x.cumsum(1)),
    ],
)
def test_what_has_no_pattern_is_refused(what: str, function: Callable[[Tensor], Tensor]) -> None:
    x, data = _t([[1.0, 2.0]]), _t([[1.0, 2.0], [0.0, 1.0], [3.0, 5.0]])
    with pytest.raises(Unsupported):
        ATTRIBUTION(_Module(function), x, torch.tensor([0]), data=data)


def test_a_unit_that_does_not_vary_over_the_data_is_refused_where_it_is_reached() -> None:
    net, data = _dense(([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5])), _t([[1.0, 2.0], [1.0, 3.0]])
    x = _t([[2.0, 2.0]])
    assert ATTRIBUTION(net, x, torch.tensor([1]), data=data).tolist() == [[0.0, 2.5]]
    with pytest.raises(Unsupported, match="does not vary over the data"):
        ATTRIBUTION(net, x, torch.tensor([0]), data=data)
    with pytest.raises(Unsupported, match="does not vary over the data"):
        ATTRIBUTION(net, x, torch.tensor([1]), data=data[:1])


def test_a_unit_with_one_positive_output_gets_the_covariance_over_all_data() -> None:
    data = _t([[1.0, 0.0], [-1.0, 1.0], [-3.0, 0.0]])
    chain = _dense(([[1.0, 0.0]], [0.0]), ([[1.0]], [0.0]))
    plain = _dense(([[1.0, 0.0]], [0.0]))
    x, target = _t([[2.0, 1.0]]), torch.tensor([0])
    assert torch.allclose(PATTERNNET(chain, x, target, data=data), PATTERNNET(plain, x, target, data=data))


def test_another_path_on_the_data_is_refused() -> None:
    net = _Module(lambda x: x @ W if len(x) == 1 else x @ W @ W)
    with pytest.raises(Unsupported):
        ATTRIBUTION(net, _t([[1.0, 2.0]]), torch.tensor([0]), data=_t([[1.0, 2.0], [0.0, 1.0], [3.0, 5.0]]))


def test_data_are_mandatory_and_have_the_shape_of_x() -> None:
    net, x, target = _dense(([[1.0, 0.0]], [0.5])), _t([[3.0, 5.0]]), torch.tensor([0])
    with pytest.raises(UsageError, match="pass data"):
        PATTERNNET(net, x, target)
    for data in (_t([[1.0]]), _t([[1.0, 2.0]])[:0]):
        with pytest.raises(UsageError, match="data must be"):
            mapped("patternnet", "signal", False, net, x, target, data)


def test_nothing_is_left_behind() -> None:
    net = _dense(([[1.0, 0.0]], [0.5]), ([[1.0]], [0.0]))
    data, x = DATA.clone(), _t([[3.0, 5.0]])
    ATTRIBUTION(net, x, torch.tensor([0]), data=data)
    assert torch.equal(data, DATA) and not vars(data) and not vars(x)
    assert all(p.requires_grad and p.grad is None and not vars(p) for p in net.parameters())
