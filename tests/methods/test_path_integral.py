"""Integrals along all paths at once against loops over samples, pieces and nodes, to the last digits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from attribcheck.methods.path_integral import integrate_gradients
from torch import Tensor, nn
from torch.nn import functional as F

# In shares of the largest product of a gradient and a difference on the path. Sums in another order differ by that.
CLOSE = 5e-15

W1, B1, W2 = (
    torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for seed, shape in enumerate(((7, 4), (7,), (3, 7)))
)
X, START, TARGET = W2.T[:3, :1] * W1[:3], B1[:3, None] + W1[3:6] / 2, torch.tensor([0, 2, 1])


class Layer(nn.Module):
    """One hidden layer."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        z = F.linear(x, W1, B1)
        h = {"relu": F.relu, "tanh": torch.tanh, "elu": F.elu, "gated": lambda z: F.relu(z) * z.tanh()}[self.activation]
        return F.linear(h(z), W2)


def pieces(x: Tensor, start: Tensor) -> list[float]:
    """Where a unit of the hidden layer is zero on the way from start to x, and the ends."""
    low, high = F.linear(start, W1, B1), F.linear(x, W1, B1)
    inner = [float(a / (a - b)) for a, b in zip(low, high, strict=True) if a * b < 0]
    return [0.0, *sorted(inner), 1.0]


def gradient(model: nn.Module, point: Tensor, target: int) -> Tensor:
    point = point.clone().requires_grad_()
    return torch.autograd.grad(model(point[None])[0, target], point)[0]


def by_loops(
    model: nn.Module, x: Tensor, target: int, start: Tensor, cuts: list[float], nodes: int
) -> tuple[Tensor, float]:
    """The integral by a Gauss-Legendre rule on each piece, one gradient at a time, and the size of its terms."""
    mean, size = torch.zeros_like(x), 1e-300
    for low, high in itertools.pairwise(cuts):
        for node, weight in zip(*np.polynomial.legendre.leggauss(nodes), strict=True):
            here = gradient(model, start + (low + (high - low) * (node + 1) / 2) * (x - start), target)
            mean += weight / 2 * (high - low) * here
            size = max(size, float(((x - start) * here).abs().max()))
    return (x - start) * mean, size


def largest_gap(found: Tensor, model: nn.Module, kinks: bool, nodes: int) -> float:
    gaps = []
    for x, target, start, got in zip(X, TARGET.tolist(), START, found, strict=True):
        expected, size = by_loops(model, x, target, start, pieces(x, start) if kinks else [0.0, 1.0], nodes)
        gaps.append(float((got - expected).abs().max()) / size)
    return max(gaps)


def test_there_are_kinks_between_the_ends() -> None:
    assert sum(len(pieces(x, start)) - 2 for x, start in zip(X, START, strict=True)) > 3


@pytest.mark.parametrize(
    ("activation", "kinks", "nodes"), [("relu", True, 1), ("tanh", False, 80), ("elu", True, 40), ("gated", True, 40)]
)
def test_the_integral_is_the_sum_over_its_pieces(activation: str, kinks: bool, nodes: int) -> None:
    model = Layer(activation)
    assert largest_gap(integrate_gradients(model, X, TARGET, START), model, kinks, nodes) < CLOSE


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("steps", [1, 7, 200])
def test_a_rule_is_the_sum_over_its_nodes(activation: str, steps: int) -> None:
    model = Layer(activation)
    assert largest_gap(integrate_gradients(model, X, TARGET, START, steps), model, False, steps) < CLOSE


def test_a_sample_has_the_same_map_alone() -> None:
    for activation in ("relu", "tanh", "elu", "gated"):
        model = Layer(activation)
        together = integrate_gradients(model, X, TARGET, START)
        for b in range(len(X)):
            alone = integrate_gradients(model, X[b : b + 1], TARGET[b : b + 1], START[b : b + 1])
            torch.testing.assert_close(alone[0], together[b], rtol=1e-13, atol=1e-13)


def test_single_precision_stays() -> None:
    torch.manual_seed(0)
    for activation in (nn.ReLU(), nn.Tanh()):
        model = nn.Sequential(nn.Linear(4, 7), activation, nn.Linear(7, 3)).eval()
        found = integrate_gradients(model, X.float(), TARGET, START.float())
        assert found.dtype == torch.float32
        exact = integrate_gradients(model.double(), X, TARGET, START)
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


def test_no_samples() -> None:
    none = X[:0]
    assert integrate_gradients(Layer("relu"), none, TARGET[:0], none).shape == (0, 4)
    assert integrate_gradients(Layer("relu"), none, TARGET[:0], none, steps=3).shape == (0, 4)


def test_a_path_of_no_length() -> None:
    for activation in ("relu", "tanh", "gated"):
        assert integrate_gradients(Layer(activation), X, TARGET, X).abs().max() == 0
