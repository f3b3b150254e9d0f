"""One network in every form of its code has one map under the engine of modified backpropagation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from attribcheck import get_method
from torch import Tensor, nn
from torch.nn import functional as F

from ..support.engine_models import (
    B2,
    BASE,
    NAMES,
    OTHER_TABLES,
    TARGET,
    Forward,
    Net,
    X,
    aten,
    attributed,
    hidden,
    logits,
    seeded,
    slope,
)


def written_into(function: Callable[[Tensor], Any]) -> Forward:
    def forward(z: Tensor) -> Tensor:
        z = z.clone()
        function(z)
        return z

    return forward


def write_slices(z: Tensor) -> None:
    z[:, :2] = F.relu(z[:, :2])
    z[:, 2:] = F.relu(z[:, 2:])


RELUS: dict[str, Forward] = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "functional in place": lambda z: F.relu(z, inplace=True),
    "functional in place by position": lambda z: F.relu(z, True),
    "by name": lambda z: F.relu(input=z),
    "by name in place": lambda z: F.relu(input=z, inplace=True),
    "torch": torch.relu,
    "after a cast": lambda z: F.relu(z.type(z.dtype)),
    "torch in place": torch.relu_,
    "method": lambda z: z.relu(),
    "method in place": lambda z: z.relu_(),
    "overload": lambda z: aten.relu.default(z),
    "overload in place": lambda z: aten.relu_.default(z),
    "packet in place": lambda z: aten.relu_(z),
    "maximum": lambda z: torch.maximum(z, torch.zeros_like(z)),
    "maximum, the constant first": lambda z: torch.maximum(torch.zeros(()).to(z), z),
    "maximum by name": lambda z: torch.maximum(input=z, other=torch.zeros(()).to(z)),
    "max of two": lambda z: z.max(torch.zeros(1).to(z)),
    "clamp": lambda z: z.clamp(min=0),
    "clamp by position": lambda z: torch.clamp(z, 0),
    "clamp in place": lambda z: z.clamp_(min=0),
    "clip": lambda z: torch.clip(z, min=0.0),
    "clamp_min": lambda z: torch.clamp_min(z, 0.0),
    "clamp with a tensor": lambda z: z.clamp(min=torch.zeros(4).to(z)),
    "threshold": nn.Threshold(0.0, 0.0),
    "threshold by name": lambda z: F.threshold(z, threshold=0.0, value=0.0),
    "written into slices": written_into(write_slices),
    "written through a view": written_into(lambda z: z.view(-1).relu_()),
    "compiled": torch.compile(nn.ReLU(), backend="eager"),
}

OTHERS: dict[str, dict[str, Forward]] = {
    "tanh": {
        "module": nn.Tanh(), "torch": torch.tanh, "in place": lambda z: z.tanh_(), "torch in place": torch.tanh_,
        "overload": aten.tanh.default, "overload in place": aten.tanh_.default, "functional": F.tanh,
    },
    "sigmoid": {
        "module": nn.Sigmoid(), "torch": torch.sigmoid, "in place": lambda z: z.sigmoid_(),
        "special": torch.special.expit, "overload": aten.sigmoid.default,
    },
    "leaky_relu": {
        "module": nn.LeakyReLU(0.1), "in place": nn.LeakyReLU(0.1, inplace=True),
        "functional in place": lambda z: F.leaky_relu_(z, 0.1), "overload": lambda z: aten.leaky_relu.default(z, 0.1),
        "overload in place": lambda z: aten.leaky_relu_.default(z, 0.1),
        "prelu": lambda z: F.prelu(z, torch.full((1,), 0.1, dtype=z.dtype)),
    },
    "elu": {
        "module": nn.ELU(1.5), "in place": nn.ELU(1.5, inplace=True), "functional in place": lambda z: F.elu_(z, 1.5),
        "overload in place": lambda z: aten.elu_.default(z, 1.5, 1.0, 1.0),
    },
    "gelu": {"module": nn.GELU(), "overload": aten.gelu.default, "overload in place": aten.gelu_.default},
    "silu": {"module": nn.SiLU(), "in place": nn.SiLU(inplace=True), "overload in place": aten.silu_.default},
    "hardswish": {"module": nn.Hardswish(), "in place": nn.Hardswish(True), "overload in place": aten.hardswish_.default},
    "hardtanh": {"module": nn.Hardtanh(), "in place": nn.Hardtanh(inplace=True), "clamp": lambda z: z.clamp_(-1, 1)},
    "relu6": {"module": nn.ReLU6(), "in place": nn.ReLU6(inplace=True), "clamp": lambda z: z.clamp(0, 6)},
    "square": {"torch": torch.square, "pow": lambda z: z**2, "in place": lambda z: z.pow_(2), "method": lambda z: z.square()},
    "exp": {"torch": torch.exp, "in place": lambda z: z.exp_(), "operator": lambda z: math.e**z},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_TABLES)
def test_an_activation_that_overwrites_gives_the_map_of_its_module(name: str) -> None:
    """Rules that keep what a layer computed must not see it overwritten, and lose nothing that they know of it."""
    steps: list[tuple[Forward, Forward]] = [(RELUS["module"], RELUS[form]) for form in RELUS if "in place" in form]
    steps += [(lambda z: torch.tanh(F.relu(z)), lambda z: z.relu_().tanh())]
    for plain, overwriting in steps:
        expected = attributed(name, lambda x, act=plain: logits(act(hidden(act(hidden(x))))))
        found = attributed(name, lambda x, act=overwriting: logits(act(hidden(act(hidden(x))))))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OTHER_TABLES)
def test_a_bias_that_is_added_in_place_is_a_bias(name: str) -> None:
    weight, bias = seeded(4, 4, seed=3), seeded(4, seed=4)

    def overwriting(x: Tensor) -> Tensor:
        z = x @ weight.T
        z += bias
        return z

    expected = attributed(name, lambda x: logits(F.relu(x @ weight.T + bias)))
    torch.testing.assert_close(attributed(name, lambda x: logits(F.relu(overwriting(x)))), expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_a_rectifier_gives_one_map(name: str) -> None:
    expected = attributed(name, lambda x: logits(F.relu(hidden(F.relu(hidden(x))))))
    for form, relu in RELUS.items():
        found = attributed(name, lambda x, relu=relu: logits(relu(hidden(relu(hidden(x))))))
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14, msg=f"{form}: {found} for {expected}")
    assert (expected != 0).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", OTHERS)
def test_every_form_of_an_activation_gives_one_map(name: str, activation: str) -> None:
    forms = OTHERS[activation]
    maps = [attributed(name, lambda x, act=act: logits(act(hidden(x)))) for act in forms.values()]
    for form, found in zip(forms, maps, strict=True):
        torch.testing.assert_close(found, maps[0], rtol=1e-12, atol=1e-14, msg=form)


@pytest.mark.parametrize("name", NAMES)
def test_exported_and_symbolically_traced_networks_give_the_same_map(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3)).double().eval()
    expected = attributed(name, model)
    torch.testing.assert_close(attributed(name, torch.fx.symbolic_trace(model)), expected)
    exported = Net(torch.export.export(model, (X,)).module())
    torch.testing.assert_close(get_method(name)(exported, X, TARGET, BASE), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_reused_modules_and_tied_weights_equal_untied_copies(name: str, activation: type[nn.Module]) -> None:
    first, act, last = nn.Linear(4, 4).double(), activation(), nn.Linear(4, 3).double()
    reused = nn.Sequential(first, act, first, act, first, act, last)
    copies = []
    for _ in range(3):
        copy = nn.Linear(4, 4).double()
        copy.load_state_dict(first.state_dict())
        copies += [copy, activation()]
    tied = nn.Linear(4, 4).double()
    tied.weight, tied.bias = first.weight, first.bias
    expected = attributed(name, nn.Sequential(*copies, last))
    torch.testing.assert_close(attributed(name, reused), expected)
    torch.testing.assert_close(
        attributed(name, nn.Sequential(first, act, tied, act, first, nn.Sequential(act), last)), expected
    )


def residual(form: str) -> Forward:
    def forward(x: Tensor) -> Tensor:
        z = hidden(x)
        h = F.relu(z)
        match form:
            case "sum":
                z = z + h
            case "in place":
                z += h
            case "method in place":
                z.add_(h)
            case "torch":
                z = torch.add(z, h, alpha=1, out=None)
            case "items":
                z[:, :2] += h[:, :2]
                z[:, 2] = z[:, 2] + h[:, 2]
                z[:, [3]] = z[:, [3]] + h[:, [3]]
            case "buffer":
                buffer = torch.zeros(len(x), 4).to(x)
                buffer[:] = z
                buffer += h
                z = buffer
            case "buffer through views":
                buffer = torch.zeros(len(x), 4).to(x)
                buffer[:, :2].copy_(z[:, :2])
                buffer[:, 2:].add_(z[:, 2:])
                buffer[:, 1:].add_(h[:, 1:])
                buffer[:, :1] += h[:, :1]
                z = buffer
            case "index_put":
                rows = torch.arange(len(x))
                z = torch.zeros(len(x), 4).to(x).index_put((rows,), z).index_put((rows,), h, accumulate=True)
            case "cat":
                z = torch.cat([z, h], 1)
                return logits(z[:, :4]) - B2.to(x) + logits(z[:, 4:])
            case "stack":
                z = torch.stack([z, h]).sum(0)
            case "builtin sum":
                z = sum([z, h])  # type: ignore[assignment]
        return logits(z)

    return forward


@pytest.mark.parametrize("name", NAMES)
def test_sums_and_writes_give_one_map(name: str) -> None:
    forms = ("sum", "in place", "method in place", "torch", "items", "buffer", "buffer through views",
             "index_put", "stack", "builtin sum")  # fmt: skip
    expected = attributed(name, residual("sum"))
    for form in forms:
        torch.testing.assert_close(attributed(name, residual(form)), expected, rtol=1e-12, atol=1e-14, msg=form)
    if name != "lrp-epsilon":  # the last layer is cut in two there, which keeps other shares
        torch.testing.assert_close(attributed(name, residual("cat")), expected, rtol=1e-12, atol=1e-14)
    if name == "lrp-0":
        torch.testing.assert_close(expected, X * slope(residual("sum")))


# x = (2, -3), baseline (-1, 1): f = tanh(x1) + x1 + 2 relu(x2) + relu(-x2).
HAND = {
    "lrp-0": (math.tanh(2) + 2, 3.0),
    "deeplift": (math.tanh(2) + math.tanh(1) + 3, 1.0),  # relu(x2): 0 - 1, twice; relu(-x2): 3 - 0
    "guided-backprop": (2 - math.tanh(2) ** 2, -1.0),
}


@pytest.mark.parametrize("name", HAND)
def test_a_tensor_that_feeds_an_activation_and_a_sum_by_hand(name: str) -> None:
    def forward(x: Tensor) -> Tensor:
        a, b = x[:, :1] * 1.0, x[:, 1:] * 1.0
        kept = torch.tanh(a)
        a += kept  # what tanh read is overwritten
        return a + 2 * F.relu(b) + F.relu(-b)

    x, base = torch.tensor([[2.0, -3.0]]).double(), torch.tensor([[-1.0, 1.0]]).double()
    found = attributed(name, forward, x, base, target=torch.tensor([0]))
    torch.testing.assert_close(found, torch.tensor([HAND[name]], dtype=torch.float64), rtol=1e-14, atol=0)


def test_guided_backpropagation_cuts_negative_gradients_by_hand() -> None:
    x = torch.tensor([[2.0, 3.0, -1.0]]).double()
    weights = torch.tensor([1.0, -1.0, 1.0]).double()
    found = attributed(
        "guided-backprop", lambda x: (F.relu(x) * weights).sum(1, keepdim=True), x, x, target=torch.tensor([0])
    )
    assert torch.equal(found, torch.tensor([[1.0, 0.0, 0.0]]).double())
