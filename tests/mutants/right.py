"""What the mutants are made from: right implementations, and the decorator that registers a broken one.

Two ways to change backpropagation stand side by side. `each_call` hooks modules, as most libraries do; `Operations` sees
functions, methods and modules alike. Both treat each call apart, so shared modules, skips and in-place operations are
right in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import attribcheck as ac
import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Mutant:
    """A method that is wrong on purpose.

    kind      the kind of mistake: its group, a colon, and what it is
    breaks    (axiom, family): what the author of the method would claim to hold, and what must fall
    method    the method, declared with its baseline
    """

    name: str
    kind: str
    breaks: tuple[tuple[str, str], ...]
    method: Callable[..., Tensor]


MUTANTS: dict[str, Mutant] = {}


def mutant(
    kind: str, breaks: Sequence[tuple[str, str]], baseline: str | None = None, stochastic: bool = False
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a broken method under its own name."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__
        assert name not in MUTANTS, f"two mutants are called {name}"
        declared = ac.method(baseline=baseline, stochastic=stochastic)(function)
        MUTANTS[name] = Mutant(name, kind, tuple(breaks), declared)
        return declared

    return register


# -- outputs and gradients -----------------------------------------------------------------------------------------


def rows(values: Tensor, x: Tensor) -> Tensor:
    """One figure for each sample [B], to be multiplied with a map [B, *shape]."""
    return values.reshape(-1, *[1] * (x.dim() - 1))


def logit(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The target logits [B]."""
    return model(x).gather(1, target[:, None])[:, 0]


def output(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The target logits [B], without a graph."""
    with torch.no_grad():
        return logit(model, x, target)


def slope_of(objective: Tensor, point: Tensor) -> Tensor:
    """The gradient of a sum of outputs; zero where they do not depend on the point."""
    if not objective.requires_grad:
        return torch.zeros_like(point)
    found = torch.autograd.grad(objective, point, allow_unused=True)[0]
    return torch.zeros_like(point) if found is None else found


def gradient(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    rules: Mapping[str, Rule] | None = None,
    of: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The gradient of the target logits, with other rules for some operations, or of a function of the logits [B, C]."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        with Operations(rules) if rules else nullcontext():
            logits = model(point)
        chosen = logits.gather(1, target[:, None]) if of is None else of(logits)
        return slope_of(chosen.sum(), point)


def gauss(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy((nodes + 1) / 2).to(like), torch.from_numpy(weights / 2).to(like)


def along(model: nn.Module, points: Sequence[Tensor], weights: Tensor, target: Tensor) -> Tensor:
    """A weighted sum of the gradients at some points."""
    total = torch.zeros_like(points[0])
    for point, weight in zip(points, weights):
        total += weight * gradient(model, point, target)
    return total


def integrated(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, n: int = 48) -> Tensor:
    """Integrated gradients, right to rounding on smooth networks."""
    nodes, weights = gauss(n, x)
    return (x - baseline) * along(model, [baseline + t * (x - baseline) for t in nodes], weights, target)


def occlusion(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    """What the output loses when a feature is set to its baseline, for one feature at a time."""
    flat, reference, result = x.flatten(1), baseline.flatten(1), torch.zeros_like(x.flatten(1))
    here = output(model, x, target)
    for i in range(flat.shape[1]):
        without = flat.clone()
        without[:, i] = reference[:, i]
        result[:, i] = here - output(model, without.reshape(x.shape), target)
    return result.reshape(x.shape)


def walk(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, features: int | None = None) -> Tensor:
    """What the output gains when one feature after another goes from its baseline to its value: complete, exactly."""
    flat, point, result = x.flatten(1), baseline.flatten(1).clone(), torch.zeros_like(x.flatten(1))
    before = output(model, baseline, target)
    for i in range(flat.shape[1] if features is None else features):
        point[:, i] = flat[:, i]
        after = output(model, point.reshape(x.shape), target)
        result[:, i], before = after - before, after
    return result.reshape(x.shape)


# -- modified backpropagation --------------------------------------------------------------------------------------

Back = Callable[[Tensor], Tensor]
Rule = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, value: Tensor, back: Back) -> Tensor:
        ctx.back = back
        return value.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(g), None, None


def replaced(z: Tensor, value: Tensor, back: Back) -> Tensor:
    """A value that hands the gradient g which reaches it back to z as back(g)."""
    return _Replaced.apply(z, value.detach(), back)


class Operations(TorchFunctionMode):
    """While it is entered, operations run by the rule of their name: relu is F.relu, x.relu(), x.relu_() and nn.ReLU."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        rule = self.rules.get(getattr(func, "__name__", "").strip("_"))
        kwargs = kwargs or {}
        return rule(func, args, kwargs) if rule and args else func(*args, **kwargs)


ACTIVATIONS = [
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "silu",
    "gelu",
    "mish",
    "tanh",
    "sigmoid",
    "softplus",
    "softsign",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
    "relu6",
    "clamp",
    "clamp_min",
    "clamp_max",
    "abs",
]

ACTIVATION_MODULES = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Hardtanh,
)

Activation = Callable[[Tensor], Tensor]


def derivative(activation: Activation, z: Tensor) -> Tensor:
    """The derivative of an elementwise function at z."""
    with torch.enable_grad():
        point = z.detach().clone().requires_grad_()
        return torch.autograd.grad(activation(point).sum(), point)[0]


def elementwise(back: Callable[[Activation, Tensor, Tensor], Back]) -> Rule:
    """A rule for activations: back(activation, z, a) makes the function that hands gradients back from a to z."""

    def rule(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        z = args[0]
        if not (isinstance(z, Tensor) and z.requires_grad):
            return func(*args, **kwargs)
        copy = z.detach().clone()
        value = func(copy, *args[1:], **kwargs).detach()
        in_place = copy._version > 0
        through = back(lambda t: func(t.clone(), *args[1:], **kwargs), z.detach().clone(), value)
        result = replaced(z.clone() if in_place else z, value, through)
        return z.copy_(result) if in_place else result

    return rule


def slopes(slope: Callable[[Activation, Tensor, Tensor], Tensor]) -> Rule:
    """A rule for activations with slope(activation, z, a) in place of the derivative."""

    def back(activation: Activation, z: Tensor, a: Tensor) -> Back:
        factor = slope(activation, z, a)
        return lambda g: g * factor

    return elementwise(back)


Divide = Callable[[Tensor, Tensor, Tensor], Tensor]


def secant(dz: Tensor, da: Tensor, limit: Tensor) -> Tensor:
    """Rise over run, and its limit where nothing moved."""
    return torch.where(dz != 0, da / torch.where(dz != 0, dz, 1.0), limit)


def secants(n: int, divide: Divide = secant) -> Callable[[Activation, Tensor, Tensor], Tensor]:
    """DeepLIFT's rescale rule on a batch of n samples, followed by their n baselines."""

    def slope(activation: Activation, z: Tensor, a: Tensor) -> Tensor:
        if len(z) != 2 * n:
            return derivative(activation, z)
        return divide(z[:n] - z[n:], a[:n] - a[n:], derivative(activation, z[:n])).repeat(2, *[1] * (z.dim() - 1))

    return slope


def deeplift(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, divide: Divide = secant) -> Tensor:
    """DeepLIFT with the rescale rule, on all activations in whatever form: complete where the rest is affine."""
    rules = dict.fromkeys(ACTIVATIONS, slopes(secants(len(x), divide)))
    both = torch.cat([x, baseline])
    return (x - baseline) * gradient(model, both, torch.cat([target, target]), rules)[: len(x)]


def deeplift_of_modules(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    """DeepLIFT of a model whose modules already run by the rescale rule."""
    both = torch.cat([x, baseline])
    return (x - baseline) * gradient(model, both, torch.cat([target, target]))[: len(x)]


@contextmanager
def each_call(
    model: nn.Module, types: tuple[type[nn.Module], ...], replace: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> Iterator[None]:
    """While it lasts, replace(module, z, a) stands for the output a of each call of modules of some types.

    The module works on a copy: z is what came in, whatever is done in place.
    """
    inputs: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs.append(args[0])
        return (args[0].clone(), *args[1:])

    def after(module: nn.Module, args: tuple[Any, ...], result: Tensor) -> Tensor:
        return replace(module, inputs.pop(), result)

    chosen = [module for module in model.modules() if isinstance(module, types)]
    handles = [h for m in chosen for h in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def by_module(module: nn.Module) -> Activation:
    """An activation module as a function that no hook sees."""
    return lambda t: module.forward(t.clone())


# -- full gradients ------------------------------------------------------------------------------------------------

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)


def constant_of(module: nn.Module) -> Tensor:
    """What a layer gives at zero, for each of its outputs or channels."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
        zero = torch.zeros(1, module.num_features, 1, 1, dtype=module.running_mean.dtype).to(module.running_mean)
        return nn.functional.batch_norm(
            zero, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps
        ).flatten()
    return torch.zeros(()) if module.bias is None else module.bias


def full_gradient(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    constant: Callable[[nn.Module], Tensor] = constant_of,
    rules: Mapping[str, Rule] | None = None,
    calls: Callable[[list[tuple[nn.Module, Tensor]]], list[tuple[nn.Module, Tensor]]] = lambda found: found,
) -> Tensor:
    """Gradient times input, and the terms of all biases spread evenly: adds up to the output of piecewise linear networks.

    Args:
        constant: the constant term of a layer.
        rules: other rules for some operations.
        calls: which calls of layers count.
    """
    found: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, z: Tensor, a: Tensor) -> Tensor:
        found.append((module, a))
        return a.clone()

    with torch.enable_grad(), each_call(model, WEIGHTED, keep):
        point = x.detach().clone().requires_grad_()
        with Operations(rules) if rules else nullcontext():
            chosen = logit(model, point, target).sum()
    if not chosen.requires_grad:
        return torch.zeros_like(x)
    counted = [(module, a) for module, a in calls(found) if a.requires_grad]
    slope, *layers = torch.autograd.grad(chosen, [point, *(a for _, a in counted)], allow_unused=True)
    result = torch.zeros_like(x) if slope is None else x * slope
    for (module, a), g in zip(counted, layers):
        if g is None:
            continue
        bias = constant(module).detach().to(x)
        if bias.dim() and not isinstance(module, nn.Linear) and a.dim() > 2:
            bias = bias.reshape(-1, *[1] * (a.dim() - 2))
        result = result + rows((g * bias).reshape(len(x), -1).sum(1), x) / x[0].numel()
    return result
