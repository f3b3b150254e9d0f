"""Perturbation methods: their twins, worked values of the papers, groups of features, options, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.sources import Small
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods.expected_gradients import expected_gradients
from attribcheck.methods.gradients import gradient, gradient_times_input
from attribcheck.methods.integrated_gradients import integrated_gradients
from attribcheck.methods.occlusion import box_occlusion, occlusion_1
from attribcheck.methods.shapley import shapley, shapley_sampling
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ..support import slow_twins, twins_perturbation

ZERO = torch.tensor([0])


class Net(nn.Module):
    """One logit from a function of x."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def at(method: Callable[..., Tensor], function: Callable[[Tensor], Tensor], *x: float, **options: Any) -> object:
    """The map of a method for one logit at one input."""
    return method(Net(function), torch.tensor([x], dtype=torch.float64), ZERO, **options)[0].tolist()


def about(*values: float) -> object:
    return pytest.approx(list(values), rel=1e-9, abs=1e-11)


# -- twins --------------------------------------------------------------------------------------------------------


def _orders(n: int, count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(n, generator=generator).tolist() for _ in range(count)]


def _sampled(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    return twins_perturbation.along_orders(network, x, target, start, _orders(x.size, 25))


PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., np.ndarray], dict[str, Any]]] = {
    "shapley": (shapley, twins_perturbation.shapley, {}),
    "shapley-sampling": (shapley_sampling, _sampled, {}),
    "occlusion-1": (occlusion_1, slow_twins.occlusion, {}),
    "box-occlusion": (box_occlusion, twins_perturbation.box_occlusion, {}),
    "box-occlusion by twos": (box_occlusion, twins_perturbation.box_occlusion, {"size": 3, "stride": 2}),
}


@pytest.mark.parametrize("family", ["relu", "smooth", "conv", "maxpool", "product"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_method_equals_its_twin(name: str, family: str) -> None:
    method, twin, options = PAIRS[name]
    compared: list[Case] = []

    @settings(max_examples=4, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        case = Setting(Small(data.draw), FAMILIES[family]).base()
        assert isinstance(case.network, Network) and case.baseline is not None
        assume(case.x[0].size <= 6)
        torch.manual_seed(0)
        x, start = torch.tensor(case.x[:1]), torch.tensor(case.baseline[:1])
        got = method(build(case.network), x, torch.tensor(case.target[:1]), start, **options)[0].numpy()
        expected = twin(case.network, case.x[0], case.target[0], case.baseline[0], **options)
        assert np.abs(got - expected).max() < 1e-9 * max(1.0, np.abs(expected).max())
        compared.append(case)

    check()
    assert compared


# -- worked values ------------------------------------------------------------------------------------------------


def additive(x: Tensor) -> Tensor:
    return x[:, :1] + x[:, 1:].sqrt()


def investments(x: Tensor) -> Tensor:
    return 1.05 * x[:, :1] + 1.5 * x[:, 1:]


def first_investments(x: Tensor) -> Tensor:
    return 1.05 * x[:, :1] + 10 * x[:, 1:]


def largest(x: Tensor) -> Tensor:
    return torch.maximum(x[:, :1], x[:, 1:])


def largest_as_relus(x: Tensor) -> Tensor:
    a, b = x[:, :1], x[:, 1:]
    return (torch.relu(a - b) + torch.relu(b - a) + torch.relu(a + b)) / 2


def gated(x: Tensor) -> Tensor:
    return torch.relu(x[:, :1] - 1) * torch.relu(x[:, 1:])


@pytest.mark.parametrize("method", [shapley, shapley_sampling, occlusion_1])
def test_an_additive_function_is_taken_apart(method: Callable[..., Tensor]) -> None:
    """Ancona et al. 2019, section 3: y = x1 + sqrt(x2) at (4, 4)."""
    assert at(method, additive, 4.0, 4.0) == about(4, 2)
    # (the slope of the root at 0 is not finite: from 1 on the path is smooth)
    start = torch.ones(1, 2, dtype=torch.float64)
    assert at(integrated_gradients, additive, 4.0, 4.0, baseline=start) == about(3, 1)
    assert at(method, additive, 4.0, 4.0, baseline=start) == about(3, 1)
    assert at(gradient_times_input, additive, 4.0, 4.0) == about(4, 1)


@pytest.mark.parametrize("method", [shapley, shapley_sampling, occlusion_1, gradient_times_input, integrated_gradients])
def test_the_two_investments(method: Callable[..., Tensor]) -> None:
    """Ancona et al. 2019, equations 2 to 5, and 2018, section 3.2."""
    assert at(gradient, investments, 100_000.0, 10_000.0) == about(1.05, 1.5)
    assert at(method, investments, 100_000.0, 10_000.0) == about(105_000, 15_000)
    assert at(gradient, first_investments, 100_000.0, 1_000.0) == about(1.05, 10)
    assert at(method, first_investments, 100_000.0, 1_000.0) == about(105_000, 10_000)


@pytest.mark.parametrize("function", [largest, largest_as_relus])
def test_a_maximum_is_shared(function: Callable[[Tensor], Tensor]) -> None:
    """Ancona et al. 2019, section 4.2: what jumps in gradients does not here, as one operation and as three ReLUs."""
    for step in (1e-6, -1e-6):
        assert at(shapley, function, 2.0, 2.0 + step) == pytest.approx([1, 1], abs=1e-5)
        assert at(occlusion_1, function, 2.0, 2.0 + step) == pytest.approx([0, 0], abs=1e-5)
    assert at(shapley, function, 2.0, 1.0) == about(1.5, 0.5)
    assert at(occlusion_1, function, 2.0, 1.0) == about(1, 0)


def test_products() -> None:
    """Ancona et al. 2018, section 3.1 (h = ReLU(x1 - 1) ReLU(x2)), and x1 x2."""
    assert at(shapley, gated, 2.0, 1.0) == about(0.5, 0.5)
    assert at(occlusion_1, gated, 2.0, 1.0) == about(1, 1)
    assert at(integrated_gradients, gated, 2.0, 1.0) == about(0.75, 0.25)
    assert at(shapley, lambda x: x[:, :1] * x[:, 1:], 1.0, 1.0) == about(0.5, 0.5)
    assert at(occlusion_1, lambda x: x[:, :1] * x[:, 1:], 1.0, 1.0) == about(1, 1)


def test_occlusion_is_the_mean_derivative_along_one_feature() -> None:
    """Ancona et al. 2018, section 3.2, with a baseline: (x_i - b_i) times the mean of df/dx_i while x_i alone moves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double().eval()
    x, start = torch.randn(1, 3).double(), torch.randn(1, 3).double()
    nodes, weights = np.polynomial.legendre.leggauss(40)
    got = occlusion_1(model, x, ZERO, start)
    for i in range(3):
        mean = 0.0
        for node, weight in zip(nodes, weights, strict=True):
            point = x.clone()
            point[0, i] = start[0, i] + (node + 1) / 2 * (x[0, i] - start[0, i])
            mean += weight / 2 * float(gradient(model, point, ZERO)[0, i])
        assert float(got[0, i]) == pytest.approx(float(x[0, i] - start[0, i]) * mean, rel=1e-10)


def test_the_neighbour_in_the_box_is_blamed() -> None:
    assert at(box_occlusion, lambda x: x[:, :1], 1.0, 0.0) == about(1, 1)
    assert at(box_occlusion, lambda x: x[:, :1], 4.0, 1.0, 1.0) == about(4, 2, 0)
    assert at(box_occlusion, lambda x: x[:, :1], 4.0, 1.0, 1.0, size=1) == about(4, 0, 0)
    assert at(box_occlusion, lambda x: x[:, 2:3], 1.0, 1.0, 4.0, size=2, stride=2) == about(0, 2, 4)


def test_a_box_covers_all_channels() -> None:
    x = torch.arange(1.0, 13.0).double().reshape(1, 2, 2, 3)
    total = Net(lambda x: x.flatten(1).sum(1, keepdim=True))
    got = box_occlusion(total, x, ZERO, size=(1, 1), stride=(1, 1))
    assert got[0].tolist() == (x[0, 0] + x[0, 1]).expand(2, 2, 3).tolist()
    assert box_occlusion(total, x, ZERO, size=9, stride=9)[0].unique().tolist() == [78.0]


# -- groups -------------------------------------------------------------------------------------------------------

METHODS = [occlusion_1, shapley, shapley_sampling]


@pytest.mark.parametrize("method", METHODS)
def test_a_group_is_removed_together(method: Callable[..., Tensor]) -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]).double()  # two channels at three positions
    products = Net(lambda x: (x[:, 0] * x[:, 1]).sum(1, keepdim=True))
    assert method(products, x, ZERO, groups="channels")[0].tolist() == [about(2, 5, 9)] * 2
    lengths = Net(lambda x: x.prod(2).sum(1, keepdim=True))  # two words of three numbers
    assert method(lengths, x, ZERO, groups="vectors")[0].tolist() == [about(2, 2, 2), about(40, 40, 40)]


@pytest.mark.parametrize("method", METHODS)
def test_groups_that_do_not_exist_are_refused(method: Callable[..., Tensor]) -> None:
    model = Net(lambda x: x.flatten(1).sum(1, keepdim=True))
    flat = torch.ones(1, 3).double()
    with pytest.raises(UsageError, match="groups must be one of"):
        method(model, flat, ZERO, groups="words")
    with pytest.raises(Unsupported, match="axis"):
        method(model, flat, ZERO, groups="vectors")


# -- options and refusals -------------------------------------------------------------------------------------------


def test_thirteen_features_are_too_many_unless_grouped() -> None:
    model = Net(lambda x: x.flatten(1).sum(1, keepdim=True))
    with pytest.raises(Unsupported, match="at most 12"):
        shapley(model, torch.ones(1, 13).double(), ZERO)
    got = shapley(model, torch.ones(1, 3, 12).double(), ZERO, groups="channels")
    torch.testing.assert_close(got, torch.ones(1, 3, 12).double())


def test_sampling_comes_closer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)).double().eval()
    x = torch.randn(2, 6).double()
    exact = shapley(model, x, torch.tensor([0, 1]))
    few, many = (
        float((shapley_sampling(model, x, torch.tensor([0, 1]), n_samples=n) - exact).abs().max()) for n in (4, 900)
    )
    assert many < few and many < 0.1 * float(exact.abs().max())


def test_orders_are_drawn_for_each_sample_in_turn() -> None:
    """Sampled values are the mean gains along these orders, one coalition at a time, to the last digits."""
    generator = torch.Generator().manual_seed(1)
    x, start = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator)
    model, target = Net(lambda x: torch.cumsum(x, 1).tanh()), torch.tensor([4, 3, 4])
    torch.manual_seed(2)
    found = shapley_sampling(model, x, target, start, n_samples=4)
    torch.manual_seed(2)
    expected = torch.zeros_like(x)
    for _ in range(4):
        for b in range(3):
            now = start[b].clone()
            before = model(now[None])[0, target[b]]
            for i in torch.randperm(5).tolist():
                now[i] = x[b, i]
                after = model(now[None])[0, target[b]]
                expected[b, i] += (after - before) / 4
                before = after
    assert float((found - expected).abs().max()) < 5e-15 * float(expected.abs().max())


def test_no_samples_have_no_map() -> None:
    none = torch.zeros(0, 4).double()
    for method in (shapley, shapley_sampling, occlusion_1):
        assert method(Net(lambda x: x), none, torch.zeros(0, dtype=torch.long)).shape == (0, 4)


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": (1, 1)}, {"stride": 0}, {"size": 1, "stride": 2}, {"size": 1.5}]
)
def test_wrong_boxes(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="box-occlusion"):
        box_occlusion(Net(lambda x: x), torch.ones(1, 3).double(), ZERO, **options)


def test_wrong_numbers_of_orders() -> None:
    with pytest.raises(UsageError, match="n_samples"):
        shapley_sampling(Net(lambda x: x), torch.ones(1, 3).double(), ZERO, n_samples=0)


# -- expected gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["relu", "smooth", "maxpool"])
def test_expected_gradients_equal_their_twin(family: str) -> None:
    compared: list[Case] = []

    @settings(max_examples=4, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        case = Setting(Small(data.draw), FAMILIES[family], data=True).base()
        assert isinstance(case.network, Network) and case.data is not None
        x, rows = torch.tensor(case.x[:1]), torch.tensor(case.data)
        got = expected_gradients(build(case.network), x, torch.tensor(case.target[:1]), data=rows)[0].numpy()
        expected = twins_perturbation.expected_gradients(case.network, case.x[0], case.target[0], case.data)
        assert np.abs(got - expected).max() < 1e-8 * max(1.0, np.abs(expected).max())
        compared.append(case)

    check()
    assert compared


def test_expected_gradients_add_up_to_the_gain_over_the_mean_output() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double().eval()
    x, data = torch.randn(1, 3).double(), torch.randn(5, 3).double()
    with torch.no_grad():
        gained = model(x)[0, 0] - model(data)[:, 0].mean()
    assert float(expected_gradients(model, x, ZERO, data=data).sum()) == pytest.approx(float(gained))


def test_expected_gradients_need_data() -> None:
    with pytest.raises(UsageError, match="data"):
        expected_gradients(Net(lambda x: x), torch.ones(1, 3).double(), ZERO)
