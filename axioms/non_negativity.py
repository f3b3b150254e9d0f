"""Non-negativity: no feature gets a negative attribution.

R_i(x) >= 0 for all i

Source: Khakzar et al. 2020 (positive aggregation: what hands on positive contributions only); Montavon et al. 2017,
section 2 (heatmaps that are positive). It is no virtue by itself: a method that has it on all networks cannot tell what
speaks for a class from what speaks against it. The residual is the largest negative entry against the largest entry.

Preconditions: none; cases lie on kinks too (`kinks` is drawn).

Holds: the absolute value of anything, on every network (saliency); on networks with inputs >= 0, no positive bias and a
positive target logit the rules that hand on positive contributions only: z-plus = alpha1-beta0 = excitation backprop
(from the logit down, each relevance >= 0 is shared in proportion to w+ a >= 0). Fails: gradient, gradient * input,
occlusion, integrated gradients, Shapley values on f = x1 - x2 at (1, 1), which give x2 what it takes away; alpha1-beta0
on f = x - 2 at x = 1, where it starts from f = -1.
"""

from __future__ import annotations

import torch

from .axiom import Axiom
from .case import Case
from .comparison import Comparison
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case:
    return setting.base(kinks=setting.source.pick("off", "on"))


def _residual(variant: str, trial: Trial) -> Comparison:
    attribution = trial.attribute().flatten(1)
    obtained, scale = attribution.clamp(max=0.0).amin(1), attribution.abs().amax(1)
    what = "the smallest attribution of a sample, if it is negative, against zero"
    return Comparison(what, torch.zeros_like(obtained), obtained, obtained.abs(), scale, scale == 0)


def _script(variant: str, case: Case) -> str:
    return """\
R = attribute(model, x, target, baseline).flatten(1)
obtained = R.clamp(max=0).amin(1)
expected = torch.zeros_like(obtained)
gap = obtained.abs()
scale = R.abs().amax(1)
"""


AXIOM = Axiom(
    name="non-negativity",
    doc=__doc__,
    variants={"": "R_i >= 0 for every feature"},
    draw=_draw,
    residual=_residual,
    script=_script,
    kinks="any",
    model=True,
)
