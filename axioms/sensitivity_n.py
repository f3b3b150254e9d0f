"""Sensitivity-n: the attributions of any n features add up to what removing them changes.

For every subset S of n features: sum_{i in S} R_i = f(x) - f(x with x_S set to the baseline)

Source: Ancona et al. 2018, section 4 (sensitivity-n); 2019, section 7.4.2. Variants: n = 1, a drawn 1 < n < N, N - 1, and N
(completeness). The subset is drawn.

Preconditions: at least as many features as the variant needs (n: 3, N-1: 2); cases off kinks.

Holds: for all n at once at a point iff the game v(S) = f(x_S, baseline) is additive there, and then the attribution is
occlusion (so every method of the catalogue has it on linear graphs; Proposition 4 with "additive" for "linear"). For one
fixed n it is achievable for every f only for n in {1, N-1, N}. Occlusion-1 has n = 1 by definition.
Fails: integrated gradients with n = 1 on f = x1 x2 at (1, 1): 1/2 and not 1.
"""

from __future__ import annotations

import numpy as np

from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_sums
from .setting import Setting
from .trial import Trial

_AT_LEAST = {"1": 1, "n": 3, "N-1": 2, "N": 1}


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base(at_least=_AT_LEAST[variant])
    n_features = case.x[0].size
    if n_features < _AT_LEAST[variant]:
        return None
    sizes = {"1": [1], "N-1": [n_features - 1], "N": [n_features]}
    n = setting.source.pick(*sizes.get(variant, range(2, n_features)))
    # n features in a row from a drawn start, or every k-th: few draws, every size, and simple to read.
    start = setting.source.pick(*range(n_features))
    steps = [k for k in range(1, n_features + 1) if np.gcd(k, n_features) == 1]
    step = setting.source.pick(*steps)
    return case.with_drawn(subset=sorted((start + k * step) % n_features for k in range(n)))


def _residual(variant: str, trial: Trial) -> Comparison:
    subset = list(trial.case.drawn["subset"])
    attribution = trial.attribute()
    x, reference = trial.tensor(trial.case.x), trial.reference()
    without = x.flatten(1).clone()
    without[:, subset] = reference.flatten(1)[:, subset]
    here, there = trial.outputs(x), trial.outputs(without.reshape(x.shape))
    return compare_sums(
        "sum of the subset's attributions against f(x) - f(x without the subset)",
        attribution.flatten(1)[:, subset].sum(1),
        here - there,
        here.abs() + there.abs(),
        attribution,
    )


def _script(variant: str, case: Case) -> str:
    return f"""\
subset = {list(case.drawn["subset"])}
without = x.flatten(1).clone()
without[:, subset] = reference.flatten(1)[:, subset]
without = without.reshape(x.shape)
R = attribute(model, x, target, baseline)
obtained = R.flatten(1)[:, subset].sum(1)
expected = f(model, x) - f(model, without)
gap = (obtained - expected).abs()
scale = f(model, x).abs() + f(model, without).abs() + R.abs().flatten(1).sum(1)
"""


AXIOM = Axiom(
    name="sensitivity-n",
    doc=__doc__,
    variants={
        "1": "R_i = f(x) - f(x without i)",
        "n": "sum over n features, 1 < n < N",
        "N-1": "sum over all features but one",
        "N": "sum over all features",
    },
    draw=_draw,
    residual=_residual,
    draws=("subset",),
    script=_script,
    model=True,
)
