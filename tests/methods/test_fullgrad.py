"""Full gradients: the decomposition adds up for every kind of operation, its terms are the biases, and maps of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attribcheck.errors import Unsupported
from attribcheck.methods.backprop.places import spread
from attribcheck.methods.fullgrad import fullgrad, fullgrad_complete, fullgrad_decomposition
from torch import Tensor, nn
from torch.nn import functional as F

T0 = torch.tensor([0])


class Of(nn.Module):
    """A model of a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _written(x: Tensor) -> Tensor:
    h = torch.full((len(x), 4), 7.0, dtype=x.dtype)
    h[:, 1:] = x
    return h.sum(1, keepdim=True)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "products": lambda x: x[:, :1] * x[:, 1:2] * (x[:, 2:] + 1),
    "quotients": lambda x: x[:, :1] / (1 + x[:, 1:2] ** 2),
    "maxima": lambda x: torch.maximum(x[:, :1], torch.tensor(0.5)) + x.amax(1, keepdim=True),
    "clamps": lambda x: x.clamp(-0.5, 0.75).sum(1, keepdim=True) + F.hardtanh(2 * x).sum(1, keepdim=True),
    "activations": lambda x: (x.tanh() + x.sigmoid() + F.softplus(x) + F.gelu(x) + F.elu(x) + x.exp()).sum(
        1, keepdim=True
    ),
    "in place": lambda x: (2 * x).add_(1.0).relu_().add(0.5).sub_(3.0).sigmoid_().sum(1, keepdim=True),
    "softmax and norm": lambda x: F.layer_norm(x, (3,)).softmax(1) @ torch.ones(3, 1, dtype=x.dtype),
    "constants beside": lambda x: torch.cat([x, torch.full((len(x), 2), 5.0, dtype=x.dtype)], 1).sum(1, keepdim=True),
    "constants written around": _written,
    "padding": lambda x: F.pad(x, (1, 1), value=2.0).sum(1, keepdim=True),
    "kinks": lambda x: (F.relu(0 * x) + (0 * x).abs() + F.relu(x - x) + 1).sum(1, keepdim=True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_decomposition_is_complete(name: str) -> None:
    torch.manual_seed(0)
    x, target = torch.randn(4, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    model = Of(FUNCTIONS[name])
    term, biases = fullgrad_decomposition(model, x, target)
    total = term.sum(1) + sum(bias.term.flatten(1).sum(1) for bias in biases)
    torch.testing.assert_close(total, model(x)[:, 0])
    torch.testing.assert_close(fullgrad_complete(model, x, target).sum(1), model(x)[:, 0])


def test_recurrent_cells_that_hide_their_gates_are_complete_too() -> None:
    torch.manual_seed(0)
    cell, head = nn.LSTM(3, 4, batch_first=True).double(), nn.Linear(4, 2).double()
    model, x = Of(lambda x: head(cell(x)[0][:, -1])), torch.randn(2, 5, 3, dtype=torch.float64)
    model.cell, model.head = cell, head
    target = torch.tensor([0, 1])
    torch.testing.assert_close(
        fullgrad_complete(model, x, target).flatten(1).sum(1), model(x).gather(1, target[:, None])[:, 0].detach()
    )


def test_terms_are_the_parameters_times_their_gradients() -> None:
    torch.manual_seed(0)
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(3, 2)).double()
    x = torch.randn(1, 3, dtype=torch.float64)
    _, biases = fullgrad_decomposition(net, x, T0)
    net(x)[0, 0].backward()
    assert [bias.operation for bias in biases] == ["linear"] * 3
    by_hand = (shared.bias * shared.bias.grad).sum() + (net[4].bias * net[4].bias.grad).sum()  # type: ignore[operator]
    torch.testing.assert_close(sum(bias.term.sum() for bias in biases), by_hand.detach())


def test_implicit_biases_of_normalisation_and_activation() -> None:
    norm = nn.BatchNorm1d(2).double().eval()
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0]).double(), torch.tensor([4.0, 0.25]).double()
    _, biases = fullgrad_decomposition(nn.Sequential(norm, nn.Tanh()), torch.tensor([[2.0, 2.5]]).double(), T0)
    torch.testing.assert_close(biases[0].bias, torch.tensor([[-0.5, -4.0]]).double(), rtol=1e-4, atol=1e-4)
    z = torch.tensor(0.5).double()
    torch.testing.assert_close(biases[1].bias[0, 0], z.tanh() - z * (1 - z.tanh() ** 2), rtol=1e-4, atol=1e-4)


def test_worked_values_of_the_complete_map() -> None:
    net = nn.Linear(2, 1).double()
    net.weight.data, net.bias.data = torch.tensor([[3.0, -1.0]]).double(), torch.tensor([4.0]).double()
    assert fullgrad_complete(net, torch.tensor([[1.0, 2.0]]).double(), T0).tolist() == [[5.0, 0.0]]


@pytest.mark.parametrize(("sources", "places"), [(1, 4), (2, 4), (3, 4), (4, 4), (7, 3), (9, 2)])
def test_spreading_keeps_the_total(sources: int, places: int) -> None:
    torch.manual_seed(0)
    values, x = torch.randn(2, sources, 3, dtype=torch.float64), torch.zeros(2, 2, places, 5, dtype=torch.float64)
    result = spread(values, (2, 3), x)
    assert result.shape == x.shape
    torch.testing.assert_close(result.flatten(1).sum(1), values.flatten(1).sum(1))
    torch.testing.assert_close(result[:, 0], result[:, 1])


def test_the_saliency_map_by_hand() -> None:
    conv = nn.Conv1d(1, 1, 1).double()
    conv.weight.data, conv.bias.data = torch.tensor([[[2.0]]]).double(), torch.tensor([-1.0]).double()
    head = nn.Linear(3, 1, bias=False).double()
    head.weight.data = torch.tensor([[1.0, -2.0, 3.0]]).double()
    net, x = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), head), torch.tensor([[[1.0, 2.0, 0.0]]]).double()
    # x * gradient = (2, -8, 0); bias * gradient = (-1, 2, 0): of the sizes (2, 8, 0) and (1, 2, 0), to [0, 1]
    assert fullgrad(net, x, T0).tolist() == [[[0.75, 2.0, 0.0]]]
    assert fullgrad(net, x, T0, rescale=False).tolist() == [[[3.0, 10.0, 0.0]]]
    assert fullgrad(net, x, T0, rescale=False, absolute=False).tolist() == [[[1.0, -6.0, 0.0]]]


def test_the_size_of_dense_biases_is_no_measure_of_rounding() -> None:
    """Two dense layers whose large biases cancel, and the one layer that they are together."""
    torch.manual_seed(0)
    conv, first, second = nn.Conv1d(1, 2, 2), nn.Linear(4, 2), nn.Linear(2, 1, bias=False)
    first.bias.data, second.weight.data = torch.tensor([1e9, 1e9]), torch.tensor([[1.0, -1.0]])
    fused = nn.Linear(4, 1, bias=False)
    fused.weight.data = first.weight.data[:1] - first.weight.data[1:]
    x = torch.randn(1, 1, 3, dtype=torch.float64)
    one = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), fused).double()
    expected = fullgrad(one, x, T0)
    assert expected.amax() > 1
    two = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), first, second).double()
    torch.testing.assert_close(fullgrad(two, x, T0), expected, rtol=1e-5, atol=1e-5)


def test_refusals() -> None:
    with pytest.raises(Unsupported, match="no convolution"):
        fullgrad(nn.Linear(2, 2), torch.ones(1, 2), T0)

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, z: Tensor) -> Tensor:
            return z + 1

        @staticmethod
        def backward(ctx: object, *g: Tensor) -> Tensor:
            return g[0]

    with pytest.raises(Unsupported, match=r"hides its operations|switches gradients off"):
        fullgrad_complete(Of(lambda x: Custom.apply(x) * 2), torch.ones(1, 2), T0)  # type: ignore[no-untyped-call]
    with pytest.raises(Unsupported, match="scripted"):
        fullgrad_complete(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), torch.ones(1, 2), T0)
