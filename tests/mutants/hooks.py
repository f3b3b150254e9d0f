"""Mutants that see the wrong things of a network: hooks on modules, and assumptions about its layers.

Each is a right method of `right` with one slip. The docstring says what is wrong and, where it does not show on every
network, in which situation.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from .right import (
    ACTIVATION_MODULES,
    by_module,
    deeplift_of_modules,
    derivative,
    each_call,
    elementwise,
    full_gradient,
    gradient,
    logit,
    mutant,
    replaced,
    secants,
    slope_of,
    slopes,
)

# -- hooks ---------------------------------------------------------------------------------------------------------


@mutant(
    "hooks: one type of activation only",
    breaks=[("completeness/delta", "activations"), ("completeness/delta", "smooth")],
    baseline="given",
)
def hooks_relu_modules_only(model, x, target, baseline):
    """Wrong where other activations stand: DeepLIFT's rule is hooked to nn.ReLU, everything else keeps its gradient."""
    slope = secants(len(x))

    def rescaled(module, z, a):
        factor = slope(by_module(module), z.detach(), a.detach())
        return replaced(z, a, lambda g: g * factor)

    with each_call(model, (nn.ReLU,), rescaled):
        return deeplift_of_modules(model, x, target, baseline)


@mutant(
    "hooks: functions are not seen",
    breaks=[("form-invariance/functional", "relu"), ("equivalence/guided-backprop", "functional")],
)
def guides_modules_only(model, x, target, baseline=None):
    """Wrong where F.relu or x.relu() is called: guided backpropagation is hooked to nn.ReLU modules."""

    def guided(module, z, a):
        return replaced(z, a, lambda g: g.clamp(min=0) * (a > 0))

    with each_call(model, (nn.ReLU,), guided):
        return gradient(model, x, target)


@mutant(
    "hooks: a shared activation overwrites what it kept",
    breaks=[("tying-invariance/activation", "relu")],
    baseline="given",
)
def last_call_of_a_shared_activation(model, x, target, baseline):
    """Wrong where an activation module is called twice on equal shapes: a dict by module knows the last call only."""
    slope, kept = secants(len(x)), {}

    def rescaled(module, z, a):
        kept[module] = own = slope(by_module(module), z.detach(), a.detach())
        return replaced(z, a, lambda g: g * (kept[module] if kept[module].shape == g.shape else own))

    with each_call(model, ACTIVATION_MODULES, rescaled):
        return deeplift_of_modules(model, x, target, baseline)


@mutant(
    "hooks: a shared layer overwrites what it kept",
    breaks=[("tying-invariance/layer", "recurrent")],
)
def last_call_of_a_shared_layer(model, x, target, baseline=None):
    """Wrong where a layer with a bias is called twice: a dict by module counts the bias of the last call only."""
    return full_gradient(model, x, target, calls=lambda found: list(dict(found).items()))


@mutant(
    "hooks: parameters outside of layers are not seen",
    breaks=[("form-invariance/bare", "relu"), ("form-invariance/bare", "conv")],
)
def biases_of_layers_only(model, x, target, baseline=None):
    """Wrong where a model uses its parameters directly: full gradients find biases by the type of a layer."""
    return full_gradient(model, x, target)


@mutant(
    "hooks: in-place operations change what was kept",
    breaks=[("form-invariance/in-place", "relu")],
    baseline="given",
)
def reads_the_input_after_the_call(model, x, target, baseline):
    """Wrong for nn.ReLU(inplace=True): when the forward hook reads the input, it is the output already."""
    slope, handles = secants(len(x)), []

    def rescaled(module, args, a):
        z = args[0]
        factor = slope(by_module(module), z.detach(), a.detach())
        return replaced(z, a, lambda g: g * factor)

    for module in model.modules():
        if isinstance(module, ACTIVATION_MODULES):
            handles.append(module.register_forward_hook(rescaled))
    try:
        return deeplift_of_modules(model, x, target, baseline)
    finally:
        for handle in handles:
            handle.remove()


@mutant(
    "hooks: a skip reads the hooked tensor too",
    breaks=[("equivalence/guided-backprop", "residual")],
)
def guides_at_the_input_of_the_relu(model, x, target, baseline=None):
    """Wrong where a ReLU and something else read one tensor: the hook on it cuts the other's gradients as well."""

    def guided(module, args):
        if args[0].requires_grad:
            args[0].register_hook(lambda g: g.clamp(min=0))

    handles = [m.register_forward_pre_hook(guided) for m in model.modules() if isinstance(m, nn.ReLU)]
    try:
        return gradient(model, x, target)
    finally:
        for handle in handles:
            handle.remove()


@mutant(
    "hooks: two activations in a row",
    breaks=[("completeness/delta", "stacked")],
    baseline="given",
)
def second_activation_in_a_row_left_out(model, x, target, baseline):
    """Wrong where an activation reads an activation: taken for treated already, it keeps its gradient."""
    slope = secants(len(x))

    def rescaled(module, z, a):
        if getattr(z, "treated", False):
            return a
        factor = slope(by_module(module), z.detach(), a.detach())
        result = replaced(z, a, lambda g: g * factor)
        result.treated = True
        return result

    with each_call(model, ACTIVATION_MODULES, rescaled):
        return deeplift_of_modules(model, x, target, baseline)


@mutant(
    "hooks: left behind",
    breaks=[("purity", "relu"), ("memory", "relu")],
)
def leaves_its_hooks_behind(model, x, target, baseline=None):
    """Wrong where there is more than one module: of the hooks that keep activations, the last one only is removed."""
    kept = []
    for module in model.modules():
        handle = module.register_forward_hook(lambda m, args, result: kept.append(result))
    result = gradient(model, x, target)
    handle.remove()
    return result


# -- what looks at the architecture --------------------------------------------------------------------------------


@mutant(
    "architecture: the first layer taken for the only one that reads the input",
    breaks=[("equivalence/gradient", "maximum"), ("equivalence/gradient", "residual")],
)
def only_the_first_layer_reads_the_input(model, x, target, baseline=None):
    """Wrong where the input has other ways into the network: only what passes the first layer with weights counts."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    if not layers:
        return gradient(model, x, target)
    found = []
    handle = layers[0].register_forward_hook(lambda m, args, result: found.append(result) or result.clone())
    try:
        with torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            objective = logit(model, point, target).sum()
    finally:
        handle.remove()
    if not found:
        return torch.zeros_like(x)
    above = slope_of(objective, found[0])
    return slope_of((above.detach() * found[0]).sum(), point) if found[0].requires_grad else torch.zeros_like(x)


@mutant(
    "architecture: the mean over units instead of the sum",
    breaks=[("implementation-invariance/never-active", "relu"), ("implementation-invariance/dead", "relu")],
)
def averages_over_units(model, x, target, baseline=None):
    """Wrong: at each ReLU the gradient is divided by the number of units or channels, so idle ones change the map."""

    def slope(activation, z, a):
        return derivative(activation, z) / (z.shape[1] if z.dim() > 1 else 1)

    return gradient(model, x, target, {"relu": slopes(slope)})


@mutant(
    "architecture: the gradient normalised at each layer",
    breaks=[("implementation-invariance/rescale", "relu"), ("scale-equivariance", "relu")],
)
def normalises_the_gradient_at_each_layer(model, x, target, baseline=None):
    """Wrong: against vanishing, each sample's gradient is brought to length one at each ReLU."""

    def back(activation, z, a):
        slope = derivative(activation, z)

        def normalised(g):
            length = (g * slope).flatten(1).norm(dim=1).reshape(-1, *[1] * (g.dim() - 1))
            return g * slope / torch.where(length > 0, length, 1.0)

        return normalised

    return gradient(model, x, target, {"relu": elementwise(back)})


@mutant(
    "architecture: known layers only",
    breaks=[
        ("implementation-invariance/batchnorm-folding", "linear"),
        ("implementation-invariance/relu-identity", "linear"),
    ],
    baseline="given",
)
def multiplies_the_linear_layers(model, x, target, baseline):
    """Wrong where a network holds anything but nn.Linear in a row: the weights of those are multiplied."""
    weights = [m.weight.detach() for m in model.modules() if isinstance(m, nn.Linear)]
    fits = bool(weights) and weights[0].shape[1] == x[0].numel() and len(weights[-1]) > int(target.max())
    if not fits or any(len(first) != then.shape[1] for first, then in pairwise(weights)):
        return (x - baseline) * gradient(model, x, target)
    product = weights[0]
    for weight in weights[1:]:
        product = weight @ product
    return (x - baseline) * product[target].reshape(x.shape)
