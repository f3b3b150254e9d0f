"""Symmetry: two features in which everything is symmetric get the same attribution.

f(.., x_i, .., x_j, ..) = f(.., x_j, .., x_i, ..) for all x, x_i = x_j, and a baseline and data symmetric in i and j
imply R_i = R_j

Source: Shapley 1953; Friedman 2004; Sundararajan et al. 2017, section 4.2 (symmetry-preserving). Semantic: the function is
symmetric, its implementation need not be: a drawn network is g(x) + g'(x with i and j swapped), where g' is g or a rewritten
copy of it.

Precheck: the output does not move when the two features are swapped at random points. Preconditions: no kink at x nor along
the segment from the baseline.

Holds: gradient-like methods off kinks, integrated gradients, occlusion, Shapley values. Fails: guided backprop on
ReLU(x1) + 2 ReLU(x2) - ReLU(x2); a sampled Shapley value or SmoothGrad at finitely many samples.
"""

from __future__ import annotations

import torch

from .agreement import must_agree
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_entries
from .implementation_invariance import points_of_the_box, rewritten, within
from .networks.build import evaluate
from .networks.compose import combined, swapped
from .networks.families import Family
from .networks.rewrites import applicable
from .networks.sources import Array
from .networks.spec import Network
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base(at_least=2)
    assert isinstance(setting.family, Family) and isinstance(case.network, Network)
    source, n = setting.source, case.network.n_features
    i = source.pick(*range(n - 1))
    j = source.pick(*range(i + 1, n))
    left = right = case.network
    chain: list[str] = []
    rewrites = applicable(setting.family)
    if rewrites and source.pick("same", "rewritten") == "rewritten":
        rewrite = source.pick(*rewrites)
        pair = rewritten(case.network, rewrite, case, setting)
        if pair is None:
            return None
        (left, right), chain = pair, [rewrite.name]
    network = combined("add", left, swapped(right, i, j))
    arrays = {
        name: None if array is None else _symmetric(array, i, j)
        for name, array in (("x", case.x), ("baseline", case.baseline), ("data", case.data))
    }
    case = case.but(network=network, **arrays).with_drawn(features=[i, j], chain=chain)
    _precheck(network, i, j, case)
    return case


def _symmetric(array: Array, i: int, j: int) -> Array:
    flat = array.reshape(len(array), -1).copy()
    flat[:, j] = flat[:, i]
    return flat.reshape(array.shape)


def _precheck(network: Network, i: int, j: int, case: Case) -> None:
    points = points_of_the_box(case)
    flat = points.reshape(len(points), -1).copy()
    flat[:, [i, j]] = flat[:, [j, i]]
    here, mirrored = (evaluate(network, torch.tensor(p)) for p in (points, flat.reshape(points.shape)))
    must_agree(here, mirrored, f"the function is not symmetric in features {i} and {j}", network)


def _residual(variant: str, trial: Trial) -> Comparison:
    i, j = trial.case.drawn["features"]
    attribution = trial.attribute()
    flat = attribution.flatten(1)
    what = f"the attribution of feature {j} against that of its mirror image, feature {i}"
    return compare_entries(what, flat[:, j], flat[:, i], attribution)


def _script(variant: str, case: Case) -> str:
    i, j = case.drawn["features"]
    return f"""\
i, j = {int(i)}, {int(j)}
R = attribute(model, x, target, baseline).flatten(1)
expected, obtained = R[:, i], R[:, j]
point = torch.arange(1.0, 1.0 + x[0].numel()).reshape(1, -1)
mirrored = point.clone()
mirrored[:, [i, j]] = point[:, [j, i]]
print("symmetric", model(point.reshape(1, *x.shape[1:])).tolist(), model(mirrored.reshape(1, *x.shape[1:])).tolist())
gap = (obtained - expected).abs()
scale = 2 * R.abs().amax(1)
"""


AXIOM = Axiom(
    name="symmetry",
    doc=__doc__,
    variants={"": "R_i = R_j where function, x, baseline and data are symmetric in i and j"},
    draw=_draw,
    residual=_residual,
    draws=("features",),
    within=within,
    script=_script,
)
