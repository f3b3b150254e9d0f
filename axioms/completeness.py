"""Completeness: the attributions of a sample add up to what the output gained.

delta:   sum_i R_i = f(x) - f(baseline)
output:  sum_i R_i = f(x)

Source: Sundararajan et al. 2017, section 3 (completeness); Bach et al. 2015, equation 2 (conservation, the output form);
Shrikumar et al. 2017 (summation to delta). A method without a baseline refers to zeros.

Preconditions: none; cases lie on kinks too (`kinks` is drawn).

Holds (delta): integrated gradients for every locally Lipschitz network, even through kinks, since automatic
differentiation is a conservative field (Bolte and Pauwels 2020); Shapley values; gradient * input iff f - f(0) is
positively homogeneous (Euler). Fails: gradient * input with biases, f = ReLU(x - 1) at x = 2 gives 2 and not 1;
occlusion with interactions, f = x1 x2 at (1, 1) gives 2 and not 1.
"""

from __future__ import annotations

from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_sums
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case:
    return setting.base(kinks=setting.source.pick("off", "on"))


def _residual(variant: str, trial: Trial) -> Comparison:
    attribution = trial.attribute()
    gained = trial.outputs(trial.tensor(trial.case.x))
    terms = gained.abs()
    if variant == "delta":
        start = trial.outputs(trial.reference())
        gained, terms = gained - start, terms + start.abs()
    what = f"sum of the attributions against {AXIOM.variants[variant].rpartition(' = ')[2]}"
    return compare_sums(what, attribution.flatten(1).sum(1), gained, terms, attribution)


def _script(variant: str, case: Case) -> str:
    start = "f(model, reference)" if variant == "delta" else "torch.zeros(len(x))"
    return f"""\
R = attribute(model, x, target, baseline)
start = {start}
obtained = R.flatten(1).sum(1)
expected = f(model, x) - start
gap = (obtained - expected).abs()
scale = f(model, x).abs() + start.abs() + R.abs().flatten(1).sum(1)
"""


AXIOM = Axiom(
    name="completeness",
    doc=__doc__,
    variants={"delta": "sum R = f(x) - f(baseline)", "output": "sum R = f(x)"},
    default=("delta",),
    draw=_draw,
    residual=_residual,
    script=_script,
    kinks="any",
    model=True,
)
