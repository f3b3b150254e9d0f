"""LRP rules beyond epsilon, deep Taylor decomposition, excitation backpropagation, RevealCancel: worked values and peers."""

from __future__ import annotations

from collections.abc import Callable

import attribcheck as ac
import pytest
import torch
from attribcheck.errors import Unsupported, UsageError
from torch import Tensor, nn
from torch.nn import functional as F

GO = torch.tensor([0])


def _row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def _dense(*weights: list[list[float]]) -> nn.Sequential:
    """Linear layers without bias, one behind the other."""
    layers = []
    for weight in weights:
        layer = nn.Linear(len(weight[0]), len(weight), bias=False, dtype=torch.float64)
        layer.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        layers.append(layer)
    return nn.Sequential(*layers)


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _map(name: str, model: nn.Module, x: Tensor, target: Tensor = GO) -> list[float]:
    result = ac.get_method(name)(model, x, target)
    assert isinstance(result, Tensor)
    return result[0].flatten().tolist()


def test_two_layers_that_compute_the_first_input_split_it() -> None:
    """f = (x1 + x2) - x2 at (1, 1)."""
    model = _dense([[1, 1], [0, 1]], [[1, -1]])
    assert _map("lrp-0", model, _row(1, 1)) == [1, 0]
    assert _map("lrp-alpha1-beta0", model, _row(1, 1)) == [0.5, 0.5]
    assert _map("lrp-gamma", model, _row(1, 1)) == pytest.approx([5 / 6, 1 / 6])
    assert _map("deep-taylor", model, _row(1, 1)) == [0.5, 0.5]


def test_a_unit_without_positive_contributions_loses_its_relevance() -> None:
    model = _dense([[1, -1]])
    assert _map("lrp-alpha1-beta0", model, _row(1e-9, 1)) == pytest.approx([-1, 0])
    assert _map("lrp-alpha1-beta0", model, _row(0, 1)) == [0, 0]


def test_logits_with_one_positive_part_collapse() -> None:
    model = nn.Sequential(nn.ReLU(), *_dense([[1, -1], [1, -5]]))
    maps = [_map("lrp-alpha1-beta0", model, _row(3, 1), torch.tensor([c])) for c in (0, 1)]
    assert maps == [[2, 0], [-2, 0]]
    assert [_map("excitation-backprop", model, _row(3, 1), torch.tensor([c])) for c in (0, 1)] == [[1, 0], [1, 0]]


def test_gamma_refuses_a_pole() -> None:
    """5 - 4: the weighted sum with gamma = 1/4 is 4 * 1.25 - 5 = 0, the output -1."""
    with pytest.raises(Unsupported, match="a pole"):
        ac.get_method("lrp-gamma")(_dense([[4, -5]]), _row(1, 1), GO)


def test_excitation_starts_from_one_also_where_the_logit_is_zero() -> None:
    assert _map("excitation-backprop", _dense([[1, 3, -4]]), _row(1, 1, 1)) == pytest.approx([0.25, 0.75, 0])
    assert _map("z-plus", _dense([[1, 3, -4]]), _row(1, 1, 1)) == [0, 0, 0]


def test_input_rules_share_where_the_input_is_zero() -> None:
    model = _dense([[3, 4]])
    assert _map("deep-taylor", model, _row(0, 1)) == pytest.approx([4 * 9 / 25, 4 * 16 / 25])
    # In the box from -1 to 2 the contributions are 3 (0 + 1) and 4 (1 + 1).
    bounded = "deep-taylor-bounded(low=-1.0, high=2.0)"
    assert _map(bounded, model, _row(0, 1)) == pytest.approx([4 * 3 / 11, 4 * 8 / 11])
    assert _map("lrp-composite(first='flat')", model, _row(0, 1)) == [2, 2]


@pytest.mark.parametrize("shifted", [lambda x: x - 7.0, lambda x: x.clone().sub_(7.0)])
def test_input_rules_see_an_input_that_was_rearranged_or_shifted(shifted: Callable[[Tensor], Tensor]) -> None:
    moved = _Function(lambda x: F.linear(shifted(x).reshape(-1, 2), _row(3, 4)))
    assert _map("deep-taylor", moved, _row(7, 8)) == pytest.approx([4 * 9 / 25, 4 * 16 / 25])
    bounded = ac.get_method("deep-taylor-bounded(low=6.0, high=9.0)")(moved, _row(7, 8), GO)
    assert bounded[0].tolist() == pytest.approx([4 * 3 / 11, 4 * 8 / 11])


@pytest.mark.parametrize("before", [F.relu, lambda x: x * 2, lambda x: x.clone().mul_(2.0)])
def test_input_rules_refuse_an_input_that_no_layer_reads(before: Callable[[Tensor], Tensor]) -> None:
    model = _Function(lambda x: F.linear(before(x), _row(3, 4)))
    with pytest.raises(Unsupported, match="no layer with weights reads the input"):
        ac.get_method("deep-taylor")(model, _row(1, 1), GO)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lrp-gamma(gamma=-1.0)", "must be a finite number that is not negative"),
        ("lrp-alpha2-beta1(beta=-1.0)", "must be a finite number that is not negative"),
        ("deep-taylor-bounded(low=2.0)", "leaves the box"),
        ("lrp-composite(dense='nobody')", "dense must be one of"),
        ("lrp-composite(first='nobody')", "first must be one of"),
        ("taylor-near-origin(root=1.0)", "between 0 and 1"),
    ],
)
def test_options_out_of_range_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ac.get_method(name)(_dense([[1, 1]]), _row(1, 1), GO)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x, w, b: F.linear(x, w, b),
        lambda x, w, b: x @ w.T + b,
        lambda x, w, b: torch.addmm(b, x, w.T),
        lambda x, w, b: torch.einsum("bi,oi->bo", x, w) + b,
        lambda x, w, b: (w @ x.T).T + b,
        lambda x, w, b: torch.bmm(x[:, None], w.T.expand(len(x), -1, -1))[:, 0] + b,
        lambda x, w, b: F.conv1d(x[:, :, None], w[:, :, None], b)[:, :, 0],
        lambda x, w, b: F.conv2d(x[:, :, None, None], w[:, :, None, None], b).flatten(1),
    ],
)
@pytest.mark.parametrize(
    "name", ["lrp-gamma", "lrp-alpha1-beta0", "lrp-alpha2-beta1", "z-plus", "deep-taylor", "excitation-backprop"]
)
def test_every_form_of_a_layer_has_one_map(name: str, layer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """A bias may stand outside of its layer."""
    g = torch.Generator().manual_seed(3)
    w, b, last = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((4, 3), (4,), (2, 4)))
    x, target = torch.rand(5, 3, generator=g, dtype=torch.float64) + 0.5, torch.tensor([0, 1, 0, 1, 0])
    plain = _Function(lambda x: F.linear(torch.relu(F.linear(x, w, b)), last))
    other = _Function(lambda x: layer(torch.relu(layer(x, w, b)), last, torch.zeros(2, dtype=torch.float64)))
    method = ac.get_method(name)
    torch.testing.assert_close(method(other, x, target), method(plain, x, target), rtol=1e-12, atol=1e-12)


def test_batch_normalisation_is_a_layer_with_one_weight_for_each_channel() -> None:
    norm = nn.BatchNorm1d(2).double().eval()
    norm.running_mean, norm.running_var = _row(1, -1)[0], _row(4, 9)[0]
    model = nn.Sequential(norm, *_dense([[1, 1]]))
    scale = (norm.running_var + norm.eps).rsqrt()
    expected = ((_row(3, 2)[0] - norm.running_mean) * scale).tolist()
    assert _map("lrp-alpha1-beta0", model, _row(3, 2)) == pytest.approx(expected)


def test_two_weights_or_a_weight_that_depends_on_the_input_are_refused() -> None:
    w, v = _row(1, 2), _row(3, 4)
    for function in (
        lambda x: torch.einsum("bi,ai,ai->ba", x, w, v),
        lambda x: x @ (x.T @ x),
    ):
        with pytest.raises(Unsupported):
            ac.get_method("lrp-alpha1-beta0")(_Function(function), _row(1, 2), GO)


# -- RevealCancel ----------------------------------------------------------------------------------------------


def test_reveal_cancel_sees_what_rescale_hides() -> None:
    """min(x1, x2) = x1 - ReLU(x1 - x2): Rescale gives all to one input, RevealCancel half to each (Shrikumar et al. 2017)."""

    def smaller(x: Tensor) -> Tensor:
        return x[:, :1] - torch.relu(F.linear(x, _row(1, -1)))

    assert _map("deeplift-revealcancel", _Function(smaller), _row(2, 1)) == pytest.approx([0.5, 0.5])
    assert _map("deeplift", _Function(smaller), _row(2, 1)) == pytest.approx([0, 1])


def test_reveal_cancel_of_one_contribution_is_rescale() -> None:
    model = _Function(lambda x: torch.tanh(3 * x).sum(1, keepdim=True))
    x = _row(0.3, -2)
    assert _map("deeplift-revealcancel", model, x) == pytest.approx(_map("deeplift", model, x))


# -- zennit, where it has the rule -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> nn.Sequential:
    """Module form, ReLU, a convolution: what a hook-based library sees."""
    torch.manual_seed(1)
    layers = nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Conv2d(3, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
    return nn.Sequential(*layers).double().eval()


@pytest.mark.parametrize(
    ("name", "rule", "first"),
    [
        ("lrp-alpha1-beta0", "ZPlus(stabilizer=TINY, zero_params='bias')", None),
        ("lrp-alpha2-beta1", "AlphaBeta(2.0, 1.0, stabilizer=TINY, zero_params='bias')", None),
        ("deep-taylor", "ZPlus(stabilizer=TINY, zero_params='bias')", "WSquare(stabilizer=TINY, zero_params='bias')"),
        (
            "deep-taylor-bounded(low=-4.0, high=4.0)",
            "ZPlus(stabilizer=TINY, zero_params='bias')",
            "ZBox(-4.0, 4.0, stabilizer=TINY, zero_params='bias')",
        ),
        (
            "lrp-composite(dense='z-plus', conv='z-plus', first='flat')",
            "ZPlus(stabilizer=TINY, zero_params='bias')",
            "Flat(stabilizer=TINY)",
        ),
    ],
)
def test_rules_equal_zennits(trained: nn.Sequential, name: str, rule: str, first: str | None) -> None:
    rules = pytest.importorskip("zennit.rules")
    from zennit.attribution import Gradient
    from zennit.composites import SpecialFirstLayerMapComposite

    scope = {**vars(rules), "TINY": 1e-14}
    layers = [(nn.ReLU, rules.Pass()), (nn.Conv2d, eval(rule, scope)), (nn.Linear, eval(rule, scope))]
    special = [] if first is None else [(nn.Conv2d, eval(first, scope))]
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).clamp(-4, 4)
    target = torch.tensor([2, 0])
    with Gradient(trained, SpecialFirstLayerMapComposite(layers, special)) as attributor:
        _, expected = attributor(x, lambda out: out * F.one_hot(target, 3))
    got = ac.get_method(name)(trained, x, target)
    assert float((got - expected).abs().max()) < 1e-9 * float(expected.abs().max())


def test_a_bias_outside_of_its_layer_is_one_where_the_layer_alone_is_zero() -> None:
    """W x = 0 has no shares, and W x + b has: (3, -2, -1) at (0, 1, -2) with b = 1.5, before a ReLU and a weight of 2."""
    weight = torch.tensor([[3.0, -2.0, -1.0]], dtype=torch.float64)
    x, target = torch.tensor([[0.0, 1.0, -2.0]], dtype=torch.float64), torch.tensor([0])

    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * (x @ weight.T + 1.5).relu()

    # f = 3, z = -2 + 2 + 1.5, and gamma favours the bias alone: x_i w_i / (1.5 + 1.5 / 4) of f.
    expected = torch.tensor([[0.0, -2.0, 2.0]], dtype=torch.float64) / 1.875 * 3
    assert torch.allclose(ac.get_method("lrp-gamma")(Bare(), x, target), expected, rtol=1e-12)
