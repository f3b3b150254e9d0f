"""Scale equivariance: a network with c times the outputs gets c times the map.

R of c f = c R_f for c > 0

Source: a part of linearity (Sundararajan et al. 2017, section 3), stated for itself because rules that treat signs
differently have it without being linear. So c is positive: c = -1 is class-sensitivity/parity, which those rules do not
have. The last layer's weights and bias are multiplied, or the output is (drawn).

Precheck: the outputs are in the ratio c on each case. Preconditions: no piece of the segment from the baseline lies
inside a kink, where rounding picks the slope. x itself may lie on one (`kinks` is drawn): the hidden layers are the
same.

Holds: gradient, saliency, gradient * input, integrated gradients, occlusion, Shapley values; rules that treat positive
and negative parts differently but each in proportion (guided backprop, alpha1-beta0). Fails: rules with an absolute
threshold or epsilon (RectGrad, where a unit counts if its relevance exceeds tau; LRP-epsilon), maps that are
normalised.
"""

from __future__ import annotations

from .agreement import must_agree
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .networks.compose import scaled
from .networks.spec import Network
from .setting import Setting
from .trial import Trial

_FACTORS = (2.0, 3.0, 0.5, 10.0, 0.1)


def _draw(variant: str, setting: Setting) -> Case:
    case = setting.base(kinks=setting.source.pick("off", "on"))
    assert isinstance(case.network, Network)
    factor = float(setting.source.numbers(_FACTORS, 1)[0])
    other = scaled(case.network, factor, setting.source.pick("weights", "affine"))
    return case.with_drawn(factor=factor, scaled=other)


def _evaluated(variant: str, case: Case) -> list[Case]:
    return [case, case.but(network=case.drawn["scaled"])]


def _residual(variant: str, trial: Trial) -> Comparison:
    here, there = _evaluated(variant, trial.case)
    factor = float(trial.case.drawn["factor"])
    must_agree(factor * trial.function(here), trial.function(there), f"the scaled network is not {factor} f")
    first, second = trial.attribute(here), trial.attribute(there)
    return compare_maps("the map of c f against c times the map of f", second, factor * first)


def _script(variant: str, case: Case) -> str:
    return f"""\
c = {float(case.drawn["factor"])!r}
expected = c * attribute(model, x, target, baseline)
obtained = attribute(scaled, x, target, baseline)
print("outputs  ", (c * f(model, x)).tolist(), f(scaled, x).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="scale-equivariance",
    doc=__doc__,
    variants={"": "R of c f = c R_f for c > 0"},
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    kinks="at x",
    draws=("factor", "scaled"),
)
