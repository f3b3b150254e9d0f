"""What the engine of modified backpropagation cannot follow it refuses, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from attribcheck import Unsupported, get_method
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..support.engine_models import BASE, NAMES, TARGET, Forward, Net, X, assert_complete, attributed, hidden, logits


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
            "glu": lambda h: F.glu(torch.cat([h, h], 1)),
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


@pytest.mark.parametrize("name", [name for name in NAMES if name != "guided-backprop"])
def test_instance_normalisation_has_a_rule_for_gradients_alone(name: str) -> None:
    model = Net(lambda x: logits(F.instance_norm(hidden(x)[:, None])[:, 0]))
    assert_refused(name, model)
    guided, gradient = (get_method(other)(model, X, TARGET) for other in ("guided-backprop", "gradient"))
    assert torch.equal(guided, gradient)


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
