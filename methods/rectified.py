"""DeconvNet and RectGrad, on the engine of modified backpropagation: what a ReLU lets back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import Claim, fails, holds, method
from ..errors import UsageError
from .backprop.engine import modified_gradient, on_gradient, replaced
from .backprop.passes import Operation, Rules
from .guided import PARTS, SIGNED, rectifies
from .guided import RULES as GUIDED

RECTIFIERS = ("relu", "clamp", "clamp_min", "threshold", "maximum", "max")

TAU = 0.6
"""The default of the variants with an absolute threshold. No dyadic number, so that no score of a small case ties with it."""


def rules_with(rectifier: Callable[[Operation], Tensor]) -> Rules:
    """The table of guided backpropagation with another rule at ReLUs."""

    def rule(operation: Operation) -> Any:
        return rectifier(operation) if rectifies(operation) else operation.run()

    return {**GUIDED, **dict.fromkeys(RECTIFIERS, rule)}


def _deconvolved(operation: Operation) -> Tensor:
    """A ReLU on the way back is a ReLU of the gradient: max(g, 0), wherever the unit stood on the way forth."""
    value: Tensor = operation.run().detach()
    return replaced(value, operation.inputs[0].expand(value.shape), lambda g: g.clamp(min=0))


def above(threshold: Callable[[Tensor], Tensor | float], absolute: bool) -> Callable[[Operation], Tensor]:
    """A ReLU lets g pass where the score a g, or |a g|, is above a threshold of the layer's scores [B, ...]."""

    def rule(operation: Operation) -> Tensor:
        result: Tensor = operation.run()
        a = result.detach().clone()  # the model may go on to overwrite it

        def passed(g: Tensor) -> Tensor:
            score = (a * g).abs() if absolute else a * g
            return torch.where(score > threshold(score), g, torch.zeros_like(g))

        return on_gradient(result, passed)

    return rule


_DECONVNET = rules_with(_deconvolved)


def rectified(name: str, model: nn.Module, x: Tensor, target: Tensor, tau: float, absolute: bool) -> Tensor:
    if not 0 <= tau < float("inf"):
        raise UsageError(f"{name}: tau must be a finite number that is not negative, not {tau!r}")
    return modified_gradient(name, rules_with(above(lambda score: tau, absolute)), model, x, target)


_LAYER = "proved here: the gradient that reaches each ReLU, and its unit, stay"
NO_RELU = "proved here: no ReLU, so it is the gradient"
_OWN = "proved here: no rule looks at other logits"
_ORDER = "proved here: a sum does not depend on the order of its terms"
_SHIFT = "Kindermans et al. 2019, section 3.1: the map is made of weights and of which units are active"
WITHOUT_RELU = ("linear", "smooth", "odd-nobias", "maximum")
_RELUS = ("relu", "relu-nobias", "conv", "residual", "functional")


def rewrites(*names: str, source: str = _LAYER) -> list[Claim]:
    return [holds(f"implementation-invariance/{name}", on="any", source=source) for name in names]


COMMON = (
    *(holds("equivalence/gradient", on=family, source=NO_RELU) for family in WITHOUT_RELU),
    holds("implementation-invariance/activation-change", on="smooth", source=NO_RELU),
    *rewrites("permute", "rescale", "fuse-linear", "split-linear", "batchnorm-folding", "dead"),
    holds("input-invariance", on="any", source=_SHIFT),
    holds("class-sensitivity/other-logits", on="any", source=_OWN),
    holds("class-sensitivity/logit-permutation", on="any", source=_OWN),
    holds("feature-permutation", on="any", source=_ORDER),
)


def where_scores_count(claims: Iterable[Claim]) -> list[Claim]:
    """Claims of a method with an absolute threshold: where outputs are tiny, nothing passes it, and maps are empty."""
    return [
        replace(claim, on="any(magnitude=large)") if claim.kind == "holds" and claim.on == "any" else claim
        for claim in claims
    ]


@method(
    name="deconvnet",
    claims=[
        *COMMON,
        fails("equivalence/gradient", on="relu", reason="max(g, 0) passes inactive ReLUs too, and cuts negative gradients"),
        fails("equivalence/guided-backprop", on="relu", reason="inactive ReLUs pass the gradient, too"),
        holds("implementation-invariance/relu-identity", on="any", source="proved here: max(g, 0) - max(-g, 0) = g"),
        holds("implementation-invariance/split", on="any", source=PARTS),
        fails("implementation-invariance/split-signed", on="relu", reason=SIGNED),
        fails("implementation-invariance/never-active", on="relu", reason="an inactive unit is heard: 1 becomes 2"),
        fails("implementation-invariance/max-as-relus", on="maximum", reason="b + ReLU(a - b) passes a's share where a < b"),
        fails("dummy", on="relu", reason="ReLU(x) - ReLU(x) = 0 gets 1"),
        fails("symmetry", on="relu", reason="ReLU(x1) + 2 ReLU(x2) - ReLU(x2) at (1, 1): (1, 2)"),
        fails("linearity", on="relu", reason="2 ReLU(x) - ReLU(x) gets 2, not 1"),
        fails("class-sensitivity/parity", on="relu", reason="the sign decides what is cut"),
        fails("class-sensitivity/collapse", on="relu", reason="h1 - h2 and h1 - 5 h2 (h = ReLU(x)) get one map, (1, 0)"),
        holds("scale-equivariance", on="any", source="proved here: max(c g, 0) = c max(g, 0) for c > 0"),
        *(holds("continuity", on=family, source="proved here: weights alone enter, the map is constant in x")
          for family in ("linear", *_RELUS)),
        fails("continuity", on="maxpool", reason="the gradient goes to the largest input, until another one is larger"),
    ],
)  # fmt: skip
def deconvnet(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """DeconvNet: the gradient, but on the way back a ReLU rectifies the gradient, and not where its unit was inactive.

    At a ReLU of z, g_z = max(g, 0) whatever the sign of z; a max-pooling sends g to its largest input (its switch), as in
    its gradient; every other operation has its own gradient. A ReLU is one under any of its names: relu, clamp(min=0),
    threshold(0, 0), the maximum with zeros; in module, functional, method and in-place form.

    Source: Zeiler and Fergus 2014, section 2.1; Springenberg et al. 2015, section 3.4, for the form as a backward pass.

    What holds: on networks of linear layers and ReLU it does not depend on x at all; rewrites that keep the gradient at
    each ReLU up to a positive factor, and x = ReLU(x) - ReLU(-x); input invariance; without ReLUs it is the gradient.
    What fails: a unit that is never active changes it, and so do two ReLUs with outgoing weights of both signs in place of
    one (and with it dummy, symmetry, linearity); it tells classes apart only by the positive part of their weights.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.

    Returns:
        [B, *shape], in units of output per input.

    Raises:
        Unsupported: operations that the engine does not know, and what hides its operations (fused recurrent cells,
            attention, scripted modules).
    """
    return modified_gradient("deconvnet", _DECONVNET, model, x, target)


_SIGNS = "a negative score a g is cut, as in guided backpropagation"
POSITIVE = (
    *COMMON,
    fails("equivalence/gradient", on="relu", reason=_SIGNS),
    *rewrites("never-active"),
    fails("implementation-invariance/relu-identity", on="relu", reason="x = ReLU(x) - ReLU(-x) for f = -x at 1: -1, 0"),
    fails("implementation-invariance/max-as-relus", on="maximum", reason="-max(a, b) = -b - ReLU(a - b)"),
    fails("dummy", on="relu", reason="ReLU(x) - ReLU(x) = 0 gets 1"),
    fails("linearity", on="relu", reason="2 ReLU(x) - ReLU(x) gets 2, not 1"),
    fails("class-sensitivity/parity", on="relu", reason="the sign decides what is cut"),
    fails("class-sensitivity/collapse", on="relu", reason="h1 - h2 and h1 - 5 h2 (h = ReLU(x)) get one map, (1, 0)"),
    fails("continuity", on="relu", reason="it jumps where a ReLU opens"),
)


@method(
    name="rectgrad",
    claims=[
        *POSITIVE,
        holds("equivalence/guided-backprop", on="any", source="proved here: a g > 0 iff the unit is active and g > 0"),
        holds("implementation-invariance/split", on="any", source=PARTS),
        fails("implementation-invariance/split-signed", on="relu", reason=SIGNED),
        fails("symmetry", on="relu", reason="ReLU(x1) + 2 ReLU(x2) - ReLU(x2) at (1, 1): (1, 2)"),
        holds("scale-equivariance", on="any", source="proved here: a g > 0 iff c a g > 0 for c > 0"),
    ],
)  # fmt: skip
def rectgrad(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, tau: float = 0.0
) -> Tensor:
    """RectGrad: the gradient, where a ReLU lets g pass only if the score a g is above tau.

    At a ReLU with the output a, g_z = 1[a g > tau] g; every other operation has its own gradient. The map is what reaches
    the input: it is neither multiplied by the input nor rectified there (equation 7 is a rule of units; the final steps that
    Kim et al. apply to images are not part of it). With tau = 0 a score is positive iff the unit is active and its gradient
    positive: guided backpropagation. See rectgrad-tau for a threshold above zero, rectgrad-percentile for one from
    the scores.

    Source: Khakzar et al. 2020, equation 7; Kim et al. 2019.

    What holds and what fails: as for guided-backprop, which it equals.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        tau: the threshold on a g, in units of the output; not negative. The claims are made for 0.

    Returns:
        [B, *shape], in units of output per input.

    Raises:
        UsageError: tau is negative or not finite.
        Unsupported: operations that the engine does not know, and what hides its operations.
    """
    return rectified("rectgrad", model, x, target, tau, absolute=False)


COUNTED = "ReLU(x) = ReLU(x) / 2 + ReLU(x) / 2 at 1: the halves are below tau, 1 becomes 0"
TURNED = "0.4 ReLU(x) = 0.8 ReLU(x) - 0.4 ReLU(x) at 1: a score is below tau, twice of it is not"
ABSOLUTE = "at x = 0.4 a score of 0.4 is below tau, and twice of it is not: 0 and 2"


@method(
    name="rectgrad-tau",
    claims=where_scores_count([
        *POSITIVE,
        fails("equivalence/guided-backprop", on="relu", reason="positive scores up to tau are cut, too"),
        fails("implementation-invariance/split", on="relu", reason=COUNTED),
        fails("implementation-invariance/split-signed", on="relu", reason=TURNED),
        fails("symmetry", on="relu", reason="a unit of one feature is two units with half of the score for the other"),
        fails("scale-equivariance", on="relu", reason=ABSOLUTE),
        *(holds("scale-equivariance", on=family, source=NO_RELU) for family in WITHOUT_RELU),
    ]),
)  # fmt: skip
def rectgrad_tau(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, tau: float = TAU
) -> Tensor:
    """RectGrad with an absolute threshold above zero: a ReLU lets g pass only if the score a g is above tau = 0.6.

    At a ReLU with the output a, g_z = 1[a g > tau] g; every other operation has its own gradient (see rectgrad).

    Source: Khakzar et al. 2020, equation 7; Kim et al. 2019.

    What holds: rewrites that keep the score of each unit (order, scale, layers without ReLU, units that are not heard or
    never active; h = ReLU(h) - ReLU(-h) before a ReLU, where ReLU(h) has the score of the unit and ReLU(-h) is off); input
    invariance. What fails besides what fails for guided-backprop: splitting a unit, with any shares, into parts on the other
    side of the threshold; scaling the output moves scores across it.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        tau: the threshold on a g, in units of the output; not negative.

    Returns:
        [B, *shape], in units of output per input.

    Raises:
        UsageError: tau is negative or not finite.
        Unsupported: operations that the engine does not know, and what hides its operations.
    """
    return rectified("rectgrad-tau", model, x, target, tau, absolute=False)
