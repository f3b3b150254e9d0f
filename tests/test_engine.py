"""The engine of modified backpropagation: one map for every form of a network, refusals, exact identities, no traces."""

from __future__ import annotations

import gc
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from attribcheck import Unsupported, get_method
from attribcheck.axioms.cases import Setting
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import on_kink
from attribcheck.axioms.networks.sources import Small
from attribcheck.axioms.networks.spec import Network
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

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


# -- one network, many forms --------------------------------------------------------------------------------------


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


# -- batches ------------------------------------------------------------------------------------------------------


class Sequences(nn.Module):
    """x [B, 3, 4], through a layout that keeps rows apart."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.wide = nn.Linear(12, 12).double()

    def act(self, h: Tensor) -> Tensor:
        h = torch.tanh(hidden(F.relu(h)))
        if self.layout != "scrambled":
            h = h * torch.softmax(h, -1)
        return h

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        match self.layout:
            case "plain":
                h = self.act(x)
            case "sequence first":
                h = self.act(x.transpose(0, 1)).transpose(0, 1)
            case "sequence first, max over the sequence":
                return logits(self.act(x.permute(2, 0, 1).movedim(0, 2)).max(1).values)
            case "folded":
                h = self.act(x.reshape(batch * 3, 4)).reshape(batch, 3, 4)
            case "sequence first, folded":
                h = self.act(x.transpose(0, 1).reshape(-1, 4)).view(3, batch, 4).permute(1, 0, 2)
            case "flat":
                h = torch.tanh(F.relu(x.reshape(-1))).reshape(batch, 3, 4)
            case "scrambled":  # the entries in the order of memory, not an axis of their own for the batch
                h = torch.tanh(F.relu(x.reshape(12, -1))).reshape(batch, 3, 4)
            case "scrambled twice":
                h = torch.tanh(F.relu(x.reshape(12, -1).t().contiguous())).t().reshape(batch, 3, 4)
            case "rows":
                h = torch.stack([self.act(row) for row in x])
            case "channels":
                h = self.act(x.reshape(1, -1, 4)).reshape(batch, 3, 4)
            case "expanded":
                h = (self.act(x)[:, :, None].expand(-1, -1, 2, -1) * torch.ones(1, 1, 2, 1).to(x)).mean(2)
        return logits(F.relu(h).mean(1))


LAYOUTS = (
    "plain", "sequence first", "sequence first, max over the sequence", "folded", "sequence first, folded", "flat",
    "scrambled", "scrambled twice", "rows", "channels", "expanded",
)  # fmt: skip


@pytest.mark.parametrize("name", ["deeplift", "guided-backprop"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_alone_equal_rows_in_a_batch(name: str, layout: str) -> None:
    model, x = Sequences(layout), seeded(3, 3, 4, seed=8)
    for base in (seeded(3, 3, 4, seed=9), seeded(1, 3, 4, seed=9).repeat(3, 1, 1)):
        whole = attributed(name, model, x, base)
        for b in range(3):
            alone = get_method(name)(model, x[b : b + 1], TARGET[b : b + 1], base[b : b + 1])
            torch.testing.assert_close(whole[b : b + 1], alone, rtol=1e-11, atol=1e-14)
        if name == "deeplift":
            assert_complete(model, x, base)


@pytest.mark.parametrize("name", ["lrp-0", "lrp-epsilon"])
def test_rows_alone_equal_rows_in_a_batch_for_lrp(name: str) -> None:
    def forward(x: Tensor) -> Tensor:
        h = torch.tanh(hidden(x.transpose(0, 1).reshape(-1, 4))).reshape(3, -1, 4).transpose(0, 1)
        return logits(F.relu(h).mean(1))

    x = seeded(3, 3, 4, seed=8)
    whole = attributed(name, forward, x, x)
    alone = [get_method(name)(Net(forward), x[b : b + 1], TARGET[b : b + 1], None) for b in range(3)]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_and_a_constant_and_the_input_itself(name: str) -> None:
    assert attributed(name, residual("sum"), X[:0], BASE[:0]).shape == (0, 4)
    assert torch.equal(attributed(name, lambda x: torch.ones(len(x), 3).to(x)), torch.zeros_like(X))
    assert torch.equal(attributed(name, lambda x: torch.ones_like(x)), torch.zeros_like(X))
    scale = {"guided-backprop": 1.0, "deeplift": X - BASE}.get(name, X)
    expected = scale * F.one_hot(TARGET, 4)
    torch.testing.assert_close(attributed(name, lambda x: x), expected.double())
    torch.testing.assert_close(attributed(name, lambda x: x[:, :3]), expected.double())


# -- nothing stays behind -----------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Parameters that are frozen, have a gradient, have a hook; a buffer; batch normalisation; a failure on demand."""

    def __init__(self, fail: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.register_buffer("mask", torch.ones(4))
        self.a.bias.requires_grad_(False)
        self.a.weight.grad = torch.ones(4, 4)
        self.fail, self.seen = fail, 0
        self.calls: list[str] = []
        self.b.weight.register_hook(lambda g: self.calls.append("weight"))
        self.b.register_forward_hook(lambda *_: self.calls.append("forward"))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.a(x)) * self.mask, inplace=True)
        if self.fail == "refused":
            h = h.sort(1).values
        if self.fail == "raised":
            raise KeyError("of the model")
        return self.b(F.dropout(h, 0.5, self.training))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fail", ["", "refused", "raised"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_stays_behind(name: str, fail: str, dtype: torch.dtype) -> None:
    model = Everything(fail).to(dtype).eval()
    x, base = X.to(dtype).clone().requires_grad_(), BASE.to(dtype)
    leaf = x.detach().clone()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    needs = {key: p.requires_grad for key, p in model.named_parameters()}
    hooks = len(model.b._forward_hooks), len(model.b.weight._backward_hooks or {})
    state, base_before, attributes = torch.get_rng_state(), base.clone(), set(x.__dict__)
    expected = {"": None, "refused": Unsupported, "raised": KeyError}[fail]
    if expected is None:
        found = get_method(name)(model, x, TARGET, base)
        assert found.dtype == dtype
    else:
        with pytest.raises(expected):
            get_method(name)(model, x, TARGET, base)
    assert {key: p.requires_grad for key, p in model.named_parameters()} == needs
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model.a.weight.grad, torch.ones(4, 4).to(dtype)) and model.b.weight.grad is None
    assert "weight" not in model.calls
    assert (len(model.b._forward_hooks), len(model.b.weight._backward_hooks or {})) == hooks
    assert not model.training and torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
    assert torch.equal(x, leaf) and x.grad is None and torch.equal(base, base_before)
    assert set(x.__dict__) == attributes and not base.__dict__
    assert not any(
        key.startswith("_attribcheck") for t in (*model.parameters(), *model.buffers()) for key in t.__dict__
    )
    # And the model still trains.
    if not fail:
        model(leaf).sum().backward()
        assert model.b.weight.grad is not None and "weight" in model.calls


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_is_close_to_double_precision(name: str) -> None:
    exact = attributed(name, residual("sum"))
    found = attributed(name, residual("sum"), X.float(), BASE.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_does_not_matter(name: str, mode: Any) -> None:
    expected = attributed(name, residual("sum"))
    with mode():
        found = attributed(name, residual("sum"), X.clone(), BASE.clone())
    torch.testing.assert_close(found.clone(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_models_may_write_into_their_input(name: str) -> None:
    def shifted(x: Tensor) -> Tensor:
        x -= 0.5
        x[:, 0] = 0
        return logits(F.relu(hidden(nn.ReLU(inplace=True)(x))))

    def pure(x: Tensor) -> Tensor:
        kept = torch.tensor([0.0, 1.0, 1.0, 1.0]).double()
        return logits(F.relu(hidden(F.relu((x - 0.5) * kept))))

    torch.testing.assert_close(attributed(name, shifted), attributed(name, pure))


def test_calls_leave_no_values_behind() -> None:
    """Marks and notes sit on tensors; a circle through the base of a view would be one that no garbage collector sees."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)
    ).double().eval()  # fmt: skip
    x = seeded(2, 1, 4, 4)

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    counts = []
    for _ in range(3):
        get_method("deeplift")(net, x, torch.tensor([0, 1]), torch.zeros_like(x))
        get_method("lrp-gamma")(net, x, torch.tensor([0, 1]))
        counts.append(alive())
    assert counts[1] == counts[2]


def test_parametrised_and_hooked_weights_are_followed() -> None:
    def layer() -> nn.Linear:
        return nn.Linear(4, 4).double()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = [
            torch.nn.utils.parametrizations.weight_norm(layer()),
            torch.nn.utils.parametrizations.spectral_norm(layer()),
            torch.nn.utils.weight_norm(layer()),
        ]
    pruned = layer()
    torch.nn.utils.prune.random_unstructured(pruned, "weight", 0.5)
    doubled = layer()
    doubled.register_forward_hook(lambda module, args, output: 2 * output)
    for module in (*wrapped, pruned, doubled):
        model = nn.Sequential(module, nn.ReLU(), nn.Linear(4, 3).double()).eval()
        assert torch.equal(attributed("lrp-0", model), X * slope(model))
        assert_complete(model)
        assert all(p.requires_grad for p in model.parameters())


# -- refusals -----------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, cell: nn.Module, steps: bool) -> None:
        super().__init__()
        self.cell, self.steps = cell.double(), steps

    def forward(self, x: Tensor) -> Tensor:
        out = self.cell(x[:, None].expand(-1, 2, -1) if self.steps else x)
        while isinstance(out, tuple):
            out = out[0]
        return logits(out[:, -1] if self.steps else out)


class Attending(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention.double()

    def forward(self, x: Tensor) -> Tensor:
        q = x[:, None] * torch.arange(1.0, 3.0)[:, None].to(x)
        out = self.attention(q, q, q)[0] if isinstance(self.attention, nn.MultiheadAttention) else self.attention(q)
        return logits(out.mean(1))


class Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x > 0


def gated() -> nn.Module:
    """A scripted module whose result has no gradient that would give it away."""
    gate = torch.jit.script(Positive())
    return Net(lambda x: logits(torch.where(gate(hidden(x)), hidden(x), 0.0)), gate)


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> Any:
        return -g[0]


class Silent(torch.autograd.Function):
    """Its forward pass calls nothing that is seen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> Any:
        return -g[0]


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).double().eval()


@torch.no_grad()
def without_gradient(x: Tensor) -> Tensor:
    return hidden(x)


def branching(x: Tensor) -> Tensor:
    h = hidden(x)
    return logits(F.relu(h)) if h.sum() > 0 else logits(h)


def branching_by_number(x: Tensor) -> Tensor:
    h = hidden(x)
    return logits(F.relu(h)) if float(h.sum()) > 0 else logits(h)


def picked(x: Tensor) -> Tensor:
    h = hidden(x)
    return logits(h.gather(1, h.max(1, keepdim=True).indices).expand(-1, 4))


def indexed_by(x: Tensor) -> Tensor:
    h = hidden(x)
    return logits(x[:, h.max(1).indices])


BUFFER = torch.zeros(3, 3).double()

REFUSED: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: Recurrent(nn.LSTM(4, 4, batch_first=True), True),
    "GRU": lambda: Recurrent(nn.GRU(4, 4, batch_first=True), True),
    "RNN": lambda: Recurrent(nn.RNN(4, 4, batch_first=True), True),
    "LSTMCell": lambda: Recurrent(nn.LSTMCell(4, 4), False),
    "GRUCell": lambda: Recurrent(nn.GRUCell(4, 4), False),
    "RNNCell": lambda: Recurrent(nn.RNNCell(4, 4), False),
    "MultiheadAttention": lambda: Attending(nn.MultiheadAttention(4, 2, batch_first=True)),
    "TransformerEncoderLayer": lambda: Attending(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)),
    "scripted": lambda: torch.jit.script(nn.Sequential(small(), nn.Linear(4, 3).double())),
    "scripted inside": lambda: nn.Sequential(torch.jit.script(small()), nn.Linear(4, 3).double()),
    "scripted condition": gated,
    "traced": lambda: torch.jit.trace(nn.Sequential(small(), nn.Linear(4, 3).double()), X),
    "traced inside": lambda: nn.Sequential(
        nn.Linear(4, 4).double(), torch.jit.trace(small(), X), nn.Linear(4, 3).double()
    ),
}
REFUSED_FORMS: dict[str, Forward] = {
    "scaled_dot_product_attention": lambda x: logits(F.scaled_dot_product_attention(*[x[:, None]] * 3)[:, 0]),
    "custom function": lambda x: logits(Reversal.apply(hidden(x))),
    "custom function last": lambda x: Reversal.apply(logits(hidden(x))),
    "custom function that calls nothing": lambda x: logits(Silent.apply(hidden(x))),
    "detach": lambda x: logits(hidden(x).detach()),
    "data": lambda x: logits(hidden(x).data),
    "item": lambda x: logits(x) * hidden(x)[0, 0].item(),
    "tolist": lambda x: logits(torch.tensor(hidden(x).tolist()).double()),
    "float()": lambda x: logits(x) * float(hidden(x)[0, 0]),
    "int()": lambda x: logits(x) * int(hidden(x)[0, 0]),
    "numpy": lambda x: logits(torch.from_numpy(hidden(x).detach().numpy())),
    "asarray": lambda x: logits(torch.from_numpy(np.asarray(hidden(x)))),
    "torch.tensor": lambda x: logits(torch.tensor(hidden(x))),
    "new_tensor": lambda x: logits(x) + x.new_tensor(hidden(x))[:, :3],
    "no_grad": lambda x: logits(x) + without_gradient(x)[:, :3],
    "comparison": lambda x: logits((hidden(x) > 0) * x),
    "where a value": lambda x: logits(torch.where(hidden(x) > 0, hidden(x), 0.0)),
    "control flow": branching,
    "control flow by a number": branching_by_number,
    "cast to integers": lambda x: logits(x) + hidden(x).to(torch.int64).double()[:, :3],
    "type of integers": lambda x: logits(x) + hidden(x).type(torch.int64).double()[:, :3],
    "gather at the maximum": picked,
    "index by the maximum": indexed_by,
    "max_unpool": lambda x: logits(F.max_unpool1d(*F.max_pool1d(x[:, None], 2, return_indices=True), 2)[:, 0]),
    "checkpoint": lambda x: logits(checkpoint(lambda z: F.relu(hidden(z)), x, use_reentrant=False)),
    "checkpointed product": lambda x: logits(checkpoint(lambda z: hidden(z) * z, x, use_reentrant=False)),
    "reentrant checkpoint": lambda x: logits(checkpoint(lambda z: F.relu(hidden(z)), x, use_reentrant=True)),
    "dropout in training": lambda x: logits(F.dropout(hidden(x), 0.5)),
    "batch norm in training": lambda x: logits(F.batch_norm(hidden(x), None, None, training=True)),
    "out=": lambda x: torch.add(logits(hidden(x)), 1.0, out=BUFFER),
    "scatter with reduce": lambda x: logits(hidden(x).scatter(1, torch.zeros(3, 1).long(), x[:, :1], reduce="multiply")),
    "complex": lambda x: logits(torch.fft.fft(hidden(x)).real),
    "vmap": lambda x: torch.vmap(lambda row: logits(F.relu(hidden(row))))(x),
    "native layer norm": lambda x: logits(torch.native_layer_norm(hidden(x), [4], None, None, 1e-5)[0]),
    "a weight that is no parameter": lambda x: logits(hidden(x) * torch.ones(4).double().requires_grad_()),
    **{
        name: (lambda x, f=function: logits(f(hidden(x))))  # type: ignore[misc]
        for name, function in {
            "sort": lambda h: h.sort(1).values, "topk": lambda h: h.topk(4).values, "cummax": lambda h: h.cummax(1)[0],
            "std": lambda h: h / h.std(1, keepdim=True), "var": lambda h: h / h.var(1, keepdim=True),
            "norm": lambda h: h / h.norm(dim=1, keepdim=True), "normalize": F.normalize, "sign": torch.sign,
            "round": torch.round, "floor": torch.floor, "remainder": lambda h: h % 2, "floor division": lambda h: h // 2,
            "prod": lambda h: h * h.prod(1, keepdim=True), "logsumexp": lambda h: h + h.logsumexp(1, keepdim=True),
            "erfinv": lambda h: torch.erfinv(h / 100), "median": lambda h: h + h.median(1, keepdim=True).values,
            "instance norm": lambda h: F.instance_norm(h[:, None])[:, 0], "glu": lambda h: F.glu(torch.cat([h, h], 1)),
        }.items()
    },
}  # fmt: skip


def assert_refused(name: str, model: nn.Module) -> None:
    needs = [p.requires_grad for p in model.parameters()]
    with pytest.raises(Unsupported):
        get_method(name)(model.eval(), X, TARGET, BASE)
    assert [p.requires_grad for p in model.parameters()] == needs and torch.is_grad_enabled()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", REFUSED)
def test_modules_that_hide_their_operations_are_refused(name: str, what: str) -> None:
    assert_refused(name, REFUSED[what]())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", REFUSED_FORMS)
def test_what_cannot_be_followed_is_refused(name: str, what: str) -> None:
    assert_refused(name, Net(REFUSED_FORMS[what]))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_training_mode_is_refused_and_stays_in_it(name: str) -> None:
    for module in (nn.Dropout(), nn.BatchNorm1d(4).double(), nn.RReLU()):
        model = nn.Sequential(nn.Linear(4, 4).double(), module, nn.Linear(4, 3).double()).train()
        with pytest.raises(Unsupported):
            get_method(name)(model, X, TARGET, BASE)
        assert model.training


def test_lrp_refuses_products_and_normalisation_by_the_sample() -> None:
    for function in (
        lambda h: h * h,
        lambda h: torch.softmax(h, 1),
        lambda h: F.layer_norm(h, [4]),
        lambda h: h / (h * h),
    ):
        for name in ("lrp-0", "lrp-epsilon"):
            with pytest.raises(Unsupported):
                attributed(name, lambda x, f=function: logits(f(hidden(x))))


def test_deeplift_refuses_another_path_at_the_baseline() -> None:
    class Growing(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return logits(F.relu(hidden(x)) if self.calls % 2 else torch.tanh(hidden(x)))

    with pytest.raises(Unsupported, match="another path"):
        get_method("deeplift")(Growing(), X, TARGET, BASE)


def test_lrp_refuses_a_value_that_its_gradient_needs_and_the_model_overwrites() -> None:
    def forward(x: Tensor) -> Tensor:
        h = F.relu(hidden(x))
        h += 1
        return logits(h)

    for name in ("lrp-0", "guided-backprop"):
        with pytest.raises(Unsupported, match="overwrites"):
            attributed(name, forward)
    assert_complete(forward)


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_module_runs_as_the_python_it_was_made_of(name: str) -> None:
    inner = small()
    last = nn.Linear(4, 3).double()
    compiled = nn.Sequential(torch.compile(inner, backend="eager"), last)
    compiled(X)  # with a graph for the plain call already there
    counters.clear()
    torch.testing.assert_close(attributed(name, compiled), attributed(name, nn.Sequential(inner, last)))
    assert not counters["frames"]  # nothing of the rules was compiled


# -- DeepLIFT -----------------------------------------------------------------------------------------------------

POOLS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "stride": 1, "dilation": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True},
]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("options", POOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_deeplift_is_complete_on_max_pooling(dims: int, options: dict[str, Any], ties: bool) -> None:
    size = {1: 9, 2: 7, 3: 6}[dims]
    x, base = seeded(2, 2, *[size] * dims, seed=1), seeded(2, 2, *[size] * dims, seed=2)
    if ties:
        x, base = x.round(), base.round()
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[dims]
    order = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    by_place = [options.get(key, {"padding": 0, "dilation": 1, "ceil_mode": False}.get(key)) for key in order]
    weights = seeded(3, pool(x, **options).flatten(1).shape[1], seed=3)

    def logits_of(value: Tensor) -> Tensor:
        return torch.tanh(value).flatten(1) @ weights.T

    forms: list[Forward] = [
        lambda x: pool(x * 1.0, **options),
        lambda x: pool(x * 1.0, *by_place),
        lambda x: pool(x * 1.0, **options, return_indices=True)[0],
        lambda x: pool(input=x * 1.0, **options),
        getattr(nn, f"MaxPool{dims}d")(**options),
    ]
    maps = []
    for form in forms:
        assert_complete(lambda x, form=form: logits_of(form(x)), x, base)
        maps.append(attributed("deeplift", lambda x, form=form: logits_of(form(x)), x, base))
    assert all(torch.equal(found, maps[0]) for found in maps)


MAXIMA: dict[str, Forward] = {
    "max along an axis": lambda h: h.max(2)[0],
    "max by name": lambda h: torch.max(input=h, dim=-1).values,
    "max along numpy's axis": lambda h: torch.max(h, axis=1, keepdims=True)[0].flatten(1),  # type: ignore[call-overload]
    "min keeping the axis": lambda h: h.min(1, True)[0].flatten(1),
    "amax": lambda h: h.amax(-1),
    "amax over two axes": lambda h: h.amax((1, 2), keepdim=True).flatten(1),
    "amin": lambda h: torch.amin(h, dim=1),
    "maximum": lambda h: torch.maximum(h[:, 0], h[:, 1]),
    "minimum": lambda h: torch.minimum(h[:, 0], h[:, 2] * 2),
    "max of two": lambda h: torch.max(h[:, 0], other=h[:, 1]),
    "maximum of broadcasts": lambda h: torch.maximum(h[:, :, :1], h[:, :1]).flatten(1),
    "maximum with itself": lambda h: torch.maximum(h, h).flatten(1),
    "maximum with a constant": lambda h: torch.maximum(h[:, 0, :1], torch.tensor([0.0, 1.0, -1.0]).double()),
    "maximum overwritten": lambda h: torch.maximum(h[:, 0], h[:, 1]).mul_(2).add_(1),
    "amax overwritten": lambda h: h.amax(1).add_(3),
    "maximum of maxima": lambda h: torch.maximum(h.amax(1), h.amin(1) + 1),
}


@pytest.mark.parametrize("form", MAXIMA)
@pytest.mark.parametrize("ties", [False, True])
def test_deeplift_is_complete_on_maxima(form: str, ties: bool) -> None:
    for seed in range(4):
        x, base = seeded(3, 3, 4, seed=seed), seeded(3, 3, 4, seed=seed + 10)
        if ties:
            x, base = (x / 2).round(), (base / 2).round()

        def forward(x: Tensor) -> Tensor:
            out = MAXIMA[form](x * 1.0)
            return out @ torch.linspace(-1, 2, 3 * out.shape[1]).double().reshape(-1, 3)

        assert_complete(forward, x, base)


def test_equal_maxima_share_and_a_maximum_gives_all_to_one_candidate() -> None:
    def attribution(form: Forward, x: list[float], base: list[float]) -> list[float]:
        points = torch.tensor([x]).double(), torch.tensor([base]).double()
        return attributed("deeplift", form, *points, target=torch.tensor([0]))[0].tolist()

    for form in (lambda x: x.amax(1, True), lambda x: torch.maximum(x[:, :1], x[:, 1:]), lambda x: x.max(1, True)[0]):
        assert attribution(form, [2, 1], [0, 3]) == [0, -1]  # fell: to what was the largest
        assert attribution(form, [3, 1], [0, 2]) == [1, 0]  # grew: to what is the largest
        assert attribution(form, [2, 2], [0, 0]) == [1, 1]
        assert attribution(form, [0, 0], [2, 2]) == [-1, -1]


COMPOSED: dict[str, Forward] = {
    "softmax": lambda x: logits(torch.softmax(hidden(x), 1)),
    "softmax by name": lambda x: logits(torch.softmax(input=hidden(x), dim=-1)),
    "softmax overload": lambda x: logits(aten._softmax.default(hidden(x), 1, False)),
    "log_softmax": lambda x: logits(F.log_softmax(hidden(x), 1)),
    "log_softmax last": lambda x: F.log_softmax(logits(x), 1),
    "softmax with an additive mask": lambda x: logits(torch.softmax(hidden(x) + torch.tensor([0, 0, -math.inf, 0]), 1)),
    "softmax with a mask": lambda x: logits(
        torch.softmax(hidden(x).masked_fill(torch.tensor([0, 0, 1, 0]).bool(), -math.inf), 1)
    ),
    "layer_norm": lambda x: logits(F.layer_norm(hidden(x), [4], W1[0], B1)),
    "layer_norm of the input": lambda x: logits(F.layer_norm(x, (4,))),
    "square": lambda x: logits(hidden(x) * hidden(x)),
    "square of itself": lambda x: logits((lambda h: h * h)(hidden(x))),
    "square in place": lambda x: logits((lambda h: h.mul_(h))(hidden(x))),
    "product": lambda x: logits(hidden(x) * torch.tanh(x)),
    "product of broadcasts": lambda x: logits(hidden(x)[:, :1] * torch.tanh(x)),
    "constant product in place": lambda x: logits(torch.ones(4, dtype=x.dtype).repeat(len(x), 1).mul_(hidden(x))),
    "matmul": lambda x: logits((hidden(x)[:, None, :] @ torch.tanh(x)[:, :, None])[:, 0] * torch.ones(4).to(x)),
    "bmm": lambda x: logits(torch.bmm(x[:, :, None], hidden(x)[:, None, :]).sum(1)),
    "einsum": lambda x: logits(torch.einsum("bi,ij,bj->bj", hidden(x), W1, F.relu(x))),
    "bilinear": lambda x: F.bilinear(hidden(x), x, seeded(3, 4, 4, seed=7), B2),
    "quotient": lambda x: logits(hidden(x) / (1 + x * x)),
    "quotient by name": lambda x: logits(torch.div(input=hidden(x), other=2 + torch.tanh(x))),
    "constant by a value": lambda x: logits(W1[0] / (3 + torch.tanh(x))),
    "number by a value": lambda x: logits(2 / (3 + torch.tanh(x))),
    "value by a constant": lambda x: logits(torch.div(input=hidden(x), other=3.0)),
    "quotient in place": lambda x: logits(hidden(x).div_(2 + torch.tanh(x))),
    "pow": lambda x: logits(hidden(x) ** 3 + (1 + x * x) ** -0.5),
    "pow of a number": lambda x: logits(2 ** hidden(x)),
    "pow with many exponents": lambda x: logits(hidden(x)[:, :1] ** torch.tensor([1.0, 2.0, 3.0, 4.0]).to(x)),
    "adjacent nonlinearities": lambda x: logits(torch.sigmoid(torch.tanh(F.relu(F.gelu(hidden(x)))))),
    "cancelling": lambda x: logits(F.relu(hidden(x)) - F.relu(-hidden(x)) - hidden(x)),
    "attention": lambda x: logits(
        (torch.softmax(x[:, :, None] * hidden(x)[:, None, :], -1) @ torch.tanh(x)[:, :, None])[:, :, 0]
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", COMPOSED)
def test_deeplift_is_complete(form: str) -> None:
    assert_complete(COMPOSED[form])
    for share in (1e-3, 1e-6, 1e-9):  # next to the baseline, too
        assert_complete(COMPOSED[form], BASE + share * (X - BASE), BASE)
    some = X.clone()
    some[:, 1:3] = BASE[:, 1:3]
    assert_complete(COMPOSED[form], some)
    assert torch.equal(attributed("deeplift", COMPOSED[form], BASE, BASE), torch.zeros_like(X))


def mean_slope(function: str, z: float, step: float) -> float:
    """(a(z + step) - a(z)) / step in a closed form without cancellation."""
    match function:
        case "tanh":  # tanh u - tanh v = sinh(u - v) / (cosh u cosh v)
            return math.sinh(step) / step / (math.cosh(z + step) * math.cosh(z))
        case "exp":
            return math.exp(z) * math.expm1(step) / step
        case "sigmoid":  # half of tanh at half the argument
            return 0.25 * math.sinh(step / 2) / (step / 2) / (math.cosh((z + step) / 2) * math.cosh(z / 2))
        case "softplus":
            return math.log1p(math.expm1(step) / (1 + math.exp(-z))) / step
        case "square":
            return 2 * z + step
        case "sin":
            return math.cos(z + step / 2) * math.sin(step / 2) / (step / 2)
        case "log":
            return math.log1p(step / z) / step
        case "leaky_relu":
            up, down = max(z + step, 0) - max(z, 0), min(z + step, 0) - min(z, 0)
            return (up + 0.01 * down) / step
    raise ValueError(function)


@pytest.mark.parametrize("function", ["tanh", "exp", "sigmoid", "softplus", "square", "sin", "log", "leaky_relu"])
@pytest.mark.parametrize("z", [1.0, 0.0, 0.3, 1e-4, -0.7, 2.5, 40.0])
def test_difference_quotients_are_accurate_down_to_nothing(function: str, z: float) -> None:
    if function == "log" and z <= 0:
        return
    activation = getattr(torch, function, None) or getattr(F, function)
    for step in (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10, 1e-12):
        base = torch.tensor([[z]], dtype=torch.float64)
        x = base + step
        exact = float(x - base)
        if exact == 0:
            continue
        found = attributed("deeplift", lambda x: activation(x), x, base, target=torch.tensor([0]))
        expected = exact * mean_slope(function, z, exact)
        # The quotient's u |a| / (|a'| step) meets the derivative's error of second order.
        assert float(found) == pytest.approx(expected, rel=3e-9, abs=1e-17 * exact), step


def test_symmetric_inputs_share_where_nothing_changes() -> None:
    # softplus(x1 - x2) at (1, 1) from zeros: z = 0 at both, the derivative stands for 0 / 0.
    x = torch.ones(1, 2).double()
    for form in (lambda x: F.softplus(x[:, :1] - x[:, 1:]), lambda x: torch.sigmoid(x[:, :1] - x[:, 1:]) * 2):
        found = attributed("deeplift", form, x, torch.zeros_like(x), target=torch.tensor([0]))
        torch.testing.assert_close(found, torch.tensor([[0.5, -0.5]]).double(), rtol=1e-15, atol=0)

    def powers(x: Tensor) -> Tensor:  # one value, several exponents: the derivative of each entry by itself
        return ((x[:, :1] - x[:, 1:] + 1) ** torch.tensor([1.0, 2.0, 3.0]).double())[:, 1:2]

    found = attributed("deeplift", powers, x, torch.zeros_like(x), target=torch.tensor([0]))
    assert found.tolist() == [[2.0, -2.0]]


def test_equal_maxima_that_do_not_move_share_the_gradient() -> None:
    x, base = torch.ones(1, 2).double(), torch.zeros(1, 2).double()
    twice = torch.ones(1, 2).double()
    for form in (lambda h: h.amax(1, True), lambda h: h.max(1, True)[0], lambda h: torch.maximum(h[:, :1], h[:, 1:])):
        found = attributed(
            "deeplift", lambda x, f=form: f((x[:, :1] - x[:, 1:]) * twice), x, base, target=torch.tensor([0])
        )
        assert found.tolist() == [[1.0, -1.0]]


def test_where_a_function_cancels_inside_the_derivative_is_the_better_one() -> None:
    # GELU far out is z times a tail that is computed as a difference from 1.
    base = torch.tensor([[-6.0]], dtype=torch.float64)
    for step in (1e-7, 1e-9, 1e-11):
        x = base + step
        found = attributed("deeplift", F.gelu, x, base, target=torch.tensor([0])) / (x - base)
        tail, density = math.erfc(6 / math.sqrt(2)) / 2, math.exp(-18) / math.sqrt(2 * math.pi)
        assert float(found) == pytest.approx(tail - 6 * density, rel=1e-5)


def test_single_precision_quotients_are_complete_where_a_function_is_steep() -> None:
    for x, base in ((10.0, 9.91), (10.0, 9.999), (30.0, 29.9)):
        points = torch.tensor([[x]]), torch.tensor([[base]])
        found = float(attributed("deeplift", torch.exp, *points, target=torch.tensor([0])))
        ends = [math.exp(float(p)) for p in points]
        assert abs(found - (ends[0] - ends[1])) <= 1e-6 * sum(ends)


def test_far_values_that_meet_again_are_no_derivative() -> None:
    # cos has the same value at 0.1 and at 2 pi + 0.1, and another slope half way.
    base = torch.tensor([[0.1]], dtype=torch.float64)
    found = attributed("deeplift", torch.cos, base + 2 * math.pi, base, target=torch.tensor([0]))
    assert abs(float(found)) < 1e-14


# -- LRP ----------------------------------------------------------------------------------------------------------


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


# -- guided backpropagation and DeepLIFT by explicit loops --------------------------------------------------------


def by_hand_guided(x: np.ndarray, target: int) -> np.ndarray:
    """Two hidden layers (the same one twice), loops backwards."""
    w, b, last = W1.numpy(), B1.numpy(), W2.numpy()
    values, sums = [x], []
    for _ in range(2):
        sums.append(np.array([b[j] + sum(w[j, i] * values[-1][i] for i in range(4)) for j in range(4)]))
        values.append(np.array([max(z, 0.0) for z in sums[-1]]))
    g = np.array([last[target, j] for j in range(4)])
    for z in reversed(sums):
        passed = [g[j] if z[j] > 0 and g[j] > 0 else 0.0 for j in range(4)]
        g = np.array([sum(w[j, i] * passed[j] for j in range(4)) for i in range(4)])
    return g


def test_guided_backpropagation_by_explicit_loops() -> None:
    found = attributed("guided-backprop", lambda x: logits(F.relu(hidden(F.relu(hidden(x))))))
    expected = np.stack([by_hand_guided(X[b].numpy(), int(TARGET[b])) for b in range(3)])
    assert (expected != slope(lambda x: logits(F.relu(hidden(F.relu(hidden(x)))))).numpy()).any()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-15)


def by_hand_deeplift(x: np.ndarray, base: np.ndarray, target: int) -> np.ndarray:
    """Multipliers of two layers, softplus after tanh between, by loops."""
    w1, b1, w2 = W1.numpy(), B1.numpy(), W2.numpy()

    def act(z: float) -> float:
        return math.log1p(math.exp(math.tanh(z)))

    result = np.zeros(4)
    for j in range(4):
        z, there = (b1[j] + sum(w1[j, i] * point[i] for i in range(4)) for point in (x, base))
        multiplier = w2[target, j] * (act(z) - act(there)) / (z - there)
        for i in range(4):
            result[i] += w1[j, i] * multiplier * (x[i] - base[i])
    return result


def test_deeplift_by_explicit_loops() -> None:
    found = attributed("deeplift", lambda x: logits(F.softplus(torch.tanh(hidden(x)))))
    expected = np.stack([by_hand_deeplift(X[b].numpy(), BASE[b].numpy(), int(TARGET[b])) for b in range(3)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-14)


def test_guided_backpropagation_without_rectifiers_is_the_gradient() -> None:
    forms: list[Forward] = [
        lambda x: logits(torch.tanh(hidden(x)) * x),
        lambda x: logits(F.layer_norm(F.gelu(hidden(x)), [4]).softmax(1)),
        lambda x: logits(torch.stack([hidden(x), x]).max(0).values),
        lambda x: logits(torch.stack([hidden(x), x]).max(dim=0)[0] + hidden(x).amax(1, True)),
        lambda x: logits(F.threshold(hidden(x), 0.5, 0.0) + hidden(x).clamp(0, 1) + hidden(x).clamp(min=0.1)),
        lambda x: logits(torch.maximum(hidden(x), x) - torch.minimum(hidden(x), torch.zeros(4).to(x))),
        lambda x: logits(2 / (3 + x.sigmoid()) + 1.5 ** hidden(x)),
    ]
    for form in forms:
        torch.testing.assert_close(attributed("guided-backprop", form), slope(form), rtol=1e-14, atol=1e-15)


def test_deeplift_refuses_a_softmax_whose_scales_do_not_meet() -> None:
    """exp underflows at one of the two points, where the other is the largest: no answer rather than NaN."""

    class Far(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(1)

    x = torch.tensor([[1000.0, 999.0]], dtype=torch.float64)
    with pytest.raises(Unsupported, match="too far apart"):
        get_method("deeplift")(Far(), x, torch.tensor([0]), torch.zeros_like(x))
    near = get_method("deeplift")(Far(), x / 2, torch.tensor([0]), torch.zeros_like(x))
    assert torch.isfinite(near).all()
