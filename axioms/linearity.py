"""Linearity (in the model): the map of a combination of networks is the combination of their maps.

R of a f + b g = a R_f + b R_g

Source: Sundararajan et al. 2017, section 3 (linearity); Shapley 1953 (additivity). f and g are networks of one family,
a and b are drawn and not zero. The combined network is f and g side by side; their outputs are multiplied and added.

Precheck: the outputs are combined so on each case. Preconditions: no piece of the segment from the baseline lies inside
a kink, where rounding picks the slope. x itself may lie on a kink (`kinks` is drawn): both sides evaluate f and g there
in the same way, and pick the same slope.

Holds: what is linear in the function: gradient, gradient * input, integrated gradients, occlusion, Shapley values;
DeepLIFT (Rescale), whose multipliers of networks side by side add up. LRP as well, with an epsilon and with the rules that
keep positive contributions: factors and sums outside of layers hand relevance on, each unit of f and g shares as it does
alone, and shares do not depend on how much is shared. (In one merged layer they would: the epsilon rule gives 4 / (2 + eps)
for 2 x at 1, and 2 / (1 + eps) for x + x.) Fails: absolute values (saliency), what cuts gradients by their sign (guided
backprop) or by a threshold on their score (RectGrad), maps that are normalised (excitation backprop), competition.
"""

from __future__ import annotations

from .agreement import must_agree
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_terms
from .networks.compose import combined, scaled
from .networks.spec import Network
from .setting import Setting
from .trial import Trial

_FACTORS = (1.0, -1.0, 2.0, -2.0, 3.0, -0.5)


def _draw(variant: str, setting: Setting) -> Case:
    case = setting.base(kinks=setting.source.pick("off", "on"))
    assert isinstance(case.network, Network)
    left, right = case.network, setting.sibling(case)
    a, b = (float(number) for number in setting.source.numbers(_FACTORS, 2))
    network = combined("add", scaled(left, a), scaled(right, b))
    return case.but(network=network).with_drawn(f_network=left, g_network=right, factors=[a, b])


def _evaluated(variant: str, case: Case) -> list[Case]:
    return [case, case.but(network=case.drawn["f_network"]), case.but(network=case.drawn["g_network"])]


def _residual(variant: str, trial: Trial) -> Comparison:
    cases = _evaluated(variant, trial.case)
    a, b = trial.case.drawn["factors"]
    whole, left, right = (trial.function(case) for case in cases)
    must_agree(whole, a * left + b * right, f"the network is not {a} f + {b} g")
    together, first, second = (trial.attribute(case) for case in cases)
    return compare_terms("the map of a f + b g against a R_f + b R_g", together, [a * first, b * second])


def _script(variant: str, case: Case) -> str:
    a, b = case.drawn["factors"]
    return f"""\
a, b = {float(a)!r}, {float(b)!r}
terms = [a * attribute(f_network, x, target, baseline), b * attribute(g_network, x, target, baseline)]
expected = terms[0] + terms[1]
obtained = attribute(model, x, target, baseline)
print("outputs  ", f(model, x).tolist(), (a * f(f_network, x) + b * f(g_network, x)).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = sum(R.abs().flatten(1).amax(1) for R in (obtained, *terms))
"""


AXIOM = Axiom(
    name="linearity",
    doc=__doc__,
    variants={"": "R of a f + b g = a R_f + b R_g"},
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    kinks="at x",
    draws=("f_network", "g_network", "factors"),
)
