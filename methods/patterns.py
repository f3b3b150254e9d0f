"""Patterns: what drives a unit's output in the data, fitted to each unit of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .backprop.linear_units import Units, has_units, units_of
from .backprop.operations import RESHAPES
from .backprop.passes import Operation, Pass, Rule, Rules, undisturbed
from .guided import rectifies

# Outputs that differ by less than eps^(1/3) of their size are taken as equal, and a sum as zero that is smaller than this
# share of its terms: what is left has two thirds of the digits, so networks that differ by rounding have one pattern.
_DIGITS = 1 / 3

ROUTES = RESHAPES | {
    "unsqueeze", "squeeze", "permute", "transpose", "t", "movedim", "swapaxes", "swapdims", "cat", "concat", "concatenate",
    "stack", "hstack", "vstack", "chunk", "split", "tensor_split", "unbind", "clone", "contiguous", "to", "type_as",
    "double", "float", "expand", "expand_as", "broadcast_to", "gather", "index_select", "masked_fill", "narrow", "select",
    "roll", "flip", "pad", "getitem", "diagonal", "identity", "positive", "alias", "lift_fresh_copy", "T", "mT", "type",
    "dropout",
}  # fmt: skip
"""Values on their way, entry by entry: what makes them is the unit that made the entry."""


@dataclass
class Seen:
    """One call of an operation with units, on the data.

    units: the call; its inputs [M, ...] are copies. output [M, ...]: what it computed, and constants that were added.
    rectified: whether a ReLU reads that.
    """

    units: Units
    output: Tensor
    rectified: bool = False


@dataclass(frozen=True)
class Pattern:
    """What stands in the place of the weights of one call on the way back.

    name, shape: the operation and the shape of its output without the batch, by which the call is found again. signal,
    relevance: the pattern a, and w a, one tensor [as the weights] for each input. known: beside the output, whether the data
    determine the unit's pattern.
    """

    name: str
    shape: tuple[int, ...]
    signal: tuple[Tensor, ...]
    relevance: tuple[Tensor, ...]
    known: Tensor


class _DataPass(Pass):
    """Runs the model on the data, and follows which units made each value."""

    made = "_attribcheck_made_by"

    def __init__(self, method: str, rules: Rules) -> None:
        super().__init__(method, rules)
        self.seen: list[Seen] = []

    def computed(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor]
    ) -> Any:
        # An origin: the units, their output as it was on this way, and whether it still lies there entry by entry.
        origins = [origin for t in inputs for origin in getattr(t, self.made, ())]
        if rectifies(Operation(name, func, args, kwargs, inputs)):
            for seen, output, _ in origins:
                if not seen.rectified:
                    seen.rectified, seen.output = True, output
        before, first = len(self.seen), bool(inputs) and inputs[0] is args[0]
        result = super().computed(name, func, args, kwargs, inputs)
        if len(self.seen) > before:
            origins = [(self.seen[-1], self.seen[-1].output, True)]
        elif name == "add" or (name == "sub" and first):  # of a constant: a bias
            still = [o for o in origins if o[2] and o[1].shape == result.shape]
            origins = [(seen, result.clone(), True) for seen, _, _ in still]
        else:
            origins = [(seen, output, False) for seen, output, _ in origins] if name in ROUTES else []
        for t in [result] if isinstance(result, Tensor) else result if isinstance(result, tuple | list) else []:
            if isinstance(t, Tensor):
                setattr(t, self.made, tuple(origins))
        return result

    def apply(self, rule: Rule, operation: Operation) -> Any:
        result = operation.run()
        if has_units(operation):
            units = units_of(operation)
            units.inputs = tuple(t.clone() for t in units.inputs)
            self.seen.append(Seen(units, result.clone()))
        return result


def fitted(method: str, rules: Rules, model: nn.Module, data: Tensor, printed: bool) -> list[Pattern]:
    """The patterns of all calls of operations with units, in the order of the calls.

    Args:
        method: the name that refusals mention.
        rules: operation name -> rule; what is not in the table is refused.
        model: maps [B, *shape] to logits [B, C], in eval mode.
        data: [M, *shape], what patterns are fitted to.
        printed: the formula for units before a ReLU as it is printed.

    Raises:
        Unsupported: the model computes with something that has no units and no rule.
    """
    recorder = _DataPass(method, rules)
    with undisturbed(method, model):
        with torch.no_grad(), recorder:
            model(recorder.watch(data.detach().clone()))
        return [_fit(seen, printed) for seen in recorder.seen]


def _fit(seen: Seen, printed: bool) -> Pattern:
    """a = cov[x, y] / w^T cov[x, y] over the samples of each unit: those with y > 0 for units before a ReLU.

    Up to a factor that cancels, cov[x, y] is the sum of x (y - m) with the mean m, which is the derivative of L by its
    weights at y - m. Where this says nothing of a unit before a ReLU (fewer than two different positive outputs), it is
    taken over all samples.
    """
    own = _determined(seen, seen.rectified, printed)
    if seen.rectified and not bool(own.outer.all()):
        other = _determined(seen, False, False)
        own = _Fit(
            [torch.where(k, a, b) for k, a, b in zip(own.inner, own.signal, other.signal, strict=True)],
            [torch.where(k, a, b) for k, a, b in zip(own.inner, own.relevance, other.relevance, strict=True)],
            own.inner,
            own.outer | other.outer,
        )
    return Pattern(
        seen.units.operation.name,
        tuple(seen.output.shape[1:]),
        tuple(t.to(seen.output.dtype) for t in own.signal),
        tuple(t.to(seen.output.dtype) for t in own.relevance),
        own.outer,
    )


@dataclass(frozen=True)
class _Fit:
    """As in Pattern; inner, outer: whether the unit's pattern is determined, beside the weights and beside the output."""

    signal: list[Tensor]
    relevance: list[Tensor]
    inner: list[Tensor]
    outer: Tensor


def _determined(seen: Seen, positive: bool, printed: bool) -> _Fit:
    """The patterns over one choice of samples, in double precision; zero where they are not determined."""
    units, least = seen.units, torch.finfo(seen.output.dtype).eps ** _DIGITS
    apart = _apart(seen.output.double(), units.samples(seen.output), positive, printed, least)
    inputs = [t.double() for t in units.inputs]
    weights = [w.detach().double().requires_grad_() for w in units.weights]
    with torch.enable_grad():
        covariances = torch.autograd.grad(units.run(inputs, weights), weights, apart)
    terms = [w.detach() * c for w, c in zip(weights, covariances, strict=True)]
    totals, outer = units.totals(terms)
    sizes, outer_sizes = units.totals([t.abs() for t in terms])
    inner = [t.abs() > least * s for t, s in zip(totals, sizes, strict=True)]
    slopes = units.slopes()
    divisors = [slope * t.where(k, torch.ones_like(t)) for t, k, slope in zip(totals, inner, slopes, strict=True)]
    return _Fit(
        [k * c / (d * slope) for k, c, d, slope in zip(inner, covariances, divisors, slopes, strict=True)],
        [k * t / d for k, t, d in zip(inner, terms, divisors, strict=True)],
        inner,
        outer.abs() > least * outer_sizes,
    )


def _apart(y: Tensor, axes: tuple[int, ...], positive: bool, printed: bool, least: float) -> Tensor:
    """y - m where a sample counts, else 0: y - E[y], y - E+[y], or y - E[y] in E+ as printed. [M, ...] as y."""
    counts = (y > 0).to(y) if positive else torch.ones_like(y)
    n = counts.sum(axes, keepdim=True).clamp(min=1)
    mean = y.mean(axes, keepdim=True) if printed and positive else (counts * y).sum(axes, keepdim=True) / n
    apart = counts * (y - mean)
    noise = least * (counts * y).abs().amax(axes, keepdim=True)
    return apart.where(apart.abs().amax(axes, keepdim=True) > noise, torch.zeros_like(apart))
