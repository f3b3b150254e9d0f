"""Mutants that go wrong on the way through the model: hooks, rules of operations, pooling, layers, and state left behind.

Each is a right method of `right` with one slip. The docstring says what is wrong and, where it does not show on every
network, in which situation.
"""

from __future__ import annotations

import hashlib
import weakref
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .right import (
    ACTIVATION_MODULES,
    ACTIVATIONS,
    by_module,
    constant_of,
    deeplift,
    deeplift_of_modules,
    derivative,
    each_call,
    elementwise,
    full_gradient,
    gradient,
    integrated,
    logit,
    mutant,
    occlusion,
    output,
    replaced,
    secants,
    slope_of,
    slopes,
    walk,
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


# -- rules of operations -------------------------------------------------------------------------------------------


@mutant(
    "rules: every activation taken for a ReLU",
    breaks=[("equivalence/gradient", "activations"), ("equivalence/gradient", "smooth")],
)
def every_activation_is_a_relu(model, x, target, baseline=None):
    """Wrong for all activations but ReLU: gradients pass where the activation's input is positive."""
    return gradient(model, x, target, dict.fromkeys(ACTIVATIONS, slopes(lambda activation, z, a: (z > 0).to(z))))


@mutant(
    "rules: a parameter's default assumed",
    breaks=[("equivalence/gradient", "activations")],
)
def assumes_the_default_slope(model, x, target, baseline=None):
    """Wrong for LeakyReLU and PReLU with another slope than 0.01 on their negative side."""
    rule = slopes(lambda activation, z, a: torch.where(z > 0, torch.ones_like(z), 0.01))
    return gradient(model, x, target, {"leaky_relu": rule, "prelu": rule})


@mutant(
    "rules: a clamp taken for the identity",
    breaks=[("equivalence/gradient", "activations")],
)
def clamps_pass_everything(model, x, target, baseline=None):
    """Wrong where clamp, Hardtanh or ReLU6 cut: their gradient passes straight through."""
    rule = slopes(lambda activation, z, a: torch.ones_like(z))
    return gradient(model, x, target, dict.fromkeys(("clamp", "clip", "hardtanh", "relu6"), rule))


@mutant(
    "rules: the bias left out of a denominator",
    breaks=[("equivalence/lrp-0", "relu"), ("equivalence/lrp-0", "conv")],
)
def biases_share_their_relevance(model, x, target, baseline=None):
    """Wrong where there are biases: LRP-0 divides by the sum of the inputs' shares and not by the pre-activation."""

    def rule(func, args, kwargs):
        whole = func(*args, **kwargs)
        point, weight, bias, *rest = (*args, kwargs.get("bias")) if len(args) == 2 else args
        if bias is None:
            return whole
        shares = func(point, weight, None, *rest, **{k: v for k, v in kwargs.items() if k != "bias"})
        factor = torch.where(shares != 0, whole / torch.where(shares != 0, shares, 1.0), 1.0).detach()
        return replaced(shares, whole, lambda g: g * factor)

    return x * gradient(model, x, target, dict.fromkeys(("linear", "conv1d", "conv2d"), rule))


@mutant(
    "rules: a maximum without a rule",
    breaks=[("completeness/delta", "maximum"), ("completeness/delta", "maxpool")],
    baseline="given",
)
def maxima_keep_their_gradient(model, x, target, baseline):
    """Wrong where the winner changes between baseline and input: DeepLIFT leaves maxima and max-pooling as they are."""
    return deeplift(model, x, target, baseline)


@mutant(
    "rules: denominators taken for constants",
    breaks=[("equivalence/gradient", "ratios"), ("equivalence/gradient", "normalised")],
)
def denominators_are_constants(model, x, target, baseline=None):
    """Wrong for quotients and LayerNorm: no gradient flows through a denominator, so that relevance is conserved."""

    def quotient(func, args, kwargs):
        others = [a.detach() if isinstance(a, Tensor) else a for a in args[1:]]
        return func(args[0], *others, **kwargs)

    def layer_norm(func, args, kwargs):
        z, shape = args[:2]
        axes = tuple(range(-len(shape), 0))
        centred = z - z.mean(axes, keepdim=True)
        value = func(*args, **kwargs).detach()
        # the factor between what is centred and what comes out, without the bias
        weight = args[2] if len(args) > 2 else kwargs.get("weight")
        epsilon = args[4] if len(args) > 4 else kwargs.get("eps", 1e-5)
        linear = centred / (centred.detach().square().mean(axes, keepdim=True) + epsilon).sqrt()
        linear = linear if weight is None else linear * weight
        return value + linear - linear.detach()

    rules = {**dict.fromkeys(("div", "divide", "truediv", "true_divide"), quotient), "layer_norm": layer_norm}
    return gradient(model, x, target, rules)


@mutant(
    "rules: attention weights taken for constants",
    breaks=[("equivalence/gradient", "attention")],
)
def softmax_is_a_constant(model, x, target, baseline=None):
    """Wrong where a softmax stands inside the network: its output is detached, as if the weights were given."""
    rules = {
        "softmax": lambda func, args, kwargs: func(*args, **kwargs).detach(),
        "scaled_dot_product_attention": lambda func, args, kwargs: func(
            *(part.detach() for part in args[:2]), *args[2:], **kwargs
        ),
    }
    return gradient(model, x, target, rules)


@mutant(
    "rules: one factor taken for a gate",
    breaks=[("equivalence/gradient", "product")],
)
def the_second_factor_is_a_gate(model, x, target, baseline=None):
    """Wrong for products of two values that depend on the input: the second one is taken for a constant."""

    def rule(func, args, kwargs):
        a, b = args[:2]
        both = all(isinstance(t, Tensor) and t.requires_grad and not isinstance(t, nn.Parameter) for t in (a, b))
        return func(a, b.detach() if both else b, *args[2:], **kwargs)

    return gradient(model, x, target, dict.fromkeys(("mul", "multiply"), rule))


@mutant(
    "rules: kernels not flipped",
    breaks=[("equivalence/gradient", "conv"), ("equivalence/gradient", "gap")],
)
def kernels_are_not_flipped(model, x, target, baseline=None):
    """Wrong for convolutions with kernels of more than one place: a backward pass written by hand correlates again."""

    def rule(func, args, kwargs):
        point, weight, bias, *rest = args
        whole = func(point, weight, bias, *rest, **kwargs).detach()
        flipped = func(point, weight.flip(tuple(range(2, weight.dim()))), None, *rest, **kwargs)
        return whole + flipped - flipped.detach()

    return gradient(model, x, target, dict.fromkeys(("conv1d", "conv2d"), rule))


@mutant(
    "rules: a constant that is not the parameter called bias",
    breaks=[("implementation-invariance/batchnorm-folding", "relu"), ("completeness/output", "normalised")],
)
def batch_norm_has_its_bias_only(model, x, target, baseline=None):
    """Wrong for BatchNorm: full gradients take its parameter `bias` for its constant, and forget the running mean."""

    def bias(module):
        return constant_of(module) if module.bias is None else module.bias

    return full_gradient(model, x, target, bias)


# -- pooling -------------------------------------------------------------------------------------------------------


@mutant(
    "pooling: overlapping windows overwrite each other",
    breaks=[("equivalence/gradient", "maxpool"), ("implementation-invariance/max-as-relus", "maxpool")],
)
def overlapping_windows_overwrite(model, x, target, baseline=None):
    """Wrong where one value wins two windows: as in max-unpooling, the last gradient that is written stays."""

    def pooled(with_indices):
        def rule(func, args, kwargs):
            kwargs = {k: v for k, v in kwargs.items() if k != "return_indices"}
            z = args[0]
            value, index = with_indices(z.detach(), *args[1:], **kwargs)
            axes = 2 if index.dim() == z.dim() and z.dim() > 2 else 1

            def back(g):
                return (
                    torch.zeros_like(z)
                    .flatten(axes)
                    .scatter_(-1, index.flatten(axes), g.flatten(axes))
                    .reshape(z.shape)
                )

            return replaced(z, value, back)

        return rule

    rules = {"max_pool1d": pooled(F.max_pool1d_with_indices), "max_pool2d": pooled(F.max_pool2d_with_indices)}
    return gradient(model, x, target, rules)


def _by_windows(padding_value, choose):
    """A rule for max-pooling in which choose(entries [B, C, K, windows], maxima) tells which entries of a window win."""

    def rule(func, args, kwargs):
        value = func(*args, **kwargs)
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = {**dict(zip(names, args)), **kwargs}
        z = given["input"]
        axes = 1 if func.__name__ == "max_pool1d" else 2
        kernel, stride, padding, dilation = (
            _pair(given.get(name) or default, axes, k)
            for name, default, k in (
                ("kernel_size", 1, 1),
                ("stride", given["kernel_size"], 1),
                ("padding", 0, 0),
                ("dilation", 1, 1),
            )
        )
        images = z.detach() if axes == 2 else z.detach()[..., None, :]
        if images.dim() != 4:
            return value
        padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0]), value=padding_value)
        options = {"kernel_size": kernel, "stride": stride, "dilation": dilation}
        entries = F.unfold(padded, **options).reshape(*images.shape[:2], kernel[0] * kernel[1], -1)
        if entries.shape[-1] != value[0, 0].numel():
            return value  # windows that hang over the edge
        wins = choose(entries)

        def back(g):
            shares = (wins * g.flatten(2)[:, :, None]).flatten(1, 2)
            folded = F.fold(shares, padded.shape[-2:], **options)
            inner = folded[..., padding[0] : padding[0] + images.shape[-2], padding[1] : padding[1] + images.shape[-1]]
            return inner.reshape(z.shape)

        return replaced(z, value, back)

    return rule


def _pair(value, axes, missing):
    """An option of pooling for rows and columns; in one dimension there is one row."""
    value = (value,) if isinstance(value, int) else tuple(value)
    return (missing, value[0]) if axes == 1 else value * (2 // len(value))


@mutant(
    "pooling: padded with zeros",
    breaks=[("equivalence/gradient", "maxpool")],
)
def padding_wins_the_maximum(model, x, target, baseline=None):
    """Wrong for max-pooling with padding over negative values: it is padded with zeros, which win at the border."""
    rule = _by_windows(0.0, lambda e: F.one_hot(e.argmax(2), e.shape[2]).transpose(2, 3).to(e))
    return gradient(model, x, target, {"max_pool1d": rule, "max_pool2d": rule})


@mutant(
    "pooling: each of several maxima gets everything",
    breaks=[("completeness/output", "maxpool")],
)
def tied_maxima_all_win(model, x, target, baseline=None):
    """Wrong where entries of a window tie and are passed on: full gradients hand each of them the whole gradient."""
    rule = _by_windows(-torch.inf, lambda e: (e == e.amax(2, keepdim=True)).to(e))
    return full_gradient(model, x, target, rules={"max_pool1d": rule, "max_pool2d": rule})


@mutant(
    "pooling: averages undone by upsampling",
    breaks=[("equivalence/gradient", "avgpool")],
)
def average_pooling_by_upsampling(model, x, target, baseline=None):
    """Wrong where windows overlap, leave places out or differ in size: each place gets its nearest window's share."""

    def rule(func, args, kwargs):
        z = args[0]
        value = func(*args, **kwargs)
        if z.dim() != (3 if func.__name__.endswith("1d") else 4):
            return value
        share = value[0, 0].numel() / z[0, 0].numel()
        return replaced(z, value, lambda g: share * F.interpolate(g, size=z.shape[2:], mode="nearest"))

    names = ("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d")
    return gradient(model, x, target, dict.fromkeys(names, rule))


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


# -- state and memory ----------------------------------------------------------------------------------------------

_LAST: dict[str, object] = {}


@mutant(
    "state: a cache that forgets the model",
    breaks=[("scale-equivariance", "relu"), ("class-sensitivity/parity", "relu")],
    baseline="given",
)
def caches_by_the_input_alone(model, x, target, baseline):
    """Wrong when another model explains the same inputs next: the last map is kept by x, target and baseline alone."""
    parts = (x, target, baseline)
    key = hashlib.sha256(b"|".join(part.detach().cpu().contiguous().numpy().tobytes() for part in parts)).hexdigest()
    if _LAST.get("key") != (key, x.shape, x.dtype, x.device):
        _LAST.update(key=(key, x.shape, x.dtype, x.device), map=walk(model, x, target, baseline))
    return _LAST["map"].clone()


_WORKSPACES: weakref.WeakKeyDictionary[nn.Module, dict[torch.Size, Tensor]] = weakref.WeakKeyDictionary()


@mutant(
    "state: a workspace that is not cleared",
    breaks=[("repeat-determinism", "relu"), ("repeat-determinism", "linear")],
    baseline="given",
)
def never_clears_its_workspace(model, x, target, baseline):
    """Wrong from the second call for a model on: the map is added to the one before, in a workspace kept by shape."""
    workspace = _WORKSPACES.setdefault(model, {}).setdefault(x.shape, torch.zeros_like(x))
    workspace += walk(model, x, target, baseline)
    return workspace.clone()


_NOISE = torch.Generator().manual_seed(0)


@mutant(
    "state: a generator of its own that goes on",
    breaks=[("repeat-determinism", "smooth")],
)
def goes_on_drawing_noise(model, x, target, baseline=None):
    """Wrong on curved functions: gradients are averaged over noise from a private generator, declared deterministic."""
    noises = [torch.randn(x.shape, generator=_NOISE, dtype=x.dtype).to(x) for _ in range(4)]
    return torch.stack([gradient(model, x + 0.1 * noise, target) for noise in noises]).mean(0)


@mutant(
    "state: the global generator reseeded",
    breaks=[("purity", "relu"), ("purity", "smooth")],
    stochastic=True,
)
def seeds_the_global_generator(model, x, target, baseline=None):
    """Wrong: to be reproducible, it seeds the generator that its caller draws from too."""
    torch.manual_seed(20240229)
    return torch.stack([gradient(model, x + 0.1 * torch.randn_like(x), target) for _ in range(4)]).mean(0)


@mutant(
    "state: the global generator consumed",
    breaks=[("purity", "relu"), ("purity", "linear")],
    baseline="given",
)
def draws_numbers_that_do_not_matter(model, x, target, baseline):
    """Wrong: features are occluded in a random order, which leaves the map as it is but moves the caller's generator."""
    order = torch.randperm(x[0].numel())
    flat, result = x.flatten(1), torch.zeros_like(x.flatten(1))
    here = output(model, x, target)
    for i in order.tolist():
        without = flat.clone()
        without[:, i] = baseline.flatten(1)[:, i]
        result[:, i] = here - output(model, without.reshape(x.shape), target)
    return result.reshape(x.shape)


@mutant(
    "state: the mode changed",
    breaks=[("purity", "relu")],
)
def leaves_training_mode_behind(model, x, target, baseline=None):
    """Wrong: it switches to eval mode and, when done, to training mode, whatever the mode was."""
    model.eval()
    result = gradient(model, x, target)
    model.train()
    return result


@mutant(
    "state: statistics of the batch",
    breaks=[("purity", "normalised"), ("equivalence/gradient", "normalised")],
)
def runs_in_training_mode(model, x, target, baseline=None):
    """Wrong for BatchNorm and two samples or more: it runs in training mode, which moves the running statistics."""
    before = model.training
    model.train(before or len(x) > 1)
    result = gradient(model, x, target)
    model.train(before)
    return result


@mutant(
    "state: parameters frozen",
    breaks=[("purity", "relu"), ("purity", "conv")],
)
def freezes_the_parameters(model, x, target, baseline=None):
    """Wrong: to save memory it switches off the gradients of the parameters, and does not switch them on again."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return gradient(model, x, target)


@mutant(
    "state: gradients of the parameters filled",
    breaks=[("purity", "relu"), ("purity", "linear")],
)
def fills_the_gradients_of_the_parameters(model, x, target, baseline=None):
    """Wrong: backward() adds to the .grad of every parameter."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        (logit(model, point, target).sum() + 0 * point.sum()).backward()
    return point.grad


@mutant(
    "state: the input's gradient not zeroed",
    breaks=[("repeat-determinism", "relu"), ("purity", "relu")],
)
def adds_to_the_inputs_gradient(model, x, target, baseline=None):
    """Wrong from the second call with one tensor on: the caller's x is the leaf, and its .grad is never zeroed."""
    with torch.enable_grad():
        x.requires_grad_()
        (logit(model, x, target).sum() + 0 * x.sum()).backward(inputs=[x])
    return x.grad.clone()


@mutant(
    "state: the caller's input changed",
    breaks=[("sensitivity-n/1", "relu"), ("purity", "relu")],
    baseline="given",
)
def occludes_in_the_callers_tensor(model, x, target, baseline):
    """Wrong: flatten returns a view, and so does what is kept to be put back: features stay at their baseline."""
    flat, result = x.flatten(1), torch.zeros_like(x.flatten(1))
    here = output(model, x, target)
    for i in range(flat.shape[1]):
        kept = flat[:, i]
        flat[:, i] = baseline.flatten(1)[:, i]
        result[:, i] = here - output(model, flat.reshape(x.shape), target)
        flat[:, i] = kept
    return result.reshape(x.shape)


@mutant(
    "state: the caller's baseline changed",
    breaks=[("purity", "smooth"), ("purity", "relu")],
    baseline="given",
)
def walks_in_the_callers_baseline(model, x, target, baseline):
    """Wrong where x and baseline differ: the point that walks along the path is the caller's baseline."""
    n = 20
    step, point, total = (x - baseline) / n, baseline, torch.zeros_like(x)
    point += step / 2
    for _ in range(n):
        total += step * gradient(model, point, target)
        point += step
    return total


@mutant(
    "state: a buffer registered",
    breaks=[("purity", "relu"), ("purity", "conv")],
    baseline="given",
)
def registers_its_baseline(model, x, target, baseline):
    """Wrong: it keeps the baseline as a buffer of the model, which is saved and loaded with it from then on."""
    model.register_buffer("attribution_baseline", baseline.clone())
    return integrated(model, x, target, model.attribution_baseline)


_GRAPHS: list[Tensor] = []


@mutant(
    "memory: every graph kept",
    breaks=[("memory", "relu"), ("memory", "conv")],
    baseline="given",
)
def keeps_every_graph(model, x, target, baseline):
    """Wrong: a log of the outputs, with their graphs, grows with each call."""
    with torch.enable_grad():
        _GRAPHS.append(logit(model, x.clone().requires_grad_(), target))
    return occlusion(model, x, target, baseline)
