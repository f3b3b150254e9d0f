"""DeepLIFT with the RevealCancel rule: what pushes a unit up and what pushes it down are followed apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from . import deeplift
from .backprop.affine import affine
from .backprop.engine import modified_gradient, replaced
from .backprop.operations import PIECEWISE, RESHAPES, SMOOTH, WEIGHTED
from .backprop.passes import Operation, Rules, note, noted
from .backprop.secants import Pair


@dataclass(frozen=True)
class Parts:
    """A value as up + down: gradients flow through both. rise >= 0 >= fall: what each differs by from the reference."""

    up: Tensor
    down: Tensor
    rise: Tensor
    fall: Tensor

    def each(self, function: Callable[[Tensor], Tensor]) -> Parts:
        """A linear function without constant of all four."""
        return Parts(function(self.up), function(self.down), function(self.rise), function(self.fall))

    def scaled(self, scale: Tensor) -> Parts:
        """Times a constant [broadcastable]; a negative one exchanges the parts."""
        first, second = scale.clamp(min=0), scale.clamp(max=0)
        return Parts(
            first * self.up + second * self.down,
            first * self.down + second * self.up,
            first * self.rise + second * self.fall,
            first * self.fall + second * self.rise,
        )


_PARTS = "parts"


def _with_parts(value: Tensor, parts: Parts) -> Tensor:
    note(value, _PARTS, parts)
    return value


def parts_of(value: Tensor) -> Parts | None:
    """The parts of a value, where they are known."""
    parts: Parts | None = noted(value, _PARTS)
    return parts


def _signs(z: Pair) -> tuple[Tensor, Tensor]:
    """Where the value rose, and where it fell; where it did neither, half of each (Shrikumar et al. 2017, section 3.5.2)."""
    step = z.here.detach() - z.there
    rose = (torch.sign(step) + 1) / 2
    return rose, 1 - rose


def weighted(operation: Operation) -> Any:
    """A layer with weights: contributions w_ji dx_i add up apart, by their signs."""
    result = deeplift.multiplication(operation)
    found = deeplift.pairs(operation)
    if len(found) > 1:
        return result
    z = found[0]
    layer = affine(operation, "deeplift-revealcancel")
    positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    rose, fell = _signs(z)

    def up(x: Tensor) -> Tensor:
        return layer.shared_by(x * rose, positive) + layer.shared_by(x * fell, negative)

    def down(x: Tensor) -> Tensor:
        return layer.shared_by(x * rose, negative) + layer.shared_by(x * fell, positive)

    with torch.no_grad():
        step = z.here - z.there
        rise, fall = up(step), down(step)
    return _with_parts(result, Parts(up(z.here), down(z.here), rise, fall))


def normalisation(operation: Operation) -> Any:
    """Batch normalisation rescales each unit: its parts stay, or are exchanged."""
    result: Tensor = operation.run()
    known = parts_of(operation.inputs[0])
    if known is None:
        return result
    layer = affine(operation, "deeplift-revealcancel")
    return _with_parts(result, known.scaled(layer.shared_by(torch.ones_like(known.rise), layer.weight)))


def addition(operation: Operation) -> Any:
    """A sum with a constant keeps the parts; in a sum or difference of two values each is one contribution."""
    result: Tensor = operation.run()
    minus = operation.name == "sub"
    if len(operation.inputs) == 1:
        known = parts_of(operation.inputs[0])
        if known is None or known.rise.shape != result.shape:
            return result
        turned = minus and operation.inputs[0] is not operation.args[0]
        return _with_parts(result, known.scaled(-torch.ones_like(known.rise)) if turned else known)
    if operation.kwargs.get("alpha", 1) != 1:
        return result
    ups, downs = [], []
    for k, z in enumerate(deeplift.pairs(operation)):
        rose, fell = _signs(z)
        sign = -1.0 if minus and k == 1 else 1.0
        first, second = (rose, fell) if sign > 0 else (fell, rose)
        step = z.here.detach() - z.there
        ups.append((sign * first * z.here, sign * first * step))
        downs.append((sign * second * z.here, sign * second * step))
    (up, rise), (down, fall) = (tuple(a + b for a, b in zip(*two, strict=True)) for two in (ups, downs))
    return _with_parts(result, Parts(up, down, rise, fall)) if rise.shape == result.shape else result


def rearranged(operation: Operation) -> Any:
    """What moves entries moves the parts along."""
    result = deeplift.reshaped(operation) if operation.name in RESHAPES else operation.run()
    known = parts_of(operation.inputs[0]) if len(operation.inputs) == 1 else None
    if known is not None and isinstance(result, Tensor) and known.rise.shape == operation.inputs[0].shape:
        _with_parts(result, known.each(operation.run_on))
    return result


def reveal(operation: Operation) -> Tensor:
    """An elementwise activation: the mean effect of each part alone, before and after the other one."""
    known = parts_of(operation.inputs[0]) if len(operation.inputs) == 1 else None
    value: Tensor = operation.value()
    if known is None or known.rise.shape != value.shape:
        return deeplift.rescale(operation)
    there = deeplift.pairs(operation)[0].there
    with torch.no_grad():
        f = operation.run_on
        start, up, down, both = (
            f(there),
            f(there + known.rise),
            f(there + known.fall),
            f(there + known.rise + known.fall),
        )
        gained = (up - start + both - down) / 2
        lost = (down - start + both - up) / 2
        per_rise = _quotient(gained, known.rise)
        per_fall = _quotient(lost, known.fall)
    through = per_rise * known.up + per_fall * known.down
    result = replaced(value, through, lambda g: g)
    return _with_parts(result, Parts(per_rise * known.up, per_fall * known.down, gained, lost))


def _quotient(gain: Tensor, step: Tensor) -> Tensor:
    """gain / step; where nothing pushes, no multiplier is needed, and 0 serves."""
    return torch.where(step == 0, torch.zeros_like(gain), gain / torch.where(step == 0, torch.ones_like(step), step))


_REARRANGEMENTS = (
    "flatten", "reshape", "view", "ravel", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t", "movedim",
    "contiguous", "clone", "identity", "dropout",
)  # fmt: skip

RULES: Rules = {
    **deeplift.RULES,
    **dict.fromkeys(WEIGHTED, weighted),
    **dict.fromkeys(SMOOTH | PIECEWISE, reveal),
    **dict.fromkeys(_REARRANGEMENTS, rearranged),
    **dict.fromkeys(("add", "sub"), addition),
    "batch_norm": normalisation,
}


_SUMMATION = "proved here: the gains and losses of an activation add up to its difference, contributions to the unit's"
_LOCAL = "proved here: multipliers below the logits do not depend on them"
_SAME = "proved here: no contribution changes its sign, or all change their size alike"
_PROP_4 = "Ancona et al. 2018, Proposition 4 (a linear graph has no activation to reveal anything)"


@method(
    name="deeplift-revealcancel",
    baseline="given",
    claims=[
        holds("completeness/delta", on="any", source=_SUMMATION),
        holds("sensitivity-n/N", on="any", source=_SUMMATION),
        holds("sensitivity-n", on="linear", source=_PROP_4),
        *(holds(f"equivalence/{other}", on="linear", source=_PROP_4) for other in ("deeplift", "integrated-gradients")),
        fails("equivalence/deeplift", on="relu", reason="ReLU(x1 - x2) at (2, 1): (3/2, -1/2) against (2, -1)"),
        fails("sensitivity-n/n", on="relu", reason="interactions"),
        *(holds(f"implementation-invariance/{rewrite}", on=family, source=_SAME)
          for rewrite in ("permute", "rescale", "dead", "batchnorm-folding") for family in ("relu", "conv")),
        fails("implementation-invariance/fuse-linear", on="relu", reason="contributions of two layers cancel in one"),
        fails("implementation-invariance/split-linear", on="relu", reason="contributions of two layers cancel in one"),
        holds("input-invariance", on="any", source="proved here: the baseline moves with the input, differences stay"),
        holds("class-sensitivity", on="any", source=_LOCAL),
        holds("linearity", on="any", source="proved here: multipliers of parallel networks add up"),
        holds("scale-equivariance", on="any", source=_LOCAL),
        holds("feature-permutation", on="any", source="proved here: a sum does not depend on the order of its terms"),
    ],
)  # fmt: skip
def deeplift_revealcancel(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """DeepLIFT with the RevealCancel rule: R_i = m_i (x_i - baseline_i), positive and negative contributions to a unit apart.

    A layer's contributions w_ji dx_i to unit j add up to dz^+ and dz^-, by their signs. An activation f gives them the mean
    of their effects before and after the other one, the Shapley value of the two:
    dy^+ = (f(z' + dz^+) - f(z') + f(z' + dz^- + dz^+) - f(z' + dz^-)) / 2, dy^- likewise, m^+ = dy^+ / dz^+. So
    contributions that cancel are seen, which Rescale hides. A contribution that is zero counts half to each side.
    Batch normalisation and constants keep the two sides; in a residual sum each branch is one contribution. Where no layer
    with weights or sum stands before an activation, and for maxima, products and softmax, it is DeepLIFT (Rescale).

    Source: Shrikumar et al. 2017, section 3.5.2.

    What holds: completeness; input invariance with a baseline that moves; rewrites that permute or rescale units; on linear
    graphs it is DeepLIFT. What fails: rewrites that regroup contributions (two linear layers in the place of one).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode; run once at the baseline besides.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the reference; zeros where None.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: as deeplift.
    """
    baseline = torch.zeros_like(x) if baseline is None else baseline
    return (x - baseline) * modified_gradient("deeplift-revealcancel", RULES, model, x, target, baseline)
