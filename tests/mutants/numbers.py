"""Mutants that compute wrong numbers: quadrature, baselines, rounding.

Each is a right method of `right` with one slip. The docstring says what is wrong and, where it does not show on every
network, in which situation.
"""

from __future__ import annotations

import torch

from .right import (
    along,
    deeplift,
    derivative,
    gauss,
    gradient,
    integrated,
    mutant,
    occlusion,
    output,
    replaced,
    rows,
    secant,
    slopes,
    walk,
)

# -- quadrature ----------------------------------------------------------------------------------------------------


@mutant(
    "quadrature: trapezoid weights that do not add up",
    breaks=[("completeness/delta", "linear"), ("completeness/delta", "smooth")],
    baseline="given",
)
def trapezoid_without_half_weights(model, x, target, baseline):
    """Wrong: the two ends of the trapezoid rule count in full, so the weights add up to 1 + 1/n."""
    n = 50
    points = [baseline + k / n * (x - baseline) for k in range(n + 1)]
    return (x - baseline) * along(model, points, x.new_full((n + 1,), 1 / n), target)


@mutant(
    "quadrature: nodes on the wrong interval",
    breaks=[("completeness/delta", "relu"), ("completeness/delta", "smooth")],
    baseline="given",
)
def gauss_nodes_on_minus_one_to_one(model, x, target, baseline):
    """Wrong: the nodes of Gauss and Legendre are not moved from [-1, 1] to [0, 1], though the weights are halved."""
    nodes, weights = gauss(32, x)
    points = [baseline + (2 * t - 1) * (x - baseline) for t in nodes]
    return (x - baseline) * along(model, points, weights, target)


@mutant(
    "quadrature: too few steps on kinks",
    breaks=[("completeness/delta", "relu"), ("equivalence/integrated-gradients", "relu")],
    baseline="given",
)
def eight_gauss_nodes_across_kinks(model, x, target, baseline):
    """Wrong where the path crosses a kink: eight nodes are exact for polynomials up to degree 15, not for steps."""
    return integrated(model, x, target, baseline, n=8)


@mutant(
    "quadrature: nodes and weights in single precision",
    breaks=[("completeness/delta", "smooth"), ("equivalence/integrated-gradients", "linear")],
    baseline="given",
)
def nodes_in_single_precision(model, x, target, baseline):
    """Wrong for float64 inputs: nodes and weights of the quadrature are rounded to float32 on the way."""
    nodes, weights = (part.float().to(x) for part in gauss(50, x))
    return (x - baseline) * along(model, [baseline + t * (x - baseline) for t in nodes], weights, target)


# -- baselines -----------------------------------------------------------------------------------------------------


@mutant(
    "baseline: one value stands for all features",
    breaks=[("completeness/delta", "relu"), ("completeness/delta", "linear")],
    baseline="given",
)
def first_value_of_the_baseline_for_all(model, x, target, baseline):
    """Wrong where the baseline is not constant: its first value is broadcast over all features."""
    return walk(model, x, target, rows(baseline.flatten(1)[:, 0], x).expand_as(x))


@mutant(
    "baseline: added to the scaled input",
    breaks=[("completeness/delta", "relu"), ("completeness/delta", "smooth")],
    baseline="given",
)
def path_that_overshoots(model, x, target, baseline):
    """Wrong where the baseline is not zero: the path goes from the baseline to the baseline plus x."""
    nodes, weights = gauss(48, x)
    return (x - baseline) * along(model, [baseline + t * x for t in nodes], weights, target)


@mutant(
    "baseline: swapped with the input where it is larger",
    breaks=[("sensitivity-n/1", "linear"), ("completeness/delta", "relu")],
    baseline="given",
)
def path_from_the_smaller_to_the_larger(model, x, target, baseline):
    """Wrong where a feature lies below its baseline: the ends of its path change places."""
    return integrated(model, torch.maximum(x, baseline), target, torch.minimum(x, baseline))


@mutant(
    "baseline: zero taken for none",
    breaks=[("completeness/delta", "relu"), ("sensitivity-n/N", "linear")],
    baseline="given",
)
def zero_baseline_means_none(model, x, target, baseline):
    """Wrong for baselines of zeros: as in `baseline or mean`, they give way to the sample's mean."""
    none = rows((baseline == 0).flatten(1).all(1), x)
    return walk(model, x, target, torch.where(none, rows(x.flatten(1).mean(1), x), baseline))


# -- numerics ------------------------------------------------------------------------------------------------------


@mutant(
    "numerics: an epsilon added to a difference",
    breaks=[("completeness/delta", "relu"), ("completeness/delta", "smooth")],
    baseline="given",
)
def epsilon_in_the_secant(model, x, target, baseline):
    """Wrong: DeepLIFT divides by the difference of the inputs plus 0.001, whatever its sign."""
    return deeplift(model, x, target, baseline, lambda dz, da, limit: da / (dz + 1e-3))


@mutant(
    "numerics: a guard that bites",
    breaks=[("completeness/delta", "smooth"), ("completeness/delta", "odd-nobias")],
    baseline="given",
)
def a_hundredth_is_no_difference(model, x, target, baseline):
    """Wrong near the baseline: DeepLIFT takes the derivative where an activation's input moved by up to 0.01."""
    return deeplift(model, x, target, baseline, lambda dz, da, limit: secant(dz * (dz.abs() > 0.01), da, limit))


@mutant(
    "numerics: an epsilon without its sign",
    breaks=[("class-sensitivity/parity", "relu"), ("equivalence/lrp-epsilon(epsilon=0.01)", "relu")],
)
def epsilon_without_its_sign(model, x, target, baseline=None):
    """Wrong for negative pre-activations: epsilon-LRP divides by z + 0.01 and not by z + 0.01 sign(z)."""

    def rule(func, args, kwargs):
        z = func(*args, **kwargs)
        factor = (z / (z + 0.01)).detach()
        return replaced(z, z, lambda g: g * factor) if z.requires_grad else z

    return x * gradient(model, x, target, dict.fromkeys(("linear", "conv1d", "conv2d"), rule))


@mutant(
    "numerics: saturated units left out",
    breaks=[("equivalence/gradient", "smooth"), ("equivalence/gradient", "odd-nobias")],
)
def saturated_units_pass_nothing(model, x, target, baseline=None):
    """Wrong where a tanh or sigmoid is within 0.01 of its limits: its derivative is taken for zero."""

    def slope(activation, z, a):
        return derivative(activation, z) * (a.abs() < 0.99)

    return gradient(model, x, target, dict.fromkeys(("tanh", "sigmoid"), slopes(slope)))


@mutant(
    "numerics: NaN shown as zero",
    breaks=[("equivalence/gradient", "linear"), ("input-invariance/constant", "relu")],
)
def nan_becomes_zero(model, x, target, baseline=None):
    """Wrong where a feature is exactly zero: x is divided out of gradient times input, and 0/0 is shown as 0."""
    return (x * gradient(model, x, target) / x).nan_to_num(0.0)


@mutant(
    "numerics: clipping",
    breaks=[("scale-equivariance", "relu"), ("equivalence/gradient", "relu")],
)
def clips_the_gradient(model, x, target, baseline=None):
    """Wrong for steep networks: gradients are clipped to [-5, 5], a habit from training."""
    return gradient(model, x, target).clamp(-5, 5)


@mutant(
    "numerics: an exponent that is capped",
    breaks=[("equivalence/gradient", "relu"), ("scale-equivariance", "relu")],
)
def exponent_capped_at_ten(model, x, target, baseline=None):
    """Wrong for logits above 10: they are recovered as the logarithm of an exponential that was kept from overflow."""
    return gradient(model, x, target, of=lambda f: f.gather(1, target[:, None]).clamp(max=10).exp().log())


@mutant(
    "numerics: one-sided differences",
    breaks=[("equivalence/gradient", "smooth"), ("equivalence/gradient", "odd-nobias")],
)
def forward_differences(model, x, target, baseline=None):
    """Wrong where the function is curved: the gradient is a forward difference with an absolute step of 1e-5."""
    step, flat, result = 1e-5, x.flatten(1), torch.zeros_like(x.flatten(1))
    here = output(model, x, target)
    for i in range(flat.shape[1]):
        moved = flat.clone()
        moved[:, i] += step
        result[:, i] = (output(model, moved.reshape(x.shape), target) - here) / step
    return result.reshape(x.shape)


@mutant(
    "numerics: a quantised input",
    breaks=[("continuity", "smooth"), ("continuity", "odd-nobias")],
    baseline="given",
)
def rounds_the_input_to_tenths(model, x, target, baseline):
    """Wrong: the input is quantised, as images are when they are stored; halves and whole numbers survive."""
    return occlusion(model, (x * 10).round() / 10, target, baseline)


@mutant(
    "numerics: an approximated activation",
    breaks=[("equivalence/gradient", "smooth")],
)
def gelu_by_its_sigmoid(model, x, target, baseline=None):
    """Wrong where there is a GELU: its derivative is that of the approximation z sigmoid(1.702 z)."""

    def slope(activation, z, a):
        s = torch.sigmoid(1.702 * z)
        return s + 1.702 * z * s * (1 - s)

    return gradient(model, x, target, {"gelu": slopes(slope)})
