"""Parameter randomization: maps must change when layers of the network lose what they learnt.

A map explains a function. Where upper layers of a trained network are drawn anew, its logits are other functions; a map
that stays shows the input, or the lower layers, and not the prediction.

Layers are modules with parameters, counted from the output. Both maps are those of the class that the trained network
finds most likely, on the same samples, with the same random numbers of the method.

cascade: the upper half of the layers, rounded up, is new. The statistic is the excess similarity (below) of the maps
before and after; the property holds where its interval is below 0.5.

independent: one layer of the upper half is new, and the others are as trained. The statistic is the largest excess
similarity among these layers, since a map must depend on each of them; the property holds where its interval is below
0.5. A layer whose loss leaves the function's own derivatives alike (similarity above 0.9) does not count.

New weights come from each layer's own initialiser: signals keep their scale, and no layer falls silent. Four networks are
drawn, each for a quarter of the samples, so that the interval knows of the draw. The curves go through all layers, and
show the papers' N(0, 0.01) too, read as a variance and as a standard deviation, as far as the scale's rows reach.

Why the upper half. Every method that multiplies with weights changes with the lowest layer, whatever it does above: of a
perceptron with three layers guided backprop keeps 0.84 when the upper two are new, and 0.10 when all are. What is in
doubt is whether a map depends on the layers that decide.

Source: Adebayo et al. 2018, section 3; Khakzar et al. 2020, section 2 and figure 4 (cascading, N(0, 0.01), Spearman of
HOG); Gupta and Arora 2019, section 5.2. They show curves and pictures without figures; the rule is this project's.

Preconditions: a trained network with parameters, in which no path goes around the upper layers.

Holds: gradient and what is made of it, DeepLIFT, occlusion, GradCAM. Falls: guided backprop, RectGrad, alpha1-beta0,
z-plus, GradCAM++ and its kin that add up positive gradients. Excess on digits (mnist-cnn, cascade): gradient, gradient
times input and DeepLIFT 0.00, guided backprop 0.83, alpha1-beta0 0.97.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import excess
from .excess import Compared, Explained, compared, curves, explained, finding, joined
from .outcome import Check, NotApplicable, Outcome
from .randomize import INITIALISERS, Initialiser, layers, randomised
from .study import Study

DRAWS = 4

Step = tuple[str, int]
"""What is new: ("cascade", k), the k uppermost layers; ("independent", k), the k-th from above alone."""

_TOP: Step = ("cascade", 1)


def run(study: Study) -> Iterator[Outcome]:
    """The findings of a study, one for each variant.

    Raises:
        NotApplicable: the model has no parameters, or maps are too dear (see `Study.images`).
        Unsupported, MethodError: see `Study.maps`.
    """
    names = layers(study.subject.model, study.subject.x[:1])
    half = (len(names) + 1) // 2
    judged: dict[str, list[Step]] = {
        "cascade": [("cascade", half)],
        "independent": [_TOP, *(("independent", k) for k in range(2, half + 1))],
    }
    count, plan = _plan(study, len(names), {step for steps in judged.values() for step in steps})
    x = study.subject.x[:count]
    target = study.logits(x).argmax(1)
    trained = explained(study, target, x)
    found = {
        initialiser: _compared(study, trained, target, x, names, initialiser, steps)
        for initialiser, steps in plan.items()
    }
    for variant, steps in judged.items():
        pairs = [found["own"][step] for step in steps]
        yield finding(study, f"parameter-randomization/{variant}", pairs, _figures(variant, names, found))


def _plan(study: Study, n: int, judged: set[Step]) -> tuple[int, dict[Initialiser, list[Step]]]:
    """How many samples, and the steps of each initialiser: all that leave the number of samples as the findings need it."""
    every: list[Step] = [("cascade", k) for k in range(1, n + 1)]
    every += [("independent", k) for k in range(2, n + 1)]
    count = study.images(1 + len(judged))
    plans: list[dict[Initialiser, list[Step]]] = [dict.fromkeys(INITIALISERS, every), {"own": every}]
    for plan in plans:
        try:
            if study.images(1 + sum(map(len, plan.values()))) >= count:
                return count, plan
        except NotApplicable:
            continue
    return count, {"own": [step for step in every if step in judged]}


def _compared(
    study: Study,
    trained: Explained,
    target: Tensor,
    x: Tensor,
    names: Sequence[str],
    initialiser: Initialiser,
    steps: Sequence[Step],
) -> dict[Step, Compared]:
    """The maps of the trained network against those of networks of which some layers are new."""
    parts: dict[Step, list[Explained]] = {step: [] for step in steps}
    model, control = study.subject.model, initialiser == "own"
    for draw, rows in enumerate(torch.arange(len(x)).tensor_split(min(DRAWS, len(x)))):
        chosen = slice(int(rows[0]), int(rows[-1]) + 1)
        cascade = model
        for k, name in enumerate(names, start=1):
            purpose = f"new layer: {initialiser}, {draw}, {name}"
            cascade = randomised(cascade, name, initialiser, study.random(purpose))
            if ("cascade", k) in parts:
                parts["cascade", k].append(explained(study, target[chosen], x[chosen], cascade, control))
            if ("independent", k) in parts:
                alone = randomised(model, name, initialiser, study.random(purpose))
                parts["independent", k].append(explained(study, target[chosen], x[chosen], alone, control))
    return {step: compared(trained, joined(found)) for step, found in parts.items()}


def _figures(
    variant: str, names: Sequence[str], found: Mapping[Initialiser, Mapping[Step, Compared]]
) -> dict[str, Any]:
    """The curves of a variant for each initialiser; `layer` counts from the output. The first step is that of a cascade."""
    figures: dict[str, Any] = {"layers from the output": [name or "(the model itself)" for name in names]}
    for initialiser, steps in found.items():
        shown = {step[1]: pair for step, pair in steps.items() if step[0] == variant or step == _TOP}
        figures[INITIALISERS[initialiser]] = {"layer": list(shown), **curves(list(shown.values()))}
    return figures


CHECK = Check(
    name="parameter-randomization",
    summary="maps change when layers of the network lose what they learnt",
    variants=("cascade", "independent"),
    subject="mnist-cnn:digits",
    run=run,
    doc=f"{__doc__}\n{excess.__doc__}",
)
