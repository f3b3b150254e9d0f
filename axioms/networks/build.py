"""From a network as data to an ordinary nn.Module, and to the values inside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .kinds import is_module, kind_of
from .spec import Network


class BuiltNetwork(nn.Module):
    """The module of a network spec: layers are submodules under their names, everything else is a function."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.steps: list[tuple[str, str, tuple[str, ...]]] = [
            (call.value, call.layer, call.inputs) for call in network.calls
        ]
        self.functions: dict[str, Callable[..., Tensor]] = {}
        for name, layer in network.layers.items():
            kind = kind_of(layer)
            if is_module(layer):
                assert kind.module is not None
                self.add_module(name, kind.module(layer))
            else:
                self.functions[name] = _bound(kind.apply, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, *shape] to logits [B, C]."""
        values = {"x": x}
        for value, layer, inputs in self.steps:
            function = self.functions.get(layer) or getattr(self, layer)
            values[value] = function(*(values[name] for name in inputs))
        return values[self.steps[-1][0]]


def _bound(apply: Callable[..., Tensor], layer: object) -> Callable[..., Tensor]:
    return lambda *inputs: apply(layer, *inputs)


def build(network: Network, dtype: torch.dtype = torch.float64, device: str = "cpu") -> nn.Module:
    """The network as an nn.Module in eval mode, on a device, in a dtype."""
    module = BuiltNetwork(network).eval()
    return module if (dtype, device) == (torch.float64, "cpu") else module.to(device=device, dtype=dtype)


def values(network: Network, x: Tensor) -> dict[str, Tensor]:
    """Every value of the forward pass at x [P, *shape], by name, computed from the spec without any module."""
    computed = {"x": x}
    for call in network.calls:
        layer = network.layers[call.layer]
        computed[call.value] = kind_of(layer).apply(layer, *(computed[name] for name in call.inputs))
    return computed


def evaluate(network: Network, x: Tensor) -> Tensor:
    """The output [P, C] at x [P, *shape], computed from the spec without any module."""
    return values(network, x)[network.output]


def magnitude(network: Network, x: Tensor) -> float:
    """A bound on the sums of absolute values over all paths of the network at x [P, *shape].

    The larger of the output and the input gradient of the network with absolute weights and |x|. Rounding errors of
    the function, of its gradient, and of what is composed of both are a small multiple of the unit roundoff times this.
    A path through a factor of a product has the size of the other factor as a weight, so sizes are bounded on the way.
    """
    with torch.enable_grad():
        point = x.detach().abs().to(torch.float64).requires_grad_()
        bounds = {"x": (point.detach(), point)}
        for call in network.calls:
            layer = network.layers[call.layer]
            kind, inputs = kind_of(layer), [bounds[name] for name in call.inputs]
            sizes, sums = ([part[k] for part in inputs] for k in (0, 1))
            if kind.bounded is not None:
                bounds[call.value] = kind.bounded(layer, sizes, sums)
            else:
                twin = kind.absolute(layer)
                apply = kind_of(twin).apply
                bounds[call.value] = apply(twin, *sizes), apply(twin, *sums)
        output = bounds[network.output][1]
        (gradient,) = torch.autograd.grad(output.sum(), point, allow_unused=True)
    largest = float(output.detach().max())
    return largest if gradient is None else max(largest, float(gradient.max()))
