"""Mutants with a wrong rule for one operation: activations, products, normalisation, pooling.

Each is a right method of `right` with one slip. The docstring says what is wrong and, where it does not show on every
network, in which situation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .right import ACTIVATIONS, constant_of, deeplift, full_gradient, gradient, mutant, replaced, slopes

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
