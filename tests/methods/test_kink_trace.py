"""Integrated gradients on networks written in unusual ways: exact, complete, or refused; never wrong in silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attribcheck import Unsupported, get_method
from attribcheck.errors import UsageError
from attribcheck.methods.backprop.kinks import KinkTrace
from torch import Tensor, nn

X = torch.tensor([[2.0, -1.0, 0.5], [1.0, 3.0, -2.0]], dtype=torch.float64)


class Written(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def filled(x: Tensor) -> Tensor:
    out = x.new_zeros(len(x), 2)
    out[:, 0] = x[:, 0].relu()
    out[:, 1] = x[:, 1] * 2
    return out


LINEAR = {
    "transposed": lambda x: (x.T * 2).T,
    "reflected": lambda x: 1 - x,
    "divided": lambda x: x / 2,
}
PIECEWISE = {
    "largest feature": lambda x: x.max(1).values[:, None],
    "item assignment": filled,
    "in place": lambda x: (x * 2).relu_(),
}
CURVED = {
    "divided by x": lambda x: 2 / (x + 4),
    "power": lambda x: 2**x,
    "square": lambda x: x * x,
}


@pytest.mark.parametrize("name", [*LINEAR, *PIECEWISE, *CURVED])
def test_the_trace_knows_what_is_piecewise_linear(name: str) -> None:
    trace = KinkTrace()
    with trace:
        {**LINEAR, **PIECEWISE, **CURVED}[name](trace.watch(X.clone()))
    assert trace.linear == (name not in CURVED)
    assert bool(trace.deciders) == (name in PIECEWISE)


@pytest.mark.parametrize("name", [*LINEAR, *PIECEWISE, *CURVED])
def test_integrated_gradients_are_complete(name: str) -> None:
    model = Written({**LINEAR, **PIECEWISE, **CURVED}[name])
    start = torch.tensor([[-1.0, 1.0, 2.0]], dtype=torch.float64).expand(2, 3)
    target = torch.zeros(2, dtype=torch.long)
    gained = (model(X) - model(start))[:, 0]
    total = get_method("integrated-gradients")(model, X, target, start).sum(1)
    assert torch.allclose(total, gained, rtol=0, atol=1e-12)


def test_a_staircase_is_refused() -> None:
    stairs = Written(lambda x: (x * 3).to(torch.int64).double() + x)
    with pytest.raises(Unsupported):
        get_method("integrated-gradients")(stairs, X, torch.tensor([0, 0]), torch.zeros_like(X))


def test_a_path_inside_a_tie_is_integrated_with_either_slope() -> None:
    """max(x1 / 10 + x2 / 5, 3 x1 / 10) where x1 = x2: rounding decides which is larger, at each point anew."""
    weight = torch.tensor([[0.1, 0.2], [0.3, 0.0]], dtype=torch.float64)

    def tied(x: Tensor) -> Tensor:
        return nn.functional.max_pool1d((x @ weight.T)[:, None], 2)[:, 0]

    x = torch.tensor([[1.7, 1.7], [0.3, 0.3]], dtype=torch.float64)
    found = get_method("integrated-gradients")(Written(tied), x, torch.tensor([0, 0]), torch.zeros_like(x))
    torch.testing.assert_close(found.sum(1), 0.3 * x[:, 0])


def test_a_path_inside_a_tie_of_a_curved_network_is_refused() -> None:
    """The same tie times x1: no piece is linear, and to the quadrature the slope is noise."""
    weight = torch.tensor([[0.1, 0.2], [0.3, 0.0]], dtype=torch.float64)

    def tied(x: Tensor) -> Tensor:
        return nn.functional.max_pool1d((x @ weight.T)[:, None], 2)[:, 0] * x[:, :1]

    x = torch.tensor([[1.7, 1.7]], dtype=torch.float64)
    with pytest.raises(Unsupported, match="the path runs inside a kink"):
        get_method("integrated-gradients")(Written(tied), x, torch.tensor([0]), torch.zeros_like(x))


SIXTEEN = get_method("integrated-gradients(steps=16)")


@pytest.mark.parametrize("name", CURVED)
def test_a_rule_of_nodes_agrees_with_the_integral_of_smooth_functions(name: str) -> None:
    start = torch.tensor([[-1.0, 1.0, 2.0]], dtype=torch.float64).expand(2, 3)
    given = Written(CURVED[name]), X, torch.tensor([0, 1]), start
    torch.testing.assert_close(SIXTEEN(*given), get_method("integrated-gradients")(*given), rtol=1e-9, atol=1e-9)


def test_a_rule_of_two_nodes_by_hand() -> None:
    """Gauss's two nodes leave no error in the derivative of x^4, 4 x^3, from 0 to 1; of x^4 they make 7/36, not 1/5."""
    x, zero, target = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0])
    two = get_method("integrated-gradients(steps=2)")
    assert two(Written(lambda z: z**4), x, target, zero).item() == pytest.approx(1, rel=1e-12)
    assert two(Written(lambda z: z**5), x, target, zero).item() == pytest.approx(5 * 7 / 36, rel=1e-12)


@pytest.mark.parametrize("kind", ["", "-zero", "-min", "-mean"])
def test_fewer_than_no_steps_are_refused(kind: str) -> None:
    method = get_method(f"integrated-gradients{kind}(steps=-1)")
    with pytest.raises(UsageError, match=r"steps must be 0 \(exact\) or more, not -1"):
        method(nn.Linear(3, 1).double(), X, torch.tensor([0, 0]), torch.zeros_like(X))
