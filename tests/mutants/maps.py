"""Mutants that spoil the map: features that are mistaken for others, and what is done to the map afterwards.

Each is a right method of `right` with one slip. The docstring says what is wrong and, where it does not show on every
network, in which situation.
"""

from __future__ import annotations

import torch

from .right import along, gauss, gradient, integrated, mutant, occlusion, output, rows, walk

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
