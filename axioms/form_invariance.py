"""Form invariance: one network has one map, however its lines are written.

nn.ReLU(), torch.relu(z), z.relu(), nn.ReLU(inplace=True) and z.relu_() compute the same, and so do nn.Linear and
h @ self.w.T + self.b: the maps are equal.

Source: implementation invariance (Sundararajan et al. 2017, section 2.2), where it is least disputable: the graph is the same
operation by operation. Methods that are built on module hooks do not see functions, and in-place operations change what
they have stored (captum issues 351, 1085).

The first network is written with modules; the second one has every layer in the other form that can have it. An activation is
written in place only where nobody else reads what it overwrites, and where no derivative needs it.

Preconditions: no kink at x, nor along the segment from the baseline: forms may round differently.

Holds: every method that sees operations and not modules. Fails: guided backprop, DeepLIFT and LRP by module hooks, which
give the plain gradient, or an error, on functions.
"""

from __future__ import annotations

from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .networks.families import Family, Has
from .networks.forms import FORMS, written
from .networks.spec import Network
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base()
    assert isinstance(case.network, Network)
    other = written(case.network, variant)
    return None if other is None else case.with_drawn(written=other)


def _evaluated(variant: str, case: Case) -> list[Case]:
    return [case, case.but(network=case.drawn["written"])]


def _residual(variant: str, trial: Trial) -> Comparison:
    first, second = (trial.attribute(case) for case in _evaluated(variant, trial.case))
    return compare_maps("the map of the network in the other form against its map with modules", second, first)


def _script(variant: str, case: Case) -> str:
    return """\
expected = attribute(model, x, target, baseline)
obtained = attribute(written, x, target, baseline)
print("outputs  ", f(model, x).tolist(), f(written, x).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


def _applies(variant: str, family: Family) -> bool:
    if variant.startswith("in-place"):  # no GELU overwrites what it reads
        return Has.ACTIVATED in family.has and Has.ONLY_GELU not in family.has
    return variant in ("bare", "functional") or Has.ACTIVATED in family.has


AXIOM = Axiom(
    name="form-invariance",
    doc=__doc__,
    variants={name: meaning for name, (meaning, _) in FORMS.items()},
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    draws=("written",),
    applies=_applies,
    own_form=True,
)
