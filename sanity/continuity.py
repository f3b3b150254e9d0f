"""Continuity on a trained model: the map does not jump while one image turns into another.

R is followed on the segment from one sample to the next, for the label of the first. Where three neighbouring points differ
most from a straight line, B = |R(a) - 2 R(b) + R(c)|_1 with b half way between a and c, the interval is halved again and
again: the half on which the map changes more is kept. Where R is continuous, B goes to zero: if R changes by at most L |dx|,
each halving halves what B can be. Of a jump B keeps the size, however short the interval.

Statistic: the share of B that the last 10 halvings leave, the largest over the paths. It is 0 on a path where B is below 1e-7
of the largest |R|_1 there, which is rounding (difference quotients, as in DeepLIFT, lose 4e-11, small networks less).
Rule: the property holds below 2^-5.

Why 2^-5: ten halvings leave a map with a Lipschitz constant 2^-10, a jump 1; the limit is half way between them on a
logarithmic scale. It needs no bound of the constant: a steep slope (LRP with a small epsilon) only has to be wider than the
last intervals, 2^-32 of the grid's, for a method that takes few rows. Methods that take more rows are halved less often, 15
times at least: a slope within 2^-15 of a grid interval then counts as a jump. All is computed in float64, u = 1e-16.
There is no interval of confidence: one jump refutes continuity, and a path without one speaks for that path alone.

Figures: the size of the largest jump as a share of the largest |R|_1 on its path; on how many paths there is one; B, as such
a share, after each halving (the mean over paths); the steepest |R(x) - R(x')|_1 / |x - x'|_2 on the grid (the measure of
Montavon et al. 2018) and on the last interval, where it grows without bound at a jump; the change of the output there.

Holds: the gradient on networks with a continuous derivative (tanh, softplus); integrated gradients from a reference that is
on no kink; occlusion and Shapley values, which are made of outputs; LRP with a fixed epsilon on ReLU networks without
max-pooling. Falls: gradient, gradient * input, LRP-0 and guided backprop on ReLU networks, since crossing a kink changes the
gradient at once; SmoothGrad, whose few samples cross kinks one by one; sums of a few steps along the path of integrated
gradients, for the same reason, by small jumps.

Source: Ancona et al. 2019, section 2.4 and Table 2 (max(x1, x2) from (2, 2 + e) to (2, 2 - e)); Montavon et al. 2018, section
7.1. Preconditions: two different samples; an output that does not jump itself where the map does; a model that computes in
float64. A jump smaller than what the map changes by otherwise, on a grid interval, may be missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .double_precision import in_double
from .outcome import Check, NotApplicable, Outcome, Rule
from .study import FEWEST_IMAGES, Study

MOST_HALVINGS = 32
LAST = 10
FEWEST_HALVINGS = LAST + 5
ROUNDING = 1e-7
LIMIT = 2.0**-5
RULE = Rule(below=LIMIT)

# Of the images that a scale asks for, one in so many begins a path: a path costs some fifty maps.
_IMAGES_FOR_A_PATH = 4

_TABLE_2 = frozenset(
    {"gradient-times-input", "integrated-gradients", "integrated-gradients-zero", "lrp-epsilon", "deeplift"}
)


@dataclass(frozen=True)
class Descent:
    """What was seen while the intervals of P paths were halved.

    bends      [k, P], B after each halving
    steps      [k, P], |R(c) - R(a)|_1 over |c - a|_2 on the same intervals
    ends       [k, 2, P], a and c as shares of the path
    size       [P], the largest |R|_1 on the path
    steepest   [P], the largest of such ratios on the grid
    """

    bends: Tensor
    steps: Tensor
    ends: Tensor
    size: Tensor
    steepest: Tensor


def run(study: Study) -> Iterator[Outcome]:
    """The finding of one method on one model."""
    study = in_double(study).exact()
    halvings = _affordable(study)
    count = min(
        study.images(study.scale.steps + 1 + halvings), max(FEWEST_IMAGES, study.scale.images // _IMAGES_FOR_A_PATH)
    )
    paths = Paths(study, count)
    seen = descend(paths, halvings)
    left = share_left(seen.bends, seen.size)
    told = (seen.size > 0) & (paths.length > 0)
    if not bool(told.any()):
        raise NotApplicable("the map is zero on every path, or all samples are the same")
    if bool((left >= LIMIT).any()):
        told &= (left < LIMIT) | (share_left(*_outputs(paths, seen)) < LIMIT)
    if not bool(told.any()):
        raise NotApplicable("the output itself jumps, where the map does, on every path")
    yield _finding(study, seen, left, told)


def _affordable(study: Study) -> int:
    """How often the rows of the scale allow to halve the intervals of the fewest paths."""
    fixed, each = study.cost()
    maps = study.scale.rows // (fixed + each * min(FEWEST_IMAGES, study.scale.images))
    return max(FEWEST_HALVINGS, min(MOST_HALVINGS, maps - study.scale.steps - 1))


class Paths:
    """Segments from each sample to the next one, the last to the first."""

    def __init__(self, study: Study, count: int) -> None:
        self.study = study
        self.start = study.subject.x[:count]
        self.way = self.start.roll(-1, 0) - self.start
        self.target = study.subject.labels[:count]
        self.length = self.way.flatten(1).norm(dim=1)

    def at(self, t: Tensor) -> Tensor:
        """The points [P, *shape] at shares t [P] of the paths."""
        return self.start + t.reshape(-1, *[1] * (self.start.dim() - 1)) * self.way

    def maps(self, t: Tensor) -> Tensor:
        """The maps [P, N] there, always of all paths: a stochastic method then draws the same noise at each call."""
        return self.study.maps(self.target, x=self.at(t)).flatten(1)

    def outputs(self, t: Tensor) -> Tensor:
        """The target logits [P] there."""
        return self.study.logits(self.at(t)).gather(1, self.target[:, None])[:, 0]


def descend(paths: Paths, halvings: int) -> Descent:
    """Halves the interval of each path on which the map bends most; ends early where no path has a bend beyond rounding."""
    one = paths.length.new_ones(len(paths.length))
    every = torch.arange(len(one), device=one.device)
    intervals = max(2, paths.study.scale.steps)
    grid = torch.arange(intervals + 1, dtype=one.dtype, device=one.device) / intervals
    known = torch.stack([paths.maps(t * one) for t in grid])
    size = known.abs().sum(2).amax(0)
    ratios = (known[1:] - known[:-1]).abs().sum(2) * intervals / paths.length.clamp(min=1e-300)
    k = (known[2:] - 2 * known[1:-1] + known[:-2]).abs().sum(2).argmax(0)
    low, high = grid[k], grid[k + 2]
    left, between, right = (known[k + step, every] for step in range(3))
    bends, steps, ends = [], [], []
    for halving in range(halvings + 1):
        middle = (low + high) / 2
        if halving:
            between = paths.maps(middle)
            size = torch.maximum(size, between.abs().sum(1))
        bends.append((left - 2 * between + right).abs().sum(1))
        steps.append((right - left).abs().sum(1) / ((high - low) * paths.length).clamp(min=1e-300))
        ends.append(torch.stack([low, high]))
        if bool((bends[-1] <= ROUNDING * size).all()):
            break
        first = (between - left).abs().sum(1) >= (right - between).abs().sum(1)
        right, left = torch.where(first[:, None], between, right), torch.where(first[:, None], left, between)
        low, high = torch.where(first, low, middle), torch.where(first, middle, high)
    return Descent(torch.stack(bends), torch.stack(steps), torch.stack(ends), size, ratios.amax(0))


def share_left(values: Tensor, size: Tensor) -> Tensor:
    """The share [P] of figures [k, P] that the last halvings leave; 0 where that is rounding, below 1e-7 of size [P]."""
    last, before = values[-1], values[-1 - LAST :].amax(0)
    told = last > ROUNDING * size
    return torch.where(told, last / torch.where(told, before, torch.ones_like(before)), torch.zeros_like(last))


def _outputs(paths: Paths, seen: Descent) -> tuple[Tensor, Tensor]:
    """The change [k, P] of the output on the intervals of the last halvings, and its largest magnitude [P] there."""
    values = torch.stack(
        [torch.stack([paths.outputs(low), paths.outputs(high)]) for low, high in seen.ends[-1 - LAST :]]
    )
    return (values[:, 1] - values[:, 0]).abs(), values.abs().amax((0, 1))


def _finding(study: Study, seen: Descent, left: Tensor, told: Tensor) -> Outcome:
    shares = seen.bends[:, told] / seen.size[told]
    value = float(left[told].max())
    jumps = left[told] >= LIMIT
    figures = {
        "paths": int(told.sum()),
        "paths with a jump": int(jumps.sum()),
        "largest jump, share of the map": float(shares[-1].max()) if bool(jumps.any()) else 0.0,
        "halvings": len(shares) - 1,
        "bend after each halving, share of the map": shares.mean(1).tolist(),
        "steepest on the grid": float(seen.steepest[told].max()),
        "steepest on the last interval": float(seen.steps[-1, told].max()),
    }
    shown = {"source": "Ancona et al. 2019, Table 2", "value": "jumps at (2, 2) on max(x1, x2), from (0, 0)"}
    return Outcome(
        "continuity", f"share of the bend of the map that the last {LAST} halvings leave, the largest over the paths",
        value, None, RULE, figures,
        paper=shown if study.method.name in _TABLE_2 else None,
    )  # fmt: skip


CHECK = Check(
    name="continuity",
    summary="does the map change without jumps while one image turns into another?",
    variants=("",),
    subject="mnist-cnn:digits",
    run=run,
    doc=__doc__ or "",
)
