"""RectGrad_Mod, which is RectGrad with absolute scores, and RectGrad with a percentile of the scores as its threshold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import UsageError
from .backprop.engine import modified_gradient
from .rectified import (
    ABSOLUTE,
    COMMON,
    COUNTED,
    NO_RELU,
    POSITIVE,
    TAU,
    TURNED,
    WITHOUT_RELU,
    above,
    rectified,
    rewrites,
    rules_with,
    where_scores_count,
)

PERCENTILE = 50.0

_IS_GRADIENT = "proved here: |a g| > 0 iff the unit is active and g is not 0, so it is the gradient"
_OPENS = "it jumps where a ReLU opens"


@method(
    name="rectgrad-mod",
    claims=[
        *(holds(axiom, on="any", source=_IS_GRADIENT)
          for axiom in ("equivalence/gradient", "implementation-invariance", "dummy", "symmetry", "linearity",
                        "scale-equivariance", "class-sensitivity", "feature-permutation", "input-invariance")),
        holds("continuity", on="smooth", source=_IS_GRADIENT),
        fails("continuity", on="relu", reason=_OPENS),
    ],
)  # fmt: skip
def rectgrad_mod(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, tau: float = 0.0
) -> Tensor:
    """RectGrad_Mod: the gradient, where a ReLU lets g pass only if the absolute score |a g| is above tau.

    At a ReLU with the output a, g_z = 1[|a g| > tau] g; every other operation has its own gradient. It is RectGrad
    without its bias towards positive scores. With tau = 0 it is the gradient. See rectgrad-mod-tau for a positive threshold.

    Source: Khakzar et al. 2020, section 4 (after equation 7).

    What holds and what fails: as for the gradient, which it equals.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        tau: the threshold on |a g|, in units of the output; not negative. The claims are made for 0.

    Returns:
        [B, *shape], in units of output per input.

    Raises:
        UsageError: tau is negative or not finite.
        Unsupported: operations that the engine does not know, and what hides its operations.
    """
    return rectified("rectgrad-mod", model, x, target, tau, absolute=True)


_BELOW = "a score up to tau is cut"


@method(
    name="rectgrad-mod-tau",
    claims=where_scores_count([
        *COMMON,
        *rewrites("never-active"),
        holds("class-sensitivity/parity", on="any", source="proved here: |a g| does not change its value with the sign of g"),
        *(holds("scale-equivariance", on=family, source=NO_RELU) for family in WITHOUT_RELU),
        fails("equivalence/gradient", on="relu", reason=_BELOW),
        fails("implementation-invariance/split", on="relu", reason=COUNTED),
        fails("implementation-invariance/split-signed", on="relu", reason=TURNED),
        fails("implementation-invariance/relu-identity", on="relu", reason="an output y = ReLU(y) - ReLU(-y) below tau: 0"),
        fails("implementation-invariance/max-as-relus", on="maximum", reason="a score up to tau is cut, a maximum has none"),
        fails("dummy", on="relu", reason="ReLU(x) - ReLU(x) / 2 - ReLU(x) / 2 = 0 at 1 gets 1"),
        fails("symmetry", on="relu", reason="a unit of one feature is two units with half of the score for the other"),
        fails("linearity", on="relu", reason="a summand's scores are below tau, those of twice of it are not"),
        fails("scale-equivariance", on="relu", reason=ABSOLUTE),
        fails("continuity", on="relu", reason="it jumps where a score passes tau"),
    ]),
)  # fmt: skip
def rectgrad_mod_tau(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, tau: float = TAU
) -> Tensor:
    """RectGrad_Mod with a threshold above zero: a ReLU lets g pass only if the score |a g| is above tau = 0.6.

    At a ReLU with the output a, g_z = 1[|a g| > tau] g; every other operation has its own gradient (see rectgrad-mod).

    Source: Khakzar et al. 2020, section 4 (after equation 7).

    What holds: rewrites that keep the score of each unit, h = ReLU(h) - ReLU(-h) before a ReLU among them (ReLU(h) has the
    score of the unit, ReLU(-h) is off; elsewhere it adds a threshold where there was none); input invariance; the map turns
    with the sign of the logit. What fails: splitting a unit, with any shares, into parts on the other side of the threshold,
    and with it dummy, symmetry and linearity; scaling the output moves scores across it.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        tau: the threshold on |a g|, in units of the output; not negative.

    Returns:
        [B, *shape], in units of output per input.

    Raises:
        UsageError: tau is negative or not finite.
        Unsupported: operations that the engine does not know, and what hides its operations.
    """
    return rectified("rectgrad-mod-tau", model, x, target, tau, absolute=True)


# Scores closer than this share of the largest one tie: two that are equal differ by rounding, below 2**10 u.
_TIES = 2.0**11


def _lowest(percentile: float) -> Callable[[Tensor], Tensor]:
    """The largest of the scores [B, ...] that are dropped, for each sample: minus infinity where none is."""

    def threshold(score: Tensor) -> Tensor:
        ranked = score.flatten(1).sort(1).values
        dropped = int(percentile / 100 * ranked.shape[1])
        if not dropped:
            return torch.full_like(score, -torch.inf)
        slack = _TIES * torch.finfo(score.dtype).eps * ranked.abs().amax(1)
        return (ranked[:, dropped - 1] + slack).reshape(-1, *[1] * (score.dim() - 1))

    return threshold


_ANOTHER = "another unit of the layer, with the score 0, moves the percentile"


@method(
    name="rectgrad-percentile",
    claims=[
        *(claim for claim in POSITIVE if claim.variant not in ("dead", "never-active", "collapse")),
        holds("scale-equivariance", on="any", source="proved here: c > 0 keeps the order of the scores"),
        fails("equivalence/guided-backprop", on="relu", reason="positive scores are dropped, too, and negative ones kept"),
        fails("implementation-invariance/split", on="relu", reason="two units of half the score, in place of one"),
        fails("implementation-invariance/split-signed", on="relu", reason="two units of other scores, in place of one"),
        fails("implementation-invariance/dead", on="relu", reason=_ANOTHER),
        fails("implementation-invariance/never-active", on="relu", reason=_ANOTHER),
        fails("symmetry", on="relu", reason="a unit of one feature is two units with half of the score for the other"),
    ],
)  # fmt: skip
def rectgrad_percentile(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    percentile: float = PERCENTILE,
    absolute: bool = False,
) -> Tensor:
    """RectGrad with a threshold from the scores: each ReLU drops the lowest `percentile` per cent of its scores a g.

    At a ReLU with the output a, g_z = 1[a g > tau] g, where tau is the largest of the int(percentile / 100 * n) lowest of
    the n scores of that call in that sample; what ties with it is dropped too. With absolute=True the scores are |a g|, as
    in RectGrad_Mod. Every other operation has its own gradient (see rectgrad).

    Source: Kim et al. 2019 (the threshold of a layer as a percentile); Khakzar et al. 2020, equation 7.

    What holds: rewrites that keep the scores of each layer up to a factor; scale equivariance, which an absolute threshold
    has not; input invariance. What fails: units that are not heard or never active move the percentile of their layer; two
    units in place of one; what fails for guided-backprop.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        percentile: how many of the scores are dropped, in per cent, at least 0 and below 100.
        absolute: whether |a g| is the score.

    Returns:
        [B, *shape], in units of output per input.

    Raises:
        UsageError: percentile is not in [0, 100).
        Unsupported: operations that the engine does not know, and what hides its operations.
    """
    if not 0 <= percentile < 100:
        raise UsageError(f"rectgrad-percentile: percentile must be at least 0 and below 100, not {percentile!r}")
    rules = rules_with(above(_lowest(percentile), absolute))
    return modified_gradient("rectgrad-percentile", rules, model, x, target)
