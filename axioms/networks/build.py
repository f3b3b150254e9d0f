"""From a network as data to an ordinary nn.Module, and to the values inside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...loading import LogitsOnly
from .layers.kinds import form_of, is_module, kind_of
from .spec import Layer, Network


class BuiltNetwork(nn.Module):
    """The module of a network spec: layers are submodules under their names, everything else is a function."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.steps: list[tuple[str, str, tuple[str, ...]]] = [
            (call.value, call.layer, call.inputs) for call in network.calls
        ]
        self.returns = network.returns
        self.functions: dict[str, tuple[Callable[..., Tensor], Layer, tuple[str, ...]]] = {}
        for name, layer in network.layers.items():
            kind = kind_of(layer)
            if is_module(layer):
                assert kind.module is not None
                self.add_module(name, kind.module(layer))
                continue
            form = form_of(layer)
            own = tuple(setting for setting in form.parameters if layer.get(setting) is not None)
            for setting in own:
                self.register_parameter(f"{name}_{setting}", nn.Parameter(torch.tensor(layer[setting])))
            self.functions[name] = (form.run, layer, own)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map x [B, *shape] to logits [B, C], or to what the network is said to return."""
        values = {"x": x}
        for value, name, inputs in self.steps:
            given = (values[each] for each in inputs)
            if name in self.functions:
                run, layer, own = self.functions[name]
                values[value] = run(layer, {setting: getattr(self, f"{name}_{setting}") for setting in own}, *given)
            else:
                values[value] = getattr(self, name)(*given)
        logits = values[self.steps[-1][0]]
        if self.returns == "tuple":
            return logits, x
        return logits[:, 0] if self.returns == "single" else logits


def build(network: Network, dtype: torch.dtype = torch.float64, device: str = "cpu") -> nn.Module:
    """The network as an nn.Module in eval mode that maps [B, *shape] to logits, on a device, in a dtype."""
    module: nn.Module = BuiltNetwork(network).eval()
    module = module if network.returns == "logits" else LogitsOnly(module).eval()
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


def seen_magnitude(model: nn.Module, x: Tensor, target: Tensor) -> float:
    """What can be seen of the `magnitude` of a model from outside, at x [P, *shape] for the logits target [P].

    The largest |f|, |df/dx| and sum |x df/dx|, numbers without regard to their units, as there: each is a sum over paths, so
    never more than the magnitude. Of a model without gradients only |f|.
    """
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        outputs = model(point.clone()).gather(1, target[:, None])[:, 0]  # a copy: models may overwrite their input
        try:
            (gradient,) = torch.autograd.grad(outputs.sum(), point)
        except RuntimeError:
            gradient = torch.zeros_like(point)
    through = (gradient * point.detach()).abs().flatten(1).sum(1)
    return max(float(each.max()) for each in (outputs.detach().abs(), gradient.abs(), through))
