"""Pointing game: whether the largest value of the map of a class lies on an object of that class.

A trial is an image and a class that is in it. The map of the class is added up over channels, with its signs; it hits where
its maximum lies in the mask of the class. Where several pixels share the maximum, the hit is the share of them that lies in
the mask: a constant map hits with the chance rate.

Variants, statistics and rules (means over trials, intervals by drawing images, whose trials go together):
  pointing    hit rate - chance rate, where chance is the share of the image that the mask covers. Holds above 0:
              pointing anywhere gives 0.
  restricted  on images with several classes: the hit rate of the map of each class on its own mask, minus the hit rate of one
              map, that of the largest logit, on the same masks. Holds above 0: for a method that gives all classes one map
              both games are one, and the difference is exactly 0. A map that finds its own object misses the others.

Figures: both hit rates, the chance rate and that of the centre of the image; the same for the difficult trials (the class
covers less than a quarter of an image with another class in it) and for images with several classes; for the restricted
game how much of the hits on the classes that are not on top is lost with their own maps: 1 for a map that points to its own
class alone, 0 for one that does not depend on the class.

Reported: GradCAM drops by 25.2 points in the restricted game, gradient and LRP-0 by 7; guided backprop, RectGrad and LRP
alpha1-beta0 by 1.2 and less, since all classes get nearly one map. Certain: one map for all classes falls in the restricted
game, a constant map in the first.

Source: Zhang et al. 2018 (pointing game, difficult set); Khakzar et al. 2020, section 2 (restricted), Tables 1 and 3: per
cent of hits of VGG-16 on images of VOC 2007 with several classes. Their gradients are read with signs here; a map of
magnitudes is another method (saliency). No margin around the mask counts.
Preconditions: images with masks, one feature for each pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..results import Observed
from .bootstrap import interval
from .outcome import Check, NotApplicable, Outcome, Rule
from .study import Study

VARIANTS = ("pointing", "restricted")
RULE = Rule(above=0.0)
DIFFICULT = 0.25
"""A class that covers a smaller share of an image with other classes is difficult to point to (Zhang et al. 2018)."""

_TABLES = {
    "gradcam": ("Table 1", 74.1, 48.9),
    "fullgrad": ("Table 1", 58.4, 50.5),
    "gradcam-plus-plus": ("Table 1", 66.2, 54.1),
    "gradcam-pos": ("Table 1", 60.4, 58.1),
    "gradmid": ("Table 1", 63.9, 56.3),
    "cumulative-gradcam": ("Table 1", 58.1, 56.2),
    "cumulative-gradmid": ("Table 1", 64.1, 56.3),
    "guided-backprop": ("Table 3", 48.7, 47.5),
    "gradient": ("Table 3", 52.7, 45.1),
    "rectgrad": ("Table 3", 51.2, 50.0),
    "rectgrad-mod": ("Table 3", 59.5, 53.8),
    "lrp-alpha1-beta0": ("Table 3", 50.6, 50.0),
    "lrp-0": ("Table 3", 51.1, 44.2),
}
"""Per cent of hits in the original and in the restricted game (Khakzar et al. 2020); alpha1-beta0 is their LRP-gamma=inf."""


@dataclass(frozen=True)
class Trials:
    """T trials: images with one of their classes each.

    image      [T], the index of the image
    own        [T], the hits of the class's own map
    top        [T], the hits of the map of the image's largest logit
    on_top     [T], whether the class is that of the largest logit
    share      [T], the share of the image that the mask covers
    centre     [T], the hits of the centre of the image
    classes    [T], how many classes are in the image
    """

    image: np.ndarray
    own: np.ndarray
    top: np.ndarray
    on_top: np.ndarray
    share: np.ndarray
    centre: np.ndarray
    classes: np.ndarray

    def of(self, chosen: np.ndarray) -> Trials:
        """Some of the trials."""
        return Trials(*(figures[chosen] for figures in vars(self).values()))

    def per_image(self, values: np.ndarray) -> np.ndarray:
        """For each image the sum of a figure [T] over its trials, and their number [images, 2]."""
        _, at = np.unique(self.image, return_inverse=True)
        return np.stack([np.bincount(at, values), np.bincount(at)], 1)


def run(study: Study) -> Iterator[Outcome]:
    """The two findings of one method on one model."""
    trials = play(study)
    yield _pointing(study, trials)
    several = trials.of(trials.classes > 1)
    if len(several.image):
        yield _restricted(study, several)
    else:
        yield Outcome(
            "pointing-game/restricted", _DROP, None, None, RULE,
            note="no image has several classes with a mask", unjudged=Observed.NOT_APPLICABLE,
        )  # fmt: skip


def play(study: Study) -> Trials:
    """All trials of the images that the scale affords.

    Raises:
        NotApplicable: there are no masks, or features are no pixels.
    """
    masks = _masks(study)
    usable = masks.any(2)
    top = study.logits(study.subject.x).argmax(1)
    needed = torch.zeros_like(usable).scatter_(1, top[:, None], True) | usable
    count = study.images(int(needed.sum(1).max()))
    needed, usable, masks, top = needed[:count], usable[:count], masks[:count], top[:count]
    if not bool(usable.any()):
        raise NotApplicable("no class of the images has a mask")
    needed &= usable.any(1, keepdim=True)
    image, target = needed.nonzero(as_tuple=True)
    maps = study.maps(target, x=study.subject.x[image])
    peaks = _peaks(study.subject.features(maps).flatten(1))
    # Where the peak map of each image's largest logit is among those of all its classes.
    place = torch.full_like(top, -1)
    on_top = target == top[image]
    place[image[on_top]] = on_top.nonzero()[:, 0]
    kept = usable[image, target]
    image, target, on_top, own = image[kept], target[kept], on_top[kept], peaks[kept]
    there = masks[image, target]
    figures = (
        image,
        _hits(own, there),
        _hits(peaks[place[image]], there),
        on_top,
        _hits(torch.ones_like(there), there),
        _hits(_centre(study.subject.x.shape[-2:]).to(there.device).expand_as(there), there),
        usable.sum(1)[image],
    )
    return Trials(*(values.cpu().numpy() for values in figures))


def _masks(study: Study) -> Tensor:
    """Where each class that is present is [M, C, pixels], in the order of features."""
    subject = study.subject
    if subject.masks is None:
        raise NotApplicable("the data has no masks")
    if subject.n_features != subject.masks[0, 0].numel():
        raise NotApplicable("a feature is not a pixel of the masks")
    return (subject.masks > 0).flatten(2) & (subject.present > 0)[:, :, None]


def _peaks(values: Tensor) -> Tensor:
    """Where values [B, N] are largest [B, N]."""
    return values == values.amax(1, keepdim=True)


def _hits(points: Tensor, masks: Tensor) -> Tensor:
    """The share [T] of points [T, pixels] that lies in masks [T, pixels]: of all points, exactly the share of the mask."""
    return (points & masks).sum(1).double() / points.sum(1)


def _centre(shape: torch.Size) -> Tensor:
    """The one, two or four pixels in the middle of an image [pixels]."""
    middle = torch.zeros(shape, dtype=torch.bool)
    middle[tuple(slice((side - 1) // 2, side // 2 + 1) for side in shape)] = True
    return middle.flatten()


def mean_of_trials(rows: np.ndarray, axis: int = -1) -> Any:
    """The mean over trials, of sums and numbers of images [2, ..., images] along `axis`; of [images, 2] along 0."""
    total = rows.sum(axis)
    return total[0] / total[1]


_ABOVE_CHANCE = "hit rate minus chance rate, mean over images' classes"
_DROP = "hit rate of each class's own map minus hit rate of the top class's map, mean over images' classes"


def _mean(study: Study, trials: Trials, values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The mean of a figure [T] over trials, with its interval."""
    rows = trials.per_image(values)
    bounds = interval(rows, study.scale.resamples, study.seed, mean_of_trials)
    return float(mean_of_trials(rows, 0)), bounds


def _pointing(study: Study, trials: Trials) -> Outcome:
    value, bounds = _mean(study, trials, trials.own - trials.share)
    several = trials.classes > 1
    figures = {
        **_rates(trials),
        "difficult": _rates(trials.of(several & (trials.share < DIFFICULT))),
        "several classes": _rates(trials.of(several)),
    }
    return Outcome("pointing-game/pointing", _ABOVE_CHANCE, value, bounds, RULE, figures, _reported(study, 0))


def _restricted(study: Study, trials: Trials) -> Outcome:
    value, bounds = _mean(study, trials, trials.own - trials.top)
    others = trials.of(~trials.on_top)
    figures: dict[str, Any] = {
        "hit rate, own maps": float(trials.own.mean()),
        "hit rate, map of the top class": float(trials.top.mean()),
        "trials": len(trials.image),
        "images": len(np.unique(trials.image)),
        "trials of other classes": len(others.image),
    }
    if len(others.image):
        figures["other classes, own maps"] = float(others.own.mean())
        figures["other classes, map of the top class"] = float(others.top.mean())
        if others.own.any():
            figures["share of the hits that needs the own map"] = float(1 - others.top.sum() / others.own.sum())
    return Outcome("pointing-game/restricted", _DROP, value, bounds, RULE, figures, _reported(study, 1))


def _rates(trials: Trials) -> dict[str, Any]:
    if not len(trials.image):
        return {"trials": 0}
    return {
        "hit rate": float(trials.own.mean()),
        "chance rate": float(trials.share.mean()),
        "centre": float(trials.centre.mean()),
        "trials": len(trials.image),
        "images": len(np.unique(trials.image)),
    }


def _reported(study: Study, game: int) -> Mapping[str, Any] | None:
    found = _TABLES.get(study.method.name)
    if found is None:
        return None
    table, original, restricted = found
    if game == 0:
        return {"source": f"Khakzar et al. 2020, {table}", "value": f"hit rate {original} %"}
    drop = round(original - restricted, 1)
    return {"source": f"Khakzar et al. 2020, {table}", "value": f"{drop} points ({original} % - {restricted} %)"}


CHECK = Check(
    name="pointing-game",
    summary="does the largest value of a class's map lie on an object of that class?",
    variants=VARIANTS,
    subject="small-vgg:scenes",
    run=run,
    doc=__doc__ or "",
)
