"""DeepLIFT and guided backpropagation: complete on every operation, equal to explicit loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from attribcheck import Unsupported, get_method
from torch import Tensor, nn
from torch.nn import functional as F

from ..support.engine_models import (
    B1,
    B2,
    BASE,
    TARGET,
    W1,
    W2,
    Forward,
    X,
    assert_complete,
    aten,
    attributed,
    hidden,
    logits,
    seeded,
    slope,
)

POOLS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "stride": 1, "dilation": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True},
]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("options", POOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_deeplift_is_complete_on_max_pooling(dims: int, options: dict[str, Any], ties: bool) -> None:
    size = {1: 9, 2: 7, 3: 6}[dims]
    x, base = seeded(2, 2, *[size] * dims, seed=1), seeded(2, 2, *[size] * dims, seed=2)
    if ties:
        x, base = x.round(), base.round()
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[dims]
    order = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    by_place = [options.get(key, {"padding": 0, "dilation": 1, "ceil_mode": False}.get(key)) for key in order]
    weights = seeded(3, pool(x, **options).flatten(1).shape[1], seed=3)

    def logits_of(value: Tensor) -> Tensor:
        return torch.tanh(value).flatten(1) @ weights.T

    forms: list[Forward] = [
        lambda x: pool(x * 1.0, **options),
        lambda x: pool(x * 1.0, *by_place),
        lambda x: pool(x * 1.0, **options, return_indices=True)[0],
        lambda x: pool(input=x * 1.0, **options),
        getattr(nn, f"MaxPool{dims}d")(**options),
    ]
    maps = []
    for form in forms:
        assert_complete(lambda x, form=form: logits_of(form(x)), x, base)
        maps.append(attributed("deeplift", lambda x, form=form: logits_of(form(x)), x, base))
    assert all(torch.equal(found, maps[0]) for found in maps)


MAXIMA: dict[str, Forward] = {
    "max along an axis": lambda h: h.max(2)[0],
    "max by name": lambda h: torch.max(input=h, dim=-1).values,
    "max along numpy's axis": lambda h: torch.max(h, axis=1, keepdims=True)[0].flatten(1),  # type: ignore[call-overload]
    "min keeping the axis": lambda h: h.min(1, True)[0].flatten(1),
    "amax": lambda h: h.amax(-1),
    "amax over two axes": lambda h: h.amax((1, 2), keepdim=True).flatten(1),
    "amin": lambda h: torch.amin(h, dim=1),
    "maximum": lambda h: torch.maximum(h[:, 0], h[:, 1]),
    "minimum": lambda h: torch.minimum(h[:, 0], h[:, 2] * 2),
    "max of two": lambda h: torch.max(h[:, 0], other=h[:, 1]),
    "maximum of broadcasts": lambda h: torch.maximum(h[:, :, :1], h[:, :1]).flatten(1),
    "maximum with itself": lambda h: torch.maximum(h, h).flatten(1),
    "maximum with a constant": lambda h: torch.maximum(h[:, 0, :1], torch.tensor([0.0, 1.0, -1.0]).double()),
    "maximum overwritten": lambda h: torch.maximum(h[:, 0], h[:, 1]).mul_(2).add_(1),
    "amax overwritten": lambda h: h.amax(1).add_(3),
    "maximum of maxima": lambda h: torch.maximum(h.amax(1), h.amin(1) + 1),
}


@pytest.mark.parametrize("form", MAXIMA)
@pytest.mark.parametrize("ties", [False, True])
def test_deeplift_is_complete_on_maxima(form: str, ties: bool) -> None:
    for seed in range(4):
        x, base = seeded(3, 3, 4, seed=seed), seeded(3, 3, 4, seed=seed + 10)
        if ties:
            x, base = (x / 2).round(), (base / 2).round()

        def forward(x: Tensor) -> Tensor:
            out = MAXIMA[form](x * 1.0)
            return out @ torch.linspace(-1, 2, 3 * out.shape[1]).double().reshape(-1, 3)

        assert_complete(forward, x, base)


def test_equal_maxima_share_and_a_maximum_gives_all_to_one_candidate() -> None:
    def attribution(form: Forward, x: list[float], base: list[float]) -> list[float]:
        points = torch.tensor([x]).double(), torch.tensor([base]).double()
        return attributed("deeplift", form, *points, target=torch.tensor([0]))[0].tolist()

    for form in (lambda x: x.amax(1, True), lambda x: torch.maximum(x[:, :1], x[:, 1:]), lambda x: x.max(1, True)[0]):
        assert attribution(form, [2, 1], [0, 3]) == [0, -1]  # fell: to what was the largest
        assert attribution(form, [3, 1], [0, 2]) == [1, 0]  # grew: to what is the largest
        assert attribution(form, [2, 2], [0, 0]) == [1, 1]
        assert attribution(form, [0, 0], [2, 2]) == [-1, -1]


COMPOSED: dict[str, Forward] = {
    "softmax": lambda x: logits(torch.softmax(hidden(x), 1)),
    "softmax by name": lambda x: logits(torch.softmax(input=hidden(x), dim=-1)),
    "softmax overload": lambda x: logits(aten._softmax.default(hidden(x), 1, False)),
    "log_softmax": lambda x: logits(F.log_softmax(hidden(x), 1)),
    "log_softmax last": lambda x: F.log_softmax(logits(x), 1),
    "softmax with an additive mask": lambda x: logits(torch.softmax(hidden(x) + torch.tensor([0, 0, -math.inf, 0]), 1)),
    "softmax with a mask": lambda x: logits(
        torch.softmax(hidden(x).masked_fill(torch.tensor([0, 0, 1, 0]).bool(), -math.inf), 1)
    ),
    "layer_norm": lambda x: logits(F.layer_norm(hidden(x), [4], W1[0], B1)),
    "layer_norm of the input": lambda x: logits(F.layer_norm(x, (4,))),
    "square": lambda x: logits(hidden(x) * hidden(x)),
    "square of itself": lambda x: logits((lambda h: h * h)(hidden(x))),
    "square in place": lambda x: logits((lambda h: h.mul_(h))(hidden(x))),
    "product": lambda x: logits(hidden(x) * torch.tanh(x)),
    "product of broadcasts": lambda x: logits(hidden(x)[:, :1] * torch.tanh(x)),
    "constant product in place": lambda x: logits(torch.ones(4, dtype=x.dtype).repeat(len(x), 1).mul_(hidden(x))),
    "matmul": lambda x: logits((hidden(x)[:, None, :] @ torch.tanh(x)[:, :, None])[:, 0] * torch.ones(4).to(x)),
    "bmm": lambda x: logits(torch.bmm(x[:, :, None], hidden(x)[:, None, :]).sum(1)),
    "einsum": lambda x: logits(torch.einsum("bi,ij,bj->bj", hidden(x), W1, F.relu(x))),
    "bilinear": lambda x: F.bilinear(hidden(x), x, seeded(3, 4, 4, seed=7), B2),
    "quotient": lambda x: logits(hidden(x) / (1 + x * x)),
    "quotient by name": lambda x: logits(torch.div(input=hidden(x), other=2 + torch.tanh(x))),
    "constant by a value": lambda x: logits(W1[0] / (3 + torch.tanh(x))),
    "number by a value": lambda x: logits(2 / (3 + torch.tanh(x))),
    "value by a constant": lambda x: logits(torch.div(input=hidden(x), other=3.0)),
    "quotient in place": lambda x: logits(hidden(x).div_(2 + torch.tanh(x))),
    "pow": lambda x: logits(hidden(x) ** 3 + (1 + x * x) ** -0.5),
    "pow of a number": lambda x: logits(2 ** hidden(x)),
    "pow with many exponents": lambda x: logits(hidden(x)[:, :1] ** torch.tensor([1.0, 2.0, 3.0, 4.0]).to(x)),
    "adjacent nonlinearities": lambda x: logits(torch.sigmoid(torch.tanh(F.relu(F.gelu(hidden(x)))))),
    "cancelling": lambda x: logits(F.relu(hidden(x)) - F.relu(-hidden(x)) - hidden(x)),
    "attention": lambda x: logits(
        (torch.softmax(x[:, :, None] * hidden(x)[:, None, :], -1) @ torch.tanh(x)[:, :, None])[:, :, 0]
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", COMPOSED)
def test_deeplift_is_complete(form: str) -> None:
    assert_complete(COMPOSED[form])
    for share in (1e-3, 1e-6, 1e-9):  # next to the baseline, too
        assert_complete(COMPOSED[form], BASE + share * (X - BASE), BASE)
    some = X.clone()
    some[:, 1:3] = BASE[:, 1:3]
    assert_complete(COMPOSED[form], some)
    assert torch.equal(attributed("deeplift", COMPOSED[form], BASE, BASE), torch.zeros_like(X))


def mean_slope(function: str, z: float, step: float) -> float:
    """(a(z + step) - a(z)) / step in a closed form without cancellation."""
    match function:
        case "tanh":  # tanh u - tanh v = sinh(u - v) / (cosh u cosh v)
            return math.sinh(step) / step / (math.cosh(z + step) * math.cosh(z))
        case "exp":
            return math.exp(z) * math.expm1(step) / step
        case "sigmoid":  # half of tanh at half the argument
            return 0.25 * math.sinh(step / 2) / (step / 2) / (math.cosh((z + step) / 2) * math.cosh(z / 2))
        case "softplus":
            return math.log1p(math.expm1(step) / (1 + math.exp(-z))) / step
        case "square":
            return 2 * z + step
        case "sin":
            return math.cos(z + step / 2) * math.sin(step / 2) / (step / 2)
        case "log":
            return math.log1p(step / z) / step
        case "leaky_relu":
            up, down = max(z + step, 0) - max(z, 0), min(z + step, 0) - min(z, 0)
            return (up + 0.01 * down) / step
    raise ValueError(function)


@pytest.mark.parametrize("function", ["tanh", "exp", "sigmoid", "softplus", "square", "sin", "log", "leaky_relu"])
@pytest.mark.parametrize("z", [1.0, 0.0, 0.3, 1e-4, -0.7, 2.5, 40.0])
def test_difference_quotients_are_accurate_down_to_nothing(function: str, z: float) -> None:
    if function == "log" and z <= 0:
        return
    activation = getattr(torch, function, None) or getattr(F, function)
    for step in (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10, 1e-12):
        base = torch.tensor([[z]], dtype=torch.float64)
        x = base + step
        exact = float(x - base)
        if exact == 0:
            continue
        found = attributed("deeplift", lambda x: activation(x), x, base, target=torch.tensor([0]))
        expected = exact * mean_slope(function, z, exact)
        # The quotient's u |a| / (|a'| step) meets the derivative's error of second order.
        assert float(found) == pytest.approx(expected, rel=3e-9, abs=1e-17 * exact), step


def test_symmetric_inputs_share_where_nothing_changes() -> None:
    # softplus(x1 - x2) at (1, 1) from zeros: z = 0 at both, the derivative stands for 0 / 0.
    x = torch.ones(1, 2).double()
    for form in (lambda x: F.softplus(x[:, :1] - x[:, 1:]), lambda x: torch.sigmoid(x[:, :1] - x[:, 1:]) * 2):
        found = attributed("deeplift", form, x, torch.zeros_like(x), target=torch.tensor([0]))
        torch.testing.assert_close(found, torch.tensor([[0.5, -0.5]]).double(), rtol=1e-15, atol=0)

    def powers(x: Tensor) -> Tensor:  # one value, several exponents: the derivative of each entry by itself
        return ((x[:, :1] - x[:, 1:] + 1) ** torch.tensor([1.0, 2.0, 3.0]).double())[:, 1:2]

    found = attributed("deeplift", powers, x, torch.zeros_like(x), target=torch.tensor([0]))
    assert found.tolist() == [[2.0, -2.0]]


def test_equal_maxima_that_do_not_move_share_the_gradient() -> None:
    x, base = torch.ones(1, 2).double(), torch.zeros(1, 2).double()
    twice = torch.ones(1, 2).double()
    for form in (lambda h: h.amax(1, True), lambda h: h.max(1, True)[0], lambda h: torch.maximum(h[:, :1], h[:, 1:])):
        found = attributed(
            "deeplift", lambda x, f=form: f((x[:, :1] - x[:, 1:]) * twice), x, base, target=torch.tensor([0])
        )
        assert found.tolist() == [[1.0, -1.0]]


def test_where_a_function_cancels_inside_the_derivative_is_the_better_one() -> None:
    # GELU far out is z times a tail that is computed as a difference from 1.
    base = torch.tensor([[-6.0]], dtype=torch.float64)
    for step in (1e-7, 1e-9, 1e-11):
        x = base + step
        found = attributed("deeplift", F.gelu, x, base, target=torch.tensor([0])) / (x - base)
        tail, density = math.erfc(6 / math.sqrt(2)) / 2, math.exp(-18) / math.sqrt(2 * math.pi)
        assert float(found) == pytest.approx(tail - 6 * density, rel=1e-5)


def test_single_precision_quotients_are_complete_where_a_function_is_steep() -> None:
    for x, base in ((10.0, 9.91), (10.0, 9.999), (30.0, 29.9)):
        points = torch.tensor([[x]]), torch.tensor([[base]])
        found = float(attributed("deeplift", torch.exp, *points, target=torch.tensor([0])))
        ends = [math.exp(float(p)) for p in points]
        assert abs(found - (ends[0] - ends[1])) <= 1e-6 * sum(ends)


def test_far_values_that_meet_again_are_no_derivative() -> None:
    # cos has the same value at 0.1 and at 2 pi + 0.1, and another slope half way.
    base = torch.tensor([[0.1]], dtype=torch.float64)
    found = attributed("deeplift", torch.cos, base + 2 * math.pi, base, target=torch.tensor([0]))
    assert abs(float(found)) < 1e-14


def by_hand_guided(x: np.ndarray, target: int) -> np.ndarray:
    """Two hidden layers (the same one twice), loops backwards."""
    w, b, last = W1.numpy(), B1.numpy(), W2.numpy()
    values, sums = [x], []
    for _ in range(2):
        sums.append(np.array([b[j] + sum(w[j, i] * values[-1][i] for i in range(4)) for j in range(4)]))
        values.append(np.array([max(z, 0.0) for z in sums[-1]]))
    g = np.array([last[target, j] for j in range(4)])
    for z in reversed(sums):
        passed = [g[j] if z[j] > 0 and g[j] > 0 else 0.0 for j in range(4)]
        g = np.array([sum(w[j, i] * passed[j] for j in range(4)) for i in range(4)])
    return g


def test_guided_backpropagation_by_explicit_loops() -> None:
    found = attributed("guided-backprop", lambda x: logits(F.relu(hidden(F.relu(hidden(x))))))
    expected = np.stack([by_hand_guided(X[b].numpy(), int(TARGET[b])) for b in range(3)])
    assert (expected != slope(lambda x: logits(F.relu(hidden(F.relu(hidden(x)))))).numpy()).any()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-15)


def by_hand_deeplift(x: np.ndarray, base: np.ndarray, target: int) -> np.ndarray:
    """Multipliers of two layers, softplus after tanh between, by loops."""
    w1, b1, w2 = W1.numpy(), B1.numpy(), W2.numpy()

    def act(z: float) -> float:
        return math.log1p(math.exp(math.tanh(z)))

    result = np.zeros(4)
    for j in range(4):
        z, there = (b1[j] + sum(w1[j, i] * point[i] for i in range(4)) for point in (x, base))
        multiplier = w2[target, j] * (act(z) - act(there)) / (z - there)
        for i in range(4):
            result[i] += w1[j, i] * multiplier * (x[i] - base[i])
    return result


def test_deeplift_by_explicit_loops() -> None:
    found = attributed("deeplift", lambda x: logits(F.softplus(torch.tanh(hidden(x)))))
    expected = np.stack([by_hand_deeplift(X[b].numpy(), BASE[b].numpy(), int(TARGET[b])) for b in range(3)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-14)


def test_guided_backpropagation_without_rectifiers_is_the_gradient() -> None:
    forms: list[Forward] = [
        lambda x: logits(torch.tanh(hidden(x)) * x),
        lambda x: logits(F.layer_norm(F.gelu(hidden(x)), [4]).softmax(1)),
        lambda x: logits(torch.stack([hidden(x), x]).max(0).values),
        lambda x: logits(torch.stack([hidden(x), x]).max(dim=0)[0] + hidden(x).amax(1, True)),
        lambda x: logits(F.threshold(hidden(x), 0.5, 0.0) + hidden(x).clamp(0, 1) + hidden(x).clamp(min=0.1)),
        lambda x: logits(torch.maximum(hidden(x), x) - torch.minimum(hidden(x), torch.zeros(4).to(x))),
        lambda x: logits(2 / (3 + x.sigmoid()) + 1.5 ** hidden(x)),
    ]
    for form in forms:
        torch.testing.assert_close(attributed("guided-backprop", form), slope(form), rtol=1e-14, atol=1e-15)


def test_deeplift_refuses_a_softmax_whose_scales_do_not_meet() -> None:
    """exp underflows at one of the two points, where the other is the largest: no answer rather than NaN."""

    class Far(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(1)

    x = torch.tensor([[1000.0, 999.0]], dtype=torch.float64)
    with pytest.raises(Unsupported, match="too far apart"):
        get_method("deeplift")(Far(), x, torch.tensor([0]), torch.zeros_like(x))
    near = get_method("deeplift")(Far(), x / 2, torch.tensor([0]), torch.zeros_like(x))
    assert torch.isfinite(near).all()
