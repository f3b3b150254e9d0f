"""DeepLIFT with the Rescale rule, on the engine of modified backpropagation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..claims import fails, holds, method
from ..errors import Unsupported
from .backprop.engine import Misfit, modified_gradient
from .backprop.operations import BILINEAR, LINEAR, PIECEWISE, RESHAPES, SMOOTH, argument
from .backprop.passes import Operation, Rules, keep
from .backprop.secants import Pair, product, reciprocal, secant, selection


def pairs(operation: Operation) -> list[Pair]:
    """The arguments that depend on the input, at the input and at the reference."""
    return [Pair(z, ref) for z, ref in zip(operation.inputs, operation.reference.inputs, strict=True)]


def _outcome(operation: Operation) -> Pair:
    """What the operation computes at the input and at the reference, without gradients."""
    with torch.no_grad():
        return Pair(operation.run(), operation.run_on(*operation.reference.inputs))


def _only(operation: Operation) -> Pair:
    found = pairs(operation)
    if len(found) > 1:
        raise Unsupported(f"deeplift has no rule for {operation.name} of two values that depend on the input")
    return found[0]


def rescale(operation: Operation) -> Tensor:
    """The Rescale rule of an elementwise activation."""
    return secant(operation.run_on, _only(operation), operation.value()).here


def reshaped(operation: Operation) -> Any:
    """A change of shape: linear. Where one row at the reference stands for all, it must leave the batch axis in one piece."""
    result = operation.run()
    before = _before_batch(operation.inputs[0], operation.reference.inputs[0])
    if before is not None and before != _before_batch(result, operation.reference.result):
        raise Misfit(f"{operation.name} takes the batch apart")
    return result


def _before_batch(here: Tensor, there: Tensor) -> int | None:
    """The number of entries in the axes before the batch, the axis with one row at the reference."""
    for axis, (a, b) in enumerate(zip(there.shape, here.shape)):
        if a != b:
            return math.prod(here.shape[:axis])
    return None


def multiplication(operation: Operation) -> Tensor:
    """A bilinear operation: of one value and a constant, linear; of two values, the mean rule."""
    if len(operation.inputs) == 1:
        result: Tensor = operation.run()
        return result
    a, *others = pairs(operation)
    if len(others) > 1 or operation.name in ("addmm", "baddbmm", "addmv"):
        raise Unsupported(f"deeplift has no rule for {operation.name} of several values that depend on the input")
    return product(operation.run_on, a, others[0], operation.value()).here


def division(operation: Operation) -> Tensor:
    """A quotient: by a constant, linear; otherwise the product with a reciprocal."""
    if argument(operation.args, operation.kwargs, 2, "rounding_mode") is not None:
        raise Unsupported("deeplift has no rule for div with a rounding mode")
    found = pairs(operation)
    numerator, denominator = operation.args[0], argument(operation.args, operation.kwargs, 1, "other")
    if len(found) == 1 and numerator is operation.inputs[0]:
        result: Tensor = operation.run()
        return result
    inverse = reciprocal(found[-1])
    if len(found) == 1:
        return numerator * inverse.here
    assert isinstance(denominator, Tensor)
    return product(torch.mul, found[0], inverse, operation.value()).here


def pooling(dims: int) -> Callable[[Operation], Any]:
    """Max-pooling of any window, stride, padding and dilation: the selection rule in each window."""
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]

    def rule(operation: Operation) -> Any:
        z = _only(operation)
        (_, *rest), options = operation.args, {**operation.kwargs, "return_indices": True}
        if len(rest) > 5:
            rest = rest[:5]  # return_indices by position
        with torch.no_grad():
            value, here = function(operation.args[0], *rest, **options)
            reference, there = function(z.there, *rest, **options)

        def at(places: Tensor) -> Pair:
            flat = places.flatten(-dims)

            def chosen(t: Tensor) -> Tensor:
                planes = t.flatten(-dims).expand(*flat.shape[:-1], -1)
                return planes.gather(-1, flat).unflatten(-1, places.shape[-dims:])

            return z.linear(chosen)

        there = there.expand_as(here)
        result = selection(Pair(value, reference), at(here), at(there)).here
        with_indices = isinstance(operation.reference.result, tuple)
        return (result, here) if with_indices else result

    return rule


def larger(operation: Operation) -> Any:
    """torch.maximum and minimum of two values, and max, min, amax and amin along axes."""
    grows = operation.name in ("maximum", "max", "amax")
    found = pairs(operation)
    second = argument(operation.args, operation.kwargs, 1, "other")
    if isinstance(second, Tensor):
        if len(found) == 1:  # against a constant: an activation
            return rescale(operation)
        return _of_two(_outcome(operation), found[0], found[1], grows)
    z = _only(operation)
    dim = argument(operation.args, operation.kwargs, 1, "dim", operation.kwargs.get("axis", ()))
    kept = bool(argument(operation.args, operation.kwargs, 2, "keepdim", operation.kwargs.get("keepdims", False)))
    whole = _outcome(operation)
    outcome, reference = whole.here, whole.there
    named = isinstance(outcome, tuple)
    axes = tuple(range(z.here.dim())) if dim == () else (dim,) if isinstance(dim, int) else tuple(dim)
    if any(axis % z.here.dim() == 0 for axis in axes):
        raise Unsupported(f"deeplift has no rule for {operation.name} over the batch")
    result = _along(Pair(outcome[0], reference[0]) if named else Pair(outcome, reference), z, axes, kept, grows)
    return type(outcome)((result, outcome[1])) if named else result


def _of_two(value: Pair, a: Pair, b: Pair, grows: bool) -> Tensor:
    def leading(x: Tensor, y: Tensor) -> Pair:
        # Equal candidates share, as in the gradient of torch.maximum: so symmetric inputs get symmetric answers.
        ahead = torch.sign(x - y) if grows else torch.sign(y - x)
        share = (ahead.to(x.dtype) + 1) / 2
        return Pair(share * a.here + (1 - share) * b.here, share * a.there + (1 - share) * b.there)

    return selection(value, leading(a.here.detach(), b.here.detach()), leading(a.there, b.there), grows).here


def _along(value: Pair, z: Pair, axes: tuple[int, ...], kept: bool, grows: bool) -> Tensor:
    def candidate(values: Tensor) -> Pair:
        extreme = values.amax(axes, keepdim=True) if grows else values.amin(axes, keepdim=True)
        share = (values == extreme).to(values.dtype)
        share = share / share.sum(axes, keepdim=True)
        return z.linear(lambda t: (share * t).sum(axes, keepdim=kept))

    return selection(value, candidate(z.here.detach()), candidate(z.there), grows).here


def softmax(operation: Operation) -> Tensor:
    """Softmax as what it is made of: exp (Rescale), a sum, a reciprocal (Rescale), a product (the mean rule)."""
    z, dim = _only(operation), _axis(operation)
    exponential = _shifted(z, dim)[0]
    total = exponential.linear(lambda t: t.sum(dim, keepdim=True))
    return product(torch.mul, exponential, reciprocal(total), operation.value()).here


def log_softmax(operation: Operation) -> Tensor:
    """z - log sum exp z: exp and log by Rescale."""
    z, dim = _only(operation), _axis(operation)
    exponential, shift = _shifted(z, dim)
    logarithm = secant(torch.log, exponential.linear(lambda t: t.sum(dim, keepdim=True)))
    return z.here - shift - logarithm.here


def _axis(operation: Operation) -> int:
    dim = argument(operation.args, operation.kwargs, 1, "dim")
    if not isinstance(dim, int):
        raise Unsupported(f"deeplift: {operation.name} needs its dim")
    return dim


def _shifted(z: Pair, dim: int) -> tuple[Pair, Tensor]:
    """exp(z - shift), with one shift for input and reference against overflow."""
    with torch.no_grad():
        largest, at_reference = z.here.amax(dim, keepdim=True), z.there.amax(dim, keepdim=True)
        shift = torch.maximum(largest, at_reference)
        smallest = float(torch.minimum(largest, at_reference).sub(shift).min())
        if smallest < math.log(torch.finfo(shift.dtype).tiny):
            raise Unsupported("deeplift: softmax sees values too far apart at x and at the baseline for one scale")
    return secant(torch.exp, z.linear(lambda t: t - shift)), shift


def layer_norm(operation: Operation) -> Tensor:
    """(z - mean) / sqrt(var + eps): the square and the quotient by the mean rule, the root by Rescale."""
    z = _only(operation)
    shape = argument(operation.args, operation.kwargs, 1, "normalized_shape")
    weight, bias = (argument(operation.args, operation.kwargs, k, name) for k, name in ((2, "weight"), (3, "bias")))
    eps = argument(operation.args, operation.kwargs, 4, "eps", 1e-5)
    axes = tuple(range(-len(tuple(shape)), 0))
    centred = z.linear(lambda t: t - t.mean(axes, keepdim=True))
    variance = product(torch.mul, centred, centred).linear(lambda t: t.mean(axes, keepdim=True))
    scale = secant(torch.rsqrt, variance.linear(lambda t: t + eps))
    result = product(torch.mul, centred, scale).here
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


RULES: Rules = {
    **dict.fromkeys(LINEAR | {"dropout", "batch_norm"}, keep),
    **dict.fromkeys(BILINEAR, multiplication),
    **dict.fromkeys(RESHAPES, reshaped),
    "div": division,
    **dict.fromkeys(SMOOTH | PIECEWISE, rescale),
    **{f"max_pool{dims}d": pooling(dims) for dims in (1, 2, 3)},
    **dict.fromkeys(("maximum", "minimum", "max", "min", "amax", "amin"), larger),
    "softmax": softmax,
    "log_softmax": log_softmax,
    "layer_norm": layer_norm,
}


_SUMMATION = "Shrikumar et al. 2017, section 3.1 (summation to delta); each rule here is a difference quotient"
_PROP_4 = "Ancona et al. 2018, Proposition 4"
_PROP_2 = "Ancona et al. 2018, Proposition 2"
_SAME = "proved here: no difference quotient changes"
_REWRITES = (
    "permute", "split", "split-signed", "dead", "fuse-linear", "split-linear", "batchnorm-folding", "relu-identity",
)  # fmt: skip
_NESTED = (
    "ReLU(ReLU(x1) - 1 - ReLU(x2)) at (3, 1): (1.5, -0.5) against (2, -1) for its twin ReLU(ReLU(x1 - 1) - ReLU(x2))"
)
_MAXIMA = "max(2, 1) from (0, 3): a maximum gives all to one input, its form with ReLUs splits"


@method(
    baseline="given",
    claims=[
        holds("completeness/delta", on="any", source=_SUMMATION),
        holds("sensitivity-n/N", on="any", source=_SUMMATION),
        holds("sensitivity-n", on="linear", source=_PROP_4),
        fails("sensitivity-n/1", on="product", reason="f = x1 x2 at (1, 1): (1/2, 1/2), removing x1 costs 1"),
        fails("sensitivity-n/n", on="relu", reason=f"interactions: {_PROP_4}"),
        *(holds(f"equivalence/{other}", on="linear", source=_PROP_4)
          for other in ("integrated-gradients", "occlusion-1", "gradient-times-input")),
        fails("equivalence/integrated-gradients", on="relu", reason="the mean slope of each unit is not that of the path"),
        *(holds("equivalence/deeplift-recursion", on=family, source=_PROP_2)
          for family in ("linear", "relu", "smooth", "conv", "maxpool", "maximum", "functional", "stacked", "residual")),
        *(holds(f"implementation-invariance/{rewrite}", on="any", source=_SAME) for rewrite in _REWRITES),
        holds("implementation-invariance/rescale", on="any", source=_SAME),
        holds("implementation-invariance/never-active", on="any", source=_SAME),
        holds("implementation-invariance/activation-change", on="any", source=_SAME),
        fails("implementation-invariance/nested", on="relu", reason=_NESTED),
        fails("implementation-invariance/max-as-relus", on="maximum", reason=_MAXIMA),
        fails("implementation-invariance/max-as-relus", on="maxpool", reason=_MAXIMA),
        fails("dummy", on="relu", reason=f"the difference of two forms of one function: {_NESTED}"),
        fails("symmetry", on="relu", reason=f"the sum of one form and the mirrored other: {_NESTED}"),
        holds("input-invariance", on="any", source="proved here: the baseline moves with the input, differences stay"),
        holds("class-sensitivity", on="any", source="proved here: multipliers below the logits do not depend on them"),
        holds("linearity", on="any", source="proved here: multipliers of parallel networks add up"),
        holds("scale-equivariance", on="any", source="proved here: multipliers below the logits do not depend on them"),
        holds("feature-permutation", on="any", source="proved here: a sum does not depend on the order of its terms"),
        fails("continuity", on="relu-nobias", reason="ReLU(x1 - x2) from zeros, at (1, 1 -+ 0): (1, -1) against (0, 0)"),
        holds("continuity", on="relu", source="proved here: difference quotients are continuous where no z_ref is at a kink"),
        holds("continuity", on="smooth", source="proved here: difference quotients of smooth functions are smooth"),
    ],
)  # fmt: skip
def deeplift(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """DeepLIFT with the Rescale rule: R_i = m_i (x_i - baseline_i), activations with m = (a - a_ref) / (z - z_ref).

    Multipliers follow the chain rule; a layer that is affine has its weights for multipliers, an elementwise activation its
    difference quotient between the input and the baseline (Ancona et al. 2018, Proposition 2: the gradient with that
    quotient in the place of the derivative). Where the paper says nothing, the multipliers are chosen so that they add up:
    a maximum gives the whole difference to one candidate, the largest at the input if it grew, else the one that was
    largest at the baseline; in a product each factor meets the mean of the other (Lundberg and Lee 2017); softmax and layer
    normalisation are taken apart into exponentials, sums, reciprocals and products. Where z - z_ref is lost in
    rounding, the derivative half way stands for the quotient.

    Source: Shrikumar et al. 2017, sections 3.1 to 3.5.1; Ancona et al. 2018, Table 1 and Proposition 2.

    What holds: completeness on every supported network; every sensitivity-n on linear graphs, where it is integrated
    gradients, occlusion and gradient * input; input invariance with a baseline that moves; rewrites that change no unit's
    difference quotient. What fails: implementation invariance in general, and with it dummy and symmetry; sensitivity-n;
    continuity, where the kink of a unit is met at the baseline; input invariance from a baseline that stays (zeros): f = x
    gives x, and x + m after a shift. A maximum and its form with ReLUs agree from zeros where an entry is positive; where
    both are negative they tie at the baseline: max(x1, x2) at (-1, -2) is (-1/3, -2/3), x2 + ReLU(x1 - x2) is (-1, 0).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode. It is run once at the baseline, in one row where all
            samples have the same.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the reference; zeros where None.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: operations without a rule, models that take another path at the baseline, and what hides its operations
            (fused recurrent cells, attention, scripted modules).
    """
    baseline = torch.zeros_like(x) if baseline is None else baseline
    return (x - baseline) * modified_gradient("deeplift", RULES, model, x, target, baseline)
