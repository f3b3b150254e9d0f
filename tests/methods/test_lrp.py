"""LRP-0 and LRP-epsilon: exact identities, factors by hand, explicit loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from attribcheck import Unsupported, get_method
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink
from attribcheck.axioms.networks.sources import Small
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.setting import Setting
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ..support.engine_models import B1, B2, TARGET, W1, W2, X, attributed, hidden, logits, slope


@pytest.mark.parametrize("family", ["relu", "relu-nobias", "conv", "residual", "functional", "maxpool"])
def test_lrp_0_is_gradient_times_input_bit_for_bit(family: str) -> None:
    nonzero = 0

    @settings(max_examples=15, derandomize=True, database=None, deadline=None)
    @given(st.data())
    def check(data: Any) -> None:
        nonlocal nonzero
        case = Setting(Small(data.draw), FAMILIES[family]).base()
        assert isinstance(case.network, Network)
        x = torch.tensor(case.x)
        assume(not on_kink(case.network, x))
        model, target = build(case.network), torch.tensor(case.target)
        found = get_method("lrp-0")(model, x, target, None)
        assert torch.equal(found, x * slope(model, x, target))
        nonzero += bool(found.any())

    check()
    assert nonzero


def test_lrp_epsilon_differs_from_lrp_0_by_its_factors_on_one_path() -> None:
    weights, x, epsilon = (2.0, -0.5, 3.0), 1.5, 0.01
    model = nn.Sequential(
        *itertools.chain.from_iterable((nn.Linear(1, 1, bias=False), nn.LeakyReLU(0.5)) for _ in weights)
    )
    factor, z = 1.0, x
    for layer, w in zip(list(model)[::2], weights, strict=True):
        assert isinstance(layer, nn.Linear)
        layer.weight.data.fill_(w)
        z = w * z
        factor *= abs(z) / (abs(z) + epsilon)
        z = z if z > 0 else z / 2
    model.double()
    point, first = torch.tensor([[x]]).double(), torch.tensor([0])
    plain = float(get_method("lrp-0")(model, point, first, None))
    found = float(get_method(f"lrp-epsilon(epsilon={epsilon})")(model, point, first, None))
    assert plain == z
    assert found == pytest.approx(factor * plain, rel=1e-15)
    zero = get_method("lrp-epsilon(epsilon=0.0)")(model, point, first, None)
    assert float(zero) == plain


def by_hand_lrp(x: np.ndarray, target: int, epsilon: float) -> np.ndarray:
    """Relevance by explicit loops: two layers with tanh between."""
    w1, b1, w2, b2 = (t.numpy() for t in (W1, B1, W2, B2))
    z1 = [b1[j] + sum(w1[j, i] * x[i] for i in range(4)) for j in range(4)]
    a1 = [math.tanh(z) for z in z1]
    z2 = b2[target] + sum(w2[target, j] * a1[j] for j in range(4))
    r1 = [w2[target, j] * a1[j] / (z2 + epsilon * (1 if z2 >= 0 else -1)) * z2 for j in range(4)]
    result = np.zeros(4)
    for i, j in itertools.product(range(4), range(4)):
        result[i] += w1[j, i] * x[i] / (z1[j] + epsilon * (1 if z1[j] >= 0 else -1)) * r1[j]
    return result


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_lrp_epsilon_by_explicit_loops(epsilon: float) -> None:
    found = attributed(f"lrp-epsilon(epsilon={epsilon})", lambda x: logits(torch.tanh(hidden(x))))
    expected = np.stack([by_hand_lrp(X[b].numpy(), int(TARGET[b]), epsilon) for b in range(3)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-15)


def test_a_sigmoid_at_zero_behind_a_stabilised_layer() -> None:
    # z = x1 - x2 = 0: R_i = z_i / (0 + epsilon) sigmoid(0), on either side of the threshold that stands for zero.
    layer = nn.Linear(2, 1, bias=False).double()
    layer.weight.data.copy_(torch.tensor([[1.0, -1.0]]))
    method, first = get_method("lrp-epsilon(epsilon=0.25)"), torch.tensor([0])
    model = nn.Sequential(layer, nn.Sigmoid())
    for tiny in (0.0, 1e-300, 1e-200, 1e-160):
        x = torch.tensor([[tiny, 0.0], [3.0, 3.0]], dtype=torch.float64)
        found = method(model, x, first.repeat(2), None)
        torch.testing.assert_close(
            found, torch.tensor([[tiny * 2.0, 0.0], [6.0, -6.0]], dtype=torch.float64), rtol=1e-12, atol=0
        )
        found = method(model, -x[:1], first, None)  # z < 0: the sign is the stabiliser's
        assert float(found[0, 0]) == pytest.approx(tiny * 2.0, rel=1e-12, abs=0)
    with pytest.raises(Unsupported):
        get_method("lrp-0")(model, torch.ones(1, 2).double(), first, None)


def test_what_is_written_into_a_stabilised_value_is_not_stabilised() -> None:
    def forward(x: Tensor) -> Tensor:
        z = F.linear(x, torch.ones(1, 2).to(x))
        z -= 2
        return torch.sigmoid(z)

    with pytest.raises(Unsupported, match="0 / 0"):
        attributed(
            "lrp-epsilon", forward, torch.ones(1, 2).double(), torch.zeros(1, 2).double(), target=torch.tensor([0])
        )


def test_an_activation_with_a_larger_constant_has_the_slope_of_each_entry() -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.maximum(x[:, :1] - x[:, 1:2], torch.tensor([-9.0, -8.0, -7.0]).to(x))

    x = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).double()
    assert torch.equal(attributed("lrp-0", forward, x, x), x * slope(forward, x))
