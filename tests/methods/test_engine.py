"""The engine of modified backpropagation: rows of a batch do not meet, and nothing stays behind."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from attribcheck import Unsupported, get_method
from torch import Tensor, nn
from torch.nn import functional as F

from ..support.engine_models import (
    BASE,
    NAMES,
    TARGET,
    Net,
    X,
    assert_complete,
    attributed,
    hidden,
    logits,
    seeded,
    skip,
    slope,
)


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
    assert attributed(name, skip, X[:0], BASE[:0]).shape == (0, 4)
    assert torch.equal(attributed(name, lambda x: torch.ones(len(x), 3).to(x)), torch.zeros_like(X))
    assert torch.equal(attributed(name, lambda x: torch.ones_like(x)), torch.zeros_like(X))
    scale = {"guided-backprop": 1.0, "deeplift": X - BASE}.get(name, X)
    expected = scale * F.one_hot(TARGET, 4)
    torch.testing.assert_close(attributed(name, lambda x: x), expected.double())
    torch.testing.assert_close(attributed(name, lambda x: x[:, :3]), expected.double())


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
    exact = attributed(name, skip)
    found = attributed(name, skip, X.float(), BASE.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_does_not_matter(name: str, mode: Any) -> None:
    expected = attributed(name, skip)
    with mode():
        found = attributed(name, skip, X.clone(), BASE.clone())
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
