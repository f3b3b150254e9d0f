"""LIME and kernel SHAP: near what they estimate, options, refusals, and the one line where Captum is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods import sampled_by_captum
from attribcheck.methods.sampled_by_captum import available, kernel_shap, lime
from attribcheck.methods.shapley import shapley
from torch import Tensor, nn

installed = pytest.mark.skipif(not available(), reason="Captum or scikit-learn is not installed")

TARGET = torch.tensor([0, 2, 1])


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ seeded(x.shape[1], 3, seed=1)


@installed
def test_kernel_shap_finds_the_weights_of_a_linear_function() -> None:
    x, start = seeded(3, 5, seed=2), seeded(3, 5, seed=3)
    torch.manual_seed(0)
    got = kernel_shap(Linear(), x, TARGET, start)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, shapley(Linear(), x, TARGET, start), rtol=0, atol=1e-5)


@installed
def test_lime_shrinks_them() -> None:
    x = seeded(3, 5, seed=2)
    torch.manual_seed(0)
    got, exact = lime(Linear(), x, TARGET, n_samples=200), shapley(Linear(), x, TARGET)
    assert float(got.abs().sum()) < float(exact.abs().sum())
    assert float((got - exact).abs().max()) < 0.2 * float(exact.abs().max())


@installed
@pytest.mark.parametrize("attribute", [lime, kernel_shap])
def test_too_few_samples(attribute: Callable[..., Tensor]) -> None:
    for n_samples in (2, 2.5, True):
        wrong: Any = n_samples
        with pytest.raises(UsageError, match="n_samples"):
            attribute(Linear(), torch.ones(1, 1).expand(1, 2).double(), torch.tensor([0]), n_samples=wrong)


@installed
def test_kernel_shap_refuses_what_its_coalitions_do_not_determine() -> None:
    with pytest.raises(Unsupported, match="two features"):
        kernel_shap(Linear(), torch.ones(1, 1).double(), torch.tensor([0]))
    with pytest.raises(Unsupported, match="determine"):
        kernel_shap(Linear(), torch.ones(1, 20).double(), torch.tensor([0]), n_samples=21)


def test_without_captum_there_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "captum" else found(name))
    assert sampled_by_captum.available() == {}
    with pytest.raises(UsageError, match=r"lime needs captum.*pip install 'attribcheck\[captum\]'"):
        lime(Linear(), torch.ones(1, 2).double(), torch.tensor([0]))
