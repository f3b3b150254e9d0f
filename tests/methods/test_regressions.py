"""LIME and kernel SHAP: twins by normal equations and optimality, what they estimate, options and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods.regressions import kernel_shap, lime
from attribcheck.methods.shapley import shapley
from torch import Tensor, nn

TARGET = torch.tensor([0, 2, 1])
ALPHA = 0.01


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ seeded(x.shape[1], 3, seed=1)


class Curved(nn.Module):
    """Features interact. It keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x)
        return torch.tanh(x.flatten(1) @ seeded(x[0].numel(), 4, seed=1)) @ seeded(4, 3, seed=2) + 2


def fits(
    method: Callable[..., Tensor], x: Tensor, start: Tensor, n_samples: int, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each sample the coalitions that a method drew [K, N], their inputs [K, N], the outputs [K], and its map [N]."""
    model = Curved()
    torch.manual_seed(seed)
    found = method(model, x, TARGET, start, n_samples=n_samples).flatten(1)
    inputs = torch.cat(model.asked).reshape(len(x), n_samples, -1)
    present = inputs == x.flatten(1)[:, None]
    outputs = torch.stack([Curved()(own)[:, t] for own, t in zip(inputs, TARGET.tolist(), strict=True)])
    assert bool((present | (inputs == start.flatten(1)[:, None])).all())
    return list(zip(present.double().numpy(), inputs.numpy(), outputs.numpy(), found.numpy(), strict=True))


# -- twins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 3), (3, 12)])
def test_kernel_shap_solves_the_normal_equations(shape: tuple[int, ...]) -> None:
    x, start = seeded(*shape, seed=2), seeded(*shape, seed=3)
    for present, _, outputs, found in fits(kernel_shap, x, start, 60):
        sizes = present.sum(1)
        weights = np.where((sizes == 0) | (sizes == present.shape[1]), 1e6, 1.0)
        assert sorted(weights)[-2:] == [1e6, 1e6]
        design = np.column_stack([present, np.ones(len(present))])
        expected = np.linalg.solve(design.T @ (weights[:, None] * design), design.T @ (weights * outputs))[:-1]
        assert np.abs(found - expected).max() < 1e-8 * np.abs(expected).max()


@pytest.mark.parametrize(("shape", "n_samples"), [((3, 5), 100), ((3, 2, 3), 40), ((3, 12), 30), ((3, 4), 3)])
def test_lime_is_where_no_weight_gains_by_moving(shape: tuple[int, ...], n_samples: int) -> None:
    """At the least of squares / 2 + alpha |w|_1 the squares have slopes -alpha sign(w_i); within alpha where w_i = 0."""
    x, start = seeded(*shape, seed=2), seeded(*shape, seed=3)
    for own, (present, inputs, outputs, found) in zip(
        x.flatten(1).numpy(), fits(lime, x, start, n_samples), strict=True
    ):
        cosine = [float(row @ own / np.sqrt((row @ row) * (own @ own))) for row in inputs]
        weights = np.exp(-((1 - np.array(cosine)) ** 2) / 2)
        share = weights / weights.sum()
        left = outputs - present @ found
        left -= share @ left
        slopes = present.T @ (share * left)
        assert np.abs(slopes).max() <= ALPHA * (1 + 1e-9)
        assert np.allclose(slopes[found != 0], ALPHA * np.sign(found[found != 0]), rtol=0, atol=1e-12)


# -- what they estimate -------------------------------------------------------------------------------------------


def test_kernel_shap_finds_the_weights_of_a_linear_function() -> None:
    x, start = seeded(3, 5, seed=2), seeded(3, 5, seed=3)
    torch.manual_seed(0)
    got = kernel_shap(Linear(), x, TARGET, start)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, shapley(Linear(), x, TARGET, start), rtol=0, atol=1e-10)


def test_kernel_shap_comes_closer_to_shapley_values() -> None:
    x, start = seeded(3, 5, seed=2), seeded(3, 5, seed=3)
    exact = shapley(Curved(), x, TARGET, start)
    torch.manual_seed(0)
    few, many = (
        float((kernel_shap(Curved(), x, TARGET, start, n_samples=n) - exact).abs().max()) for n in (20, 20_000)
    )
    assert many < 0.1 * few
    assert many < 0.01 * float(exact.abs().max())


def test_kernel_shap_is_complete_but_for_a_millionth() -> None:
    x, start = seeded(3, 5, seed=2), seeded(3, 5, seed=3)
    gained = (Curved()(x) - Curved()(start)).gather(1, TARGET[:, None])[:, 0]
    torch.testing.assert_close(kernel_shap(Curved(), x, TARGET, start).sum(1), gained, rtol=0, atol=1e-4)


def test_lime_shrinks_the_weights_of_a_linear_function() -> None:
    x = seeded(3, 5, seed=2)
    torch.manual_seed(0)
    got, exact = lime(Linear(), x, TARGET, n_samples=200), shapley(Linear(), x, TARGET)
    assert float(got.abs().sum()) < float(exact.abs().sum())
    assert float((got - exact).abs().max()) < 0.2 * float(exact.abs().max())


def test_lime_of_a_constant_is_zero() -> None:
    constant = nn.Linear(5, 3).double()
    torch.nn.init.zeros_(constant.weight)
    assert lime(constant, seeded(3, 5), TARGET).abs().max() == 0


@pytest.mark.filterwarnings("ignore:You are providing multiple inputs")
def test_both_estimate_what_captum_estimates() -> None:
    attr = pytest.importorskip("captum.attr")
    x, start, count = seeded(3, 4, seed=2), seeded(3, 4, seed=3), 3000
    for method, cls in ((lime, attr.Lime), (kernel_shap, attr.KernelShap)):
        torch.manual_seed(0)
        ours = method(Curved(), x, TARGET, start, n_samples=count)
        theirs = cls(Curved()).attribute(x, start, TARGET, n_samples=count, perturbations_per_eval=count).double()
        assert float((ours - theirs).abs().max()) < 0.05 * float(ours.abs().max())


# -- coalitions ---------------------------------------------------------------------------------------------------


def test_sizes_of_coalitions_have_the_shares_of_the_shapley_kernel() -> None:
    x, start, n, count = seeded(3, 4, seed=2), seeded(3, 4, seed=3), 4, 4000
    sizes = np.concatenate([present[2:].sum(1) for present, *_ in fits(kernel_shap, x, start, count)])
    kernel = np.array([1 / (k * (n - k)) for k in range(1, n)])
    shares = [float((sizes == k).mean()) for k in range(1, n)]
    assert np.abs(shares - kernel / kernel.sum()).max() < 4 / math.sqrt(len(sizes))


def test_each_feature_is_present_as_often() -> None:
    x, start, count = seeded(3, 4, seed=2), seeded(3, 4, seed=3), 4000
    for method in (lime, kernel_shap):
        for present, *_ in fits(method, x, start, count):
            assert np.abs(present.mean(0) - 0.5).max() < 3 / math.sqrt(count)


def test_samples_have_coalitions_of_their_own_and_a_seed_gives_them_again() -> None:
    x, start = seeded(3, 6, seed=2), seeded(3, 6, seed=3)
    for method in (lime, kernel_shap):
        first, other, again = (fits(method, x, start, 50, seed) for seed in (0, 1, 0))
        assert not np.array_equal(first[0][0], first[1][0])
        assert not np.array_equal(first[0][0], other[0][0])
        for a, b in zip(first, again, strict=True):
            assert all(np.array_equal(u, v) for u, v in zip(a, b, strict=True))


# -- options and refusals -----------------------------------------------------------------------------------------


def test_single_precision_and_no_baseline() -> None:
    x = seeded(3, 5, seed=2)
    for method in (lime, kernel_shap):
        torch.manual_seed(0)
        got = method(Linear(), x, TARGET)
        torch.manual_seed(0)
        single = method(nn.Sequential(Double(), Linear(), Single()), x.float(), TARGET, torch.zeros(3, 5))
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), got, rtol=1e-4, atol=1e-5)


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


class Single(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


@pytest.mark.parametrize("attribute", [lime, kernel_shap])
def test_too_few_samples(attribute: Callable[..., Tensor]) -> None:
    for n_samples in (2, 2.5, True):
        wrong: Any = n_samples
        with pytest.raises(UsageError, match="n_samples"):
            attribute(Linear(), torch.ones(1, 1).expand(1, 2).double(), torch.tensor([0]), n_samples=wrong)


def test_kernel_shap_refuses_what_its_coalitions_do_not_determine() -> None:
    with pytest.raises(Unsupported, match="two features"):
        kernel_shap(Linear(), torch.ones(1, 1).double(), torch.tensor([0]))
    with pytest.raises(Unsupported, match="determine"):
        kernel_shap(Linear(), torch.ones(1, 20).double(), torch.tensor([0]), n_samples=21)
