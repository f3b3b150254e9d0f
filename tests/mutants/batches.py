"""Mutants that mix up rows: samples of a batch, and the logits that are explained.

Each is a right method of `right` with one slip. The docstring says what is wrong and, where it does not show on every
network, in which situation.
"""

from __future__ import annotations

import torch

from .right import derivative, gradient, mutant, occlusion, slopes, walk

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
