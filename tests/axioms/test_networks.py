"""Networks as data: round trips, building, the ladder, kink status, rewrites and composition."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.axioms.implementation_invariance import bound_of
from attribcheck.axioms.networks import architectures
from attribcheck.axioms.networks.build import build, evaluate, magnitude, values
from attribcheck.axioms.networks.compose import last_linear, masked, permuted, scaled, shifted, swapped
from attribcheck.axioms.networks.draft import Draft
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink, segment_in_kink
from attribcheck.axioms.networks.layers.kinds import KINDS
from attribcheck.axioms.networks.rewrites import REWRITES, Context, applicable
from attribcheck.axioms.networks.sources import Small, Wide, reordering
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.axioms.setting import Setting
from attribcheck.errors import UsageError
from attribcheck.reports.wiring import shapes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

DRAWING = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
SITES = [(f, r.name) for f, family in FAMILIES.items() for r in applicable(family)]


@pytest.mark.parametrize("family", FAMILIES)
@DRAWING
@given(data=st.data())
def test_a_network_survives_every_form(family: str, data: Any) -> None:
    case = Setting(Small(data.draw), FAMILIES[family]).base()
    network, x = case.network, torch.tensor(case.x)
    assert isinstance(network, Network)
    assert Network.from_json(network.to_json()) == network
    assert eval(repr(network), {"Network": Network, "Layer": Layer, "Call": Call}) == network
    assert torch.equal(build(network)(x), evaluate(network, x))
    x.requires_grad_()
    output = build(network)(x)
    (gradient,) = torch.autograd.grad(output.abs().sum(), x)
    bound = magnitude(network, x.detach())
    assert float(output.detach().abs().max()) <= bound * (1 + 1e-12)
    assert float(gradient.abs().max()) <= bound * 1.13**3 * (1 + 1e-12)  # the slope of GELU reaches 1.13


@pytest.mark.parametrize(("family", "rewrite"), SITES)
@DRAWING
@given(data=st.data())
def test_a_rewrite_preserves_the_function_and_changes_the_network(family: str, rewrite: str, data: Any) -> None:
    wide = data.draw(st.integers(0, 4)) == 4
    source = Wide(data.draw(st.integers(0, 999))) if wide else Small(data.draw)
    case = Setting(source, FAMILIES[family]).base()
    assert isinstance(case.network, Network)
    context = Context(source, case.x, bound=bound_of(case))
    before = REWRITES[rewrite].prepare(case.network, context)
    after = None if before is None else REWRITES[rewrite].apply(before, context)
    if before is None or after is None:
        return
    points = np.random.default_rng(0).uniform(-1, 1, (20, *case.x.shape[1:])) * bound_of(case)
    a, b = (evaluate(network, torch.tensor(np.concatenate([points, case.x]))) for network in (before, after))
    assert float((a - b).abs().max()) <= 1e-11 * max(1.0, float(torch.maximum(a.abs(), b.abs()).max()))
    if rewrite != "permute":  # equal units look alike in any order
        assert before != after


# -- the families keep their promises ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kinks", ["off", "on"])
@DRAWING
@given(data=st.data())
def test_a_positive_network_reads_and_gives_what_is_positive(kinks: str, data: Any) -> None:
    for source in (Small(data.draw), Wide(data.draw(st.integers(0, 999)))):
        case = Setting(source, FAMILIES["relu-positive"]).base(kinks=kinks)
        assert isinstance(case.network, Network) and case.baseline is not None
        assert (case.x >= 0).all() and case.x.any(axis=1).all() and (case.baseline >= 0).all()
        assert all((layer.get("bias", np.zeros(1)) <= 0).all() for layer in case.network.layers.values())
        outputs = evaluate(case.network, torch.tensor(case.x))
        assert all(float(row[target]) > 0 for row, target in zip(outputs, case.target, strict=True))


@pytest.mark.parametrize("weights", list(itertools.product((-1 / 3, 1 / 3, 2 / 3), repeat=3)))
def test_an_active_unit_is_not_active_by_rounding_alone(weights: tuple[float, ...]) -> None:
    """Sums of thirds that are zero, but for rounding, at one of five samples."""
    numbers = [[2, 3, 2], [2, 2, 3], [1, 2, 1], [1, 3, 1], [1, 4, 0]]
    x = np.array(numbers) / 64
    draft = Draft(Wide(0), x, 1)
    layer = draft._raised(Layer("linear", weight=[weights], bias=[-0.5]), "x")
    exact = [[Fraction(round(3 * w), 3) for w in row] for row in layer["weight"]]
    outputs = [sum(w * Fraction(n, 64) for w, n in zip(exact[0], row, strict=True)) - Fraction(1, 2) for row in numbers]
    assert all(value > 2.0**-13 * max(row) / 64 for value, row in zip(outputs, numbers, strict=True)), outputs


@DRAWING
@given(data=st.data())
def test_the_maxima_of_blocks_of_convolutions_have_no_ties_but_of_zeros(data: Any) -> None:
    # (of tiny inputs the ladder's steps are shorter than its biases)
    case = Setting(Small(data.draw), FAMILIES["vgg"], fixed={"magnitude": "ordinary"}).base()
    assert isinstance(case.network, Network)
    x = torch.tensor(case.x)
    computed = values(case.network, x)
    for call in case.network.calls:
        if case.network.layers[call.layer].kind == "maxpool2d":
            windows = nn.functional.unfold(computed[call.inputs[0]].flatten(0, 1)[:, None], 2, stride=2)
            top = windows.sort(dim=1, descending=True).values
            assert bool(((top[:, 0] > top[:, 1]) | (top[:, 0] == 0)).all())
    assert not on_kink(case.network, x)


def sequence(write: Any, seed: int) -> tuple[Network, torch.Tensor, list[dict[str, torch.Tensor]]]:
    """A network of one architecture, samples, and the weights of its linear layers in order."""
    x = np.random.default_rng(seed).normal(size=(3, 3, 4))
    network: Network = write(Draft(Wide(seed), x, 2))
    weights = [
        {name: torch.tensor(layer[name]) for name in ("weight", "bias") if layer.get(name) is not None}
        for layer in network.layers.values()
        if layer.kind == "linear"
    ]
    return network, torch.tensor(x), weights


@pytest.mark.parametrize(("write", "cell"), [(architectures.lstm, nn.LSTM), (architectures.gru, nn.GRU)])
@pytest.mark.parametrize("seed", range(3))
def test_an_unrolled_cell_is_that_of_torch(write: Any, cell: type[nn.LSTM | nn.GRU], seed: int) -> None:
    network, x, (into, back, head) = sequence(write, seed)
    module = cell(4, back["weight"].shape[1], batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        module.weight_ih_l0.copy_(into["weight"])
        module.weight_hh_l0.copy_(back["weight"])
        module.bias_ih_l0.copy_(into["bias"])
        module.bias_hh_l0.zero_()
        expected = nn.functional.linear(module(x)[0][:, -1], head["weight"], head["bias"])
    assert torch.allclose(evaluate(network, x), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_the_block_of_attention_is_that_of_torch(seed: int) -> None:
    network, x, (queries, keys, values_, up, down, head) = sequence(architectures.attention, seed)
    (norm,) = (layer for layer in network.layers.values() if layer.kind == "layernorm")
    attention = nn.MultiheadAttention(4, 1, batch_first=True, dtype=torch.float64)
    linear = nn.functional.linear
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([part["weight"] for part in (queries, keys, values_)]))
        attention.in_proj_bias.copy_(torch.cat([part["bias"] for part in (queries, keys, values_)]))
        attention.out_proj.weight.copy_(torch.eye(4))
        attention.out_proj.bias.zero_()
        mixed = attention(x, x, x)[0]
        parts = (linear(x, part["weight"], part["bias"]) for part in (queries, keys, values_))
        assert torch.allclose(mixed, nn.functional.scaled_dot_product_attention(*parts), rtol=1e-13, atol=1e-13)
        h = nn.functional.layer_norm(
            x + mixed, (4,), torch.tensor(norm["weight"]), torch.tensor(norm["bias"]), norm["eps"]
        )
        h = h + linear(nn.functional.gelu(linear(h, up["weight"], up["bias"])), down["weight"], down["bias"])
        expected = linear(h.mean(1), head["weight"], head["bias"])
    assert torch.allclose(evaluate(network, x), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_report_knows_the_shape_of_every_value(family: str) -> None:
    for seed in range(4):
        case = Setting(Wide(seed), FAMILIES[family]).base()
        assert isinstance(case.network, Network)
        computed = values(case.network, torch.tensor(case.x))
        assert shapes(case.network.to_json()) == {name: list(v.shape[1:]) for name, v in computed.items()}


@pytest.mark.parametrize("family", ["relu", "conv"])
@DRAWING
@given(data=st.data())
def test_on_the_ladder_no_pre_activation_is_ever_zero(family: str, data: Any) -> None:
    case = Setting(Small(data.draw), FAMILIES[family]).base()
    assert isinstance(case.network, Network)
    integers = torch.tensor(np.random.default_rng(1).integers(-5, 6, (50, *case.x.shape[1:])).astype(float))
    computed = values(case.network, integers)
    for call in case.network.calls:
        if case.network.layers[call.layer].kind == "relu":
            assert bool((computed[call.inputs[0]] != 0).all())


def test_every_kind_of_layer_is_drawn_or_written_by_a_rewrite() -> None:
    seen: set[str] = set()
    for family in FAMILIES.values():
        for seed in range(30):
            source = Wide(seed)
            case = Setting(source, family).base()
            assert isinstance(case.network, Network)
            networks: list[Network | None] = [case.network, swapped(case.network, 0, 1)]
            for rewrite in applicable(family):
                context = Context(source, case.x, 64.0)
                before = rewrite.prepare(case.network, context)
                networks += [before, None if before is None else rewrite.apply(before, context)]
            seen |= {layer.kind for network in networks if network for layer in network.layers.values()}
    assert seen == set(KINDS)


def relu_of(weight: list[list[float]], bias: list[float], out: list[list[float]]) -> Network:
    """A network with one hidden ReLU layer."""
    layers = {"fc": Layer("linear", weight=weight, bias=bias), "act": Layer("relu"), "out": Layer("linear", weight=out)}
    calls = (Call("h", "fc", ("x",)), Call("a", "act", ("h",)), Call("y", "out", ("a",)))
    return Network((len(weight[0]),), layers, calls)


def test_kink_status_of_points() -> None:
    identity = relu_of([[1.0], [-1.0]], [0.0, 0.0], [[1.0, -1.0]])  # x = ReLU(x) - ReLU(-x)
    at = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert on_kink(identity, at[:1])
    assert not on_kink(identity, at[1:])


def test_a_kink_behind_inactive_units_is_harmless() -> None:
    dead = relu_of([[1.0]], [-5.0], [[1.0]])
    layers = {**dead.layers, "again": Layer("relu")}
    behind = Network((1,), layers, (*dead.calls, Call("z", "again", ("y",))))
    assert not on_kink(behind, torch.ones(1, 1, dtype=torch.float64))  # ReLU(0) of a constant zero


def test_ties_of_zeros_behind_inactive_units_are_harmless_and_others_are_not() -> None:
    def pooled(bias: float) -> Network:
        layers = {
            "conv": Layer("conv1d", weight=[[[1.0]]], bias=[bias]),
            "act": Layer("relu"),
            "pool": Layer("maxpool1d", kernel=2),
            "flat": Layer("flatten"),
        }
        calls = (
            Call("z", "conv", ("x",)),
            Call("a", "act", ("z",)),
            Call("p", "pool", ("a",)),
            Call("y", "flat", ("p",)),
        )
        return Network((1, 4), layers, calls)

    x = torch.tensor([[[1.0, 1.0, 3.0, 4.0]]], dtype=torch.float64)
    assert not on_kink(pooled(-2.0), x)
    assert on_kink(pooled(2.0), x)


def test_a_segment_inside_a_kink_is_noticed_and_a_crossing_is_not() -> None:
    inside = relu_of([[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0], [[1.0, -1.0]])  # the path x1 = x2 lies in both kinks
    start, end = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    assert segment_in_kink(inside, start, end)
    crossing = relu_of([[1.0, 1.0]], [-0.7], [[1.0]])
    assert not segment_in_kink(crossing, start, end)
    twice = relu_of([[0.3, 0.7], [0.7, 0.3]], [-0.7, -0.7], [[1.0, 1.0]])  # two kinks that meet to rounding
    assert not segment_in_kink(twice, start, end)


@pytest.mark.parametrize("family", FAMILIES)
def test_composition_does_what_it_says(family: str) -> None:
    source = Wide(3)
    case = Setting(source, FAMILIES[family]).base(at_least=2)
    assert isinstance(case.network, Network)
    x = torch.tensor(case.x)
    other = x.flatten(1).clone()
    other[:, 1] += 2.0
    ignoring = masked(case.network, 1)
    assert torch.allclose(evaluate(ignoring, x), evaluate(ignoring, other.reshape(x.shape)), atol=1e-12)
    mirrored = x.flatten(1)[:, [1, 0, *range(2, x[0].numel())]].reshape(x.shape)
    assert torch.allclose(evaluate(swapped(case.network, 0, 1), x), evaluate(case.network, mirrored), atol=1e-12)
    order = list(np.random.default_rng(0).permutation(case.network.n_features))
    there = permuted(case.network, order)
    assert torch.allclose(
        evaluate(there, x.flatten(1)[:, order].reshape(x.shape)), evaluate(case.network, x), atol=1e-12
    )
    for how in ("affine", "weights"):
        assert torch.allclose(
            evaluate(scaled(case.network, -3.0, how), x), -3.0 * evaluate(case.network, x), atol=1e-12
        )
    assert scaled(case.network, 2.0, "weights").layers.keys() == case.network.layers.keys()
    shift = np.full(case.x.shape[1:], 1.5)
    for how in ("affine", "bias"):
        moved = shifted(case.network, shift, how)
        if moved is not None:
            assert torch.allclose(evaluate(moved, x + 1.5), evaluate(case.network, x), atol=1e-9)


def test_the_last_layer_counts_if_it_is_linear_and_called_once() -> None:
    network = relu_of([[1.0]], [0.0], [[1.0]])
    assert last_linear(network) == "out"
    assert last_linear(scaled(network, 2.0)) is None
    assert scaled(scaled(network, 2.0), 3.0, "weights").output == "h2"  # no weights to scale: another layer
    assert last_linear(Network((1,), network.layers, (*network.calls, Call("z", "out", ("y",))))) is None


@DRAWING
@given(data=st.data(), n=st.integers(2, 9))
def test_a_reordering_moves_something(data: Any, n: int) -> None:
    for source in (Small(data.draw), Wide(data.draw(st.integers(0, 99)))):
        order = reordering(source, n)
        assert sorted(order) == list(range(n))
        assert order != list(range(n))


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([], "no calls"),
        ([Call("h", "nothing", ("x",))], "unknown layer"),
        ([Call("h", "fc", ("y",))], "before it is computed"),
        ([Call("h", "fc", ("x",)), Call("h", "fc", ("x",))], "computed twice"),
    ],
)
def test_a_network_that_is_none_is_refused(calls: list[Call], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Network((1,), {"fc": Layer("linear", weight=[[1.0]])}, tuple(calls))
