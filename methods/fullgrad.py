"""Full gradients: the gradient times the input, and the share of every bias, explicit or implicit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import Unsupported
from .backprop.operations import LINEAR, RESHAPES, WEIGHTED, overwrites, tensors
from .backprop.passes import Operation
from .backprop.places import CONVOLUTIONS, NOWHERE, Axes, Following, spread, upsampled
from .gradcam_variants import rescaled

# The terms add up to the output but for rounding; what is further off has a constant that no operation showed.
_COMPLETE = {torch.float64: 1e-7, torch.float32: 1e-3}

_NO_BIAS = RESHAPES | {
    "relu", "leaky_relu", "abs", "neg", "transpose", "permute", "t", "T", "mT", "swapaxes", "movedim", "unsqueeze", "squeeze",
    "getitem", "select", "narrow", "unbind", "chunk", "split", "clone", "contiguous", "to", "expand", "sum", "mean", "cumsum",
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "amax", "amin", "dropout",
}  # fmt: skip
"""Positively homogeneous: y = J z, on kinks too."""


@dataclass(eq=False)
class Bias:
    """The bias of one operation y = op(z), which is y - J z with its derivative J at z, and the gradient that reaches y.

    operation  its name
    bias       [*shape of y]: the bias of a layer with weights (with padding, where it counts); sigma(z) - sigma'(z) z for an
               activation; minus the product for a product
    gradient   [*shape of y], in units of output per y
    axes       for each axis of y the axis of the input that it runs along, 0 for the samples, -1 where there is none
    """

    operation: str
    bias: Tensor
    gradient: Tensor
    axes: Axes

    @property
    def term(self) -> Tensor:
        """What the operation's bias contributes to the output: gradient * bias, [*shape of y]."""
        return self.gradient * self.bias


class _BiasPass(Following):
    """A forward pass that keeps the bias of each operation."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.biases: list[Bias] = []
        self.space: set[Axes] = set()
        """The axes of the space of each convolution."""

    def before(self, operation: Operation) -> list[Tensor] | None:
        name = operation.name
        if name in _NO_BIAS:
            return None
        several = len(operation.inputs) > 1
        if name in LINEAR or name == "batch_norm" or (name in WEIGHTED | {"mul", "outer"} and not several):
            with torch.no_grad():
                return _evaluated(operation, [torch.zeros_like(z) for z in operation.inputs])
        try:
            return _remainder(operation)
        except (RuntimeError, NotImplementedError) as error:
            raise Unsupported(f"{self.method}: {name} has no second derivative, by which its bias is found") from error

    def after(self, operation: Operation, outputs: list[Tensor], known: list[Tensor] | None) -> None:
        if operation.name in CONVOLUTIONS:
            self.space.add(tuple(sorted(self.axes(outputs[0])[2:])))
        for value, bias in zip(outputs, known or [], strict=False):
            if value.requires_grad and bool(bias.any()):
                self.keep(Bias(operation.name, bias, torch.zeros_like(bias), self.axes(value)), value)

    def keep(self, bias: Bias, value: Tensor) -> None:
        def reached(g: Tensor) -> None:
            bias.gradient = g.detach().clone()

        value.register_hook(reached)
        self.biases.append(bias)


def _evaluated(operation: Operation, values: Sequence[Tensor]) -> list[Tensor]:
    """What the operation computes from other values [its outputs that are floating point]; nothing else is written into."""
    if not overwrites(operation.function):
        return [t for t in tensors(operation.run_on(*values)) if t.is_floating_point()]
    target = operation.args[0]
    fresh = next((v for v, t in zip(values, operation.inputs, strict=True) if t is target), target).clone()
    inputs = [t for t in operation.inputs if t is not target]
    others = [v for v, t in zip(values, operation.inputs, strict=True) if t is not target]
    call = Operation(operation.name, operation.function, (fresh, *operation.args[1:]), operation.kwargs, inputs)
    call.run_on(*others)
    return [fresh]


def _remainder(operation: Operation) -> list[Tensor]:
    """y - J z for each output: J z is the derivative of v -> v J, which is linear, in the direction of z."""
    with torch.enable_grad():
        at = [z.detach().clone().requires_grad_() for z in operation.inputs]
        outputs = _evaluated(operation, [z.clone() for z in at])
        free = [torch.zeros_like(y, requires_grad=True) for y in outputs]
        pulled = torch.autograd.grad(outputs, at, free, create_graph=True, materialize_grads=True)
        along = [(u, z.detach()) for u, z in zip(pulled, at, strict=True) if u.requires_grad]
        if not along:
            return [y.detach() for y in outputs]
        us, zs = zip(*along, strict=True)
        pushed = torch.autograd.grad(us, free, zs, materialize_grads=True)
    return [(y - j).detach() for y, j in zip(outputs, pushed, strict=True)]


def fullgrad_decomposition(model: nn.Module, x: Tensor, target: Tensor) -> tuple[Tensor, list[Bias]]:
    """The full-gradient decomposition of each sample's target logit: f(x) = sum_i x_i df/dx_i + sum over biases b df/db.

    Each operation y = op(z) has y = J z + b with its derivative J at z, and b its bias. Put into each other from the
    output back, all J z cancel but for the input's: exact for every network that automatic differentiation can follow, at
    kinks too, since the same J is used on both sides.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.

    Returns:
        The input term x * df/dx [B, *shape], and one Bias for each operation that has one, in the order of the forward
        pass; over all of them and the input term, entries of a sample add up to its logit.

    Raises:
        Unsupported: what hides its operations; a constant that enters where no operation shows it.
    """
    tracing, term = _decomposed("fullgrad_decomposition", model, x, target)
    return term, tracing.biases


def _decomposed(name: str, model: nn.Module, x: Tensor, target: Tensor) -> tuple[_BiasPass, Tensor]:
    tracing = _BiasPass(name)
    chosen, gradient, _ = tracing.gradient(model, x, target)
    term = x * gradient
    tracing.biases = [bias for bias in tracing.biases if bool(bias.gradient.any())]
    total, size = term.flatten(1).sum(1), term.flatten(1).abs().sum(1) + chosen.abs()
    for bias in tracing.biases:
        if 0 not in bias.axes:
            raise Unsupported(f"{name}: {bias.operation} mixes the samples of a batch")
        of_sample = bias.term.movedim(bias.axes.index(0), 0).reshape(len(x), -1)
        total, size = total + of_sample.sum(1), size + of_sample.abs().sum(1)
    if bool(((total - chosen).abs() > _COMPLETE.get(x.dtype, 1e-2) * size).any()):
        raise Unsupported(f"{name}: a constant enters the model where no operation on the input shows it")
    return tracing, term


_ANY = "Srinivas and Fleuret 2019, proposition 1; proved here: y = J z + b for each operation, all J z but the input's cancel"
_PLACE = "proved here: rewrites move bias between operations of one place only"
_DENSE = (
    "relu", "linear", "relu-nobias", "smooth", "odd-nobias", "residual", "functional", "stacked", "maximum", "product",
)  # fmt: skip
_EVENLY = "proved here: R_i = x_i df/dx_i + (f - sum_j x_j df/dx_j) / N, which treats all features alike"
_IN_GRADIENT = "proved here: each term is linear in the gradient of the target logit"
_SHIFT = "the input term is multiplied by the input, which the shift moved"
_TIES = "of two equal constants (biases) max-pooling takes the first, b + ReLU(a - b) the second: the bias has another place"
_EULER = "proved here: f(0) = 0, and the sum is f"


@method(
    name="fullgrad-complete",
    claims=[
        holds("completeness/output", on="any", source=_ANY),
        holds("completeness/delta", on="relu-nobias", source=_EULER),
        holds("completeness/delta", on="odd-nobias", source=_EULER),
        fails("completeness/delta", on="relu", reason="the sum is f(x), and f(0) is not 0"),
        holds("equivalence/gradient-times-input", on="relu-nobias", source="proved here: there is no bias"),
        holds("class-sensitivity", on="any", source=_IN_GRADIENT),
        holds("linearity", on="any", source=_IN_GRADIENT),
        holds("scale-equivariance", on="any", source=_IN_GRADIENT),
        *(holds("implementation-invariance", on=family, source=_EVENLY) for family in _DENSE),
        *(holds("implementation-invariance", on=family, source=_PLACE) for family in ("conv", "gap")),
        *(holds(f"implementation-invariance/{rewrite}", on="vgg", source=_PLACE)
          for rewrite in ("permute", "rescale", "split", "split-signed", "relu-identity", "fuse-linear", "split-linear",
                          "batchnorm-folding", "dead", "never-active")),
        fails("implementation-invariance/max-as-relus", on="maxpool", reason=_TIES),
        *(holds(axiom, on=family, source=_EVENLY) for axiom in ("symmetry", "feature-permutation") for family in _DENSE),
        fails("feature-permutation", on="conv", reason="the biases of a convolution lie where its maps lie"),
        fails("dummy", on="relu", reason="f = x1 - 1/2 does not depend on x2, which gets half of the bias"),
        fails("sensitivity-n/1", on="linear", reason="f = x + 1/2 at x = 1 loses 1 without x, which has 3/2"),
        fails("sensitivity-n/n", on="relu", reason="biases and interactions"),
        fails("input-invariance/constant", on="any", reason=_SHIFT),
        fails("input-invariance/arbitrary", on="linear", reason=_SHIFT),
        holds("continuity", on="smooth", source="proved here: f and its gradient are continuous"),
        fails("continuity", on="relu", reason="the gradient jumps where a ReLU opens"),
    ],
)  # fmt: skip
def fullgrad_complete(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Full gradients with all biases, spread over the input so that nothing is lost: the sum is f(x).

    R = x * df/dx + sum_l spread(b_l * df/db_l), over the biases of all operations: those of layers and normalisations, and
    the implicit ones sigma(z) - sigma'(z) z of smooth activations, -x1 x2 of products (y - J z in general). A term of a
    convolutional map is shared out among the places that linear interpolation would carry it to, and evenly among the
    channels of the input; a term without a place is shared evenly by all features.

    Source: Srinivas and Fleuret 2019, proposition 1 (with the implicit biases of its section 3); how terms are spread is
    this package's.

    What holds: completeness (output form) on every network, at kinks too; linearity and class sensitivity, since all terms
    are linear in the gradient; implementation invariance, except where constants tie in a maximum: which of them it takes
    does not touch the gradient, but it is the place of a bias. What fails: input invariance (the input term), dummy:
    features share biases that they have no part in (the input term alone, gradient * input, gives them nothing), and
    sensitivity-n, already for one feature.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: see `fullgrad_decomposition`.
    """
    tracing, result = _decomposed("fullgrad-complete", model, x, target)
    for bias in tracing.biases:
        space = [a for a in bias.axes if a > 0]
        by_channel = _channels(bias.term, bias.axes, space)
        assert by_channel is not None
        result = result + spread(by_channel.sum(1), space, x)
    return result


def _channels(values: Tensor, axes: Axes, space: Sequence[int]) -> Tensor | None:
    """Values as maps [B, K, *sizes] over some axes of the input, None where they do not run along all of these."""
    if 0 not in axes or any(a not in axes for a in space):
        return None
    front = [axes.index(0), *(k for k, a in enumerate(axes) if a != 0 and a not in space)]
    order = [*front, *(axes.index(a) for a in space)]
    return values.permute(order).flatten(1, len(front) - 1) if len(front) > 1 else values.permute(order)[:, None]


_CONVOLUTIONAL = ("conv", "gap", "vgg")
# Rounding of a map that is brought to [0, 1] (see gradcam_variants.rescaled), in at most eight layers.
_STRETCHED = 8 * 2.0**8 * (2.0**-52) ** (2 / 3)
_SAME = "proved here: the terms of convolutions and of the input stay (in another order, or in proportion and back)"


@method(
    name="fullgrad",
    claims=[
        *(holds(f"implementation-invariance/{rewrite}", on=f"{family}(dtype=float64)", tol=_STRETCHED, source=_SAME)
          for family in _CONVOLUTIONAL
          for rewrite in ("permute", "rescale", "dead", "never-active", "fuse-linear", "split-linear", "relu-identity")),
        *(holds(f"class-sensitivity/{variant}", on=family, source="proved here: the gradient of the target logit alone")
          for family in _CONVOLUTIONAL for variant in ("other-logits", "logit-permutation")),
        *(fails(f"implementation-invariance/{rewrite}", on="conv", reason="each channel is brought to 1: it counts twice")
          for rewrite in ("split", "split-signed")),
        fails("implementation-invariance/batchnorm-folding", on="conv", reason="the sizes of two biases are not that of one"),
        fails("class-sensitivity/parity", on="conv", reason="the sizes of the terms of f and of -f are the same"),
        fails("scale-equivariance", on="conv", reason="each map is brought to [0, 1]"),
        fails("linearity", on="conv", reason="sizes do not add up"),
        *(fails(f"input-invariance/{kind}", on="conv", reason=_SHIFT) for kind in ("constant", "arbitrary")),
        *(fails(f"sensitivity-n/{n}", on="conv", reason="sizes, brought to [0, 1], are no differences of outputs")
          for n in ("1", "n")),
        fails("dummy", on="conv", reason="a map of a layer is laid over all pixels, also those without influence"),
        fails("completeness/output", on="conv", reason="sizes, brought to [0, 1], do not add up to the output"),
        fails("continuity", on="conv", reason="the gradient jumps where a ReLU opens"),
    ],
)  # fmt: skip
def fullgrad(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    absolute: bool = True,
    rescale: bool = True,
    joint: bool = False,
) -> Tensor:
    """FullGrad as a saliency map: the sizes of all terms that have a place, brought to [0, 1], laid over the input, added up.

    S = sum_c psi(x_c * df/dx_c) + sum_l sum_k psi(b^l_k * df/db^l_k), psi(m) = up((|m| - min |m|) / (max |m| - min |m|)),
    over the channels c of the input and the channels k of each operation l with a bias on convolutional maps (convolutions,
    batch normalisations, activations that are not homogeneous). Dense layers have no place and are left out. S is the same
    for each channel. A map that is constant becomes zero.

    Source: Srinivas and Fleuret 2019, equation 5 and section 4; Khakzar et al. 2020, equation 5. psi is theirs, channel by
    channel; joint=True takes minimum and maximum over all channels of an operation.

    What holds: rewrites that move no bias. What fails: completeness, sensitivity-n, linearity, scale equivariance; dummy and
    symmetry, since the maps of layers are laid over all pixels: x1 + x2 + 1/2, the first place of a convolution over three
    pixels with the kernel (1, 1), has the map (1, 1/2, 0) of its bias; a split unit or one whose bias is in two layers
    counts twice; parity, the map is even (Khakzar et al. 2020, section 3); input invariance; continuity.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        absolute: whether the sizes of terms count; else the terms.
        rescale: whether maps are brought to [0, 1].
        joint: whether the channels of an operation are rescaled together.

    Returns:
        [B, *shape].

    Raises:
        Unsupported: networks without convolutions, or with convolutions over different axes of the input; see
            `fullgrad_decomposition`.
    """
    tracing, term = _decomposed("fullgrad", model, x, target)
    if len(tracing.space) != 1 or NOWHERE in next(iter(tracing.space)):
        what = "several spaces" if tracing.space else "no convolution"
        raise Unsupported(f"fullgrad needs convolutions whose maps can be laid over the input; the network has {what}")
    (space,) = tracing.space

    terms = [(term, tuple(range(x.dim()))), *((bias.term, bias.axes) for bias in tracing.biases)]
    laid = [values for one, axes in terms if (values := _channels(one, axes, space)) is not None]
    # A layer whose terms cancel has rounding left, which must not be stretched: the largest term of any layer tells its size.
    # (Of those that are laid over the input: two dense layers have other biases than one in their place.)
    size = torch.stack([values.abs().flatten(1).amax(1) for values in laid]).amax(0)

    def psi(values: Tensor) -> Tensor:
        values = values.abs() if absolute else values
        if rescale:
            one = values if joint else values.flatten(0, 1)
            values = rescaled(one, size.repeat_interleave(len(one) // len(x))).reshape(values.shape)
        return upsampled(values.sum(1), space, x)

    return torch.stack([psi(values) for values in laid]).sum(0)
