"""Repeat determinism: the same call gives the same map, the second and the third time too.

R(x), then R of other samples, then R(x) again, and again: the maps of x are equal

Source: the contract of a method; what a caller did before is no argument of it. Between the calls the method sees other
samples of the same shape, so that what it keeps of them shows. A stochastic method gets the same seed each time.

Preconditions: none; x may lie on a kink, since the calls are the same to the last bit.

Holds: every method of the papers. Fails: running means over calls, caches that know an input by its shape or its address,
hooks that stay and act a second time, noise without the caller's seed.
"""

from __future__ import annotations

import numpy as np
import torch

from .axiom import Axiom
from .case import Case, GivenModel
from .comparison import Comparison, compare_maps
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case:
    case = setting.base(kinks=setting.source.pick("off", "on"))
    if isinstance(setting.family, GivenModel):
        rows = [setting.source.pick(*range(len(setting.family.batch))) for _ in range(len(case.x))]
        return case.with_drawn(between=setting.family.batch[rows].tolist())
    return case.with_drawn(between=setting.points(setting.family, case.x.shape[1:], len(case.x)).tolist())


def _residual(variant: str, trial: Trial) -> Comparison:
    first = trial.attribute()
    trial.attribute(trial.case.but(x=np.asarray(trial.case.drawn["between"], dtype=np.float64)))
    again = [trial.attribute(), trial.attribute()]
    what = "the maps of the third and the fourth call against the first"
    return compare_maps(what, torch.cat(again), torch.cat([first] * 2), one_network=True)


def _script(variant: str, case: Case) -> str:
    return f"""\
between = torch.tensor({np.asarray(case.drawn["between"]).tolist()})
expected = attribute(model, x, target, baseline)
attribute(model, between, target, baseline)
obtained = torch.cat([attribute(model, x, target, baseline) for _ in range(2)])
expected = torch.cat([expected, expected])
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="repeat-determinism",
    doc=__doc__,
    variants={"": "the same call gives the same map, whatever was called before"},
    draw=_draw,
    residual=_residual,
    script=_script,
    kinks="any",
    draws=("between",),
    model=True,
)
