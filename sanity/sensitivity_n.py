"""Sensitivity-n: whether sums of attributions follow what removing random subsets of features changes in the output.

For each size n, from one feature to 80 % of them, random subsets S of n features are removed, that is, set to the baseline
that the method refers to (zeros where it has none). Over the subsets of one size and sample,

    r_n = Pearson correlation of  sum_{i in S} R_i  and  f(x) - f(x with S at the baseline)

and A is the mean of r_n over the sizes: the area under the curve of Ancona et al. 2018, Figure 4, over its logarithmic axis.
A feature is what is removed as one: a pixel with its channels, a word with its vector.

Statistic: the mean over samples of A - A_control, and its bootstrap interval over samples. The controls are three maps that
know nothing of the model: a random one (r = 0), x - baseline, and |x - baseline|, both read as attributions. Shown is the
strongest, or one that the map is no better than.
Rule: above 0, for each control. No correlation follows from the definition of a method, and how large one can get depends on
how strongly features interact, so that no fixed limit is right for two models; but a map that follows the output no better
than the input does, or than chance, says nothing of the model. Features that already are at the baseline change nothing
when they are removed, and x - baseline knows that: to correlate above 0 alone is no merit.

Void cases: where all subsets of one size change the output alike, nothing can correlate: the pair of sample and size is left
out and counted. Where the output moves and the sums of attributions do not, r_n = 0: a constant predicts nothing.

Known: Occlusion-1 has r_1 = 1, by definition, and falls with n; on a linear model every method of the paper has r_n = 1 for
all n (Proposition 4). Falls: maps that are no attributions in this sense, because they lack the input's sign (the gradient,
guided backprop: on inputs of both signs they correlate below 0) or have none (saliency).

Figures: the curves; the mean logit at x and at zeros, S_c(0), which the choice of a zero baseline takes to be near 0; how
often one feature's attribution has the sign of the change it makes; the maps' local variance (of 3x3 windows, against that
of the whole map; 1 for white noise) and the share of sum |R| in the top 1 % of the features.

Source: Ancona et al. 2018, section 4.1 and Figure 4. Preconditions: at least two features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from ..models.subject import Subject
from . import occluded
from .bootstrap import interval
from .outcome import Check, NotApplicable, Outcome, Rule
from .study import Study

RULE = Rule(above=0.0, scope="for each control")
PERFECT = 0.999
"""A control above this leaves no room for a better map."""

_PAPER = "Ancona et al. 2018, section 4.1 and Figure 4"
_REPORTED = {"occlusion-1": "correlation 1 at n = 1, falling with n"} | dict.fromkeys(
    ("gradient-times-input", "integrated-gradients", "integrated-gradients-zero", "lrp-epsilon", "deeplift"),
    "correlation close to 1 for at least one n",
)


def run(study: Study) -> Iterator[Outcome]:
    """The finding of one method on one model."""
    count = study.images(1)
    subject = study.subject.first(count)
    if subject.n_features < 2:
        raise NotApplicable("one feature alone has no subsets to compare")
    maps = study.maps(subject.labels)
    at = occluded.reference(study, count)
    removals = [occluded.removals(study, index, at[index]) for index in range(count)]

    moved = subject.x - at
    noise = torch.randn(count, subject.n_features, generator=study.random("random maps"), dtype=torch.float64)
    found = correlations(_scores(subject, maps), removals)
    controls = {
        "x - baseline": correlations(_scores(subject, moved), removals),
        "|x - baseline|": correlations(_scores(subject, moved.abs()), removals),
    }
    told = ~np.isnan(found).all(1)
    if not told.any():
        raise NotApplicable("no removal of features changes the output of any sample")
    areas = np.nanmean(found[told], axis=1)
    limits = {"random map": np.zeros(len(areas))} | {
        name: np.nanmean(curve[told], axis=1) for name, curve in controls.items()
    }
    if max(limit.mean() for limit in limits.values()) > PERFECT:
        raise NotApplicable("the input alone predicts what each removal changes: no map can do better")
    control, bounds = decisive({name: areas - limit for name, limit in limits.items()}, study)
    limit = limits[control]
    differences = areas - limit
    controls["random map"] = correlations(noise.numpy(), removals)
    reported = _REPORTED.get(study.method.short)
    yield Outcome(
        check="sensitivity-n",
        statistic=f"mean over sizes and samples of the correlation, less that of the control ({control})",
        value=float(differences.mean()),
        interval=bounds,
        rule=RULE,
        figures={
            "subset sizes": list(removals[0].sizes),
            "correlation by size": _curve(found),
            "controls by size": {name: _curve(curve) for name, curve in controls.items()},
            "area": float(areas.mean()),
            "area interval": list(interval(areas, study.scale.resamples, study.seed)),
            "control": control,
            "control area": float(limit.mean()),
            "correlation at n = 1": _curve(found[:, :1])[0],
            "largest correlation": max(value for value in _curve(found) if isinstance(value, float)),
            "sign agreement at n = 1": sign_agreement(_scores(subject, maps), removals),
            "samples": int(told.sum()),
            "void pairs of sample and size": int(np.isnan(found).sum()),
            "baseline": study.method.baseline or "zeros",
            **_logits(study, subject),
            **map_figures(subject, maps),
        },
        paper=None if reported is None else {"source": _PAPER, "value": reported},
    )


def decisive(differences: Mapping[str, np.ndarray], study: Study) -> tuple[str, tuple[float, float]]:
    """What decides of the differences to several controls: one that is not above 0, one that may not be, else the smallest.

    Args:
        differences: by control, [B] for the samples.
        study: gives the resamples.

    Returns:
        The control, and the interval of its mean difference.
    """
    bounds = {name: interval(each, study.scale.resamples, study.seed) for name, each in differences.items()}
    name = min(differences, key=lambda known: (*(end > 0 for end in bounds[known][::-1]), differences[known].mean()))
    return name, bounds[name]


def correlations(scores: np.ndarray, removals: list[occluded.Removals]) -> np.ndarray:
    """r_n of each sample.

    Args:
        scores: [B, N], a figure for each feature.
        removals: of the B samples.

    Returns:
        [B, sizes]; NaN where all changes are one, to rounding, and 0 where the sums are but the changes are not.
    """
    rows = []
    for of_sample, removal in zip(scores, removals, strict=True):
        sums, changes = removal.sums(of_sample), removal.changes
        level = abs(removal.output) + np.abs(changes).max(1)
        void = changes.std(1) <= 32 * np.finfo(np.float32).eps * level
        flat = sums.std(1) <= 1e-12 * np.abs(of_sample).sum()
        row = np.where(void, np.nan, 0.0)
        told = ~(void | flat)
        if told.any():
            row[told] = stats.pearsonr(sums[told], changes[told], axis=1).statistic
        rows.append(row)
    return np.stack(rows)


def sign_agreement(scores: np.ndarray, removals: list[occluded.Removals]) -> float:
    """The share of single features that move the output, to beyond rounding, whose attribution has the sign of the change."""
    hits: list[np.ndarray] = []
    for of_sample, removal in zip(scores, removals, strict=True):
        single, changes = removal.sums(of_sample)[0], removal.changes[0]
        moves = np.abs(changes) > 32 * np.finfo(np.float32).eps * abs(removal.output)
        hits.append(np.sign(single[moves]) == np.sign(changes[moves]))
    every = np.concatenate(hits)
    return float(every.mean()) if len(every) else 0.0


def map_figures(subject: Subject, maps: Tensor) -> dict[str, Any]:
    """How scattered and how concentrated maps [B, *shape] are, means over samples; a map of zeros is left out."""
    mass = subject.features(maps).abs().double()
    mass = mass[mass.sum(1) > 0]
    figures: dict[str, Any] = {}
    if len(mass):
        top = mass.topk(max(1, round(mass.shape[1] / 100)), dim=1).values.sum(1) / mass.sum(1)
        figures["share of |R| in the top 1 % of features"] = float(top.mean())
    if maps.dim() == 4 and min(maps.shape[2:]) >= 3:
        planes = (maps.sum(1, keepdim=True) if subject.group_axis == 0 else maps).double().flatten(0, 1)[:, None]
        whole = planes.flatten(1).var(1, correction=0)
        local = functional.avg_pool2d(planes**2, 3, 1) - functional.avg_pool2d(planes, 3, 1) ** 2
        ratio = local.flatten(1).mean(1)[whole > 0] / whole[whole > 0]
        # The variance within nine of many independent figures is 8/9 of theirs.
        if len(ratio):
            figures["local variance"] = float(ratio.mean() * 9 / 8)
    return figures


def _scores(subject: Subject, maps: Tensor) -> np.ndarray:
    return subject.features(maps.double()).cpu().numpy()


def _curve(found: np.ndarray) -> list[float | str]:
    """The mean over samples at each size; a word where no sample tells anything."""
    told = ~np.isnan(found)
    return [float(column[keep].mean()) if keep.any() else "void" for column, keep in zip(found.T, told.T, strict=True)]


def _logits(study: Study, subject: Subject) -> dict[str, float]:
    zeros = torch.zeros_like(subject.x[:1])
    here = study.logits(subject.x).gather(1, subject.labels[:, None])
    empty = study.logits(zeros)[0, subject.labels]
    return {"mean logit at x": float(here.mean()), "mean logit at zeros": float(empty.mean())}


CHECK = Check(
    name="sensitivity-n",
    summary="do sums of attributions follow what removing subsets of features changes?",
    variants=("",),
    subject="mnist-mlp:digits",
    run=run,
    doc=__doc__ or "",
)
