"""What a call costs, in forward passes: all points of a batch go through the model together, in as few as the rows allow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from attribcheck import get_method
from attribcheck.methods.perturbation import ROWS
from torch import Tensor, nn

BATCH, FEATURES, DATA = 3, 6, 20
TARGET = torch.tensor([0, 2, 1])


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layered(activation: type[nn.Module]) -> nn.Module:
    """Two hidden layers of eight units, three logits."""
    model = nn.Sequential(nn.Linear(FEATURES, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(seeded(*parameter.shape, seed=seed) / 3)
    return model.eval()


@contextmanager
def counted(model: nn.Module) -> Iterator[list[int]]:
    """The numbers of rows of the forward passes of a model."""
    rows: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        hook.remove()


def forwards(name: str, activation: type[nn.Module] = nn.ReLU) -> list[int]:
    """The rows of each forward pass of one call with a batch of three."""
    method, model = get_method(name), layered(activation)
    x, start = seeded(BATCH, FEATURES, seed=10), seeded(BATCH, FEATURES, seed=11)
    options: dict[str, Any] = {"data": seeded(DATA, FEATURES, seed=12)} if method.data else {}
    torch.manual_seed(0)
    with counted(model) as rows:
        method.function(model, x, TARGET, start, **options)
    return rows


def passes(rows: int) -> int:
    """In how many forward passes so many rows go."""
    return -(-rows // ROWS)


BOUNDS = [
    # A pass for each of two ReLUs, and gradients at two points of each piece.
    *((f"integrated-gradients{kind}", nn.ReLU, 2 + passes(2 * BATCH * 40)) for kind in ("", "-zero", "-min", "-mean")),
    # What the network is made of, the outputs at both ends, and rules of 24 and of 48 nodes.
    ("integrated-gradients", nn.Tanh, 2 + passes(24 * BATCH) + passes(48 * BATCH)),
    ("integrated-gradients(steps=50)", nn.ReLU, 1 + passes(50 * BATCH)),
    ("integrated-gradients(steps=300)", nn.ReLU, 1 + passes(300 * BATCH)),
    # The same for twenty times as many paths.
    ("expected-gradients", nn.ReLU, 2 * passes(BATCH * DATA * 10) + passes(2 * BATCH * DATA * 10)),
    ("expected-gradients", nn.Tanh, 2 + passes(24 * BATCH * DATA) + passes(48 * BATCH * DATA)),
    ("shapley", nn.Tanh, passes(BATCH * 2**FEATURES)),
    ("shapley-sampling", nn.Tanh, passes(BATCH * 25 * (FEATURES + 1))),
    ("shapley-sampling(n_samples=100)", nn.Tanh, passes(BATCH * 100 * (FEATURES + 1))),
    ("lime", nn.Tanh, passes(BATCH * 100)),
    ("kernel-shap", nn.Tanh, passes(BATCH * 100)),
]


@pytest.mark.parametrize(("name", "activation", "most"), BOUNDS)
def test_a_call_takes_few_forward_passes(name: str, activation: type[nn.Module], most: int) -> None:
    rows = forwards(name, activation)
    assert 0 < len(rows) <= most
    assert max(rows) <= ROWS
