"""Batch independence: the map of a sample does not depend on the other samples of the batch.

R(x_b) alone = R(x_1, ..., x_B) at b

Source: the contract of a method, which is defined for one input; it is batched for speed alone.

Each sample of a batch of two to five is attributed alone. The noise of a stochastic method is drawn for a whole batch, so
another batch has other noise in the same place; there the other samples are replaced by copies of the one that is looked
at, under the same seed: the shapes agree, and so does the noise of its row.

Preconditions: no kink at x, nor along the segment from the baseline: batches of other sizes are multiplied in other orders,
and rounding would pick the slope.

Holds: every method of the papers. Fails: what is normalised by the maximum or the mean of the batch; hooks that keep the
activations of one sample; gradients of the mean of the logits.
"""

from __future__ import annotations

import torch

from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case:
    return setting.base(samples=2)


def _alone(case: Case, b: int, copies: int) -> Case:
    """Sample b of a case, so many times."""
    rows = [b] * copies
    baseline = None if case.baseline is None else case.baseline[rows]
    return case.but(x=case.x[rows], target=tuple(case.target[k] for k in rows), baseline=baseline)


def _residual(variant: str, trial: Trial) -> Comparison:
    case = trial.case
    together = trial.attribute()
    n = len(case.x)
    if trial.method.stochastic:
        alone = [trial.attribute(_alone(case, b, n))[b] for b in range(n)]
    else:
        alone = [trial.attribute(_alone(case, b, 1))[0] for b in range(n)]
    what = "the map of each sample in the batch against its map alone"
    return compare_maps(what, together, torch.stack(alone), one_network=True)


def _script(variant: str, case: Case) -> str:
    return """\
obtained = attribute(model, x, target, baseline)
alone = []
for b in range(len(x)):
    own = None if baseline is None else baseline[b : b + 1]
    alone.append(attribute(model, x[b : b + 1], target[b : b + 1], own)[0])
expected = torch.stack(alone)
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="batch-independence",
    doc=__doc__,
    variants={"": "a sample's map is the same alone and in any batch"},
    draw=_draw,
    residual=_residual,
    script=_script,
    model=True,
)
