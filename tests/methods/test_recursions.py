"""The recursions of epsilon-LRP and DeepLIFT: examples by hand, two-layer formulas in plain loops, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.sources import Wide
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from attribcheck.errors import Unsupported
from attribcheck.methods.recursions import EPSILON, deeplift_recursion, lrp_epsilon_recursion
from torch import Tensor, nn
from torch.nn import functional as F


class Net(nn.Module):
    """One logit from a function of x and of submodules."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x) if dict(self.named_children()) else self.function(x)


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None).double()
    layer.weight.data = torch.tensor(weight, dtype=torch.float64)
    if bias is not None:
        layer.bias.data = torch.tensor(bias, dtype=torch.float64)
    return layer


def lrp(model: nn.Module, *x: float, target: int = 0, epsilon: float = 1e-12) -> list[float]:
    point = torch.tensor([x], dtype=torch.float64)
    return lrp_epsilon_recursion(model, point, torch.tensor([target]), epsilon=epsilon)[0].tolist()


def deeplift(model: nn.Module, x: tuple[float, ...], start: tuple[float, ...] | None = None) -> list[float]:
    point = torch.tensor([x], dtype=torch.float64)
    baseline = None if start is None else torch.tensor([start], dtype=torch.float64)
    return deeplift_recursion(model, point, torch.tensor([0]), baseline)[0].tolist()


def about(*values: float) -> object:
    return pytest.approx(list(values), rel=1e-9, abs=1e-11)


# -- examples by hand -------------------------------------------------------------------------------------------

SHIFTED = nn.Sequential(linear([[1.0]], [-1.0]), nn.ReLU()).eval()
MAXIMUM = Net(lambda x: torch.maximum(x[:, :1], x[:, 1:]))
POOL = nn.Sequential(nn.Unflatten(1, (1, -1)), nn.MaxPool1d(2), nn.Flatten()).eval()
MAX_AS_RELU = Net(lambda x: x[:, 1:] + torch.relu(x[:, :1] - x[:, 1:]))
F_NESTED = Net(lambda x: torch.relu(torch.relu(x[:, :1]) - 1 - torch.relu(x[:, 1:])))
G_NESTED = Net(lambda x: torch.relu(torch.relu(x[:, :1] - 1) - torch.relu(x[:, 1:])))
# tanh(x1) - 2 sigmoid(2 x1) + 1 + x2 = x2
NULL_PLAYER = Net(
    lambda net, x: net.head(torch.cat([torch.tanh(x[:, :1]), torch.sigmoid(2 * x[:, :1]), x[:, 1:]], 1)),
    head=linear([[1.0, -2.0, 1.0]], [1.0]),
)


def test_a_bias_keeps_its_share_of_lrp_and_cancels_in_deeplift() -> None:
    assert lrp(SHIFTED, 2.0) == about(2)
    assert deeplift(SHIFTED, (2.0,), (0.0,)) == about(1)
    assert deeplift(SHIFTED, (2.0,)) == about(1)


@pytest.mark.parametrize("model", [MAXIMUM, POOL])
def test_maxima(model: nn.Module) -> None:
    assert lrp(model, 2.0, 1.0) == about(2, 0)
    assert lrp(model, 2.0, 2.0) == about(2, 0)
    assert deeplift(model, (2.0, 1.0), (0.0, 3.0)) == about(0, -1)
    assert deeplift(model, (4.0, 1.0), (0.0, 3.0)) == about(1, 0)
    assert deeplift(model, (3.0, 1.0), (0.0, 3.0)) == about(0, 0)


def test_a_maximum_written_with_relu_is_shared() -> None:
    assert lrp(MAX_AS_RELU, 2.0, 1.0) == about(2, 0)
    assert deeplift(MAX_AS_RELU, (2.0, 1.0), (0.0, 3.0)) == about(0.5, -1.5)


def test_a_maximum_with_a_constant() -> None:
    model = Net(lambda x: torch.maximum(x[:, :1], torch.ones(1, 1, dtype=x.dtype)) * 2)
    assert lrp(model, 3.0) == about(6)
    assert lrp(model, -3.0) == about(0)
    assert deeplift(model, (3.0,), (-3.0,)) == about(4)
    assert deeplift(model, (-3.0,), (3.0,)) == about(-4)


def test_overlapping_windows_of_two_channels() -> None:
    model = nn.Sequential(
        nn.MaxPool1d(2, stride=1, padding=1), nn.Flatten(), linear([[1.0, 10, 100, 2, 20, 200]])
    ).eval()
    x = torch.tensor([[[1.0, 3.0], [5.0, 4.0]]], dtype=torch.float64)
    # Windows of the first channel: (1), (1, 3), (3); of the second: (5), (5, 4), (4).
    expected = [[1.0, 330.0], [110.0, 800.0]]
    target = torch.tensor([0])
    assert lrp_epsilon_recursion(model, x, target, epsilon=1e-12)[0].tolist() == [about(*row) for row in expected]
    assert deeplift_recursion(model, x, target)[0].tolist() == [about(*row) for row in expected]


def test_the_nested_identity() -> None:
    assert deeplift(F_NESTED, (3.0, 1.0)) == about(1.5, -0.5)
    assert deeplift(G_NESTED, (3.0, 1.0)) == about(2, -1)
    assert lrp(F_NESTED, 3.0, 1.0) == about(3, -1)
    assert lrp(G_NESTED, 3.0, 1.0) == about(3, -1)


def test_lrp_sees_the_activation_and_deeplift_does_not() -> None:
    tanh, sigmoid = Net(torch.tanh), Net(lambda x: 2 * torch.sigmoid(2 * x) - 1)
    assert lrp(tanh, 1.0) == about(np.tanh(1))
    assert lrp(sigmoid, 1.0) == about(1 + np.tanh(1))
    assert deeplift(tanh, (1.0,)) == about(np.tanh(1))
    assert deeplift(sigmoid, (1.0,)) == about(np.tanh(1))


def test_lrp_of_a_null_player() -> None:
    assert lrp(NULL_PLAYER, 1.0, 1.0) == about(-1, 1)


def test_epsilon_absorbs_once_for_each_layer() -> None:
    assert lrp(linear([[1.0]]), 1.0, epsilon=0.1) == about(1 / 1.1)
    assert lrp(nn.Sequential(linear([[1.0]]), linear([[1.0]])), 1.0, epsilon=0.1) == about(1 / 1.1**2)
    assert lrp(linear([[1.0]]), -1.0, epsilon=0.1) == about(-1 / 1.1)
    assert lrp(linear([[1.0]]), 1.0, epsilon=EPSILON) == about(1 / (1 + 1e-6))


def test_sums_and_factors_take_no_epsilon() -> None:
    assert lrp(Net(lambda x: x[:, :1] + x[:, 1:]), 1.0, 2.0, epsilon=0.1) == about(1, 2)
    assert lrp(Net(lambda x: 3 * x + 1), 1.0, epsilon=0.1) == about(3)
    assert lrp(Net(lambda x: (x + x) / 4), 2.0, epsilon=0.1) == about(1)
    assert lrp(nn.Sequential(nn.Unflatten(1, (1, -1)), nn.AvgPool1d(2), nn.Flatten()), 1.0, 2.0, epsilon=0.1) == about(
        0.5, 1
    )


def test_a_sign_of_zero_is_one() -> None:
    # z = 1 - 1 = 0 and sigmoid(0) = 1/2, so r = 1/2 is divided by +epsilon.
    model = nn.Sequential(linear([[1.0, -1.0]]), nn.Sigmoid())
    assert lrp(model, 1.0, 1.0, epsilon=0.25) == about(2, -2)


# -- formulas in plain loops ------------------------------------------------------------------------------------

RNG = np.random.default_rng(3)
W, B, V, C = RNG.normal(size=(4, 3)), RNG.normal(size=4), RNG.normal(size=(2, 4)), RNG.normal(size=2)
X, START = RNG.normal(size=3), RNG.normal(size=3)


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
@pytest.mark.parametrize("target", [0, 1])
def test_two_layers_of_lrp(target: int, epsilon: float) -> None:
    model = nn.Sequential(linear(W.tolist(), B.tolist()), nn.Tanh(), linear(V.tolist(), C.tolist())).eval()
    expected = [0.0, 0.0, 0.0]
    z = [sum(W[j, i] * X[i] for i in range(3)) + B[j] for j in range(4)]
    a = [float(np.tanh(value)) for value in z]
    f = sum(V[target, j] * a[j] for j in range(4)) + C[target]
    for j in range(4):
        r = V[target, j] * a[j] / (f + epsilon * (1 if f >= 0 else -1)) * f
        for i in range(3):
            expected[i] += W[j, i] * X[i] / (z[j] + epsilon * (1 if z[j] >= 0 else -1)) * r
    assert lrp(model, *X, target=target, epsilon=epsilon) == about(*expected)


def test_two_layers_of_deeplift() -> None:
    model = nn.Sequential(linear(W.tolist(), B.tolist()), nn.GELU(), linear(V.tolist(), C.tolist())).eval()
    expected = [0.0, 0.0, 0.0]
    z, start = ([sum(W[j, i] * p[i] for i in range(3)) + B[j] for j in range(4)] for p in (X, START))
    a, a_start = (F.gelu(torch.tensor(values, dtype=torch.float64)).tolist() for values in (z, start))
    f = sum(V[0, j] * (a[j] - a_start[j]) for j in range(4))
    for j in range(4):
        r = V[0, j] * (a[j] - a_start[j]) / f * f
        for i in range(3):
            expected[i] += W[j, i] * (X[i] - START[i]) / (z[j] - start[j]) * r
    assert deeplift(model, tuple(X), tuple(START)) == about(*expected)


def test_a_convolution_and_a_normalisation_are_the_linear_layers_that_they_are() -> None:
    conv, norm = nn.Conv1d(1, 2, 2, stride=1, padding=1).double(), nn.BatchNorm1d(2).double()
    norm.running_mean, norm.running_var = torch.tensor([0.5, -1.0]).double(), torch.tensor([2.0, 0.25]).double()
    model = nn.Sequential(nn.Unflatten(1, (1, 3)), conv, norm, nn.ReLU(), nn.Flatten(), linear([[1.0] * 8])).eval()
    zero, unit = torch.zeros(1, 1, 3).double(), torch.eye(3).double()[:, None]
    with torch.no_grad():
        bias = conv(zero).flatten()
        weight = torch.stack([conv(e[None]).flatten() - bias for e in unit], 1)
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - scale * norm.running_mean
    dense = nn.Sequential(
        linear(weight.tolist(), bias.tolist()),
        linear(torch.diag(scale.repeat_interleave(4)).tolist(), shift.repeat_interleave(4).tolist()),
        nn.ReLU(),
        linear([[1.0] * 8]),
    )
    assert lrp(model, *X, epsilon=0.05) == about(*lrp(dense, *X, epsilon=0.05))
    assert deeplift(model, tuple(X), tuple(START)) == about(*deeplift(dense, tuple(X), tuple(START)))


def test_rows_use_their_own_target_and_baseline() -> None:
    model = nn.Sequential(linear(W.tolist(), B.tolist()), nn.ReLU(), linear(V.tolist(), C.tolist())).eval()
    x, start, target = (
        torch.tensor(RNG.normal(size=(3, 3))),
        torch.tensor(RNG.normal(size=(3, 3))),
        torch.tensor([1, 0, 1]),
    )
    for method in (lrp_epsilon_recursion, deeplift_recursion):
        alone = [method(model, x[b : b + 1], target[b : b + 1], start[b : b + 1]) for b in range(3)]
        assert torch.equal(method(model, x, target, start), torch.cat(alone))


@pytest.mark.parametrize("family", ["relu", "smooth", "conv", "maxpool", "maximum"])
def test_shares_add_up_on_wide_networks(family: str) -> None:
    case = Setting(Wide(11), FAMILIES[family]).base()
    assert isinstance(case.network, Network)
    assert case.baseline is not None
    model, x, start, target = (
        build(case.network),
        torch.tensor(case.x),
        torch.tensor(case.baseline),
        torch.tensor(case.target),
    )
    gained = (model(x) - model(start)).gather(1, target[:, None])[:, 0]
    assert torch.allclose(deeplift_recursion(model, x, target, start).flatten(1).sum(1), gained, rtol=1e-10, atol=1e-10)


def test_the_network_is_left_as_it_was() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    model = Net(lambda x: x * one)
    known = set(vars(model))
    assert deeplift(model, (2.0,)) == about(2)
    assert set(vars(model)) == known


# -- zeros ------------------------------------------------------------------------------------------------------


def test_what_nobody_listens_to_may_be_zero() -> None:
    # The first unit is 1 - 1 = 0, but its outgoing weight is zero; the second logit is zero and is not the target.
    dead = nn.Sequential(linear([[1.0, -1.0], [1.0, 1.0]]), nn.ReLU(), linear([[0.0, 1.0], [1.0, 0.0]])).eval()
    assert deeplift(dead, (1.0, 1.0)) == about(1, 1)
    # x1 - x2 is read by one unit, whose ReLU is closed at both ends.
    first, second = linear([[1.0, -1.0], [1.0, 1.0]]), linear([[1.0, 1.0], [0.0, 1.0]], [-9.0, 0.0])
    assert deeplift(nn.Sequential(first, second, nn.ReLU(), linear([[1.0, 1.0]])), (1.0, 1.0)) == about(1, 1)


def test_a_value_that_only_moves_hands_on_its_relevance_at_zero_too() -> None:
    assert lrp(nn.Sequential(nn.Flatten(), nn.Sigmoid()), 0.0) == about(0.5)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(linear([[1.0, -1.0]]), nn.Softplus()),
        nn.Sequential(linear([[0.1, -0.1]]), nn.Tanh()),
        Net(lambda x: torch.tanh(x[:, :1] - x[:, 1:])),
    ],
)
def test_a_difference_that_cancels_is_refused_by_deeplift(model: nn.Module) -> None:
    with pytest.raises(Unsupported, match="add up to zero"):
        deeplift(model.eval(), (0.7, 0.7))


def test_a_difference_that_cancels_but_for_rounding_is_refused_too() -> None:
    with pytest.raises(Unsupported, match="add up to zero"):
        deeplift(nn.Sequential(linear([[0.1, 0.2, -0.3]]), nn.Tanh()).eval(), (1.0, 1.0, 1.0))


CLOSE = (-0.03118896484375, -0.01556396484375)
LARGE = nn.Sequential(linear([[1 / 3, 0.0], [0.0, 1 / 3]], [1.5, 1.5]), nn.ReLU(), linear([[4e-5, -4e-5]])).eval()


def test_a_difference_is_as_right_as_the_values_that_it_is_computed_from() -> None:
    """What differs by 2e-5 is 1.5 large: where that cancels, rounding is left that is much larger than a share of 2e-5."""
    x = (-0.03125, -0.015625)
    with pytest.raises(Unsupported, match="add up to zero"):
        deeplift(LARGE, x, CLOSE)
    moved = (x[0], x[1] + 2.0**-26)
    expected = [4e-5 / 3 * (moved[0] - CLOSE[0]), -4e-5 / 3 * (moved[1] - CLOSE[1])]
    assert deeplift(LARGE, moved, CLOSE) == pytest.approx(expected, rel=1e-10, abs=0.0)


def test_a_sum_without_epsilon_that_cancels_is_refused_by_lrp() -> None:
    for model in (Net(lambda x: x[:, :1] - x[:, 1:]), Net(lambda x: torch.sigmoid(x[:, :1] - x[:, 1:]))):
        with pytest.raises(Unsupported, match="add up to zero"):
            lrp(model, 1.0, 1.0)
    with pytest.raises(Unsupported, match="add up to zero"):
        lrp(Net(lambda x: torch.sigmoid(x[:, :1] - x[:, 1:])), 0.0, 0.0)
    assert lrp(Net(lambda x: x[:, :1] - x[:, 1:]), 0.0, 0.0) == about(0, 0)


# -- refusals ---------------------------------------------------------------------------------------------------


def branching(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def overwriting(x: Tensor) -> Tensor:
    h = x * 1.0
    F.relu(h, inplace=True)
    return h


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Net(lambda x: x * x), "mul of several values"),
        (Net(lambda x: x[:, :1] * x[:, 1:]), "mul of several values"),
        (Net(lambda x: x / (x + 3)), "truediv of several values"),
        (Net(lambda x: x @ x), "matmul of several values"),
        (Net(lambda x: 2 / x), "no equation for truediv"),
        (Net(torch.sin), "no equation for sin"),
        (Net(lambda x: x.softmax(1)), "no equation for softmax"),
        (Net(lambda x: x.max(1, keepdim=True).values), "no equation for"),
        (Net(lambda x: x * x.sum(1).item()), "mul of several values"),
        (Net(branching), "cannot list the calls"),
        (Net(overwriting), "does one overwrite"),
        (nn.Sequential(nn.Unflatten(1, (2, 1)), nn.BatchNorm1d(2, track_running_stats=False), nn.Flatten()), "mode"),
        (nn.Sequential(nn.LayerNorm(2)), "no equation for layernorm"),
        (nn.Sequential(nn.Dropout(1e-9)).train(), "mode"),
    ],
)
def test_what_no_equation_covers_is_refused(model: nn.Module, says: str) -> None:
    training = model.training
    model = model.double().train(
        training and isinstance(model[0], nn.Dropout) if isinstance(model, nn.Sequential) else False
    )
    point, target = torch.tensor([[1.0, -2.0]], dtype=torch.float64), torch.tensor([0])
    if says == "matmul of several values":
        point = torch.tensor([[2.0]], dtype=torch.float64)
    for method in (lrp_epsilon_recursion, deeplift_recursion):
        with pytest.raises(Unsupported, match=says) as raised:
            method(model, point, target, point + 1)
        assert "\n" not in str(raised.value)


def test_a_network_of_constants_attributes_nothing() -> None:
    assert deeplift(Net(lambda x: torch.ones(1, 2, dtype=torch.float64)), (1.0, 2.0)) == about(0, 0)


def test_a_matrix_that_would_fill_the_memory_is_not_written_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 62 * 62, 1)).eval()
    for method in (lrp_epsilon_recursion, deeplift_recursion):
        with pytest.raises(Unsupported, match="entries; recursions are for small networks"):
            method(model, torch.ones(1, 1, 64, 64), torch.tensor([0]))
