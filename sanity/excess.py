"""How much more alike the maps of two functions are than the functions: the statistic of three checks.

Two logits f and f' (of a network and a randomised copy, of two networks, of two classes) get the maps R and R' on one
sample.

    s = similarity of R and R'                       Spearman's rank correlation
    c = similarity of the derivatives of f and f'    the same, on the same features: the control; at least 0
    excess similarity = (mean s - mean c) / (1 - mean c)        means over samples

0: the maps differ as much as the functions do. 1: there is one map, whatever the function. Below 0: they differ more. The
limit is half way: beyond 0.5 the maps show less than half of the difference that the functions leave room for. The
interval is that of a bootstrap over samples, which draws s and c together.

Two readings, of which the larger excess counts: with sign, s = Spearman(R, R'), and up to sign, s = |Spearman(R, R')|.
The sign alone lies: alpha1-beta0 multiplies one pattern by the output, so two logits of opposite signs have -0.98, and it
would pass as the most sensitive of all. Without the sign guided backprop is forgiven what it hides: between the highest
and the lowest logit of a network trained on digits the gradients are opposed (-0.45), and its maps agree (0.72). Maps of
one sign (less than 5 % of the size of each has the other) have one reading, s = Spearman(|R|, |R'|): there a negative
correlation says that they show different places.

Why not |R| for every map. Sizes are alike for reasons that are no fault: x g and x g' share |x|, and the gradients of a
convolutional network are large where its units are active. Signs are not shared. Between the two logits above, sizes
alone give the gradient 0.74 and guided backprop 0.78.

Why a control. Where only the top layer is new, or two logits are nearly each other's negative, the functions have
derivatives that are alike, and so have right maps: with a new top layer on a perceptron with two hidden ones the gradient
itself has 0.42, up to sign. No map can be blamed for c. Where each map is 0 wherever the input is at the baseline, it may
be in units of the input: c is then the larger of the similarities of df/dx and of (x - baseline) df/dx. Where maps have
one sign, c is that of sizes too. Where the mean of c, up to sign, is above 0.9 the check says nothing. The gradient is
its own control and has no excess: it is the derivative.

Zeros. A feature at the baseline gets 0 from each method that multiplies with x - baseline: a black background. Such
features count only where one of the two maps is not 0 there. All other zeros count, and share their ranks. A sample whose
first map is 0 everywhere is left out, as there is nothing that could stay; a second map that is 0 everywhere has
vanished, and s = 0. Where fewer than half of the samples have a map the finding is inconclusive.

The figures also have the similarities of the literature, on all features: signed Spearman, Spearman of |R|, and for
images Spearman of HOG features and SSIM, both of |R| normalised to [0, 1]. What the statistic does not see is a map whose
sizes are the input's and whose signs follow the function; Spearman of |R| shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..calling import baseline_for
from ..methods.gradients import input_gradient
from ..results import Observed
from .bootstrap import interval
from .outcome import Outcome, Rule
from .similarity import WINDOW, Array, normalised, spearman, spearman_of_hog, ssim
from .study import Study

ALIKE = 0.9
_ONE_SIGN = 0.05
# Images whose similarity is computed at once: what keeps the memory of their histograms small.
_AT_ONCE = 16

STATISTIC = "excess similarity of the maps (0: they differ as much as the functions do; 1: one map for both)"
RULE = Rule(below=0.5)


@dataclass(frozen=True)
class Explained:
    """Maps of some samples, and the derivatives of what they explain.

    maps         [M, features]
    images       [M, H, W], the maps as images; None where samples are no images, or smaller than a window of SSIM
    derivatives  [2, M, features], df/dx and (x - baseline) df/dx; None where they were not asked for
    away         [M, features], whether a feature differs from the baseline
    """

    maps: Array
    images: Array | None
    derivatives: Array | None
    away: Array


@dataclass(frozen=True)
class Compared:
    """How alike the maps, and the functions, of two sides are.

    maps          [K, 2], s of the samples that have a map, with sign and up to sign
    functions     [K, 2], c of these; None where the derivatives were not asked for
    left_out      how many samples have no map
    vanished      of how many samples the second map is 0 everywhere
    similarities  the mean over the K samples of each measure of the literature
    """

    maps: Array
    functions: Array | None
    left_out: int
    vanished: int
    similarities: Mapping[str, float]


def explained(
    study: Study, target: Tensor, x: Tensor, model: nn.Module | None = None, control: bool = True
) -> Explained:
    """The method's maps of samples and, for the control, the derivatives of what they explain.

    Args:
        study: whose method it is.
        target: [M], the logit of each sample.
        x: [M, *shape].
        model: the subject's by default.
        control: whether the derivatives are computed.

    Raises:
        Unsupported, MethodError: see `Study.maps`.
    """
    model = study.subject.model if model is None else model
    maps, method, data = study.maps(target, x=x, model=model), study.method, study.subject.data[: study.scale.data]
    offset = x - baseline_for(method.baseline, x, None, data if method.needs_data else None)
    derivatives = None
    if control:
        parts = zip(x.split(study.scale.batch), target.split(study.scale.batch), strict=True)
        gradient = torch.cat([input_gradient(model, *part) for part in parts])
        derivatives = np.stack([_features(study, gradient), _features(study, offset * gradient)])
    image = x.dim() == 4 and study.subject.group_axis in (None, 0) and min(x.shape[-2:]) >= WINDOW
    return Explained(
        maps=_features(study, maps),
        images=maps.sum(1).cpu().numpy() if image else None,
        derivatives=derivatives,
        away=_features(study, offset.abs()) > 0,
    )


def _features(study: Study, maps: Tensor) -> Array:
    return np.asarray(study.subject.features(maps).cpu().numpy())


def joined(parts: Sequence[Explained]) -> Explained:
    """What was explained in parts, one after the other."""

    def join(values: Sequence[Any], axis: int = 0) -> Any:
        return None if values[0] is None else np.concatenate(values, axis)

    return Explained(
        maps=join([part.maps for part in parts]),
        images=join([part.images for part in parts]),
        derivatives=join([part.derivatives for part in parts], axis=1),
        away=join([part.away for part in parts]),
    )


def compared(first: Explained, second: Explained) -> Compared:
    """How alike the maps of two functions of the same samples are, and the functions where both have derivatives."""
    live = first.maps.any(1)
    a, b = first.maps[live], second.maps[live]
    counts = first.away[live] | (a != 0) | (b != 0)
    one_sign = _has_one_sign(a) & _has_one_sign(b)

    def alike(p: Array, q: Array) -> Array:
        sizes, signed = spearman(abs(p), abs(q), counts), spearman(p, q, counts)
        return np.stack([np.where(one_sign, sizes, signed), np.where(one_sign, sizes, abs(signed))], axis=1)

    functions = None
    if first.derivatives is not None and second.derivatives is not None:
        pairs = zip(first.derivatives[:, live], second.derivatives[:, live], strict=True)
        plain, scaled = (alike(p, q) for p, q in pairs)
        in_units_of_input = ~(counts & ~first.away[live]).any(1, keepdims=True)
        functions = max(plain, np.where(in_units_of_input, scaled, plain), key=lambda c: mean(c[:, 1]))
    measured = {"spearman": spearman(a, b), "spearman of |R|": spearman(abs(a), abs(b))}
    if first.images is not None and second.images is not None:
        p, q = first.images[live], second.images[live]
        measured["spearman of HOG"] = _in_parts(spearman_of_hog, p, q)
        measured["SSIM of |R|"] = _in_parts(lambda one, other: ssim(normalised(one), normalised(other)), p, q)
    return Compared(
        maps=alike(a, b) * b.any(1, keepdims=True),
        functions=functions,
        left_out=int((~live).sum()),
        vanished=len(b) - int(b.any(1).sum()),
        similarities={name: mean(values) for name, values in measured.items()},
    )


def _has_one_sign(maps: Array) -> Array:
    positive, negative = maps.clip(min=0).sum(1), -maps.clip(max=0).sum(1)
    return np.asarray(np.minimum(positive, negative) <= _ONE_SIGN * (positive + negative))


def _in_parts(measure: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(a), _AT_ONCE)]
    return np.concatenate([np.zeros(0), *(measure(a[part], b[part]) for part in parts)])


def mean(values: Array) -> float:
    """The mean over samples; 0 of none."""
    return float(values.mean()) if len(values) else 0.0


def excess(rows: Array, axis: int = 0) -> Array:
    """The excess similarity, the largest one of several comparisons and readings.

    Args:
        rows: the columns s and c of each reading of each comparison: [M, 2 k], or with further axes of draws.
        axis: where the samples are.
    """
    means = rows.mean(axis)
    s, c = means[0::2], means[1::2].clip(min=0)
    return np.asarray(((s - c) / np.maximum(1 - c, 1 - ALIKE)).max(0))


def _rows(pairs: Sequence[Compared]) -> Array:
    columns = [np.stack([p.maps, p.functions], axis=2).reshape(-1, 4) for p in pairs if p.functions is not None]
    return np.hstack(columns)


def curves(pairs: Sequence[Compared]) -> dict[str, list[float]]:
    """What some comparisons found, a list for each figure."""
    found: dict[str, list[float]] = {}
    if all(pair.functions is not None and len(pair.maps) for pair in pairs):
        found["excess similarity"] = [float(excess(_rows([pair]))) for pair in pairs]
    for reading, column in (("with sign", 0), ("up to sign", 1)):
        found[f"maps, {reading}"] = [mean(pair.maps[:, column]) for pair in pairs]
        controls = [mean(pair.functions[:, column]) for pair in pairs if pair.functions is not None]
        if controls:
            found[f"functions, {reading}"] = controls
    for name in pairs[0].similarities:
        found[name] = [pair.similarities[name] for pair in pairs]
    found["maps that vanished"] = [pair.vanished for pair in pairs]
    return found


def finding(
    study: Study,
    check: str,
    pairs: Sequence[Compared],
    figures: Mapping[str, Any],
    paper: Mapping[str, Any] | None = None,
) -> Outcome:
    """The largest excess similarity of some comparisons of one first side with others, held against the limit.

    Args:
        study: whose samples they are.
        check: "name" or "name/variant".
        pairs: with a control; those whose functions are too much alike say nothing and do not count.
        figures, paper: see Outcome.
    """
    left_out, kept = pairs[0].left_out, len(pairs[0].maps)
    told = [pair for pair in pairs if pair.functions is not None and mean(pair.functions[:, 1]) <= ALIKE]
    value, span, notes = None, None, []
    unjudged: Observed | None = Observed.INCONCLUSIVE
    if left_out:
        notes.append(f"{left_out} of {left_out + kept} samples are left out: their map is 0 everywhere")
    if kept >= max(1, left_out) and told:
        rows = _rows(told)
        value, span = float(excess(rows)), interval(rows, study.scale.resamples, study.seed, excess)
        unjudged = None
    elif not told:
        unjudged = Observed.NOT_APPLICABLE
        notes.append(f"the derivatives of the functions are alike (above {ALIKE:g}), so maps may be")
    return Outcome(check, STATISTIC, value, span, RULE, figures, paper, "; ".join(notes) or None, unjudged)
