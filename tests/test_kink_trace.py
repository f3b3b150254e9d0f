"""Integrated gradients on networks written in unusual ways: exact, complete, or refused; never wrong in silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attribcheck import Unsupported, get_method
from attribcheck.methods.kinks import KinkTrace
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
