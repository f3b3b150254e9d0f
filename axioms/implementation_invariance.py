"""Implementation invariance: networks that compute one function get one attribution.

f(x) = g(x) for all x  implies  R_f(x) = R_g(x)

Source: Sundararajan et al. 2017, section 2.2; Ancona et al. 2019, section 7.4. The second network is made from the first by
a rewrite that preserves the function by a proof; each variant is one rewrite, `chain` up to three of them in a row. That
the outputs agree is checked on each case.

Preconditions: the method looks at the networks where they agree (a unit that is never active on four times the range of the
case may be active elsewhere); neither network touches a kink at x, nor along the segment from the method's baseline: the
derivative that automatic differentiation picks at a kink is a property of the implementation (x against ReLU(x) - ReLU(-x)
at 0).

Holds: everything that is defined by the function: gradient, gradient * input, integrated gradients, occlusion, Shapley
values. Fails: DeepLIFT (Rescale) on the nested identity, ReLU(ReLU(x1) - 1 - ReLU(x2)) = ReLU(ReLU(x1 - 1) - ReLU(x2)) at
(3, 1): (1.5, -0.5) against (2, -1); guided backprop when a unit is split with shares outside of [0, 1] (`split-signed`),
-ReLU(x) = ReLU(x) - 2 ReLU(x) at 1: 0 against 1, while shares in [0, 1] (`split`) keep the sign of what is cut.
"""

from __future__ import annotations

import numpy as np
import torch

from .agreement import must_agree
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .networks.build import evaluate
from .networks.families import Family
from .networks.rewrites import CHAIN, REWRITES, Context, Rewrite, applicable
from .networks.rewrites.units import NEVER_ACTIVE
from .networks.sources import Array
from .networks.spec import Network
from .setting import Setting
from .trial import Trial


def bound_of(case: Case) -> float:
    """The box |x_i| <= bound on which rewrites must preserve the function: four times what the case reaches."""
    reach = max(float(np.abs(a).max()) for a in (case.x, case.baseline, case.data, np.ones(1)) if a is not None)
    return 4.0 * reach


def points_of_the_box(case: Case) -> Array:
    """Fixed random points [4, *shape] of the box."""
    return np.random.default_rng(0).uniform(-1, 1, (4, *case.x.shape[1:])) * bound_of(case)


def within(case: Case) -> float | None:
    """The box, where one of the rewrites that made the case preserves the function in it alone."""
    return bound_of(case) if NEVER_ACTIVE.name in case.drawn.get("chain", ()) else None


def rewritten(network: Network, rewrite: Rewrite, case: Case, setting: Setting) -> tuple[Network, Network] | None:
    """The network (prepared so that the rewrite has a site) and the rewritten one; None where there is no site.

    Raises Defect where the rewrite changed the function at the samples, the baseline or random points of the box.
    """
    context = Context(setting.source, case.x, bound_of(case))
    start = rewrite.prepare(network, context)
    end = None if start is None else rewrite.apply(start, context)
    if start is None or end is None:
        return None
    _precheck(start, end, case, rewrite)
    return start, end


def _chained(network: Network, case: Case, setting: Setting) -> tuple[Network, list[str]]:
    """The network after two or three drawn rewrites, and the names of those that had a site, in order."""
    assert isinstance(setting.family, Family)
    context = Context(setting.source, case.x, bound_of(case))
    options, names, end = applicable(setting.family), [], network
    for _ in range(setting.source.pick(2, 3)):
        rewrite = setting.source.pick(*options)
        after = rewrite.apply(end, context)
        if after is not None:
            _precheck(end, after, case, rewrite)
            names.append(rewrite.name)
            end = after
    return end, names


def _precheck(before: Network, after: Network, case: Case, rewrite: Rewrite) -> None:
    arrays = [array for array in (case.x, case.baseline, points_of_the_box(case)) if array is not None]
    points = torch.tensor(np.concatenate(arrays))
    what = f"the rewrite {rewrite.name} changed the function"
    must_agree(evaluate(before, points), evaluate(after, points), what, before, after)


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base()
    assert isinstance(setting.family, Family) and isinstance(case.network, Network)
    if variant == CHAIN:
        end, names = _chained(case.network, case, setting)
        return case.with_drawn(chain=names, rewritten=end) if names else None
    pair = rewritten(case.network, REWRITES[variant], case, setting)
    if pair is None:
        return None
    return case.but(network=pair[0]).with_drawn(chain=[variant], rewritten=pair[1])


def _evaluated(variant: str, case: Case) -> list[Case]:
    return [case, case.but(network=case.drawn["rewritten"])]


def _residual(variant: str, trial: Trial) -> Comparison:
    first, second = (trial.attribute(case) for case in _evaluated(variant, trial.case))
    return compare_maps("the map of the rewritten network against the map of the network", second, first)


def _script(variant: str, case: Case) -> str:
    return """\
expected = attribute(model, x, target, baseline)
obtained = attribute(rewritten, x, target, baseline)
print("outputs  ", f(model, x).tolist(), f(rewritten, x).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="implementation-invariance",
    doc=__doc__,
    variants={
        **{rewrite.name: rewrite.proof for rewrite in REWRITES.values()},
        CHAIN: "up to three rewrites in a row",
    },
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    within=within,
    draws=("chain", "rewritten"),
    applies=lambda variant, family: (
        bool(applicable(family)) if variant == CHAIN else REWRITES[variant] in applicable(family)
    ),
)
