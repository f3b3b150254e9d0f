"""Class-sensitivity: the maps of the most and of the least likely class must differ.

The statistic is the excess similarity (below) of the maps of the highest and of the lowest logit of each sample, in one
network. The property holds where its interval is below 0.5.

Why not the plain similarity. The logits are learnt together, and so are their derivatives: what counts for one class
counts against the other, in the same places. On digits the similarity of the gradients, up to sign, is 0.45 in mnist-cnn
and 0.73 in mnist-mlp. It is 1 where there are two classes whose logits are each other's negative: there the check says
nothing. With more than 0.5 in excess of that, a map says more of the sample than of the class.

Source: Khakzar et al. 2020, section 2 and tables 2 and 4, after Rebuffi et al. 2020: the mean Spearman correlation of HOG
features, without a limit. Their figures stand beside ours; the same measure is among the figures. The signed correlation
of the maps alone has a trap, see below.

Preconditions: a trained network with two or more classes.

Holds: gradient and what is made of it, DeepLIFT, occlusion, GradCAM. Falls: alpha1-beta0, z-plus, guided backprop,
RectGrad, GradCAM_Pos. The more layers with ReLUs there are, the more guided backprop forgets the class. Excess on digits
(mnist-cnn): gradient 0.00, gradient times input -0.02, DeepLIFT 0.01, LRP-gamma 0.20, FullGrad 0.37, guided backprop
0.72, alpha1-beta0 0.90, GradCAM_Pos 0.97.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import excess
from .excess import compared, curves, explained, finding
from .outcome import Check, NotApplicable, Outcome
from .study import Study

_AGGREGATION = "Khakzar et al. 2020, table 2: Spearman of HOG, VGG-16 on VOC 2007"
_PROPAGATION = "Khakzar et al. 2020, table 4: Spearman of HOG, VGG-16 on VOC 2007"
PAPER = {
    "gradcam": (_AGGREGATION, 0.03),
    "fullgrad": (_AGGREGATION, 0.48),
    "gradcam-plus-plus": (_AGGREGATION, 0.37),
    "gradcam-pos": (_AGGREGATION, 0.69),
    "gradmid": (_AGGREGATION, 0.29),
    "cumulative-gradcam": (_AGGREGATION, 0.92),
    "cumulative-gradmid": (_AGGREGATION, 0.36),
    "guided-backprop": (_PROPAGATION, 0.99),
    "gradient": (_PROPAGATION, 0.44),
    "rectgrad": (_PROPAGATION, 0.99),
    "rectgrad-mod": (_PROPAGATION, 0.72),
    "lrp-alpha1-beta0": (_PROPAGATION, 0.99),
    "lrp-0": (_PROPAGATION, 0.59),
}
"""What the paper reports, by the name of the built-in method; alpha1-beta0 is its LRP-gamma with gamma = infinity."""


def run(study: Study) -> Iterator[Outcome]:
    """The finding of a study.

    Raises:
        NotApplicable: the network has one output, or maps are too dear (see `Study.images`).
        Unsupported, MethodError: see `Study.maps`.
    """
    x = study.subject.x[: study.images(2)]
    logits = study.logits(x)
    if logits.shape[1] < 2:
        raise NotApplicable("the network has one output, so there is no other class")
    pair = compared(explained(study, logits.argmax(1), x), explained(study, logits.argmin(1), x))
    figures: dict[str, Any] = {name: values[0] for name, values in curves([pair]).items()}
    reported = PAPER.get(study.method.name)
    paper = None if reported is None else {"source": reported[0], "value": reported[1]}
    yield finding(study, "class-sensitivity", [pair], figures, paper)


CHECK = Check(
    name="class-sensitivity",
    summary="the maps of the most and of the least likely class differ",
    variants=("",),
    subject="mnist-cnn:digits",
    run=run,
    doc=f"{__doc__}\n{excess.__doc__}",
)
