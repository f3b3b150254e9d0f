"""Region perturbation: whether removing what a map ranks highest lowers the output more than removing what it ranks lowest.

Regions are removed one after the other, that is, set to the baseline that the method refers to (zeros where it has none):
once from the highest attribution to the lowest, once from the lowest to the highest. The curves are the label's logit
against the share of regions that are removed. Regions of one attribution go in one random order, the same in both curves.

Statistic: A = area between the curves, lowest first minus highest first, in logits; the mean over samples with its
bootstrap interval. Both curves start at f(x) and end at f(baseline), so that A compares orders alone: the reversed map has
-A, a constant map exactly 0, a random order 0 in the mean.

Variants and rules:
  region-perturbation         a region is a feature (a pixel, a word); A above 0: the ranking is better than a random one
  region-perturbation/blocks  a region is a square of a seventh of the image's side (9x9 on 64x64), its attribution the sum;
                              A above 0
  region-perturbation/input   A of the features less A of the control, above 0. The control is the stronger of x - baseline
                              and |x - baseline|, read as attributions: removing the bright strokes first lowers most
                              logits, whatever the network has learnt, so that A above 0 is passed by the input itself

Figures: both curves, and that of random orders; the areas that each encloses with random orders; where the two curves
cross; the drop after few removals, which Occlusion-1 ranks best, against that after many.

Known: holds for the signed attributions on trained networks. Falls: an inverted map, a constant one (A = 0), the gradient
where the dark background has the largest slopes, since removing it changes nothing.

Source: Samek et al. 2016 (removing regions by rank); Ancona et al. 2018, section 4 and Figure 3c (one pixel at a time, set to
zero, by both orders). Preconditions: at least two features; for blocks, images.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.subject import Subject
from ..results import Observed
from . import occluded
from .bootstrap import interval
from .outcome import Check, NotApplicable, Outcome, Rule
from .study import Study

RANDOM_ORDERS = 2
BLOCKS_ACROSS = 7
RULE = Rule(above=0.0)

_FIG_3C = "Ancona et al. 2018, Figure 3c"


@dataclass(frozen=True)
class Curves:
    """The label's logit while regions are removed.

    removed  [k], how many regions are removed, from 0 to all
    highest  [B, k], those of the highest attribution first
    lowest   [B, k], those of the lowest first
    """

    removed: np.ndarray
    highest: np.ndarray
    lowest: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """[B], between the curves."""
        return self.area(self.lowest - self.highest)

    def area(self, gap: np.ndarray) -> np.ndarray:
        """The mean [B] of a gap between curves [B, k] over the share of regions that are removed."""
        found: np.ndarray = np.trapezoid(gap, self.removed / self.removed[-1], axis=1)
        return found


def run(study: Study) -> Iterator[Outcome]:
    """The three findings of one method on one model."""
    count = study.images(1)
    subject = study.subject.first(count)
    if subject.n_features < 2:
        raise NotApplicable("one feature alone has no order")
    maps = study.maps(subject.labels)
    at = occluded.reference(study, count)
    pixels, blocks = single_features(subject), square_blocks(subject)

    curves = both_orders(study, maps, at, pixels)
    yield _finding(study, "region-perturbation", curves, at, pixels)
    if blocks is None:
        yield Outcome(
            "region-perturbation/blocks", "area between the curves", None, None, RULE,
            note="the samples are no images that fall into several blocks", unjudged=Observed.NOT_APPLICABLE,
        )  # fmt: skip
    else:
        yield _finding(study, "region-perturbation/blocks", both_orders(study, maps, at, blocks), at, blocks)
    yield _against_input(study, curves, at, pixels)


def single_features(subject: Subject) -> Tensor:
    """The region [*shape] of each entry of a sample where each feature is one region."""
    every = torch.arange(subject.n_features, device=subject.x.device)[None]
    return subject.spread(every)[0]


def square_blocks(subject: Subject) -> Tensor | None:
    """The region [*shape] of each entry where square blocks of an image are; None where there are not four of them."""
    if subject.x.dim() != 4:
        return None
    height, width = subject.x.shape[2:]
    side = max(2, min(height, width) // BLOCKS_ACROSS)
    if min(height, width) <= side:
        return None
    rows = torch.arange(height, device=subject.x.device) // side
    columns = torch.arange(width, device=subject.x.device) // side
    return (rows[:, None] * (int(columns[-1]) + 1) + columns).expand(subject.x.shape[1:])


def counts(regions: int, steps: int) -> np.ndarray:
    """How many regions are removed at each point of a curve: 0 to all, evenly, and more densely at the start."""
    even, dense = np.linspace(0, regions, steps + 1), np.geomspace(1, regions, steps + 1)
    return np.unique(np.concatenate([even, dense]).round().astype(int))


def both_orders(study: Study, maps: Tensor, at: Tensor, regions: Tensor) -> Curves:
    """The curves of maps [B, *shape]; `at` [B, *shape] is what entries are set to, regions [*shape] what goes together."""
    rows = [_of_one(study, index, maps[index], at[index], regions) for index in range(len(maps))]
    removed = counts(int(regions.max()) + 1, study.scale.steps)
    half = len(removed)
    found = np.stack(rows)
    return Curves(removed, found[:, :half], found[:, half:])


def _of_one(study: Study, index: int, attribution: Tensor, at: Tensor, regions: Tensor) -> np.ndarray:
    """The logits [2k] of one sample: k points with the highest removed first, then k with the lowest first."""
    total = int(regions.max()) + 1
    flat = regions.flatten()
    scores = torch.zeros(total, dtype=torch.float64, device=at.device)
    scores.scatter_add_(0, flat, attribution.flatten().double())
    # Equal scores go in one random order in both curves, so that a map of one value has two equal ones.
    shuffled = torch.randperm(total, generator=study.random(f"ties:{index}")).to(at.device)
    ranks = []
    for signed in (-scores, scores):
        order = shuffled[signed[shuffled].argsort(stable=True)]
        ranks.append(torch.empty_like(order).scatter_(0, order, torch.arange(total, device=at.device)))
    points = torch.tensor(counts(total, study.scale.steps), device=at.device)
    removed = torch.cat([rank[regions][None] < points.reshape(-1, *[1] * regions.dim()) for rank in ranks])
    return occluded.outputs_without(study, index, at, removed)


def _of_order(study: Study, name: str, maps: Tensor, at: Tensor, regions: Tensor) -> Curves:
    """The curves of maps that do not depend on the method, made once."""
    removed = counts(int(regions.max()) + 1, study.scale.steps)
    found = []
    for index in range(len(maps)):
        key = ("order", name, study.seed, study.scale.steps, int(regions.max()))
        compute = functools.partial(_of_one, study, index, maps[index], at[index], regions)
        found.append(occluded.once(study, key, index, at[index], compute))
    both = np.stack(found)
    return Curves(removed, both[:, : len(removed)], both[:, len(removed) :])


def _random(study: Study, at: Tensor, regions: Tensor) -> np.ndarray:
    """The curve [B, k] of random orders, a mean over some and their reverses."""
    curves = []
    for draw in range(RANDOM_ORDERS):
        noise = [torch.rand(at.shape[1:], generator=study.random(f"order:{draw}:{index}")) for index in range(len(at))]
        found = _of_order(study, f"random {draw}", torch.stack(noise).to(at.device), at, regions)
        curves += [found.highest, found.lowest]
    mean: np.ndarray = np.mean(curves, axis=0)
    return mean


def crossing(removed: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | str:
    """How many regions are removed where two mean curves [k] first change places, between the points; a word where never."""
    gap = second - first
    signs = np.sign(gap)
    told = np.flatnonzero(signs)
    for before, after in itertools.pairwise(told):
        if signs[before] != signs[after]:
            share = gap[before] / (gap[before] - gap[after])
            return float(removed[before] + share * (removed[after] - removed[before]))
    return "never"


def _finding(study: Study, check: str, curves: Curves, at: Tensor, regions: Tensor) -> Outcome:
    random = _random(study, at, regions)
    resamples, seed = study.scale.resamples, study.seed
    bounds = interval(curves.areas, resamples, seed)
    highest, lowest = curves.highest.mean(0), curves.lowest.mean(0)
    few = int(np.searchsorted(curves.removed, max(1, round(curves.removed[-1] / 40))))
    figures: dict[str, Any] = {
        "regions removed": curves.removed.tolist(),
        "logit, highest first": highest.tolist(),
        "logit, lowest first": lowest.tolist(),
        "logit, random order": random.mean(0).tolist(),
        "highest first below random": _with_interval(curves.area(random - curves.highest), resamples, seed),
        "lowest first above random": _with_interval(curves.area(curves.lowest - random), resamples, seed),
        "regions removed where the orders cross": crossing(curves.removed, highest, lowest),
        "drop after the first 2.5 %": float(highest[0] - highest[few]),
        "largest drop": float(highest[0] - highest.min()),
        "largest rise, lowest first": float(lowest.max() - lowest[0]),
        "baseline": study.method.baseline or "zeros",
        "samples": len(at),
    }
    return Outcome(
        check, "mean area between the curves, lowest first minus highest first (logits)", float(curves.areas.mean()),
        bounds, RULE, figures,
        paper={"source": _FIG_3C, "value": "highest first: falls; lowest first: rises"},
    )  # fmt: skip


def _against_input(study: Study, curves: Curves, at: Tensor, regions: Tensor) -> Outcome:
    moved = study.subject.x[: len(at)] - at
    controls = {
        name: _of_order(study, name, maps, at, regions)
        for name, maps in (("x - baseline", moved), ("|x - baseline|", moved.abs()))
    }
    name = max(controls, key=lambda known: float(controls[known].areas.mean()))
    control = controls[name]
    differences = curves.areas - control.areas
    bounds = interval(differences, study.scale.resamples, study.seed)
    return Outcome(
        "region-perturbation/input", f"mean area between the curves, less that of the control ({name}) (logits)",
        float(differences.mean()), bounds, RULE,
        {
            "area": float(curves.areas.mean()),
            "control": name,
            "control area": float(control.areas.mean()),
            "regions removed": curves.removed.tolist(),
            "logit, control's highest first": control.highest.mean(0).tolist(),
            "logit, control's lowest first": control.lowest.mean(0).tolist(),
            "regions removed where both highest-first curves cross": crossing(
                curves.removed, curves.highest.mean(0), control.highest.mean(0)
            ),
        },
    )  # fmt: skip


def _with_interval(values: np.ndarray, resamples: int, seed: int) -> list[float]:
    """A mean with the ends of its interval."""
    return [float(values.mean()), *interval(values, resamples, seed)]


CHECK = Check(
    name="region-perturbation",
    summary="does removing what a map ranks highest lower the output more than removing what it ranks lowest?",
    variants=("", "blocks", "input"),
    subject="mnist-cnn:digits",
    run=run,
    doc=__doc__ or "",
)
