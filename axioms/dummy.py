"""Dummy (null player): a feature on which the function does not depend gets no attribution.

f does not depend on x_i  implies  R_i = 0

Source: Friedman 2004; Sundararajan et al. 2017, section 3 (sensitivity (b)). The property is semantic: it speaks of the
function. A drawn network ignores the feature by zero weights, or reads it and cancels what it read: by a sum of which a later
layer takes the difference, or by a network minus a rewritten copy of itself.

Precheck: the output does not move with the feature. Preconditions: no kink at x nor along the segment from the baseline.

Holds: gradient-like methods off kinks, integrated gradients, occlusion, Shapley values. Fails: alpha1-beta0 on
(x1 + x2) - x2; guided backprop on ReLU(x) - ReLU(x); DeepLIFT on the difference of the two nested forms.
"""

from __future__ import annotations

import torch

from .agreement import must_agree
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_entries
from .implementation_invariance import rewritten
from .networks.build import evaluate
from .networks.compose import combined, masked
from .networks.families import Family
from .networks.rewrites import Rewrite, applicable
from .networks.spec import Network
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base(at_least=2)
    assert isinstance(setting.family, Family) and isinstance(case.network, Network)
    source = setting.source
    feature = source.pick(*range(case.network.n_features))
    network = masked(case.network, feature)
    options: list[Rewrite] = applicable(setting.family)
    how = source.pick("ignored", "cancelled", "rewritten") if options else "ignored"
    if how == "cancelled":
        pair = rewritten(setting.sibling(case), source.pick(*options), case, setting)
        if pair is None:
            return None
        network = combined("add", network, combined("sub", *pair))
    elif how == "rewritten":
        pair = rewritten(network, source.pick(*options), case, setting)
        if pair is None:
            return None
        network = pair[1]
    _precheck(network, feature, case)
    return case.but(network=network).with_drawn(feature=feature, how=how)


def _precheck(network: Network, feature: int, case: Case) -> None:
    x = torch.tensor(case.x)
    other = x.flatten(1).clone()
    other[:, feature] = other[:, feature] + 1.5
    moved = evaluate(network, other.reshape(x.shape))
    must_agree(evaluate(network, x), moved, f"the function depends on the dummy feature {feature}", network)


def _residual(variant: str, trial: Trial) -> Comparison:
    attribution = trial.attribute()
    obtained = attribution.flatten(1)[:, trial.case.drawn["feature"]]
    what = "the attribution of a feature on which the function does not depend, against zero"
    return compare_entries(what, obtained, torch.zeros_like(obtained), attribution)


def _script(variant: str, case: Case) -> str:
    return f"""\
feature = {int(case.drawn["feature"])}
R = attribute(model, x, target, baseline)
other = x.flatten(1).clone()
other[:, feature] += 1.5
print("outputs  ", f(model, x).tolist(), f(model, other.reshape(x.shape)).tolist(), "(feature changed)")
obtained = R.flatten(1)[:, feature]
expected = torch.zeros_like(obtained)
gap = obtained.abs()
scale = 2 * R.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="dummy",
    doc=__doc__,
    variants={"": "R_i = 0 where f does not depend on x_i"},
    draw=_draw,
    residual=_residual,
    draws=("feature",),
    script=_script,
)
