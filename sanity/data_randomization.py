"""Data randomization: maps must change when the network has learnt labels that have nothing to do with the samples.

The same architecture is trained on the same samples with permuted labels, until it knows them by heart. What it computes
has nothing to do with what the samples show; a map that is the same for both networks shows the samples.

The statistic is the excess similarity (below) of the maps of both networks, on the same samples, which neither has seen,
for the class that the network with true labels finds most likely. The property holds where its interval is below 0.5.

Source: Adebayo et al. 2018, section 4; Gupta and Arora 2019, section 5.3, which asks for a training accuracy above 98 %
(below it the finding is inconclusive). They show pictures; the rule is this project's.

Preconditions: a network that can be trained on permuted labels.

Holds: gradient and what is made of it, GradCAM. Falls: what returns the input, its edges, or anything else that the
network has no part in; in convolutional networks guided backprop and alpha1-beta0. In a perceptron these two may hold,
because its lowest layer is another one too, and that is what they show. Excess on digits (mnist-cnn, 400 permuted labels
learnt by heart): gradient 0.00, gradient times input 0.00, deconvnet 0.07, FullGrad 0.20, GradCAM_Pos 0.43, guided
backprop 0.72, alpha1-beta0 0.72.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..results import Observed
from . import excess
from .excess import compared, curves, explained, finding
from .outcome import Check, NotApplicable, Outcome
from .study import Study

LEARNT = 0.98


def run(study: Study) -> Iterator[Outcome]:
    """The finding of a study.

    Raises:
        NotApplicable: there is no network with permuted labels, or maps are too dear (see `Study.images`).
        Unsupported, MethodError: see `Study.maps`.
    """
    count = study.images(2)
    if study.subject.permuted is None:
        raise NotApplicable("this network cannot be trained on permuted labels: there is nothing here to train it on")
    permuted = study.subject.permuted()
    x = study.subject.x[:count]
    target = study.logits(x).argmax(1)
    pair = compared(explained(study, target, x), explained(study, target, x, permuted.model.to(x.device)))
    figures = {**{name: values[0] for name, values in curves([pair]).items()}, "training accuracy": permuted.accuracy}
    outcome = finding(study, "data-randomization", [pair], figures)
    if permuted.accuracy < LEARNT:
        note = f"the permuted labels were learnt to {permuted.accuracy:.1%} only, and {LEARNT:.0%} are needed"
        note = f"{outcome.note}; {note}" if outcome.note else note
        outcome = replace(outcome, unjudged=Observed.INCONCLUSIVE, note=note)
    yield outcome


CHECK = Check(
    name="data-randomization",
    summary="maps change when the network is trained on permuted labels",
    variants=("",),
    subject="mnist-cnn:digits",
    run=run,
    doc=f"{__doc__}\n{excess.__doc__}",
    permutes=True,
)
