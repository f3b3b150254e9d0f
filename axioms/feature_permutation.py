"""Feature permutation: when the features change places, the map changes places with them.

f'(P x) = f(x) for all x  implies  R_f'(P x) = P R_f(x), for a permutation P of the features

Source: Shapley 1953, axiom 1 (the value does not depend on how the players are named). The features are all scalars of
an input, across channels and places. The second network has permuted columns where dense layers read x, and otherwise
an explicit first layer that restores the order. Baseline and data are permuted along.

Precheck: f'(P x) = f(x) on each case. Preconditions: at least two features, P not the identity; no kink at x nor along
the segment from the baseline (sums in another order round differently).

Holds: everything that treats all features alike: gradient, saliency, gradient * input, occlusion of single features,
Shapley values, integrated gradients (the minimum of x stays, the mean of the data moves along). Fails: what knows
places: occlusion of boxes, sampled Shapley values (the orders are drawn for places), maps that are smoothed or
upsampled.
"""

from __future__ import annotations

import numpy as np

from .agreement import must_agree
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .networks.compose import permuted
from .networks.sources import Array, reordering
from .networks.spec import Network
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case:
    case = setting.base(at_least=2)
    assert isinstance(case.network, Network)
    order = reordering(setting.source, case.network.n_features)
    return case.with_drawn(order=order, permuted=permuted(case.network, order))


def _evaluated(variant: str, case: Case) -> list[Case]:
    order = [int(k) for k in case.drawn["order"]]

    def along(array: Array) -> Array:
        return array.reshape(len(array), -1)[:, order].reshape(array.shape)

    arrays = {
        name: None if array is None else along(array)
        for name, array in (("x", case.x), ("baseline", case.baseline), ("data", case.data))
    }
    return [case, case.but(network=case.drawn["permuted"], **arrays)]


def _residual(variant: str, trial: Trial) -> Comparison:
    here, there = _evaluated(variant, trial.case)
    must_agree(trial.function(here), trial.function(there), "the permuted network is another function")
    first, second = trial.attribute(here), trial.attribute(there)
    expected = first.flatten(1)[:, list(trial.case.drawn["order"])].reshape(first.shape)
    return compare_maps("the map of f' at P x against P times the map of f at x", second, expected)


def _script(variant: str, case: Case) -> str:
    return f"""\
order = {np.asarray(case.drawn["order"]).tolist()}


def moved(points):
    return None if points is None else points.flatten(1)[:, order].reshape(points.shape)


expected = moved(attribute(model, x, target, baseline))
{"" if case.data is None else "data = moved(data)"}
obtained = attribute(permuted, moved(x), target, moved(baseline))
print("outputs  ", f(model, x).tolist(), f(permuted, moved(x)).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="feature-permutation",
    doc=__doc__,
    variants={"": "R of f' at P x = P R of f at x, where f'(P x) = f(x)"},
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    draws=("order", "permuted"),
)
