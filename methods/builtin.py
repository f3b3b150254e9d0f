"""The catalogue: every built-in method by name, in the order of reports, and the wrappers that make one from another."""

from __future__ import annotations

from collections.abc import Callable

from ..claims import Method, declaration
from . import (
    cam,
    competition,
    dasp,
    deep_taylor,
    deeplift,
    expected_gradients,
    fullgrad,
    gradcam,
    gradcam_variants,
    gradients,
    guided,
    hygiene,
    integrated_gradients,
    lrp,
    lrp_variants,
    naming,
    noise_ensembles,
    occlusion,
    pattern_attribution,
    rectgrad_mod,
    rectified,
    recursions,
    regressions,
    reveal_cancel,
    sanity_claims,
    shapley,
    smoothgrad,
)

_CATALOGUE = (
    # the gradient, along paths too
    gradients.gradient,
    gradients.saliency,
    gradients.gradient_times_input,
    integrated_gradients.integrated_gradients,
    integrated_gradients.integrated_gradients_zero,
    integrated_gradients.integrated_gradients_min,
    integrated_gradients.integrated_gradients_mean,
    expected_gradients.expected_gradients,
    # relevance and multipliers, layer by layer
    lrp.lrp_0,
    lrp.lrp_epsilon,
    recursions.lrp_epsilon_recursion,
    lrp_variants.lrp_gamma,
    lrp_variants.lrp_alpha1_beta0,
    lrp_variants.lrp_alpha2_beta1,
    lrp_variants.z_plus_rule,
    lrp_variants.excitation_backprop,
    deep_taylor.lrp_composite,
    deep_taylor.deep_taylor,
    deep_taylor.deep_taylor_bounded,
    deep_taylor.deep_taylor_zero,
    deep_taylor.taylor_near_origin,
    deeplift.deeplift,
    recursions.deeplift_recursion,
    reveal_cancel.deeplift_revealcancel,
    # rectified gradients, signals
    guided.guided_backprop,
    rectified.deconvnet,
    rectified.rectgrad,
    rectified.rectgrad_tau,
    rectgrad_mod.rectgrad_mod,
    rectgrad_mod.rectgrad_mod_tau,
    rectgrad_mod.rectgrad_percentile,
    pattern_attribution.patternnet,
    pattern_attribution.pattern_attribution,
    pattern_attribution.patternnet_printed,
    pattern_attribution.pattern_attribution_printed,
    # maps of a layer, sums over layers
    cam.cam,
    gradcam.gradcam,
    gradcam.gradcam_pre_relu,
    gradcam.gradcam_plus_plus,
    gradcam_variants.gradcam_pos,
    gradcam_variants.gradmid,
    gradcam_variants.cumulative_gradcam,
    gradcam_variants.cumulative_gradmid,
    fullgrad.fullgrad,
    fullgrad.fullgrad_complete,
    # features removed
    occlusion.occlusion_1,
    occlusion.box_occlusion,
    shapley.shapley,
    shapley.shapley_sampling,
    dasp.dasp,
    regressions.lime,
    regressions.kernel_shap,
)

WRAPPERS: dict[str, Callable[..., Method]] = {
    "smoothgrad": smoothgrad.smoothgrad,
    "smoothgrad-squared": noise_ensembles.smoothgrad_squared,
    "vargrad": noise_ensembles.vargrad,
    "competition": competition.competition,
}
"""What makes a method out of another one: written wrapper(base, option=value)."""


def _made(known: dict[str, Method]) -> dict[str, Method]:
    """The built-in methods that wrap another one."""
    base = known["gradient"]
    return {
        "smoothgrad": smoothgrad.over_gradient(base),
        "smoothgrad-squared": noise_ensembles.squared_over_gradient(base),
        "vargrad": noise_ensembles.variance_over_gradient(base),
        **{name: competition.alias(name, known[of]) for name, of in competition.ALIASES.items()},
    }


def named(made: Method, name: str) -> Method:
    """The method under a name by which `get_method` finds it again."""
    return made.but(name=name, imports=f"import attribcheck\n\nattribute = attribcheck.get_method({name!r})")


def _registered() -> dict[str, Method]:
    methods: dict[str, Method] = {}
    for function in _CATALOGUE:
        declared = declaration(function)
        assert declared is not None
        name = declared.name.replace("_", "-")
        if name in methods:
            raise ValueError(f"two built-in methods are called {name!r}")
        methods[name] = named(declared, name)
    for name, made in _made(methods).items():
        methods[name] = named(made, name)
    # A claim of failure rests on the witness that comes with the package, where there is one.
    return {
        name: sanity_claims.with_sanity(naming.with_witnesses(hygiene.with_hygiene(method)))
        for name, method in methods.items()
    }


BUILTIN: dict[str, Method] = _registered()
