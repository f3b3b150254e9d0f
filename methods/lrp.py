"""Layer-wise relevance propagation with the epsilon rule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import Unsupported, UsageError
from .backprop.engine import modified_gradient, on_gradient, replaced
from .backprop.operations import LINEAR, MAXIMA, PIECEWISE, SMOOTH, WEIGHTED
from .backprop.passes import Operation, Rule, Rules, keep, note, noted

EPSILON = 1e-6


# Set on what a layer with the epsilon rule computed: its relevance is defined where the value is zero, too. It holds the
# version of the tensor: what the model writes into it later is no longer the layer's output.
_STABILISED = "stabilised"


def _tiny(z: Tensor) -> float:
    """Stands for a zero that is divided by on one side and multiplied with on the other: the square stays a number."""
    return float(torch.finfo(z.dtype).tiny ** 0.5)


def stabilised(epsilon: float) -> Rule:
    """The epsilon rule of a layer with weights: R_i = sum_j z_ji / (z_j + epsilon sign(z_j)) R_j.

    With g = R / value on both sides this is the layer's own gradient behind the factor z / (z + epsilon sign(z)).
    """

    def rule(operation: Operation) -> Tensor:
        z: Tensor = single(operation).run()
        size = z.detach().abs().clamp(min=_tiny(z))
        factor = size / (size + epsilon)
        note(z, _STABILISED, True)
        return on_gradient(z, lambda g: g * factor)

    return rule


def ratio(operation: Operation) -> Tensor:
    """An elementwise activation a(z): relevance passes unchanged, so the derivative becomes a / z.

    At z = 0 it is the derivative, the limit where a(0) = 0. Where a(0) is not 0 (a sigmoid) the ratio has a pole: behind a
    stabilised layer the factor z / (z + epsilon) takes it away, elsewhere the relevance is 0 / 0 and the network is refused.
    """
    z = elementwise(operation)
    value: Tensor = operation.run().detach()
    through = z.expand(value.shape)  # a constant of the operation may have more entries
    here = through.detach()
    slope = value / here
    stable = bool(noted(z, _STABILISED))
    zero = here.abs() < _tiny(z) if stable else here == 0
    if bool(zero.any()):
        if bool((zero & (value != 0)).any()) and not stable:
            raise Unsupported(f"LRP cannot share the relevance of {operation.name}(0), which is not 0: 0 / 0")
        pole = torch.where(here < 0, -value, value) / _tiny(z)
        slope = torch.where(zero, torch.where(value == 0, derivative(operation, here), pole), slope)
    return replaced(value, through, lambda g: g * slope)


def winner(operation: Operation) -> Tensor:
    """A maximum: the largest input takes all, as in its gradient. Against a constant it is an activation."""
    if operation.name in ("maximum", "minimum", "max", "min") and len(operation.inputs) == 1 and _binary(operation):
        return ratio(operation)
    result: Tensor = operation.run()
    return result


def _binary(operation: Operation) -> bool:
    others = (*operation.args[1:], *operation.kwargs.values())
    return any(isinstance(value, Tensor) for value in others) or operation.inputs[0] is not operation.args[0]


def scaling(operation: Operation) -> Tensor:
    """A product or quotient with a constant: linear, its own gradient; a constant by a value is an activation."""
    if operation.name == "div" and (
        operation.inputs[0] is not operation.args[0] or operation.kwargs.get("rounding_mode") is not None
    ):
        return ratio(operation)
    result: Tensor = single(operation).run()
    return result


def single(operation: Operation) -> Operation:
    """The operation, if one argument only depends on the input; LRP says nothing of products of two."""
    if len(operation.inputs) > 1:
        raise Unsupported(f"LRP has no rule for {operation.name} of two values that depend on the input")
    return operation


def elementwise(operation: Operation) -> Tensor:
    """The one argument of an elementwise operation that depends on the input."""
    return single(operation).inputs[0]


def derivative(operation: Operation, at: Tensor) -> Tensor:
    """The derivative of an elementwise operation at other values, [*z's shape]."""
    with torch.enable_grad():
        point = at.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(operation.run_on(point).sum(), point)
    return slope


# The gradient itself at piecewise linear activations through zero: a / z is their slope, exactly.
_HOMOGENEOUS = ("relu", "leaky_relu", "prelu", "abs")


def rules(epsilon: float) -> Rules:
    """The table of epsilon-LRP; with epsilon = 0, LRP-0."""
    weighted = stabilised(epsilon) if epsilon else lambda operation: single(operation).run()
    return {
        **dict.fromkeys(LINEAR | {"dropout"}, keep),
        **dict.fromkeys(("mul", "outer", "div"), scaling),
        **dict.fromkeys(WEIGHTED | {"batch_norm"}, weighted),
        **dict.fromkeys(SMOOTH | PIECEWISE, ratio),
        **dict.fromkeys(_HOMOGENEOUS, keep),
        **dict.fromkeys(MAXIMA, winner),
    }


_PROP_3I = "Ancona et al. 2018, Proposition 3 (i)"
_PROP_3II = "Ancona et al. 2018, Proposition 3 (ii)"
_RELUS = ("linear", "relu", "relu-nobias", "conv", "residual", "functional", "maxpool", "maximum")
# (Next to z = 0 the ratio sigmoid(z) / z multiplies the rounding of z: half of the digits are left in single precision.)
_SMOOTHS = ("smooth(dtype=float64)", "odd-nobias")
_UNITS = (
    "permute", "split", "split-signed", "dead", "fuse-linear", "split-linear", "batchnorm-folding", "relu-identity",
)  # fmt: skip

_AS_GRADIENT = "it equals gradient * input there, which belongs to the function"
_SIGMOID = "tanh(x) = 2 sigmoid(2x) - 1 at 1: 0.76 against 1.76"
_LOCAL = "proved here: no rule looks at other logits, and each is linear in the relevance that reaches it"
_ODD = "proved here: the rules are linear in the relevance, and the last layer's z / (z + eps sign z) is even in z"
_SHIFT = "the map is multiplied by the input, which the shift moved (Kindermans et al. 2019, section 3.2)"
_BIASES = "biases keep their share of the relevance"

_EVERYWHERE = (
    holds("class-sensitivity", on="any", source=_ODD),
    holds("linearity", on="any", source=_LOCAL),
    holds("feature-permutation", on="any", source="proved here: a sum does not depend on the order of its terms"),
    fails("input-invariance/constant", on="any", reason=_SHIFT),
    fails("input-invariance/arbitrary", on="linear", reason=_SHIFT),
)


LRP_0 = (
    *_EVERYWHERE,
    *(holds("equivalence/gradient-times-input", on=family, source=_PROP_3I) for family in _RELUS),
    fails("equivalence/gradient-times-input", on="smooth", reason="tanh(z) / z is not tanh'(z)"),
    fails("equivalence/gradient-times-input", on="odd-nobias", reason="tanh(z) / z is not tanh'(z)"),
    *(holds("approximate-completeness", on=family, source=f"{_PROP_3I} and Euler's theorem in input and biases")
      for family in _RELUS),
    holds("equivalence/deeplift", on="relu-nobias", source=_PROP_3II),
    holds("equivalence/deeplift", on="odd-nobias", source=_PROP_3II),
    fails("equivalence/deeplift", on="smooth", reason="Proposition 3 (ii) needs a(0) = 0 and no bias: the sigmoid"),
    holds("completeness/output", on="relu-nobias", source="Bach et al. 2015, equation 2: nothing is lost to a bias"),
    holds("completeness/output", on="odd-nobias", source="Bach et al. 2015, equation 2: nothing is lost to a bias"),
    holds("completeness/delta", on="relu-nobias", source=f"{_PROP_3II}: f(0) = 0"),
    holds("completeness/delta", on="odd-nobias", source=f"{_PROP_3II}: f(0) = 0"),
    holds("completeness/delta", on="linear", source="Ancona et al. 2018, Proposition 4"),
    fails("completeness/output", on="linear", reason="the bias belongs to no feature"),
    fails("completeness/delta", on="relu", reason="f = ReLU(x - 1) at x = 2 gives 2, but f(x) - f(0) = 1"),
    fails("completeness/delta", on="conv", reason=_BIASES),
    fails("completeness/delta", on="smooth", reason=_BIASES),
    holds("sensitivity-n", on="linear", source="Ancona et al. 2018, Proposition 4"),
    fails("sensitivity-n/n", on="relu", reason="biases and interactions (Ancona et al. 2018, Proposition 4)"),
    fails("sensitivity-n/1", on="relu-nobias", reason="ReLU(x1 - x2) at (2, 1): 2 for x1, and removing it costs 1"),
    *(holds("implementation-invariance", on=f, source=f"proved here: {_AS_GRADIENT}") for f in _RELUS),
    *(
        holds(f"implementation-invariance/{rewrite}", on=family, source="proved here: no unit's z or share changes")
        for rewrite in _UNITS
        for family in _SMOOTHS
    ),
    fails("implementation-invariance/activation-change", on="smooth", reason=_SIGMOID),
    fails("implementation-invariance/activation-change", on="odd-nobias", reason=_SIGMOID),
    *(holds("dummy", on=family, source=f"proved here: {_AS_GRADIENT}") for family in _RELUS),
    *(holds("symmetry", on=family, source=f"proved here: {_AS_GRADIENT}") for family in _RELUS),
    *(fails("symmetry", on=family, reason="tanh(x1) + 2 sigmoid(2 x2) - 1 at (1, 1): 0.76 against 1.76")
      for family in ("smooth", "odd-nobias")),
    fails("dummy", on="odd-nobias", reason="tanh(x1) - 2 sigmoid(2 x1) + 1 is zero and gets -1 at x1 = 1"),
    holds("scale-equivariance", on="any", source="proved here: the relevance that starts is scaled, shares are not"),
    fails("continuity", on="relu", reason="it is gradient * input, which jumps at kinks"),
)  # fmt: skip


@method(name="lrp-0", claims=LRP_0)
def lrp_0(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Layer-wise relevance propagation without a stabiliser: R_i = sum_j z_ji / z_j R_j, z_ji = w_ji x_i.

    From layer to layer, relevance is shared in proportion to the contributions z_ji to z_j = sum_i z_ji + b_j; the bias keeps
    its share; activations pass relevance on unchanged; the largest input of a maximum takes all. It starts from
    f_target(x). On the way the engine carries g = R / value: the gradient with a(z) / z in the place of a'(z)
    (Ancona et al. 2018, Proposition 1).

    Source: Bach et al. 2015, section 2 (equation 58 without its stabiliser); Ancona et al. 2018, Proposition 1.

    What holds: on networks of linear layers, ReLU and maxima it is gradient * input (Proposition 3 (i)), biases or not,
    bit for bit where weights are dyadic. Without biases it is complete for any activation, and with a(0) = 0 it is
    DeepLIFT from zeros (Proposition 3 (ii)). What fails: completeness with biases; sensitivity-n, where features interact;
    for smooth activations it belongs to the implementation, not to the function (dummy and symmetry fail too); input
    invariance; continuity.

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
    return x * modified_gradient("lrp-0", _RULES_0, model, x, target)


_O_EPS = "each layer keeps the share epsilon / |z| of the relevance: O(epsilon)"
_SAME_LAYERS = "proved here: the outputs of the layers with weights are the same numbers"
_RECURSION = "Ancona et al. 2018, Proposition 1"

# With |z| >= c at every linear output, a path through L layers is off by a factor between (1 + eps / c)^-L and 1, so the map
# by at most L eps / c times A, the sum over absolute paths; L <= 5 and c = 1/2 make 1e-5 A. The comparison never divides by
# less than 1.1e-3 A (see axioms.tolerances), so the residual is below 1e-2.
_CLEAR = 1e-2


_AT_KINKS = "proved here: z / (z + eps sign z) = |z| / (|z| + eps) is zero at the kink"
_ODD_RATIO = "proved here: tanh(z) / (z + eps sign z) is continuous"


@method(
    name="lrp-epsilon",
    claims=[
        *_EVERYWHERE,
        *(
            holds("equivalence/lrp-epsilon-recursion", on=family, source=_RECURSION)
            for family in ("linear", "relu", "relu-nobias", "smooth", "odd-nobias", "conv", "maxpool", "functional")
        ),
        holds("equivalence/gradient-times-input", on="relu-clear", tol=_CLEAR, source=f"{_PROP_3I}, where |z| >> epsilon"),
        fails("equivalence/gradient-times-input", on="relu", reason=f"{_PROP_3I} as printed: {_O_EPS}"),
        fails("equivalence/deeplift", on="relu-nobias", reason=f"{_PROP_3II} as printed: {_O_EPS}"),
        fails("equivalence/deeplift", on="odd-nobias", reason=f"{_PROP_3II} as printed: {_O_EPS}"),
        fails("completeness/output", on="relu-nobias", reason=_O_EPS),
        fails("completeness/delta", on="relu", reason=_BIASES),
        fails("completeness/delta", on="conv", reason=_BIASES),
        fails("completeness/delta", on="smooth", reason=_BIASES),
        fails("completeness/delta", on="linear", reason=_O_EPS),
        fails("sensitivity-n/n", on="linear", reason=_O_EPS),
        fails("sensitivity-n/1", on="linear", reason="f = x at 1 gives 1 / (1 + epsilon)"),
        fails("dummy", on="linear", reason="(x1 + x2) - x2 as two layers at (1, 1): x2 gets epsilon / 2"),
        fails("symmetry", on="linear", reason="(x1 + x2) - x2 as two layers, plus x2 in one: other layers, other losses"),
        *(
            holds(f"implementation-invariance/{rewrite}", on=family, source=_SAME_LAYERS)
            for rewrite in ("permute", "split", "split-signed", "dead")
            for family in ("relu", "smooth(dtype=float64)", "conv")
        ),
        holds("implementation-invariance/never-active", on="relu", source=_SAME_LAYERS),
        *(holds("implementation-invariance/relu-identity", on=family, source=_SAME_LAYERS)
          for family in ("relu", "smooth(dtype=float64)", "conv")),
        holds("implementation-invariance/max-as-relus", on="maximum", source=_SAME_LAYERS),
        fails("implementation-invariance/max-as-relus", on="maxpool", reason=f"a window's entries become layers: {_O_EPS}"),
        fails("implementation-invariance/nested", on="relu", reason=f"other layers: {_O_EPS}"),
        fails("implementation-invariance/rescale", on="relu", reason=f"2z and z keep other shares: {_O_EPS}"),
        fails("implementation-invariance/fuse-linear", on="relu", reason=f"one layer more or less: {_O_EPS}"),
        fails("implementation-invariance/split-linear", on="relu", reason=f"one layer more or less: {_O_EPS}"),
        fails("implementation-invariance/batchnorm-folding", on="relu", reason=f"one layer more or less: {_O_EPS}"),
        fails("implementation-invariance/activation-change", on="smooth", reason=_SIGMOID),
        fails("scale-equivariance", on="relu", reason=f"c z and z keep other shares: {_O_EPS}"),
        # (The slope grows with the outputs: where they are large, a continuous map is steeper than the search resolves.)
        # And where a bias is added outside of its layer, the denominator of the layer is not what the ReLU cuts.
        *(holds("continuity", on=f"{family}(magnitude=ordinary, form=module)", source=source)
          for family, source in (("relu", _AT_KINKS), ("conv", _AT_KINKS), ("odd-nobias", _ODD_RATIO))),
        fails("continuity", on="smooth", reason="the sigmoid's a(z) / (z + eps sign z) jumps by 1 / eps at z = 0"),
        fails("continuity", on="maxpool", reason="the largest input takes all, until another one is larger"),
    ],
)  # fmt: skip
def lrp_epsilon(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, epsilon: float = EPSILON
) -> Tensor:
    """Layer-wise relevance propagation, epsilon rule: R_i = sum_j z_ji / (z_j + eps sign(z_j)) R_j, z_ji = w_ji x_i.

    From layer to layer, relevance is shared in proportion to the contributions z_ji to z_j = sum_i z_ji + b_j; the bias and
    the stabiliser keep their shares; activations and sums pass relevance on unchanged; the largest input of a maximum takes
    all. It starts from f_target(x). sign(0) = 1. On the way the engine carries g = R / value: the gradient with
    a(z) / z in the place of a'(z) and a factor |z| / (|z| + eps) at each layer with weights (Ancona et al. 2018,
    Proposition 1).

    Source: Bach et al. 2015, equation 58; Ancona et al. 2018, Table 1 and Proposition 1. The listing in Ancona et al. 2019
    stabilises activations without the sign; here as in the equations.

    What holds: as epsilon goes to 0 what holds for lrp-0. For a finite one it is continuous on ReLU and tanh networks
    (with a slope of up to 1 / epsilon), which lrp-0 is not. What fails: each layer keeps the share epsilon / |z|, so
    completeness, Propositions 3 (i) and (ii), dummy and symmetry, and rewrites that add a layer or scale one hold up to
    O(epsilon / |z|) only: f = x at 1 gives 1 / (1 + eps). Sums and differences outside of layers keep nothing. So linearity
    holds for networks side by side, as do h = ReLU(h) - ReLU(-h) and max(a, b) = b + ReLU(a - b); written with layers they
    fail: x + x at 1 is 2 / (1 + eps), 2 x in one layer 4 / (2 + eps), and a maximum in four units (1.977, 0.003) at (2, 1)
    for epsilon = 0.01, not (2, 0).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the method refers to zeros.
        epsilon: the stabiliser, in units of z; not negative.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: epsilon is negative or not finite.
        Unsupported: products of two values that depend on the input, softmax, normalisation by the sample's own statistics,
            and what hides its operations (fused recurrent cells, attention, scripted modules).
    """
    if not 0 <= epsilon < float("inf"):
        raise UsageError(f"lrp-epsilon: epsilon must be a finite number that is not negative, not {epsilon!r}")
    return x * modified_gradient("lrp-epsilon", rules(epsilon), model, x, target)


_RULES_0 = rules(0.0)
