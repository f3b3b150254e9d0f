"""PatternNet and PatternAttribution, on the engine of modified backpropagation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor, nn

from ..claims import Claim, fails, holds, method
from .pattern_rules import mapped

# Where they answer: not on activations other than ReLU, products and normalisation by the sample.
_ANSWERED = ("relu", "conv", "residual")
_DENSE = ("linear", "relu", "relu-nobias", "relu-clear", "residual", "functional", "maximum")

_SAME = "proved here: the units, their samples and what reaches them stay"
_SHARE = "proved here: both copies have one pattern, and their weights add up to the unit's"
_SILENT = "proved here: an output that is zero on the data has no covariance with anything"
_OWN = "proved here: the patterns of the target's unit and of the units below it are all that enters"
_ALONG = "proved here: covariances move with their features"
_FIXED = "proved here: the patterns do not depend on x, and without ReLU f(x) times a constant map is left"
_COVARIANCE = "proved here: cov[x + m, y] = cov[x, y], over any fixed samples (Kindermans et al. 2019, section 3.3)"
_LAYERS = "each layer estimates its own pattern: that of a product is not the product of the patterns"
_SHARED_OUT = "the parts of a sum get shares of it by their covariances with it, not what they have alone"

# Patterns divide by covariances that may cancel down to eps^(1/3) of their terms (see patterns._DIGITS), so eps^(2/3) = 4e-11
# of them is rounding, after 2^10 operations (see axioms/tolerances.py) in each of five layers.
_ROUNDING = 5 * 2.0**10 * (2.0**-52) ** (2 / 3)


def _to_their_digits(claims: Iterable[Claim]) -> list[Claim]:
    return [replace(claim, tol=_ROUNDING) if claim.kind == "holds" else claim for claim in claims]


_BOTH = (
    *(holds(f"implementation-invariance/{rewrite}", on=family, source=_SAME)
      for rewrite in ("permute", "rescale") for family in _ANSWERED),
    *(holds("implementation-invariance/never-active", on=family, source=_SILENT) for family in _ANSWERED),
    *(fails(f"implementation-invariance/{rewrite}", on="relu", reason=_LAYERS)
      for rewrite in ("fuse-linear", "split-linear", "batchnorm-folding")),
    fails("implementation-invariance/relu-identity", on="relu", reason="the output gets the pattern of a rectified unit"),
    fails("implementation-invariance/max-as-relus", on="maximum", reason="a maximum has no pattern, a sum of ReLUs has"),
    *(holds(f"class-sensitivity/{variant}", on=family, source=_OWN)
      for variant in ("other-logits", "logit-permutation") for family in (*_ANSWERED, "linear")),
    *(holds("feature-permutation", on=family, source=_ALONG) for family in (*_ANSWERED, "linear")),
    fails("linearity", on="linear", reason=_SHARED_OUT),
    holds("continuity", on="linear", source=_FIXED),
    fails("continuity", on="relu", reason="it jumps where a ReLU opens"),
)  # fmt: skip

_INVARIANT = tuple(holds("input-invariance", on=family, source=_COVARIANCE) for family in ("relu", "linear"))
_PRINTED = (
    "E+[x y] - E+[x] E[y] moves by m (E+[y] - E[y]) with x + m; data (-1, 0), (1, 1), (3, 1), w = (1, 0), m = (0, 1)"
)
_SHIFTED = (
    *(fails(f"input-invariance/{kind}", on="relu", reason=_PRINTED) for kind in ("constant", "arbitrary")),
    holds("input-invariance", on="linear", source=_COVARIANCE),
)

_SIGNAL = (
    *_BOTH,
    *(fails(f"implementation-invariance/{rewrite}", on="relu", reason="two copies of a unit carry its signal twice")
      for rewrite in ("split", "split-signed")),
    fails("implementation-invariance/dead", on="relu", reason="a unit without weight has a covariance with y"),
    fails("dummy", on="linear", reason="a feature without weight has a pattern where it is correlated with one that counts"),
    *(holds("symmetry", on=family, source="proved here: equal columns of the data have equal covariances with any unit")
      for family in _DENSE),
    fails("class-sensitivity/parity", on="any", reason="y and a turn their signs both: the map of -f is the map of f"),
    fails("scale-equivariance", on="any", reason="c y and a / c: the map of c f is the map of f"),
)  # fmt: skip

_RELEVANCE = (
    *_BOTH,
    *(holds(f"implementation-invariance/{rewrite}", on=family, source=_SHARE)
      for rewrite in ("split", "split-signed") for family in _ANSWERED),
    *(holds("implementation-invariance/dead", on=family, source="proved here: w a = 0 where w = 0") for family in _ANSWERED),
    *(holds("class-sensitivity/parity", on=family, source="proved here: w a does not turn with w, f(x) does")
      for family in (*_ANSWERED, "linear")),
    *(holds("scale-equivariance", on=family, source="proved here: w a does not scale with w, f(x) does")
      for family in (*_ANSWERED, "linear")),
    holds("completeness/output", on="linear", source="proved here: w^T a = 1, and no ReLU masks relevance"),
    fails("completeness/output", on="relu", reason="the relevance that reaches an inactive unit is lost"),
    fails("completeness/delta", on="linear", reason="it adds up to f(x), biases included"),
    *(fails(f"sensitivity-n/{n}", on="linear", reason="it is w a f, not w x: shares of f by covariances")
      for n in ("1", "n")),
    fails("dummy", on="linear", reason="x1 as (x1 + x2) - x2: shares of x1 + x2 by covariance, half of it to x2"),
    fails("symmetry", on="linear", reason="one of two mirrored networks with a layer more: other patterns, other shares"),
)  # fmt: skip


@method(
    name="patternnet",
    data=True,
    claims=[
        *_to_their_digits((*_SIGNAL, *_INVARIANT)),
        fails("symmetry", on="conv", reason="one of two mirrored networks with a layer more: other patterns, other shares"),
    ],
)  # fmt: skip
def patternnet(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, data: Tensor | None = None
) -> Tensor:
    """PatternNet: the output goes back through patterns in the place of weights; an estimate of the signal in x.

    The pattern of a unit y = w^T x + b is what its output tells of its inputs, a = cov[x, y] / w^T cov[x, y], so that
    a^T w = 1. For a unit that a ReLU reads, the covariance is taken where y is positive:
    E+[x y] - E+[x] E+[y], with y as the ReLU sees it, bias included. Covariances are over `data`, and over all places of a
    convolution and all rows of a matrix, which share their weights. It starts from s = y; a ReLU masks where the unit is
    inactive at x; the largest input of a maximum takes all.

    Units here: dense and convolutional layers with any stride, padding, dilation and groups; sums and differences of two
    values, each entry a unit with the weights 1 and +-1; sums and means of disjoint sets of entries; scaled values c x + d
    (a batch normalisation too), a unit with one input, so a = 1 / c, and none where c = 0. A unit that a ReLU reads and that
    has fewer than two different positive outputs gets the covariance over all data; one that does not vary at all has no
    pattern, and a map that would need it is refused.

    Source: Kindermans et al. 2018; Kindermans et al. 2019, section 3.3, equations 1 and 2 and the one after them, corrected:
    with E[y] in the place of E+[y], as it is printed there, it is not input invariant (see patternnet-printed).

    What holds: input invariance for arbitrary shifts (the data move along); symmetry on dense networks; rewrites that keep
    all units (order, scale, units that are never active). What fails: dummy, as soon as features are correlated in the data,
    even with a weight of zero; two copies of a unit count twice; a unit that is not heard counts; the map of c f and that of
    -f are the map of f, since y and a change by inverse factors; rewrites that add a layer.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        data: [M, *shape], what patterns are fitted to; mandatory.

    Returns:
        [B, *shape], in units of the input.

    Raises:
        UsageError: data are missing, or not of the shape of x.
        Unsupported: activations other than ReLU, products of values, weights that outputs do not share (transposed
            convolutions), a signal that reaches a unit which does not vary over the data, and what hides its operations.
    """
    return mapped("patternnet", "signal", False, model, x, target, data)


@method(name="pattern-attribution", data=True, claims=_to_their_digits([*_RELEVANCE, *_INVARIANT]))
def pattern_attribution(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, data: Tensor | None = None
) -> Tensor:
    """PatternAttribution: the relevance f(x) goes back through w * a, entry by entry, where a are the patterns of patternnet.

    R_i = w_i a_i R for a unit y = w^T x + b with the relevance R. As a Taylor decomposition: from the root point
    x0 = x - a w^T x, R_i = w_i (x - x0)_i / (w^T x) R. The patterns, the units and what is refused are those of patternnet; a
    scaled value c x + d passes relevance unchanged, a ReLU masks where its unit is inactive, the largest input of a maximum
    takes all.

    Source: Kindermans et al. 2018; Kindermans et al. 2019, section 3.3, equations 1 and 2 and the one after them, corrected
    (see patternnet).

    What holds: a^T w = 1, so the relevances of one unit's inputs add up to its own, and on linear networks the map adds up to
    f(x); input invariance; splitting a unit, and units that are not heard or never active; scale equivariance and parity; a
    feature that has the weight 0 in every layer gets 0, since w is a factor of its share.
    What fails: completeness with ReLU, since the relevance that reaches an inactive unit is lost; completeness in the delta
    form, as biases are shared too; every sensitivity-n; dummy and symmetry, since a layer shares by variances: x1 as
    (x1 + x2) - x2 gives x2 a share; rewrites that add a layer; linearity. h = ReLU(h) - ReLU(-h) fails at the input and at
    the output. Before a ReLU it changes nothing if h has two different positive values in the data: over these ReLU(-h) is 0
    and gets no share. With fewer, the covariance over all data gives ReLU(-h) a share, which is lost where h > 0.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        data: [M, *shape], what patterns are fitted to; mandatory.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: data are missing, or not of the shape of x.
        Unsupported: activations other than ReLU, products of values, weights that outputs do not share (transposed
            convolutions), a signal that reaches a unit which does not vary over the data, and what hides its operations.
    """
    return mapped("pattern-attribution", "relevance", False, model, x, target, data)


@method(name="patternnet-printed", data=True, claims=_to_their_digits([*_SIGNAL, *_SHIFTED]))
def patternnet_printed(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, data: Tensor | None = None
) -> Tensor:
    """patternnet with the covariance of rectified units as it is printed: E+[x y] - E+[x] E[y].

    The mean of y is taken over all data, that of x and x y where y is positive. Everything else is as in patternnet.

    Source: Kindermans et al. 2019, section 3.3, the equation after equation 2.

    What holds: what holds for patternnet, except for input invariance, which is left on networks without ReLU.
    What fails: with x + m the numerator moves by m (E+[y] - E[y]). For w = (1, 0) and the data (-1, 0), (1, 1), (3, 1), a is
    (1, 1/3), and (1, 2/3) after a shift by (0, 1); with E+[y] it is (1, 0) twice.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        data: [M, *shape], what patterns are fitted to; mandatory.

    Returns:
        [B, *shape], in units of the input.

    Raises:
        UsageError: data are missing, or not of the shape of x.
        Unsupported: activations other than ReLU, products of values, weights that outputs do not share (transposed
            convolutions), a signal that reaches a unit which does not vary over the data, and what hides its operations.
    """
    return mapped("patternnet-printed", "signal", True, model, x, target, data)


@method(name="pattern-attribution-printed", data=True, claims=_to_their_digits([*_RELEVANCE, *_SHIFTED]))
def pattern_attribution_printed(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, data: Tensor | None = None
) -> Tensor:
    """pattern-attribution with the covariance of rectified units as it is printed: E+[x y] - E+[x] E[y].

    The mean of y is taken over all data, that of x and x y where y is positive. Everything else is as in pattern-attribution.

    Source: Kindermans et al. 2019, section 3.3, the equation after equation 2.

    What holds: what holds for pattern-attribution, except for input invariance, which is left on networks without ReLU.
    What fails: with x + m the numerator moves by m (E+[y] - E[y]). For w = (1, 0) and the data (-1, 0), (1, 1), (3, 1), a is
    (1, 1/3), and (1, 2/3) after a shift by (0, 1); with E+[y] it is (1, 0) twice.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        data: [M, *shape], what patterns are fitted to; mandatory.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: data are missing, or not of the shape of x.
        Unsupported: activations other than ReLU, products of values, weights that outputs do not share (transposed
            convolutions), a signal that reaches a unit which does not vary over the data, and what hides its operations.
    """
    return mapped("pattern-attribution-printed", "relevance", True, model, x, target, data)
