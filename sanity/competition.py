"""Competition for pixels: what a method's maps gain, and lose, where all labels compete for each feature.

Competition leaves label y what is positive and the largest score of all labels, or negative and the smallest, and sets the
rest to zero. It is put on top of the method's maps for all k labels. A method that is a competition by itself (cgi, clrp,
cdasp, competition(...)) is compared with its base; a second competition would change nothing.

Variants; each statistic has its bootstrap interval over samples:
  competition/randomization       Spearman's rank correlation of |R| between the maps of the trained and of a re-initialised
                                  network, after competition less before; below 0: the claim of the paper (Figures 5, 6,
                                  8 to 10), competition makes maps depend on the parameters
  competition/data-randomization  the same against a network trained on permuted labels (Figure 7); below 0
  competition/kept                the share of features that the label keeps on the re-initialised network; below
                                  (1 + e) / 2 with e = (2/k)(1 - 2^-k), nearer to e, which exchangeable symmetric scores
                                  give, than to 1, which maps give that are one for all labels: "almost blank" (section 4)
  competition/evidence            on the trained network, sum R / sum |R| after competition less before; above 0: what is kept
                                  is evidence for the label more than what is lost (section 4: not too aggressive)
  competition/approximate-completeness  the share R^2 of variance that a line of positive slope through (logit, sum R)
                                  explains, over all samples and labels (Definition 2, Figure 3); above 0.5, more than is left
  competition/competed-completeness  the same of the maps after competition (Theorem 3); above 0.5

Why evidence stands beside randomization: a map that loses entries at random resembles others less as well, so a lower
correlation alone is no merit. The figure "after as many entries are kept at random" is that placebo: the trained and the
random network's maps thinned to what competition leaves. On evidence the placebo has 0 in the mean. Definition 2 itself
holds for every method on a finite set (alpha = 0, a large beta): hence R^2.

The re-initialised networks: all layers draw parameters as when they are made, in four networks between which the samples are
divided; the label stays. A map of zeros has correlation 0 with one that is not, 1 with another one, and no evidence.

Figures: the correlations; that of |R| with |x|, how far the input shows through (Figure 5), and between labels' maps
(Figure 1); shares kept beside e, with a control of scores that are made exchangeable and symmetric, which must give e (the
paper's 1/k leaves out the negative scores); slope, intercept and beta = sup |sum R - alpha logit|, also for alpha = 1, where
gradient * input on a piecewise linear network has beta = sup |sum b df/db|; the mixture of two Gaussians that fits the
label's scores (Figure 2); the factor that restores a sum after competition, beside what Theorem 1 gives under that mixture:
c/E[kept score], and 1/p with p the share kept, as printed (for scores in units of c), which is too large.

Known: gradient * input, lrp-epsilon, deeplift and cgi hold. The gradient's maps on two networks are unlike from the start, so
that there is nothing to gain. Falls: maps that are one for all labels; sums, where a method is not complete.

Source: Gupta and Arora 2019. Preconditions: at least two labels; the cost is a map for each label and network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..axioms.approximate_completeness import bias_relevance
from ..methods.competition import survivors
from ..models.subject import Subject
from ..results import Observed
from . import mixture
from .all_labels import Maps, all_maps, base_of, exchangeable, purity, reinitialised, share_kept, thinned
from .bootstrap import interval
from .outcome import Check, NotApplicable, Outcome, Rule
from .similarity import spearman
from .study import Study

NETWORKS = 4
"""Re-initialised networks between which the samples are divided."""

PLACEBOS = 10
"""Draws of the entries that are kept at random."""

_PAPER = "Gupta and Arora 2019"
_SPEARMAN = "Spearman's correlation of |R| with the other network's map, after competition less before"
_LESS_ALIKE = Rule(below=0.0)


def run(study: Study) -> Iterator[Outcome]:
    """The findings of one method on one model."""
    k = study.logits(study.subject.x[:1]).shape[1]
    if k < 2:
        raise NotApplicable("one logit has no other to compete with")
    count, permuted = _affordable(study, k)
    subject = study.subject.first(count)
    trained = all_maps(study, [subject.model], count, k)
    if trained.unmoved and base_of(study.method) is None:
        raise NotApplicable("the maps have been through a competition already: a second one changes nothing")
    generator = study.random("re-initialised")
    networks = [reinitialised(subject.model, subject.x[:1], generator) for _ in range(min(NETWORKS, count))]
    random = all_maps(study, networks, count, k)

    yield _against("randomization", study, subject, trained, random)
    yield _data_randomization(study, subject, trained, permuted)
    yield _kept(study, trained, random)
    yield _evidence(study, trained)
    logits = study.logits(subject.x).double().cpu().numpy().T
    yield _line("approximate-completeness", study, trained.before.sum(2), logits, _of_biases(subject))
    before, after = trained.own()
    fitted = mixture.figures_of(before[trained.some], after[trained.some], trained.before[:, trained.some])
    yield _line("competed-completeness", study, trained.after.sum(2), logits, fitted)


def _affordable(study: Study, k: int) -> tuple[int, Subject | None]:
    """How many samples, and the network trained on permuted labels where there is one and its maps are affordable too."""
    # One map of a competition costs k maps of its base, which are asked for besides.
    maps = k if base_of(study.method) is None else 2
    if study.subject.permuted is not None:
        try:
            return study.images(3 * maps), study.subject.permuted()
        except NotApplicable:
            pass
    return study.images(2 * maps), None


def _mean(study: Study, values: np.ndarray) -> list[float]:
    """A mean with the ends of its interval."""
    return [float(values.mean()), *interval(values, study.scale.resamples, study.seed)]


def _finding(
    variant: str, study: Study, statistic: str, values: np.ndarray, rule: Rule, figures: dict[str, Any]
) -> Outcome:
    name = f"competition/{variant}"
    if not len(values):
        return Outcome(name, statistic, None, None, rule, note="all maps are empty", unjudged=Observed.NOT_APPLICABLE)
    value, low, high = _mean(study, values)
    return Outcome(name, statistic, value, (low, high), rule, {**figures, "samples": len(values)})


def _against(variant: str, study: Study, subject: Subject, trained: Maps, other: Maps) -> Outcome:
    """Whether competition makes the label's map less like that of another network."""
    here, there = trained.own(), other.own()
    told = here[0].any(1) & there[0].any(1)
    rng = np.random.default_rng(study.seed)
    here, there = ((before[told], after[told]) for before, after in (here, there))
    before, after = (spearman(np.abs(a), np.abs(b)) for a, b in zip(here, there))
    placebo = np.mean(
        [spearman(np.abs(thinned(*here, rng)), np.abs(thinned(*there, rng))) for _ in range(PLACEBOS)], axis=0
    )
    base, figures = base_of(study.method), {}
    if told.any():
        edges = subject.x.flatten(1).abs().double().cpu().numpy()[told]
        figures = {
            "base": study.method.short if base is None else base.short,
            "before": _mean(study, before),
            "after": _mean(study, after),
            "after as many entries are kept at random": _mean(study, placebo),
            "empty after competition, trained": int((~here[1].any(1)).sum()),
            "empty after competition, other network": int((~there[1].any(1)).sum()),
            "correlation of |R| with |x|": {
                f"{network}, {when}": float(spearman(np.abs(maps), edges).mean())
                for network, pair in (("trained", here), ("other network", there))
                for when, maps in zip(("before", "after"), pair)
            },
            "correlation of |R| between labels": {
                "before": _between_labels(trained.before), "after": _between_labels(trained.after)
            },
        }  # fmt: skip
    found = _finding(variant, study, _SPEARMAN, after - before, _LESS_ALIKE, figures)
    where = "Figures 5, 6, 8 to 10" if variant == "randomization" else "Figure 7"
    return replace(found, paper={"source": f"{_PAPER}, {where}", "value": "the input's structure disappears"})


def _data_randomization(study: Study, subject: Subject, trained: Maps, permuted: Subject | None) -> Outcome:
    if permuted is None:
        why = "there is no network trained on permuted labels, or its maps are beyond the rows of the scale"
        return Outcome(
            "competition/data-randomization",
            _SPEARMAN,
            None,
            None,
            _LESS_ALIKE,
            note=why,
            unjudged=Observed.NOT_APPLICABLE,
        )
    k, count = trained.before.shape[:2]
    found = _against("data-randomization", study, subject, trained, all_maps(study, [permuted.model], count, k))
    if permuted.accuracy >= permuted.needed or found.value is None:
        return found
    note = f"{found.observed}, but the other network has learnt {permuted.accuracy:.1%} of its permuted labels only"
    return replace(found, unjudged=Observed.INCONCLUSIVE, note=note)


def _between_labels(maps: np.ndarray) -> float:
    """The mean rank correlation of |R| between each label's map and the next one's."""
    mass = np.abs(maps)
    return float(np.mean([spearman(mass[label - 1], mass[label]) for label in range(len(mass))]))


def _kept(study: Study, trained: Maps, random: Maps) -> Outcome:
    """Whether a network that has learnt nothing leaves a label little more than exchangeable labels have."""
    k = len(trained.before)
    expected = mixture.kept_share(k)
    control = exchangeable(random.before, np.random.default_rng(study.seed))
    left = survivors(torch.tensor(control), torch.tensor(random.labels)).numpy()
    shares = {
        "trained": share_kept(trained.own()[1], trained.some),
        "re-initialised": share_kept(random.own()[1], random.some),
        "exchangeable and symmetric scores": share_kept(left, random.some),
    }
    figures = {
        "share of features kept": {name: _mean(study, found) for name, found in shares.items() if len(found)},
        "(2/k)(1 - 2^-k)": expected,
        "labels": k,
    }
    what = "share of features that the label keeps on a re-initialised network"
    found = _finding("kept", study, what, shares["re-initialised"], Rule(below=(1 + expected) / 2), figures)
    return replace(found, paper={"source": f"{_PAPER}, section 4", "value": f"1/k = {1 / k:.3g}"})


def _evidence(study: Study, trained: Maps) -> Outcome:
    """Whether what the label keeps is evidence for it, more than what it loses."""
    before, after = trained.own()
    told = before.any(1)
    figures: dict[str, Any] = {}
    if told.any():
        kept = np.abs(after[told]).sum(1) / np.abs(before[told]).sum(1)
        rng = np.random.default_rng(study.seed)
        placebo = np.mean([purity(thinned(before[told], after[told], rng)) for _ in range(PLACEBOS)], axis=0)
        figures = {
            "sum R / sum |R|": {
                "before": _mean(study, purity(before[told])),
                "after": _mean(study, purity(after[told])),
            },
            "as many entries kept at random, less before": _mean(study, placebo - purity(before[told])),
            "share of sum |R| kept": _mean(study, kept),
        }
    differences = purity(after[told]) - purity(before[told])
    what = "sum R / sum |R| of the label's map, after competition less before"
    return _finding("evidence", study, what, differences, Rule(above=0.0), figures)


def explained(values: np.ndarray, axis: int = 0) -> Any:
    """R^2 of a line with positive slope, 0 for another slope, from the means of s, l, s^2, l^2, s l of each sample [M, 5]."""
    s, l, ss, ll, sl = np.mean(values, axis=axis)  # noqa: E741
    covariance, product = sl - s * l, (ss - s**2) * (ll - l**2)
    told = (covariance > 0) & (product > 0)
    return np.where(told, covariance**2 / np.where(told, product, 1.0), 0.0)


def _line(variant: str, study: Study, sums: np.ndarray, logits: np.ndarray, figures: dict[str, Any]) -> Outcome:
    """How far a line through logits and sums [k, B] explains them."""
    moments = np.stack([sums, logits, sums**2, logits**2, sums * logits]).mean(1).T
    bounds = interval(moments, study.scale.resamples, study.seed, explained)
    slope, intercept = np.polyfit(logits.flatten(), sums.flatten(), 1) if np.ptp(logits) > 0 else (0.0, 0.0)
    order = np.argsort(logits, axis=None, kind="stable")
    bins = {
        name: [float(part.mean()) for part in np.array_split(values.flatten()[order], min(10, order.size))]
        for name, values in (("logit, ten bins", logits), ("mean of sum R in each", sums))
    }
    return Outcome(
        f"competition/{variant}", "R^2 of a line with positive slope through the logit and sum R",
        float(explained(moments)), bounds, Rule(above=0.5),
        {
            "alpha (slope)": float(slope),
            "intercept": float(intercept),
            "beta for this alpha": float(np.abs(sums - slope * logits).max()),
            "beta for alpha = 1": float(np.abs(sums - logits).max()),
            "largest |logit|": float(np.abs(logits).max()),
            **bins,
            **figures,
        },
        {"source": f"{_PAPER}, {'Figure 3' if variant[0] == 'a' else 'Theorem 3'}", "value": "near-linear"},
    )  # fmt: skip


def _of_biases(subject: Subject) -> dict[str, Any]:
    """What gradient * input leaves over for the samples' labels, where all parameters are those of layers with one bias."""
    known = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)
    if any(list(layer.parameters(recurse=False)) and not isinstance(layer, known) for layer in subject.model.modules()):
        return {}
    relevance = bias_relevance(copy.deepcopy(subject.model).requires_grad_(True), subject.x, subject.labels)
    return {"sup |sum b df/db|": float(relevance.abs().max())}


CHECK = Check(
    name="competition",
    summary="what do maps gain and lose where all labels compete for each feature?",
    variants=(
        "randomization", "data-randomization", "kept", "evidence", "approximate-completeness", "competed-completeness"
    ),
    subject="mnist-cnn:digits",
    run=run,
    doc=__doc__ or "",
    permutes=True,
)  # fmt: skip
