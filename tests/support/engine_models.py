"""What the tests of the engine of modified backpropagation run: small models written as functions, and maps of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.utils.prune
from attribcheck import get_method
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = ("lrp-0", "lrp-epsilon", "deeplift", "guided-backprop")
OTHER_TABLES = (
    "lrp-gamma", "lrp-alpha1-beta0", "lrp-alpha2-beta1", "z-plus", "lrp-composite", "deep-taylor", "deep-taylor-bounded",
    "deeplift-revealcancel", "deconvnet", "rectgrad", "rectgrad-mod-tau",
)  # fmt: skip
Forward = Callable[[Tensor], Tensor]

aten: Any = torch.ops.aten


class Net(nn.Module):
    """A model made of a function (and of modules, so that their parameters are its own)."""

    def __init__(self, function: Forward, *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, BASE, TARGET = seeded(3, 4, seed=1), seeded(3, 4, seed=2), torch.tensor([0, 2, 1])
W1, B1, W2, B2 = seeded(4, 4, seed=3), seeded(4, seed=4), seeded(3, 4, seed=5), seeded(3, seed=6)


def hidden(x: Tensor) -> Tensor:
    return F.linear(x, W1.to(x), B1.to(x))


def logits(h: Tensor) -> Tensor:
    return F.linear(h, W2.to(h), B2.to(h))


def skip(x: Tensor) -> Tensor:
    """A layer, and the layer after an activation, added: one tensor feeds both."""
    z = hidden(x)
    return logits(z + F.relu(z))


def attributed(name: str, model: nn.Module | Forward, x: Tensor = X, baseline: Tensor = BASE, **options: Any) -> Tensor:
    made = model if isinstance(model, nn.Module) else Net(model)
    target = options.pop("target", TARGET[: len(x)])
    return get_method(name)(made.eval(), x, target, baseline)


def slope(model: nn.Module | Forward, x: Tensor = X, target: Tensor = TARGET) -> Tensor:
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(point.clone()).gather(1, target[: len(x), None]).sum(), point)
    return gradient


def assert_complete(model: Forward, x: Tensor = X, baseline: Tensor = BASE, tolerance: float = 1e-12) -> None:
    """DeepLIFT adds up: with the baselines as they are, and with one for all."""
    for base in (baseline, baseline[:1].expand_as(baseline).clone()):
        target = TARGET[: len(x)]
        found = attributed("deeplift", model, x, base)
        with torch.no_grad():
            ends = [model(point.clone()).gather(1, target[:, None])[:, 0] for point in (x, base)]
        scale = ends[0].abs() + ends[1].abs() + found.abs().flatten(1).sum(1)
        residual = (found.flatten(1).sum(1) - (ends[0] - ends[1])).abs() / scale.clamp(min=1e-300)
        assert residual.max() <= tolerance
