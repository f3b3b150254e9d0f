"""LRP-gamma, LRP-alpha-beta, the z-plus rule and excitation backpropagation, on the engine of modified backpropagation."""

from __future__ import annotations

from torch import Tensor, nn

from ..claims import Claim, fails, holds, method
from ..errors import UsageError
from .backprop.engine import modified_gradient, modified_relevance
from .lrp_rules import absorbed, alpha_beta, gamma_bias, gamma_rule, nonzero, table, z_plus

GAMMA = 0.25

_LOCAL = "proved here: no rule looks at other logits"
_SHIFT = "the map is multiplied by the input, which the shift moved (Kindermans et al. 2019, section 3.2)"
_UNITS = "proved here: no unit's contributions change, or all by one positive factor"
_ORDER = "proved here: a sum does not depend on the order of its terms"
_TWINS = "x1 and (x1 + x2) - x2 as two layers at (1, 1): (1, 0) against"
_SUMS = "proved here: sums outside of layers hand on relevance like the gradient, so all of it goes to the largest"
_PARTS = "proved here: shares in [0, 1] of a contribution have its sign and add up to it"
_TERMS = "a unit's sum becomes a sum of two layers, each of which shares its own positive contributions"
_SIGNS = "two units with outgoing weights 2 and -1 in the place of one: only the first counts"

_COMMON = (
    *(holds(f"implementation-invariance/{rewrite}", on=family, source=_UNITS)
      for rewrite in ("permute", "dead", "never-active") for family in ("relu", "conv", "residual")),
    holds("implementation-invariance/rescale", on="conv", source=_UNITS),
    holds("implementation-invariance/rescale", on="relu-positive", source=_UNITS),
    *(holds(f"implementation-invariance/{rewrite}", on="smooth(dtype=float64)", source=_UNITS)
      for rewrite in ("permute", "dead")),
    holds("implementation-invariance/relu-identity", on="relu",
          source="proved here: the layer that reads ReLU(h) - ReLU(-h) sees h, and the difference has its own gradient"),
    *(holds("implementation-invariance/split", on=family, source=_PARTS)
      for family in ("relu-positive", "conv", "residual", "smooth")),
    holds("implementation-invariance/max-as-relus", on="maximum", source=_SUMS),
    fails("implementation-invariance/split-signed", on="relu", reason=_SIGNS),
    fails("input-invariance/constant", on="any", reason=_SHIFT),
    fails("input-invariance/arbitrary", on="linear", reason=_SHIFT),
    holds("class-sensitivity/other-logits", on="any", source=_LOCAL),
    holds("class-sensitivity/logit-permutation", on="any", source=_LOCAL),
    holds("feature-permutation", on="any", source=_ORDER),
)  # fmt: skip
_POOLED = holds(
    "implementation-invariance/max-as-relus", on="maxpool", source=f"{_SUMS}; a layer that picks one entry keeps it"
)
_LOST = fails(
    "implementation-invariance/max-as-relus",
    on="maxpool",
    reason="a layer that picks one entry loses it where it is negative: no positive contribution",
)
_LINEAR = holds(
    "linearity", on="any", source="proved here: side by side each unit keeps its shares, and they are linear in R"
)
_SIGNED = tuple(
    fails("class-sensitivity/parity", on=family, reason="positive contributions to -f are negative ones to f")
    for family in ("linear", "relu")
)


def _rewritten(ours: str) -> tuple[Claim, ...]:
    """What fails for rules that treat positive and negative contributions unlike; `ours`: the map of x1 as two layers."""
    return (
        fails("implementation-invariance/fuse-linear", on="linear", reason=f"{_TWINS} {ours}"),
        fails("implementation-invariance/split-linear", on="linear", reason=f"{_TWINS} {ours}"),
        fails("dummy", on="linear", reason=f"{_TWINS} {ours}"),
        fails("symmetry", on="linear", reason="the mirrored twins of one function (as for dummy)"),
        *(fails(f"sensitivity-n/{n}", on="linear", reason=f"{_TWINS} {ours}") for n in ("1", "n")),
        fails("implementation-invariance/batchnorm-folding", on="relu", reason="a normalisation by -1 turns the signs"),
        fails("implementation-invariance/nested", on="relu", reason=_TERMS),
    )


@method(
    name="lrp-gamma",
    claims=[
        *_COMMON,
        *_SIGNED,
        *_rewritten("(5/6, 1/6)"),
        holds("completeness/output", on="relu-nobias", source="proved here: contributions add up to the denominator"),
        holds("completeness/delta", on="relu-nobias", source="proved here: nothing is lost to a bias, and f(0) = 0"),
        fails("completeness/output", on="relu", reason="biases keep their share"),
        fails("completeness/delta", on="relu", reason="biases keep their share"),
        holds("scale-equivariance", on="any", source="proved here: c W has c times the contributions, in both sums"),
        _LINEAR,
        _POOLED,
        fails("continuity", on="linear", reason="x1 - x2: its denominator 5/4 x1 - x2 has another zero, (1, 5/4)"),
        fails("equivalence/lrp-0", on="relu", reason="positive weights count more"),
    ],
)  # fmt: skip
def lrp_gamma(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, gamma: float = GAMMA
) -> Tensor:
    """Layer-wise relevance propagation, gamma rule: R_i = sum_j x_i (w_ji + gamma w_ji^+) / (z_j + gamma z_j^+) R_j.

    Positive weights (and biases) count 1 + gamma times: z_j^+ = sum_i x_i w_ji^+ + b_j^+. Biases keep their share;
    activations and sums pass relevance on unchanged; the largest input of a maximum takes all. It starts from f_target(x).
    gamma = 0 is LRP-0; as gamma grows, it becomes the z-plus rule where layers see no negative input.

    Source: Montavon et al. 2019, section 10.2; Khakzar et al. 2020, section 2.

    What holds: completeness without biases; rewrites that permute or rescale units, split them with shares in [0, 1], or add
    units that do nothing; a feature that has the weight 0 in every layer gets 0. Sums and differences outside of layers hand
    on relevance as their gradient does, so h = ReLU(h) - ReLU(-h) and max(a, b) = b + ReLU(a - b) change nothing, and
    linearity holds for networks side by side.
    What fails: whatever writes one function with other signs: layers fused or split, a unit as two of opposite signs; so
    dummy and symmetry too. Written with layers the identities above fail as well: x1 + x2 at (2, -1) is (2, -1), from the
    units ReLU(x) and ReLU(-x) it is (5/3, -2/3); max(x1, x2) at (2, 1) is (2, 0), from four units (11/6, 1/6); x1 - x2 and
    x2 at (2, 1) add up to (5/3, 1/3), one layer x1 gives (2, 0). The nested identity fails in layers, too:
    ReLU(ReLU(x1) - 1 - ReLU(x2)) at (3, 1) is (2.143, -0.571), ReLU(ReLU(x1 - 1) - ReLU(x2)) is (2.273, -0.667).
    Continuity: where contributions of both signs meet, the denominator has zeros at which f is not 0, as for x1 - x2 at
    (1, 5/4): positive inputs do not prevent it. Parity; input invariance.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the method refers to zeros.
        gamma: how much more positive weights count; not negative.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: gamma is negative or not finite.
        Unsupported: a unit with relevance whose denominator is zero; products of two values that depend on the input,
            softmax, normalisation by the sample's own statistics, and what hides its operations.
    """
    if not 0 <= gamma < float("inf"):
        raise UsageError(f"lrp-gamma: gamma must be a finite number that is not negative, not {gamma!r}")
    rule = gamma_rule(gamma)
    return x * modified_gradient("lrp-gamma", table(rule, rule, gamma_bias(gamma)), model, x, target)


# With inputs that are not negative and biases that are not positive, a unit with relevance has z^+ > |z^-| + |b|; so gamma
# times its gains differ from its denominator by less than 2 z^+, and each layer's shares by less than 2 / gamma of its
# relevance. Five layers at most, maps that add up to f > 0 over at most 24 features (so the largest entry is f / 24 at
# least), and a residual that divides by two largest entries: below 5 * 2 * 24 / 2 / gamma = 120 / gamma.
_LARGE = 1e6
_TO_LARGE = 120 / _LARGE

_POSITIVE = "proved here: every unit with relevance has a positive contribution to share it by"
_BIAS = "biases add to the relevance, and a unit without a positive contribution loses it"
_EQUAL = "Khakzar et al. 2020, section 2, for inputs >= 0, biases <= 0 and f > 0"

_Z_PLUS = (
    *_COMMON,
    *_SIGNED,
    _LINEAR,
    holds("completeness/output", on="relu-positive", source=_POSITIVE),
    holds("non-negativity", on="relu-positive", source="proved here: every share is positive, and so is f"),
    fails("non-negativity", on="relu", reason="a negative logit is shared by positive shares"),
    fails("completeness/output", on="relu", reason=_BIAS),
    fails("completeness/output", on="linear", reason="x1 - x2 at (0, 1) has nothing positive: (0, 0)"),
    holds("scale-equivariance", on="any", source="proved here: shares stay, f is scaled"),
    fails("class-sensitivity/collapse", on="relu", reason="h1 - h2 and h1 - 5 h2, h = ReLU(x), at (3, 1): (2, 0), (-2, 0)"),
    fails("equivalence/gradient-times-input", on="relu", reason="negative contributions are left out"),
)  # fmt: skip


@method(
    name="lrp-alpha1-beta0",
    claims=[
        *_Z_PLUS,
        *_rewritten("(1/2, 1/2)"),
        _LOST,
        fails("continuity", on="linear", reason="x1 - x2 from (-0, 1) to (0, 1): (0, 0), (-1, 0)"),
        holds("equivalence/z-plus", on="relu-positive", source=_EQUAL),
        holds(f"equivalence/lrp-gamma(gamma={_LARGE})", on="relu-positive", tol=_TO_LARGE,
              source=f"{_EQUAL}, gamma to infinity"),
        fails("equivalence/z-plus", on="relu", reason="a negative input with a negative weight contributes here"),
    ],
)  # fmt: skip
def lrp_alpha1_beta0(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Layer-wise relevance propagation, alpha1-beta0: R_i = sum_j (w_ji x_i)^+ / sum_i (w_ji x_i)^+ R_j.

    Relevance is shared by positive contributions alone: positive inputs with positive weights, negative ones with negative
    weights. The bias is in neither sum, so units hand on all they have; a unit without a positive contribution loses
    it. Activations and sums pass relevance on unchanged; the largest input of a maximum takes all. It starts from
    f_target(x).

    Source: Bach et al. 2015, equation 60 with alpha = 1, beta = 0; Khakzar et al. 2020, section 2.

    What holds: sum R = f(x), and R >= 0, where inputs are not negative, biases not positive and f > 0; there it is the z-plus
    rule, excitation backpropagation times f, and the limit of the gamma rule; a unit split with shares in [0, 1]. Sums and
    differences outside of layers hand on relevance as their gradient does, so max(a, b) = b + ReLU(a - b) changes nothing
    (from four units it is (3/2, 1/2) at (2, 1), not (2, 0); and a layer that picks one entry of a pooling window loses a
    negative one), and linearity holds for networks side by side (x1 - x2 and x2 at (2, 1) add up to (1, 1); one layer x1
    gives (2, 0)).
    What fails: class sensitivity (logits with one positive part get one map), parity, completeness elsewhere, every rewrite
    that changes signs of contributions. The two forms of the nested identity agree where a unit is one sum: (1, 0) for both
    at (3, 1). The rewrite here makes it a sum of two layers; the one that inhibits has no positive contribution and loses
    its share: (2, 0). Continuity fails where a unit's positive contributions vanish and its output does not: x1 - x2 at
    (-0, 1) and (0, 1). Where R is at most a multiple of z^+ it is continuous (x >= 0, b <= 0, f >= 0).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the method refers to zeros.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: products of two values that depend on the input, softmax, normalisation by the sample's own statistics,
            and what hides its operations (fused recurrent cells, attention, scripted modules).
    """
    rule = alpha_beta(1.0, 0.0)
    return x * modified_gradient("lrp-alpha1-beta0", table(rule, rule, absorbed), model, x, target)


@method(
    name="lrp-alpha2-beta1",
    claims=[
        *_COMMON,
        *_SIGNED,
        *_rewritten("another pair"),
        holds("scale-equivariance", on="any", source="proved here: shares stay, f is scaled"),
        _LINEAR,
        _LOST,
        fails("completeness/output", on="relu", reason="a unit without contributions of one sign hands on 2 R or -R"),
        fails("completeness/output", on="linear", reason="a unit without negative contributions hands on 2 R"),
        fails("equivalence/lrp-alpha1-beta0", on="relu", reason="negative contributions count here"),
    ],
)  # fmt: skip
def lrp_alpha2_beta1(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, beta: float = 1.0
) -> Tensor:
    """Layer-wise relevance propagation, alpha-beta: R_i = sum_j (alpha (w_ji x_i)^+ / z_j^+ - beta (w_ji x_i)^- / z_j^-) R_j.

    z_j^+ and z_j^- add up the contributions of either sign, without the bias; alpha = 1 + beta. Where z_j^+ or z_j^- is zero,
    its term is zero: units with contributions of one sign only hand on more, or less, than they have.

    Source: Bach et al. 2015, equation 60 (alpha - beta = 1).

    What holds: rewrites that permute or rescale units, or add units that do nothing. What fails: completeness wherever a unit
    lacks contributions of one sign; parity; every rewrite that changes signs of contributions.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the method refers to zeros.
        beta: how much negative contributions count; not negative. 0 is lrp-alpha1-beta0.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: beta is negative or not finite.
        Unsupported: as lrp-alpha1-beta0.
    """
    if not 0 <= beta < float("inf"):
        raise UsageError(f"lrp-alpha2-beta1: beta must be a finite number that is not negative, not {beta!r}")
    rule = alpha_beta(1.0 + beta, float(beta))
    return x * modified_gradient("lrp-alpha2-beta1", table(rule, rule, absorbed), model, x, target)


@method(
    name="z-plus",
    claims=[
        *_Z_PLUS,
        *_rewritten("(1/2, 1/2)"),
        _POOLED,
        holds("equivalence/lrp-alpha1-beta0", on="relu-positive", source=_EQUAL),
        holds("equivalence/excitation-backprop(from_output=True)", on="relu-positive", source=_EQUAL),
    ],
)  # fmt: skip
def z_plus_rule(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The z-plus rule: R_i = sum_j x_i w_ji^+ / sum_i x_i w_ji^+ R_j.

    Relevance is shared by positive weights alone; inputs are meant not to be negative (a negative one takes a negative
    share). The bias is left out of the sum. Activations and sums pass relevance on unchanged; the largest input of a
    maximum takes all. It starts from f_target(x).

    Source: Montavon et al. 2017, section 4.2 (the rule for layers behind a ReLU); Khakzar et al. 2020, section 2.

    What holds and what fails: as for lrp-alpha1-beta0, which it is where no layer sees a negative input. On negative ones,
    x = ReLU(x) - ReLU(-x) written with layers changes it: x1 + x2 at (2, -1) is (2, -1), from the units ReLU(x) and ReLU(-x)
    it is (1, 0). With the difference outside of layers, which hands on relevance as its gradient does, nothing changes.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the method refers to zeros.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: as lrp-alpha1-beta0.
    """
    return x * modified_gradient("z-plus", table(z_plus, z_plus, absorbed), model, x, target)


@method(
    name="excitation-backprop",
    claims=[
        *_COMMON,
        *_rewritten("(1/2, 1/2)"),
        _POOLED,
        fails("completeness/output", on="relu-positive", reason="probabilities start from 1, not from f"),
        holds("non-negativity", on="relu-positive", source="proved here: a probability"),
        fails("scale-equivariance", on="relu-positive", reason="probabilities start from 1: c f has the map of f"),
        fails("class-sensitivity/collapse", on="relu", reason="h1 - h2 and h1 - 5 h2, h = ReLU(x), at (3, 1): (1, 0) twice"),
        fails("class-sensitivity/parity", on="relu", reason="f and -f are excited by weights of opposite signs"),
        fails("linearity", on="relu", reason="every map adds up to 1, also that of a sum"),
        fails("equivalence/z-plus", on="relu-positive", reason="z-plus starts from f"),
    ],
)  # fmt: skip
def excitation_backprop(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, from_output: bool = False
) -> Tensor:
    """Excitation backpropagation: P(a_i) = sum_j a_i w_ji^+ / sum_i a_i w_ji^+ P(a_j), from P = 1 at the target logit.

    A walk from the logit to the input: each unit hands its probability to the units below in proportion to their excitatory
    contributions. Activations are meant not to be negative. Activation functions and sums pass it on unchanged; the
    largest input of a maximum takes all. A unit that nothing excites ends the walk.

    Source: Zhang et al. 2016, section 3.2; Khakzar et al. 2020, section 2.

    What holds: it is the z-plus rule but for its start, so times f(x) (`from_output=True`) it is lrp-alpha1-beta0 where
    inputs are not negative, biases not positive and f > 0. What fails: class sensitivity (it sees only the positive part
    of a logit's weights), whatever speaks of the size of f.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        from_output: start from f_target(x), as z-plus does, in the place of 1.

    Returns:
        [B, *shape]: a probability (or, from the output, in units of the output).

    Raises:
        Unsupported: as lrp-alpha1-beta0.
    """
    begin = None if from_output else lambda f: 1 / nonzero(f)
    return modified_relevance("excitation-backprop", table(z_plus, z_plus, absorbed), model, x, target, begin=begin)
