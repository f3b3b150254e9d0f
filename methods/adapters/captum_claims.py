"""Claims for nine of Captum's attribution classes, from its documentation and by proof.

They are what Captum says of itself, or what holds for the formula that it says it computes: a claim that falls is a
finding. Each is a function of the options that differ from the defaults, since an option may undo a property.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...claims import Claim, declaration, fails, holds
from .. import gradients, guided, occlusion
from ..naming import pinned


def _like(built_in: Callable[..., Any], *harmless: str) -> Callable[[Mapping[str, Any]], tuple[Claim, ...]]:
    """The claims of the built-in method that computes the same map; `harmless` options leave them true."""
    declared = declaration(built_in)
    known = declared.claims if declared else ()
    return lambda changed: () if set(changed) - set(harmless) else known


def _saliency(changed: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of Saliency: with abs=False it is the gradient itself."""
    return _like(gradients.gradient if "abs" in changed else gradients.saliency, "abs")(changed)


_documented = 'Captum documentation of {}: "{}"'.format
_ADDITIVE = "Ancona et al. 2018, Proposition 4"
_MOVES = "proved here: the given baseline moves with the input, so what is between the two stays"

# Captum rounds the weights of its quadrature to single precision, in double precision too. They are positive and should
# add up to 1, so rounding moves their sum, and every attribution on a linear graph with it, by at most 2**-24 = 6e-8.
_WEIGHTS_ROUNDED = 1e-7
_BEYOND_ROUNDING = 1e-4

# Smooth networks: Gauss-Legendre with n nodes converges like rho**-2n, where rho - 1 shrinks as the network gets steep
# along the path. Of 75000 small and 8000 wide cases with n = 50, 99 % are within 3e-9 (the rounded weights) and all
# within 1.6e-5. No bound covers every case: tanh of three aligned tanhs, with a slope of 60 on the path, is off by 0.1.
_SMOOTH = 1e-3


def _integrated_gradients(changed: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of IntegratedGradients.

    No completeness is claimed where the path crosses kinks, at any tolerance. Each kink adds up to its jump of the
    slope times the weight of a node (0.03 for n = 50), but f can rise and fall on the way, so that outputs and
    attributions cancel and the error stays: of 4000 ReLU networks half are within 4e-3, one in a hundred is beyond
    6e-2, and four reached 1. What is certain is that it fails, and by more than the rounded weights explain.

    n_steps and method: every rule integrates a constant exactly, so the claims on linear graphs stay; those on smooth
    networks need the 50 nodes that were measured. Riemann sums, and odd numbers of nodes, have nodes at 0, 1/2 and
    other simple fractions of the path, where kinks lie, so what holds off kinks is not claimed.
    multiply_by_inputs=False leaves the mean gradient: nothing adds up, what concerns the function stays.
    """
    quote = "sum of forward_func(inputs) - forward_func(baselines) must equal the total sum of the integrated gradient"
    total = _documented("IntegratedGradients", f"the total {quote}")
    paper = 'Captum\'s algorithm page: "two fundamental axioms, namely sensitivity and implementation invariance"'
    kinks = "a quadrature with n nodes is off by O(1/n) where the path crosses a kink"
    half = "f = x1 x2 at (1, 1): R = (1/2, 1/2), removing x1 costs 1"
    n_steps = changed.get("n_steps", 50)
    gauss = "method" not in changed and isinstance(n_steps, int)
    claims: list[Claim] = []
    if gauss and n_steps % 2 == 0:
        claims += [
            holds("implementation-invariance", on="any", source=paper),
            holds("dummy", on="any", source=f"{paper} (sensitivity (b) of Sundararajan et al. 2017)"),
            holds("symmetry", on="any", source="proved here: at each node the gradients of a symmetric function agree"),
            holds("input-invariance", on="any", source=_MOVES),
        ]
    if changed.get("multiply_by_inputs", True):
        claims += [
            holds("completeness/delta", on="linear", tol=_WEIGHTS_ROUNDED, source=total),
            holds("sensitivity-n", on="linear", tol=_WEIGHTS_ROUNDED, source=_ADDITIVE),
            fails("sensitivity-n/1", on="product", tol=0.1, reason=half),
        ]
        if "n_steps" not in changed:
            pieces = ("relu", "conv", "maxpool")
            claims += [fails("completeness/delta", on=f, tol=_BEYOND_ROUNDING, reason=kinks) for f in pieces]
        if gauss and n_steps >= 50:
            claims += [holds("completeness/delta", on=f, tol=_SMOOTH, source=total) for f in ("smooth", "odd-nobias")]
    return tuple(claims)


def _deep_lift(changed: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of DeepLift: none where eps or multiply_by_inputs change the map.

    The documentation states summation to delta without conditions; of networks it only says that "a limited number of
    non-linear activations" is supported. So the claim is made for every family, and where Captum falls short, it falls.
    On linear graphs the networks that an axiom rewrites hold ReLU(h) - ReLU(-h), which the rescale rule treats exactly.
    """
    if changed:
        return ()
    quote = "the total sum of model(inputs) - model(baselines) must equal the total sum of the attributions"
    total = _documented("DeepLift", f"{quote} computed based on DeepLift's rescale rule")
    rescale = "proved here: the multiplier of a linear layer is its weight, that of ReLU(h) - ReLU(-h) is dh / dh = 1"
    nested = "ReLU(ReLU(x1) - 1 - ReLU(x2)) = ReLU(ReLU(x1 - 1) - ReLU(x2)) at (3, 1): (1.5, -0.5) against (2, -1)"
    families = (
        "linear",
        "relu",
        "relu-nobias",
        "smooth",
        "odd-nobias",
        "conv",
        "maxpool",
        "residual",
        "functional",
        "stacked",
    )
    rule = _documented("DeepLift", "computed based on DeepLift's rescale rule")
    return (
        *(holds("completeness/delta", on=family, source=total) for family in (*families, "product")),
        # Where the networks are plain the two agree; where they are not, the script of a counterexample shows both answers.
        *(holds("equivalence/deeplift", on=family, source=rule) for family in families if family != "linear"),
        holds("sensitivity-n", on="linear", source=_ADDITIVE),
        *(holds(axiom, on="linear", source=rescale) for axiom in ("implementation-invariance", "dummy", "symmetry")),
        holds("input-invariance", on="any", source=_MOVES),
        fails("implementation-invariance/nested", on="relu", reason=f"the rescale rule sees the layers: {nested}"),
    )


# ShapleyValueSampling adds up in single precision: sums over the samples, each rounded to 2**-24 = 6e-8 of the partial
# sum. The largest residual seen is 2e-7; the rest is for partial sums that are larger than what is left of them.
_SINGLE = 1e-5


def _shapley_value_sampling(changed: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of ShapleyValueSampling: what holds for each permutation, and so for any number of them.

    Symmetry holds in expectation only: two features cannot share the order of 25 permutations (the default) evenly.
    """
    if set(changed) - {"n_samples"}:
        return ()
    quote = "The output difference after adding each feature corresponds to its attribution"
    adding = _documented("ShapleyValueSampling", quote)
    same = "proved here: one seed gives one set of permutations, and only outputs of the function enter"
    order = "f = x1 x2 at (1, 1), where k of 25 permutations add x1 last: R = (k/25, 1 - k/25)"
    telescope = f"{adding}, and over a permutation these add up to f(x) - f(baseline)"
    claims = (
        holds("completeness/delta", on="any", tol=_SINGLE, source=telescope),
        holds("sensitivity-n/N", on="any", tol=_SINGLE, source=telescope),
        holds("sensitivity-n", on="linear", tol=_SINGLE, source=_ADDITIVE),
        holds("dummy", on="any", source=f"{adding}, which is zero in every permutation"),
        holds("implementation-invariance", on="any", tol=_SINGLE, source=same),
        holds("input-invariance", on="any", tol=_SINGLE, source=_MOVES),
        fails("sensitivity-n/1", on="product", tol=_SINGLE, reason=f"{order}, but removing either costs 1"),
    )
    return claims if changed else (*claims, fails("symmetry", on="product", tol=_SINGLE, reason=order))


# What its epsilon of 1e-9 absorbs, as in methods/recursions.py: eps (1 + 1 / A) / 1.1e-3, with A >= 1.
_ABSORBED = 2e-6

_FACTOR = "z_ji = w_ji x_i has the input as a factor, which the shift moved (Kindermans et al. 2019, section 3.2)"


def _lrp(changed: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of LRP, of which no option changes the map.

    Two passages of the documentation disagree on the sum: that of `attribute` says one, that of the convergence delta the
    output. The second is what is computed. It also says that epsilon absorbs relevance, and leaves out that biases do and
    that a + between two branches, which is no module, hands on twice what it got. So conservation is claimed only for
    chains without biases.
    """
    delta = _documented("LRP", "The relevance is conserved during the propagation through the models' layers")
    shares = "proved here: the shares z_ji / z_j of a unit do not see"
    twice = "a + is no module and hands all it gets to both: x1 + x2 as two linear layers at (1, 2) gives (3, 3), not (1, 2)"
    bias = "the share of the bias b_j / z_j reaches no feature"
    return (
        *(
            holds(f"completeness/{variant}", on=family, tol=_ABSORBED, source=f"{delta}, but for epsilon; f(0) = 0")
            for family in ("relu-nobias", "odd-nobias")
            for variant in ("output", "delta")
        ),
        holds("implementation-invariance/permute", on="relu", source=f"{shares} the order of the units"),
        *(
            holds(f"implementation-invariance/{kind}", on="relu", source=f"{shares} that w a = (s w) a + (1 - s) w a")
            for kind in ("split", "split-signed")
        ),
        holds("implementation-invariance/dead", on="relu", source=f"{shares} a unit with w_ji = 0"),
        holds("implementation-invariance/never-active", on="relu", source=f"{shares} a unit with x_i = 0"),
        *(
            holds("equivalence/lrp-epsilon(epsilon=1e-9)", on=family, source=_documented("LRP", "EpsilonRule"))
            for family in ("relu", "relu-nobias", "odd-nobias")
        ),
        fails("equivalence/lrp-epsilon(epsilon=1e-9)", on="residual", reason=twice),
        fails("completeness/output", on="linear", tol=_ABSORBED, reason=bias),
        fails("completeness/output", on="relu", tol=_ABSORBED, reason=bias),
        fails("completeness/delta", on="linear", tol=_ABSORBED, reason=twice),
        fails("completeness/delta", on="relu", tol=_ABSORBED, reason=f"{bias}: ReLU(x - 1) at x = 2 gives 2 and not 1"),
        fails("implementation-invariance/nested", on="relu", tol=_ABSORBED, reason=twice),
        fails("input-invariance/constant", on="any", reason=_FACTOR),
        fails("input-invariance/arbitrary", on="linear", reason=_FACTOR),
    )


# What holds for every gradient whose ReLUs answer for themselves: what stands between them is differentiated as ever.
_MULTIPLES = "proved here: the modified gradient of a unit is that of its multiples, c > 0, and does not see the order"
_AFFINE = "proved here: between ReLUs it is the gradient, which does not see how an affine map is written"
_SAME_UNITS = "Kindermans et al. 2019, section 3.1: the shift leaves every unit as it was, and the input is no factor"


def _of_modified_gradients() -> tuple[Claim, ...]:
    """What is true of guided backpropagation and of deconvolution."""
    affine = ("fuse-linear", "split-linear", "batchnorm-folding")
    split = "the copies' gradients are cut one by one: -ReLU(x) = ReLU(x) - 2 ReLU(x) at x = 1 gives 0 against 1"
    return (
        *(holds(f"implementation-invariance/{kind}", on="any", source=_MULTIPLES) for kind in ("permute", "rescale")),
        *(holds(f"implementation-invariance/{kind}", on="any", source=_AFFINE) for kind in affine),
        holds("implementation-invariance/dead", on="any", source="proved here: the gradient of the unit is zero"),
        holds("input-invariance", on="any", source=_SAME_UNITS),
        holds("implementation-invariance/split", on="any", source=guided.PARTS),
        fails("implementation-invariance/split-signed", on="relu", reason=split),
        fails("dummy", on="relu", reason="f = ReLU(x) - ReLU(x) = 0 at x = 1 gives 1: the negative path is cut"),
        fails(
            "symmetry",
            on="relu",
            reason="ReLU(x1) + 2 ReLU(x2) - ReLU(x2) at (1, 1) gives (1, 2)",
            witness=pinned("guided-backprop/symmetry--relu"),
        ),
    )


def _guided_backprop(changed: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of GuidedBackprop, which takes no option."""
    identity = "f = -x = ReLU(-x) - ReLU(x) at x = 1: -1 against 0"
    shared = "the hook of a ReLU replaces the gradient of all that reads the same tensor: z + ReLU(z)"
    return (
        *_of_modified_gradients(),
        holds("implementation-invariance/never-active", on="any", source="proved here: the gate of the unit is closed"),
        fails("implementation-invariance/relu-identity", on="linear", reason=identity),
        *(
            holds(
                "equivalence/guided-backprop",
                on=family,
                source=_documented("GuidedBackprop", "only non-negative gradients"),
            )
            for family in ("relu", "conv", "smooth")
        ),
        fails(
            "equivalence/guided-backprop", on="functional", reason="only nn.ReLU modules are hooked: it is the gradient"
        ),
        fails("equivalence/guided-backprop", on="residual", reason=shared),
    )


def _deconvolution(changed: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of Deconvolution, which takes no option.

    By the documented rule ReLU(h) - ReLU(-h) gets ReLU(g) - ReLU(-g) = g. Captum's hook of the first ReLU sits on the tensor
    h, and replaces the gradient of its other readers too: so this claim falls.
    """
    quote = "the gradient of the ReLU input is simply computed taking ReLU of the output gradient"
    rule = f"{_documented('Deconvolution', quote)}, and ReLU(g) - ReLU(-g) = g"
    gate = "a closed unit hands on its gradient: ReLU(x) + ReLU(x - 9) at x = 1 gives 2 against 1"
    return (
        *_of_modified_gradients(),
        holds("implementation-invariance/relu-identity", on="linear", source=rule),
        fails("implementation-invariance/never-active", on="relu", reason=gate),
    )


# The nine, in the order of reports.
CLAIMS: dict[str, Callable[[Mapping[str, Any]], tuple[Claim, ...]]] = {
    "IntegratedGradients": _integrated_gradients,
    "InputXGradient": _like(gradients.gradient_times_input),
    "Saliency": _saliency,
    "DeepLift": _deep_lift,
    "FeatureAblation": _like(occlusion.occlusion_1),
    "ShapleyValueSampling": _shapley_value_sampling,
    "LRP": _lrp,
    "GuidedBackprop": _guided_backprop,
    "Deconvolution": _deconvolution,
}
