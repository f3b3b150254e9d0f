"""Rules of layer-wise relevance propagation that share relevance by other weights: gamma, alpha-beta, z-plus, and for inputs.

Each is one entry of a rule table. With g = R / value, a layer z = W x + b that shares R_j by contributions c_ji hands on
sum_j c_ji / c_j * g_j z_j. A unit whose contributions add up to zero has nobody to hand its relevance to: it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import Unsupported
from .backprop.affine import Affine, affine
from .backprop.engine import replaced
from .backprop.operations import WEIGHTED
from .backprop.passes import Operation, Rule, Rules, keep, note, noted
from .lrp import rules as epsilon_rules

DENSE = frozenset(
    {"linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "addmv", "einsum", "dot", "mv", "inner", "tensordot"}
)
CONVOLUTIONS = frozenset(name for name in WEIGHTED if name.startswith("conv"))


def _inverse(total: Tensor) -> Tensor:
    """1 / total, and 0 where there is nothing to share by."""
    return torch.where(total == 0, torch.zeros_like(total), 1 / torch.where(total == 0, torch.ones_like(total), total))


def nonzero(value: Tensor) -> Tensor:
    """Stands for a value that is divided by on one side and multiplied with on the other, where it may be zero."""
    return value.where(value != 0, torch.full_like(value, torch.finfo(value.dtype).tiny ** 0.5))


def handed_on(operation: Operation, contributions: Tensor) -> Tensor:
    """The value of a layer whose relevance R_j = g_j z_j flows into normalised contributions."""
    value = operation.value()
    return replaced(value, contributions, lambda g: relevance_of(g, value))


def relevance_of(g: Tensor, value: Tensor) -> Tensor:
    """R = g times the value; at a value of zero it is zero, unless an added constant, or a start from 1, put it there."""
    pole = g.abs() > torch.finfo(g.dtype).tiny ** -0.25
    return torch.where((value == 0) & ~pole, torch.zeros_like(g), g * nonzero(value))


def absorbed(operation: Operation) -> Any:
    """A constant that is added takes no relevance, wherever the code adds it: a bias outside of its layer is one still."""
    if len(operation.inputs) > 1:
        return operation.run()
    value: Tensor = operation.value()
    through = operation.inputs[0].expand_as(value)
    slope = value / nonzero(through.detach())
    return replaced(value, through, lambda g: g * slope)


def _normalised(contributions: Tensor, total: Tensor | None = None) -> Tensor:
    return contributions * _inverse(contributions.detach() if total is None else total)


def gamma_rule(amount: float) -> Rule:
    """R_i = sum_j x_i (w_ji + gamma w_ji^+) / (z_j + gamma (sum_i x_i w_ji^+ + b_j^+)) R_j; the bias keeps its share."""

    def rule(operation: Operation) -> Tensor:
        layer = affine(operation, "lrp-gamma")
        weight = layer.weight + amount * layer.weight.clamp(min=0)
        contributions = layer.shared_by(layer.x, weight)
        bias = None if layer.bias is None else layer.bias + amount * layer.bias.clamp(min=0)
        total, value = layer.apply(layer.x.detach(), weight, bias), operation.value()

        def share(g: Tensor) -> Tensor:
            relevance = relevance_of(g, value)
            _refuse_pole(total, relevance)
            return relevance

        result = replaced(value, _normalised(contributions, total), share)
        note(result, _WEIGHTED_SUM, (contributions, total))
        return result

    return rule


# Noted of what a gamma layer computed: what its inputs contribute, and its denominator, in which a bias that the code adds
# later counts too. (Its own shares are of no use then: they may be 0 / 0 where those of the sum with the bias are not.)
_WEIGHTED_SUM = "weighted sum"


def _refuse_pole(total: Tensor, relevance: Tensor) -> None:
    if bool(((total == 0) & (relevance != 0)).any()):
        raise Unsupported("lrp-gamma cannot share the relevance of a unit whose weighted sum is 0: a pole")


def gamma_bias(amount: float) -> Rule:
    """A constant added to what a gamma layer computed is its bias; added to anything else, it keeps its share."""

    def rule(operation: Operation) -> Any:
        result: Tensor = operation.run()
        layer = noted(operation.inputs[0], _WEIGHTED_SUM)
        turned = operation.name == "rsub" or (operation.name == "sub" and operation.inputs[0] is not operation.args[0])
        if len(operation.inputs) > 1 or layer is None or turned:
            return result
        contributions, without = layer
        value = result.detach()
        bias = value - operation.inputs[0].detach()
        total = without + bias + amount * bias.clamp(min=0)

        def share(g: Tensor) -> Tensor:
            relevance = relevance_of(g, value)
            _refuse_pole(total, relevance)
            return relevance

        result = replaced(value, _normalised(contributions.expand_as(value), total), share)
        note(result, _WEIGHTED_SUM, (contributions, total))
        return result

    return rule


def _signed(layer: Affine) -> tuple[Tensor, Tensor]:
    """What each output gets in positive and in negative contributions x_i w_ji, inputs of any sign, without the bias."""
    up, down = layer.x.clamp(min=0), layer.x.clamp(max=0)
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    gains = layer.shared_by(up, positive) + layer.shared_by(down, negative)
    losses = layer.shared_by(up, negative) + layer.shared_by(down, positive)
    return gains, losses


def alpha_beta(alpha: float, beta: float) -> Rule:
    """R_i = sum_j (alpha (x_i w_ji)^+ / z_j^+ - beta (x_i w_ji)^- / z_j^-) R_j; no bias in the sums."""

    def rule(operation: Operation) -> Tensor:
        gains, losses = _signed(affine(operation, "lrp-alpha-beta"))
        contributions = alpha * _normalised(gains)
        return handed_on(operation, contributions - beta * _normalised(losses) if beta else contributions)

    return rule


def z_plus(operation: Operation) -> Tensor:
    """R_i = sum_j x_i w_ji^+ / sum_i x_i w_ji^+ R_j: meant for inputs that are not negative."""
    layer = affine(operation, "z-plus")
    return handed_on(operation, _normalised(layer.shared_by(layer.x, layer.weight.clamp(min=0))))


# -- rules for layers that read the input ---------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """Carried by the input, also where it was rearranged or shifted by constants.

    share: ones [like the value], into which a rule lets relevance flow. low, high: the box that the value comes from.
    """

    share: Tensor
    low: Tensor
    high: Tensor


_INPUT = "input"


def mark_input(value: Tensor, known: Input) -> None:
    """Make a tensor known as (a rearrangement of) the input, until something is written into it."""
    note(value, _INPUT, known)


def input_of(value: Tensor) -> Input | None:
    """What is known of a tensor that is (a rearrangement of) the input; None for any other."""
    known: Input | None = noted(value, _INPUT)
    return known


def rearranged(operation: Operation) -> Any:
    """An operation that moves entries: what is known of them moves along."""
    result = operation.run()
    if len(operation.inputs) == 1 and isinstance(result, Tensor):
        layer = noted(operation.inputs[0], _WEIGHTED_SUM)
        if layer is not None:
            note(result, _WEIGHTED_SUM, tuple(operation.run_on(part) for part in layer))
    known = (
        input_of(operation.inputs[0])
        if len(operation.inputs) == 1 and operation.inputs[0] is operation.args[0]
        else None
    )
    if known is not None and isinstance(result, Tensor):
        moved = [operation.run_on(part) for part in (known.share, known.low, known.high)]
        mark_input(result, Input(*moved))
    return result


def shifted(then: Rule) -> Rule:
    """A sum with, or a difference from, a constant: what it makes of the input is still the input, in another box."""

    def rule(operation: Operation) -> Any:
        first = len(operation.inputs) == 1 and (operation.name == "add" or operation.inputs[0] is operation.args[0])
        known = input_of(operation.inputs[0]) if first else None
        if known is None:
            return then(operation)
        result: Tensor = operation.run()
        if result.shape == known.share.shape:
            with torch.no_grad():
                low, high = operation.run_on(known.low), operation.run_on(known.high)
            mark_input(result, Input(known.share, low, high))
        return result

    return rule


_REARRANGEMENTS = (
    "flatten", "reshape", "view", "view_as", "reshape_as", "ravel", "unflatten", "unsqueeze", "squeeze", "permute",
    "transpose", "t", "movedim", "swapaxes", "swapdims", "T", "mT", "clone", "contiguous", "flip", "roll", "getitem",
    "select", "narrow", "identity", "_unsafe_view", "alias",
)  # fmt: skip


def on_input(first: Callable[[Affine, Input], Tensor], then: Rule, method: str, met: list[str]) -> Rule:
    """One rule for layers that read the input, another one for the layers behind them; `met` notes who read the input."""

    def rule(operation: Operation) -> Any:
        known = input_of(operation.inputs[0])
        if known is None:
            return then(operation)
        met.append(operation.name)
        return handed_on(operation, _normalised(first(affine(operation, method), known)))

    return rule


def w_squared(layer: Affine, known: Input) -> Tensor:
    """Contributions w_ji^2: whatever the input is."""
    return layer.shared_by(known.share, layer.weight.square())


def flat(layer: Affine, known: Input) -> Tensor:
    """Contributions 1: the relevance is spread evenly over what a unit sees."""
    return layer.shared_by(known.share, torch.ones_like(layer.weight))


def z_beta(layer: Affine, known: Input) -> Tensor:
    """Contributions x_i w_ji - low_i w_ji^+ - high_i w_ji^-: none is negative for low <= x <= high."""
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    return (
        layer.shared_by(known.share * layer.x.detach(), layer.weight)
        - layer.shared_by(known.share * known.low, positive)
        - layer.shared_by(known.share * known.high, negative)
    )


FIRST_LAYER: dict[str, Callable[[Affine, Input], Tensor]] = {"w-squared": w_squared, "z-beta": z_beta, "flat": flat}


# -- tables ----------------------------------------------------------------------------------------------------


def table(dense: Rule | None = None, conv: Rule | None = None, constant: Rule = keep) -> dict[str, Rule]:
    """The table with a rule for dense layers (batch normalisation too), one for convolutions, and one for added constants.

    Where a rule is None, layers share by their contributions w_ji x_i (LRP-0). Everything else is as in lrp-epsilon.
    """
    rules = dict(epsilon_rules(0.0))
    for names, rule in ((DENSE | {"batch_norm", "bilinear"}, dense), (CONVOLUTIONS, conv)):
        rules.update(dict.fromkeys(names, rule) if rule is not None else {})
    rules.update(dict.fromkeys(_REARRANGEMENTS, rearranged))
    return {**rules, **dict.fromkeys(("add", "sub", "rsub"), constant)}


def with_first(rules: Mapping[str, Rule], first: str, method: str, met: list[str]) -> Rules:
    """A table with another rule (a key of FIRST_LAYER) for the layers that read the input."""
    into = FIRST_LAYER[first]
    return {
        **rules,
        **{name: on_input(into, rules[name], method, met) for name in DENSE | CONVOLUTIONS},
        **{name: shifted(rules[name]) for name in ("add", "sub")},
    }
