"""Input invariance on a trained model: a shift of the input that the network undoes must leave the map as it was.

Network 1 is the model, network 2 the same with the bias of its first layer changed, b2 = b1 - W m, so that f2(x + m) = f1(x)
for all x: same weights, same logits, other encoding of the data. A convolution gets a bias for each unit where one for each
channel does not do, in both networks; where several layers read x, an explicit first one subtracts m. The precheck
f1(x) = f2(x + m) is made for each shift. Data and given baselines move along.

Statistic: d = |R2(x + m) - R1(x)|_1 / max(|R1(x)|_1, |R2(x + m)|_1), the mean over the images whose maps are not both zero,
with its bootstrap interval. Rule: the property holds where the interval ends below 1e-6.

Why 1e-6: for an invariant method d is rounding alone, and all is computed in float64 (u = 1.1e-16). Sums over n inputs are
right to n u of their terms, L layers add up, and cancellation costs some digits: 3 x 1024 u x 1e3 = 3e-10. The patterns of
PatternNet divide by covariances that may cancel, which leaves 1.9e-7 at worst. Methods that read the shift are off by
1e-3 and more. The samples are moved by up to a thousandth of their range first, so that no pooling window over a constant
background is a tie, which rounding would break differently in the two networks.

Variants (the range of the data is 1 for pixels in [0, 1]):
  constant      m = -1 range everywhere: pixels in [0, 1] against pixels in [-1, 0]
  checkerboard  m = a checkered box of zeros and ones, times the range
  planted       m = s / gradient - x for one sample, clipped to 0.3 range either way: gradient * input of this sample shows
                s, the drawing of a cat; the other samples get the same shift

Figures: the similarity (Pearson) of the maps to the planted picture, before and after; d after the remedy (both networks take
their input less the mean of their data, so attribution starts from one input); d where a given baseline does not move (zeros
in both networks); by how much the maps of two references diverge, relative as d: for a given baseline zeros and the mean
of the data, else those of two methods that differ by their reference, each map scaled to |R|_1 = 1.

Holds: gradient, guided backprop; PatternNet and PatternAttribution with E+[y] in place of the printed E[y]; integrated
gradients from the minimum for constant shifts, from a moved or per-feature baseline for all. Falls: gradient * input, LRP,
deep Taylor with a zero root, integrated gradients and others from zero; from the minimum where m is not constant; SmoothGrad
where m changes the range that the noise is relative to; PatternNet on convolutions where m is not constant, since patterns
are learnt over all places. Where m is undone matters: behind an explicit first layer, LRP alpha1-beta0 passes relevance
through x - m unchanged, and held on a convolutional network where it falls with biases.

Source: Kindermans et al. 2017, sections 2 to 4. The paper plants a drawing of a kitten and does not state its scale. Here s
is the range times the mean absolute gradient: of 0.03, 0.1, 0.3, 1 and 3 times that, tried on four digits, it showed best, so
the similarity flatters the attack a little. It enters no verdict beyond being one shift. Preconditions: float64 arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import Unsupported, UsageError
from ..methods.builtin import BUILTIN
from ..methods.gradients import input_gradient
from ..models.subject import Subject
from ..results import Observed
from . import input_invariance_paper as paper
from .bootstrap import interval
from .double_precision import in_double
from .outcome import Check, NotApplicable, Outcome, Rule
from .shifts import CLIP, checkerboard, compensated, drawing, planted
from .study import Study

RULE = Rule(below=1e-6)
VARIANTS = ("constant", "checkerboard", "planted")

_NO_TIES = 1e-3
_STATISTIC = "relative L1 difference of the maps of two networks that are one function, mean over images"

_OTHER_REFERENCE = {
    "integrated-gradients-zero": "integrated-gradients-mean",
    "integrated-gradients-min": "integrated-gradients-mean",
    "deep-taylor-zero": "pattern-attribution",
    "lrp-0": "pattern-attribution",
}


# Maps of each image: two of network 1 (see shifts.compensated), one of network 2 for each shift; as many on data less their
# mean; one for another reference.
_MAPS = 2 + len(VARIANTS) + 1 + len(VARIANTS) + 1


def run(study: Study) -> Iterator[Outcome]:
    """The three findings of one method on one model."""
    doubled = in_double(study)
    moves = study.method.baseline == "given"
    count = doubled.images(_MAPS + (len(VARIANTS) if moves else 0))
    first = _without_ties(doubled, count)
    subject = first.subject
    maps = first.maps(subject.labels)
    if not bool(maps.any()):
        raise NotApplicable("the map of every image is zero")
    picture = drawing(tuple(subject.x.shape[1:])).to(subject.x)
    centred, twin = _centred(first, torch.zeros_like(picture)), None
    for variant, shift in _shifts(first, picture).items():
        pair = compensated(subject.model, subject.x, shift)
        if pair.one is not subject.model and twin is None:
            twin = first.maps(subject.labels, model=pair.one)
        before = maps if pair.one is subject.model or twin is None else twin
        try:
            after = _after(first, pair.two, shift, moves)
        except UsageError as error:
            yield _refused(variant, str(error))
            continue
        found = differences(before, after)
        figures: dict[str, Any] = {
            "images": len(found),
            "largest difference": float(found.max()),
            "network 2 undoes the shift in": pair.how,
            "outputs differ by": pair.gap,
        }
        if moves:
            still = _after(first, pair.two, shift, False)
            figures["difference with a baseline of zeros in both"] = float(differences(before, still).mean())
        there = _centred(first, shift)
        if centred is not None and there is not None and bool(there.any()):
            figures["difference after subtracting the mean of the data"] = float(differences(centred, there).mean())
        if variant == "constant":
            figures |= _references(first, maps)
        if variant == "planted":
            figures["similarity to the planted picture"] = _visible(first, before, after, picture)
        yield _finding(study, variant, found, figures)


def differences(a: Tensor, b: Tensor) -> np.ndarray:
    """The relative L1 difference [B'] of maps [B, *shape], in [0, 2], of the samples whose maps are not both zero."""
    a, b = a.flatten(1), b.flatten(1)
    sizes = torch.maximum(a.abs().sum(1), b.abs().sum(1))
    told = sizes > 0
    found: np.ndarray = ((a - b).abs().sum(1)[told] / sizes[told]).cpu().numpy()
    return found


def _shifts(study: Study, picture: Tensor) -> dict[str, Tensor]:
    """The shift m [*shape] of each variant."""
    subject = study.subject
    span = float(subject.data.max() - subject.data.min())
    gradient = input_gradient(subject.model, subject.x[:1], subject.labels[:1])[0]
    drawn = picture * span * gradient.abs().mean()
    return {
        "constant": torch.full_like(picture, -span),
        "checkerboard": span * checkerboard(tuple(picture.shape)).to(picture),
        "planted": planted(subject.x[0], gradient, drawn, CLIP * span),
    }


def _without_ties(study: Study, count: int) -> Study:
    """The study of `count` samples, each a thousandth of the way to a random point of the data's box."""
    subject = study.subject.first(count)
    low, high = float(subject.data.min()), float(subject.data.max())
    noise = torch.rand(subject.x.shape, generator=study.random("input-invariance: ties"), dtype=torch.float64)
    inside = low + (high - low) * noise.to(subject.x.device)
    return _of(study, replace(subject, x=(1 - _NO_TIES) * subject.x + _NO_TIES * inside))


def _of(study: Study, subject: Subject) -> Study:
    return Study(subject, study.method, study.scale, study.seed, study.device)


def _after(study: Study, network: nn.Module, shift: Tensor, moves: bool) -> Tensor:
    """The maps of network 2 at x + m; its baseline moves with the data, or is zero."""
    subject = study.subject
    shifted = replace(subject, model=network, x=subject.x + shift, data=subject.data + shift)
    return _of(study, shifted).maps(subject.labels, baseline=shift.expand_as(subject.x) if moves else None)


def _centred(study: Study, shift: Tensor) -> Tensor | None:
    """The maps where the network that takes x + m gets it less the mean of its data; None where that is refused."""
    subject = study.subject
    less = (subject.data[: study.scale.data] + shift).mean(0) - shift
    network = compensated(subject.model, subject.x, -less).two
    mean = less + shift
    there = replace(subject, model=network, x=subject.x + shift - mean, data=subject.data + shift - mean)
    try:
        return _of(study, there).maps(subject.labels)
    except UsageError:
        return None


def _references(study: Study, maps: Tensor) -> dict[str, Any]:
    """By how much the maps from two references diverge, each scaled to |R|_1 = 1 (Kindermans et al. 2017, Figure 1)."""
    subject, method = study.subject, study.method
    if method.baseline == "given":
        mean = subject.data[: study.scale.data].mean(0).expand_as(subject.x)
        other, there = "the mean of the data", study.maps(subject.labels, baseline=mean)
    elif method.name in _OTHER_REFERENCE:
        other = _OTHER_REFERENCE[method.name]
        known = Study(subject, BUILTIN[other], study.scale, study.seed, study.device)
        try:
            known.images(1)
            there = known.maps(subject.labels)
        except (Unsupported, NotApplicable):
            return {}
    else:
        return {}
    return {f"divergence from the maps of {other}": float(differences(_scaled(maps), _scaled(there)).mean())}


def _scaled(maps: Tensor) -> Tensor:
    sizes = maps.abs().flatten(1).sum(1).reshape(-1, *[1] * (maps.dim() - 1))
    return maps / sizes.where(sizes > 0, torch.ones_like(sizes))


def _visible(study: Study, before: Tensor, after: Tensor, picture: Tensor) -> dict[str, Any]:
    """How much the maps look like the planted picture, on the sample that it was planted for and on the others."""
    subject = study.subject
    drawn = subject.features(picture[None])[0].cpu().numpy()
    both = {name: _similarities(subject.features(maps).cpu().numpy(), drawn)
            for name, maps in (("before", before), ("after", after))}  # fmt: skip
    found: dict[str, Any] = {}
    for name, values in both.items():
        found[f"planted sample, {name}"] = float(values[0])
        if len(values) > 1:
            found[f"other samples, {name}"] = float(values[1:].mean())
    return found


def _similarities(maps: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Pearson's correlation [B] of maps [B, N] with a picture [N]; 0 for a constant map."""
    maps, picture = maps - maps.mean(1, keepdims=True), picture - picture.mean()
    sizes = np.linalg.norm(maps, axis=1) * np.linalg.norm(picture)
    found: np.ndarray = np.divide(maps @ picture, sizes, out=np.zeros(len(maps)), where=sizes > 0)
    return found


def _finding(study: Study, variant: str, found: np.ndarray, figures: dict[str, Any]) -> Outcome:
    bounds = interval(found, study.scale.resamples, study.seed)
    return Outcome(
        f"input-invariance/{variant}", _STATISTIC, float(found.mean()), bounds, RULE,
        figures, paper=paper.reported(variant, study.method.name),
    )  # fmt: skip


def _refused(variant: str, reason: str) -> Outcome:
    return Outcome(
        f"input-invariance/{variant}", _STATISTIC, None, None, RULE,
        note=f"the method refuses the shifted input: {reason}", unjudged=Observed.NOT_APPLICABLE,
    )  # fmt: skip


CHECK = Check(
    name="input-invariance",
    summary="does a shift of the input that the network undoes leave the map as it was?",
    variants=VARIANTS,
    subject="mlp-3x1024:digits",
    run=run,
    doc=__doc__ or "",
)
