"""Input invariance: shifting all inputs by a constant, and undoing it inside the network, leaves the attribution.

f2(x + m) = f1(x) for all x  implies  R_f2(x + m) = R_f1(x)

Source: Kindermans et al. 2019, section 2. constant: m = c (1, ..., 1); arbitrary: any m. The second network subtracts m in an
explicit first layer, or absorbs it into the biases of the layers that read x, b2 = b1 - W m, where they can (no padding, no
skip from the input). A given baseline, and the data, move with the input.

Precheck: f1(x) = f2(x + m) on each case. Preconditions: neither network touches a kink.

Holds: the gradient; integrated gradients with a baseline that moves with the data (given, mean, and for constant shifts the
scalar minimum of x). Fails: gradient * input (unless m * grad f = 0); integrated gradients with a zero baseline.
"""

from __future__ import annotations

import numpy as np

from .agreement import must_agree
from .axiom import Axiom
from .case import Case, UserModel
from .comparison import Comparison, compare_maps
from .networks.compose import shifted
from .networks.sources import WEIGHTS
from .networks.spec import Network
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base()
    shape = case.x.shape[1:]
    amounts = WEIGHTS[:-1]
    if variant == "constant":
        shift = np.full(shape, setting.source.numbers(amounts, 1)[0])
    else:
        shift = setting.source.numbers(WEIGHTS, int(np.prod(shape))).reshape(shape)
    if isinstance(case.network, UserModel):
        moved: Network | UserModel | None = UserModel(
            case.network.factory, case.network.sha256, tuple(shift.reshape(-1).tolist())
        )
    else:
        how = setting.source.pick("affine", "bias")
        moved = shifted(case.network, shift, how) or shifted(case.network, shift)
    return case.with_drawn(shift=shift, moved=moved)


def _evaluated(variant: str, case: Case) -> list[Case]:
    shift = np.asarray(case.drawn["shift"])
    return [
        case,
        case.but(
            network=case.drawn["moved"],
            x=case.x + shift,
            baseline=None if case.baseline is None else case.baseline + shift,
            data=None if case.data is None else case.data + shift,
        ),
    ]


def _residual(variant: str, trial: Trial) -> Comparison:
    here, there = _evaluated(variant, trial.case)
    must_agree(trial.function(here), trial.function(there), "the shifted network is another function")
    first, second = trial.attribute(here), trial.attribute(there)
    return compare_maps("the map of f2 at x + m against the map of f1 at x", second, first)


def _script(variant: str, case: Case) -> str:
    return f"""\
m = torch.tensor({np.asarray(case.drawn["shift"]).tolist()})
expected = attribute(model, x, target, baseline)
{"" if case.data is None else "data = data + m  # the data move with the input"}
obtained = attribute(moved, x + m, target, moved_baseline)
print("outputs  ", f(model, x).tolist(), f(moved, x + m).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="input-invariance",
    doc=__doc__,
    variants={"constant": "R of f2 at x + c = R of f1 at x", "arbitrary": "R of f2 at x + m = R of f1 at x, any m"},
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    draws=("shift", "moved"),
    model=True,
)
