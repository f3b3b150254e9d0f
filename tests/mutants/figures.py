"""Mutants that get the numbers wrong: quadrature, baselines, rounding, batches, targets, features, what is done to the map.

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


# -- batches -------------------------------------------------------------------------------------------------------


@mutant(
    "batch: the mean instead of the sum",
    breaks=[("batch-independence", "relu"), ("equivalence/gradient", "relu")],
)
def mean_over_the_batch(model, x, target, baseline=None):
    """Wrong for more than one sample: the gradient of the mean logit of the batch is taken."""
    return gradient(model, x, target, of=lambda f: f.gather(1, target[:, None]).mean())


@mutant(
    "batch: one normalisation for all samples",
    breaks=[("batch-independence", "relu"), ("batch-independence", "conv")],
    baseline="given",
)
def maximum_of_the_batch(model, x, target, baseline):
    """Wrong for more than one sample: all maps are divided by the largest entry in the batch."""
    result = occlusion(model, x, target, baseline)
    largest = result.abs().max()
    return result / torch.where(largest > 0, largest, 1.0)


@mutant(
    "batch: the first sample's mask for all",
    breaks=[("batch-independence", "relu"), ("equivalence/gradient", "relu")],
)
def units_of_the_first_sample(model, x, target, baseline=None):
    """Wrong for more than one sample: which units are active is read off the first one."""

    def slope(activation, z, a):
        return derivative(activation, z)[:1].expand_as(z)

    return gradient(model, x, target, {"relu": slopes(slope)})


@mutant(
    "batch: the last part is lost",
    breaks=[("completeness/delta", "relu"), ("batch-independence", "relu")],
    baseline="given",
)
def loses_the_last_part_of_a_batch(model, x, target, baseline):
    """Wrong for more than four samples, unless a multiple of four: only full parts of four are processed."""
    size, result = min(4, len(x)), torch.zeros_like(x)
    for k in range(len(x) // size):
        part = slice(k * size, (k + 1) * size)
        result[part] = walk(model, x[part], target[part], baseline[part])
    return result


@mutant(
    "batch: parts put together in another order",
    breaks=[("completeness/delta", "relu"), ("batch-independence", "relu")],
    baseline="given",
)
def evens_before_odds(model, x, target, baseline):
    """Wrong for three samples and more: every second one is processed in a second part, which is then appended."""
    parts = [slice(k, None, 2) for k in range(min(2, len(x)))]
    return torch.cat([walk(model, x[part], target[part], baseline[part]) for part in parts])


@mutant(
    "batch: a batch of one is squeezed",
    breaks=[("equivalence/gradient", "relu"), ("batch-independence", "relu")],
)
def squeezes_a_batch_of_one(model, x, target, baseline=None):
    """Wrong for one sample and several logits: squeezed, they look like one logit each of several samples."""

    def objective(f):
        squeezed = f.squeeze()
        return squeezed.gather(1, target[:, None]) if squeezed.dim() == 2 else squeezed

    return gradient(model, x, target, of=objective)


# -- targets -------------------------------------------------------------------------------------------------------


@mutant(
    "target: the first sample's for all",
    breaks=[("completeness/delta", "relu"), ("batch-independence", "relu")],
    baseline="given",
)
def target_of_the_first_sample(model, x, target, baseline):
    """Wrong where the samples have different targets: the first one's logit is explained for all."""
    return walk(model, x, target[:1].expand_as(target), baseline)


@mutant(
    "target: the prediction instead",
    breaks=[("completeness/delta", "relu"), ("class-sensitivity/other-logits", "relu")],
    baseline="given",
)
def explains_the_prediction(model, x, target, baseline):
    """Wrong where the target is not the largest logit: that one is explained."""
    with torch.no_grad():
        return walk(model, x, model(x).argmax(1), baseline)


@mutant(
    "target: negative logits are cut",
    breaks=[("class-sensitivity/parity", "relu"), ("equivalence/gradient", "relu")],
)
def rectifies_the_logit(model, x, target, baseline=None):
    """Wrong for negative logits: a ReLU on the output leaves them without a map."""
    return gradient(model, x, target, of=lambda f: f.gather(1, target[:, None]).relu())


@mutant(
    "target: one logit taken for two classes",
    breaks=[("completeness/delta", "relu"), ("equivalence/integrated-gradients", "linear")],
    baseline="given",
)
def one_logit_is_the_second_class(model, x, target, baseline):
    """Wrong for networks with one logit: target 0 is taken for the negative class, so the map has the other sign."""
    with torch.no_grad():
        single = model(x).shape[1] == 1
    return walk(model, x, target, baseline) * (-1 if single else 1)


@mutant(
    "target: compared with the other logits",
    breaks=[("class-sensitivity/other-logits", "relu"), ("equivalence/gradient", "relu")],
)
def explains_the_margin(model, x, target, baseline=None):
    """Wrong where there are other logits: the lead over the best of them is explained."""

    def margin(f):
        chosen = torch.zeros_like(f, dtype=torch.bool).scatter(1, target[:, None], True)
        others = f.masked_fill(chosen, -torch.inf).amax(1)
        return f[chosen] - others if f.shape[1] > 1 else f[:, 0]

    return gradient(model, x, target, of=margin)


# -- features ------------------------------------------------------------------------------------------------------


@mutant(
    "features: the last one is left out",
    breaks=[("completeness/delta", "relu"), ("completeness/delta", "linear")],
    baseline="given",
)
def stops_before_the_last_feature(model, x, target, baseline):
    """Wrong: off by one, the last feature never leaves its baseline."""
    return walk(model, x, target, baseline, features=x[0].numel() - 1)


@mutant(
    "features: the last part is lost",
    breaks=[("equivalence/occlusion-1", "conv"), ("sensitivity-n/1", "conv")],
    baseline="given",
)
def loses_the_last_part_of_the_features(model, x, target, baseline):
    """Wrong for more than five features, unless a multiple of five: only full parts of five are occluded."""
    result = occlusion(model, x, target, baseline).flatten(1)
    if result.shape[1] > 5:
        result[:, result.shape[1] // 5 * 5 :] = 0
    return result.reshape(x.shape)


@mutant(
    "features: those at their baseline are skipped",
    breaks=[("sensitivity-n/1", "relu"), ("batch-independence", "relu")],
    baseline="given",
)
def skips_what_one_sample_has_at_its_baseline(model, x, target, baseline):
    """Wrong where some sample, but not every one, has a feature at its baseline: it is skipped for all."""
    moved = (x != baseline).all(0, keepdim=True)
    return occlusion(model, x, target, baseline) * moved


@mutant(
    "features: whole numbers taken for indices",
    breaks=[("completeness/delta", "smooth"), ("equivalence/integrated-gradients", "smooth")],
    baseline="given",
)
def whole_numbers_are_indices(model, x, target, baseline):
    """Wrong where all inputs are whole numbers: the points of the path are rounded, as if they were indices of words."""
    nodes, weights = gauss(48, x)
    points = [baseline + t * (x - baseline) for t in nodes]
    if bool((x == x.round()).all()):
        points = [point.round() for point in points]
    return (x - baseline) * along(model, points, weights, target)


@mutant(
    "features: sorted, and put back by the same order",
    breaks=[("sensitivity-n/1", "relu"), ("feature-permutation", "relu")],
    baseline="given",
)
def sorted_twice(model, x, target, baseline):
    """Wrong for three features and more, unless their order is its own inverse: ranks are taken for places."""
    order = x.flatten(1).argsort(dim=1, stable=True)
    ranked = occlusion(model, x, target, baseline).flatten(1).gather(1, order)
    return ranked.gather(1, order).reshape(x.shape)


@mutant(
    "features: the last axis only",
    breaks=[("sensitivity-n/1", "conv"), ("dummy", "conv")],
    baseline="given",
)
def occludes_columns(model, x, target, baseline):
    """Wrong for images and sequences: whole columns of the last axis are occluded, and what that costs is shared."""
    result = torch.zeros_like(x)
    here = output(model, x, target)
    for k in range(x.shape[-1]):
        without = x.clone()
        without[..., k] = baseline[..., k]
        loss = (here - output(model, without, target)) / result[0, ..., k].numel()
        result[..., k] = rows(loss, x[..., k])
    return result


@mutant(
    "features: rows and columns in the wrong order",
    breaks=[("sensitivity-n/1", "conv"), ("equivalence/occlusion-1", "conv")],
    baseline="given",
)
def rows_and_columns_swapped(model, x, target, baseline):
    """Wrong for images that are not square (or channels by places): the transposed map is put back in the old shape."""
    result = occlusion(model, x, target, baseline)
    if x.dim() == 2:
        return result
    by_columns = result.transpose(-1, -2).flatten(1)
    return by_columns.reshape(x.shape).transpose(-1, -2).reshape(x.shape)


@mutant(
    "features: channels averaged",
    breaks=[("sensitivity-n/1", "conv"), ("sensitivity-n/1", "embedding")],
    baseline="given",
)
def one_score_for_all_channels(model, x, target, baseline):
    """Wrong for several channels: each place gets its mean over the first axis, as a grey picture shows it."""
    result = occlusion(model, x, target, baseline)
    return result if x.dim() == 2 else result.mean(1, keepdim=True).expand_as(x).clone()


@mutant(
    "features: two at a time",
    breaks=[("dummy", "relu"), ("sensitivity-n/1", "relu")],
    baseline="given",
)
def two_features_at_a_time(model, x, target, baseline):
    """Wrong for two features and more: neighbours are occluded together, to save half of the calls, and get half each."""
    flat, result = x.flatten(1), torch.zeros_like(x.flatten(1))
    here = output(model, x, target)
    for i in range(0, flat.shape[1], 2):
        without = flat.clone()
        without[:, i : i + 2] = baseline.flatten(1)[:, i : i + 2]
        loss = here - output(model, without.reshape(x.shape), target)
        result[:, i : i + 2] = loss[:, None] / flat[:1, i : i + 2].numel()
    return result.reshape(x.shape)


@mutant(
    "features: one feature is squeezed",
    breaks=[("completeness/delta", "relu"), ("batch-independence", "relu")],
    baseline="given",
)
def sums_one_feature_over_the_batch(model, x, target, baseline):
    """Wrong for one feature and several samples: the axis that is summed for a correction is then that of the batch."""
    result = walk(model, x, target, baseline)
    total = result.flatten(1).squeeze().sum(-1)
    gained = output(model, x, target) - output(model, baseline, target)
    return result * rows(torch.where(total != 0, gained / torch.where(total != 0, total, 1.0), 1.0), x)


@mutant(
    "features: the last step only",
    breaks=[("equivalence/gradient", "recurrent"), ("equivalence/gradient", "embedding")],
)
def only_the_last_step(model, x, target, baseline=None):
    """Wrong for sequences [B, steps, values]: as in truncated backpropagation, earlier steps get nothing."""
    result = gradient(model, x, target)
    if x.dim() == 3:
        result[:, :-1] = 0
    return result


@mutant(
    "features: one order stands for all",
    breaks=[("symmetry", "relu"), ("feature-permutation", "relu")],
    baseline="given",
)
def one_order_for_all(model, x, target, baseline):
    """Wrong where features interact: a Shapley value is estimated from one order only, the order of the features."""
    return walk(model, x, target, baseline)


# -- composition ---------------------------------------------------------------------------------------------------


@mutant(
    "composition: multiplied twice",
    breaks=[("completeness/delta", "linear"), ("equivalence/integrated-gradients", "smooth")],
    baseline="given",
)
def multiplies_by_the_difference_twice(model, x, target, baseline):
    """Wrong: integrated gradients, which hold the difference already, are multiplied by it once more."""
    return (x - baseline) * integrated(model, x, target, baseline)


@mutant(
    "composition: the absolute value of one factor",
    breaks=[("class-sensitivity/parity", "relu"), ("non-negativity", "relu")],
)
def absolute_slope_times_input(model, x, target, baseline=None):
    """Wrong: the absolute value is taken before the multiplication by x and not after it."""
    return gradient(model, x, target).abs() * x


@mutant(
    "composition: divided by its own sum",
    breaks=[("scale-equivariance", "relu"), ("completeness/delta", "linear")],
    baseline="given",
)
def divides_by_its_own_sum(model, x, target, baseline):
    """Wrong: the map is made to add up to one, so it neither adds up to the output nor grows with it."""
    result = walk(model, x, target, baseline)
    total = result.flatten(1).sum(1)
    return result / rows(torch.where(total != 0, total, 1.0), x)


@mutant(
    "composition: stretched to add up",
    breaks=[("linearity", "relu"), ("equivalence/integrated-gradients", "relu")],
    baseline="given",
)
def stretched_to_add_up(model, x, target, baseline):
    """Wrong where there are kinks: gradient times difference is multiplied by what makes it complete."""
    result = (x - baseline) * gradient(model, x, target)
    total = result.flatten(1).sum(1)
    gained = output(model, x, target) - output(model, baseline, target)
    return result * rows(torch.where(total != 0, gained / torch.where(total != 0, total, 1.0), 1.0), x)


@mutant(
    "composition: what is missing is spread evenly",
    breaks=[("dummy", "relu"), ("dummy", "conv")],
    baseline="given",
)
def spreads_what_is_missing(model, x, target, baseline):
    """Wrong where there are kinks: what gradient times difference lacks is shared by all features alike."""
    result = (x - baseline) * gradient(model, x, target)
    gained = output(model, x, target) - output(model, baseline, target)
    return result + rows(gained - result.flatten(1).sum(1), x) / x[0].numel()
