"""Deep Taylor decomposition with its root points, composites of LRP rules, and the plain Taylor expansion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import Unsupported, UsageError
from .backprop.engine import modified_relevance
from .backprop.passes import Rule, keep
from .gradients import input_gradient
from .lrp import EPSILON, LRP_0, stabilised
from .lrp_rules import FIRST_LAYER, Input, absorbed, alpha_beta, gamma_rule, mark_input, table, with_first, z_plus
from .lrp_variants import GAMMA

_RULES: dict[str, Rule | None] = {
    "lrp-0": None,
    "epsilon": stabilised(EPSILON),
    "gamma": gamma_rule(GAMMA),
    "alpha1-beta0": alpha_beta(1.0, 0.0),
    "alpha2-beta1": alpha_beta(2.0, 1.0),
    "z-plus": z_plus,
}

# Rules with no bias in their sums: where all layers have one of them, constants that the code adds take no relevance.
_ABSORB = ("alpha1-beta0", "alpha2-beta1", "z-plus")


def _composed(
    name: str, dense: str, conv: str, first: str, box: tuple[float | None, float | None],
    model: nn.Module, x: Tensor, target: Tensor,
) -> Tensor:  # fmt: skip
    """Relevance with a rule for each type of layer, by name; the first rule is "none" or one of FIRST_LAYER."""
    for option, value, known in (
        ("dense", dense, _RULES),
        ("conv", conv, _RULES),
        ("first", first, {"none": None, **FIRST_LAYER}),
    ):
        if value not in known:
            raise UsageError(f"{name}: {option} must be one of {', '.join(known)}, not {value!r}")
    constant = absorbed if dense in _ABSORB and conv in _ABSORB else keep
    rules = table(_RULES[dense], _RULES[conv], constant)
    if first == "none":
        return modified_relevance(name, rules, model, x, target)
    met: list[str] = []

    def prepare(start: Tensor, share: Tensor) -> None:
        low, high = (
            extreme(x) if bound is None else torch.full_like(x, bound)
            for bound, extreme in zip(box, (_smallest, _largest), strict=True)
        )
        if first == "z-beta" and bool(((x < low) | (x > high)).any()):
            raise UsageError(f"{name}: the input leaves the box from low to high, {box}")
        mark_input(start, Input(share, low, high))

    result = modified_relevance(name, with_first(rules, first, name, met), model, x, target, prepare=prepare)
    if not met:
        raise Unsupported(f"{name}: no layer with weights reads the input as it is")
    return result


def _smallest(x: Tensor) -> Tensor:
    return x.flatten(1).amin(1).reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)


def _largest(x: Tensor) -> Tensor:
    return -_smallest(-x)


_LOCAL = "proved here: no rule looks at other logits"
_FIRST = (
    "proved here: activations stay where the first layer undoes the shift, and its own rule does not look at the input"
)
_MOVES = "proved here: the box of the first layer moves with the shift, activations stay"
_HIDDEN = "proved here: no unit's contributions change, or all by one positive factor"
_SHARES = "proved here: every share is positive and they add up to 1: a unit with relevance has a positive weight"
_UNDONE = ("linear", "relu", "relu-nobias", "smooth", "conv", "functional", "residual")

_UNITS = ("permute", "dead", "rescale", "never-active")

_TAYLOR = (
    *(holds(f"implementation-invariance/{rewrite}", on="relu-positive", source=_HIDDEN) for rewrite in _UNITS),
    fails("implementation-invariance/fuse-linear", on="linear", reason="layers of positive contributions do not multiply"),
    fails("dummy", on="linear", reason="weights that cancel further up: (x1 + x2) - x2"),
    holds("class-sensitivity/other-logits", on="relu-positive", source=_LOCAL),
    holds("class-sensitivity/logit-permutation", on="relu-positive", source=_LOCAL),
    fails("class-sensitivity/parity", on="relu", reason="positive contributions to -f are negative ones to f"),
    holds("scale-equivariance", on="conv", source="proved here: shares stay, f is scaled"),
    holds("scale-equivariance", on="relu-positive", source="proved here: shares stay, f is scaled"),
    holds("feature-permutation", on="relu-positive", source="proved here: a sum does not depend on the order of its terms"),
)  # fmt: skip


@method(
    name="deep-taylor",
    claims=[
        *_TAYLOR,
        *(holds(f"implementation-invariance/{rewrite}", on="conv", source=_HIDDEN) for rewrite in _UNITS),
        holds("class-sensitivity/other-logits", on="any", source=_LOCAL),
        holds("class-sensitivity/logit-permutation", on="any", source=_LOCAL),
        holds("feature-permutation", on="any", source="proved here: a sum does not depend on the order of its terms"),
        *(holds(f"implementation-invariance/{rewrite}", on="relu", source=_HIDDEN) for rewrite in _UNITS),
        holds("completeness/output", on="relu-positive", source=_SHARES),
        holds("non-negativity", on="relu-positive", source=_SHARES),
        fails("completeness/output", on="relu", reason="a unit without a positive contribution loses its relevance"),
        *(holds("input-invariance", on=family, source=_FIRST) for family in _UNDONE),
        fails("equivalence/deep-taylor-zero", on="relu", reason="the root is another one"),
    ],
)  # fmt: skip
def deep_taylor(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Deep Taylor decomposition for inputs of any sign: z-plus, and R_i = sum_j w_ji^2 / sum_i w_ji^2 R_j at the input.

    Each unit's relevance is expanded to first order at a root point of its own: behind a ReLU, the nearest root with inputs
    that are not negative (z-plus); at the input, where every value is allowed, the nearest root (w-squared). Layers that
    read the input rearranged, or shifted by constants, count as layers at the input. It starts from f_target(x).

    Source: Montavon et al. 2017, sections 4.1 and 4.2; Kindermans et al. 2019, section 3.2 (other roots).

    What holds: sum R = f(x) and R >= 0 where inputs are not negative, biases not positive and f > 0; input invariance,
    wherever a layer with weights reads the input: its rule does not look at the input. What fails: completeness elsewhere;
    parity; rewrites that change signs of contributions.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: no layer with weights reads the input; products of two values that depend on the input, softmax, and
            what hides its operations (fused recurrent cells, attention, scripted modules).
    """
    return _composed("deep-taylor", "z-plus", "z-plus", "w-squared", (None, None), model, x, target)


@method(
    name="deep-taylor-bounded",
    claims=[
        *_TAYLOR,
        holds("non-negativity", on="relu-positive", source="proved here: no contribution is negative in the box"),
        *(holds("input-invariance/constant", on=family, source=_MOVES) for family in _UNDONE),
        fails("input-invariance/arbitrary", on="linear", reason="the box, from the smallest to the largest input, changes"),
        fails("equivalence/deep-taylor", on="relu", reason="the root is another one"),
    ],
)  # fmt: skip
def deep_taylor_bounded(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None,
    *, low: float | None = None, high: float | None = None,
) -> Tensor:  # fmt: skip
    """Deep Taylor decomposition for inputs in a box: the z-plus rule, and the z-beta rule at the input.

    z-beta: R_i = sum_j c_ji / sum_i c_ji R_j, c_ji = x_i w_ji - low w_ji^+ - high w_ji^-. The root of each unit is the
    nearest one inside of the box (pixels from black to white). Layers that read the input rearranged, or shifted by
    constants, count as layers at the input, in the box that the operation makes of it. It starts from f_target(x).

    Source: Montavon et al. 2017, section 4.1 (bounded input, z^B).

    What holds: R >= 0 where inputs are not negative, biases not positive and f > 0; input invariance under constant shifts,
    since the sample's own box moves with it. What fails: input invariance under shifts that change the box, parity, rewrites
    that change signs of contributions; completeness where all features of a unit lie at the edge of the box.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        low, high: the box of the input; None: the smallest and the largest value of the sample.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: an input lies outside of the box.
        Unsupported: as deep-taylor.
    """
    return _composed("deep-taylor-bounded", "z-plus", "z-plus", "z-beta", (low, high), model, x, target)


@method(
    name="deep-taylor-zero",
    claims=[
        holds("equivalence/lrp-0", on="any", source="Kindermans et al. 2019, section 3.2: the zero root gives the z-rule"),
        *LRP_0,  # one function, one set of claims
    ],
)  # fmt: skip
def deep_taylor_zero(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Deep Taylor decomposition with the root of every unit at zero: R_i = sum_j w_ji x_i / z_j R_j, the z-rule.

    Source: Kindermans et al. 2019, section 3.2; Montavon et al. 2017, section 4. It is LRP-0.

    What holds and what fails: as for lrp-0.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the method refers to zeros.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: as lrp-0.
    """
    return _composed("deep-taylor-zero", "lrp-0", "lrp-0", "none", (None, None), model, x, target)


@method(
    name="lrp-composite",
    claims=[
        holds("implementation-invariance/permute", on="conv", source=_HIDDEN),
        holds("implementation-invariance/permute", on="relu", source=_HIDDEN),
        holds("implementation-invariance/dead", on="conv", source=_HIDDEN),
        holds("equivalence/lrp-epsilon", on="relu", source="proved here: no convolutions, so the epsilon rule everywhere"),
        fails("equivalence/lrp-epsilon", on="conv", reason="convolutions share by positive weights alone"),
        fails("input-invariance/constant", on="any", reason="the map is multiplied by the input, which the shift moved"),
        holds("class-sensitivity/other-logits", on="any", source=_LOCAL),
        holds("class-sensitivity/logit-permutation", on="any", source=_LOCAL),
        holds("class-sensitivity/parity", on="any",
              source="proved here: the epsilon rule of the head is odd in f, all rules are linear in the relevance"),
        holds("linearity", on="any", source="proved here: the rules are linear in the relevance that the head hands on"),
        holds("feature-permutation", on="any", source="proved here: a sum does not depend on the order of its terms"),
    ],
)  # fmt: skip
def lrp_composite(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None,
    *, dense: str = "epsilon", conv: str = "z-plus", first: str = "none", low: float = 0.0, high: float = 1.0,
) -> Tensor:  # fmt: skip
    """Layer-wise relevance propagation with a rule for each type of layer: epsilon for dense ones, z-plus for convolutions.

    A composite chooses the rule by what a layer is: dense layers near the output are meant to keep what they know of the
    class (epsilon), convolutions to sum up (z-plus, gamma), the layer at the input to spread evenly what it knows
    (w-squared, flat, z-beta). Everything else is as in lrp-epsilon. It starts from f_target(x).

    Source: Montavon et al. 2019, section 10.3; Kohlbrenner et al. 2020.

    What holds: what each layer's rule grants; with an odd head, parity. What fails: completeness and invariances, by layers.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        dense, conv: "lrp-0", "epsilon" (1e-6), "gamma" (0.25), "alpha1-beta0", "alpha2-beta1" or "z-plus".
        first: "none", "w-squared", "flat" or "z-beta", for layers that read the input.
        low, high: the box of the input, for z-beta.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: an unknown rule; an input outside of the box.
        Unsupported: as the rules.
    """
    return _composed("lrp-composite", dense, conv, first, (low, high), model, x, target)


_NEAR = 1e-6


@method(
    name="taylor-near-origin",
    claims=[
        # The map is (1 - root) times gradient * input; a residual divides by the sum of both maps.
        holds("equivalence/gradient-times-input", on="relu-nobias", tol=_NEAR,
              source="proved here: the gradient of a positively homogeneous function is the same along a ray"),
        fails("equivalence/gradient-times-input", on="relu", reason="ReLU(x - 1) is flat at the origin"),
        fails("completeness/delta", on="relu", reason="ReLU(x - 1) is flat at the origin, at 2 it is 1"),
        holds("dummy", on="relu-nobias", source="proved here: the derivative by the feature is zero"),
        holds("class-sensitivity", on="any", source="proved here: the derivative of the target logit, odd in it"),
        fails("input-invariance/constant", on="any", reason="the root stays near the origin"),
    ],
)  # fmt: skip
def taylor_near_origin(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, root: float = _NEAR
) -> Tensor:
    """The first-order Taylor expansion at a root near the origin: R_i = df/dx_i (root x) * (x_i - root x_i).

    Source: Montavon et al. 2017, section 2.3 (simple Taylor decomposition); Samek et al. 2017, on homogeneous networks.

    What holds: on bias-free ReLU networks it is gradient * input, but for the factor 1 - root. What fails: it sees the
    network at the origin only, so wherever units are off there.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        root: where the root lies between the origin (0) and x (1).

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: root does not lie between 0 and 1.
    """
    if not 0 < root < 1:
        raise UsageError(f"taylor-near-origin: root must lie between 0 and 1, not {root!r}")
    return input_gradient(model, root * x, target) * (x - root * x)
