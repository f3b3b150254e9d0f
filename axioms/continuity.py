"""Continuity: the map does not jump when the input moves.

x -> R(x) is continuous

Source: Ancona et al. 2019, section 2.4 (explanation continuity); Montavon et al. 2018. Checked on segments from x to a
drawn point. Of two neighbouring intervals of equal length, a jump makes the map change on one and not on the other,
however short they are; where there is none, the two changes approach each other. The pair that differs most on a grid
of 8 intervals is halved until the intervals are 2^-48 of the segment. By what the changes still differ is a jump.

Preconditions: biases off kinks, so that neither x nor a drawn or zero baseline lies in the hyperplane of a ReLU. The
segment crosses kinks, on purpose. Only jumps that exceed what the map changes by on an eighth of the segment are sure
to be found.

Holds: occlusion and Shapley values, which are made of outputs; the gradient of continuously differentiable networks;
integrated gradients, unless the hyperplane of a kink contains the baseline: a step of x across a kink changes the
gradient at the very end of the path, but across such a hyperplane along the whole path at once. Fails: gradient and
gradient * input on ReLU networks; integrated gradients, and DeepLIFT, from zero on ReLU networks without biases: on
ReLU(x1 - x2) from (1, -1) to (0, 0) where x1 = x2 = 1; alpha1-beta0 on x1 - x2 where x1 passes zero, from (0, 0) to (-1, 0)
at x2 = 1; a mean over noisy copies (SmoothGrad), by one copy's jump at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .axiom import Axiom
from .case import Case, GivenModel
from .comparison import Comparison
from .setting import Setting
from .trial import Trial

# The fractions are dyadic, so exact, and on small cases so are the points. On others the last interval is some 2**4 steps
# of the floating point numbers long: its ends are two points.
_INTERVALS = 8
_HALVINGS = 45
# A difference by less than this share of the largest entry that the map has on the segment is no jump. A map that is
# steep, with a Lipschitz constant L (in shares of that entry, over the segment), changes by L 2**-48 on the last interval:
# 4e-9 for L = 1e6 (LRP with epsilon = 1e-6), 4e-7 for L = 1e8. Difference quotients (DeepLIFT) lose u / |dz| to rounding,
# 1e-9 where they pass over to the derivative. Kinks make jumps of 1e-2 and more. The share is of the largest entry on the
# segment, not on the interval: where a continuous map passes through zero, all of it changes on the smallest interval.
JUMP = 1e-6


def _draw(variant: str, setting: Setting) -> Case:
    case = setting.base()
    assert not isinstance(setting.family, GivenModel)
    return case.with_drawn(end=setting.points(setting.family, case.x.shape[1:], 1)[0])


def _at(case: Case, t: Tensor) -> Case:
    """The case at the fractions t [T B] of the way from x to the end: its B samples, T times."""
    times = len(t) // len(case.x)
    x, baseline = (
        None if array is None else np.tile(array, (times, *[1] * (array.ndim - 1))) for array in (case.x, case.baseline)
    )
    assert x is not None
    shares = t.numpy().reshape(-1, *[1] * (x.ndim - 1))
    x = x + shares * (np.asarray(case.drawn["end"]) - x)
    return case.but(x=x, target=case.target * times, baseline=baseline)


def _as_rows(trial: Trial) -> bool:
    """Whether the map of a point is the same in any batch, so that all points may stand in one: a method that does not claim
    that, draws noise, or gets a baseline that is computed from the batch is called once for each."""
    method = trial.method
    alone = any(claim.kind == "holds" and claim.name == "batch-independence" for claim in method.claims)
    return alone and not method.stochastic and not (method.needs_data and trial.case.data is None)


def _evaluated(variant: str, case: Case) -> list[Case]:
    return [_at(case, torch.full((len(case.x),), t, dtype=torch.float64)) for t in (0.0, 1.0)]


def _residual(variant: str, trial: Trial) -> Comparison:
    """One call for the grid where its points may stand in one batch; else one for each point, with the batch as it is: a
    stochastic method then draws the same noise in each."""
    case = trial.case
    samples = torch.arange(len(case.x))

    def attribution(t: Tensor) -> Tensor:
        return trial.attribute(_at(case, t)).flatten(1)

    def change(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().amax(-1)

    def bend(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return (c - 2 * b + a).abs().amax(-1)

    grid = torch.arange(_INTERVALS + 1, dtype=torch.float64) / _INTERVALS
    shares = grid[:, None].expand(-1, len(samples))
    rows = [shares.flatten()] if _as_rows(trial) else list(shares)
    maps = torch.cat([attribution(t) for t in rows]).reshape(len(grid), len(samples), -1)
    size = maps.abs().amax((0, 2))
    k = bend(maps[:-2], maps[1:-1], maps[2:]).argmax(0).cpu()
    low, high = grid[k], grid[k + 2]
    left, between, right = (maps[k + step, samples] for step in range(3))
    for halvings in range(_HALVINGS + 1):
        middle = (low + high) / 2
        if halvings:
            between = attribution(middle)
            size = torch.maximum(size, between.abs().amax(1))
        jump = bend(left, between, right)
        if not bool((jump > JUMP * size).any()):
            break
        first = change(left, between) >= change(between, right)
        right, left = torch.where(first[:, None], between, right), torch.where(first[:, None], left, between)
        first = first.cpu()
        low, high = torch.where(first, low, middle), torch.where(first, middle, high)
    gap = (jump - JUMP * size).clamp(min=0.0)
    stays = torch.from_numpy((case.x == case.drawn["end"]).reshape(len(samples), -1).all(1)).to(gap.device)
    what = f"the map at the two ends of an interval of 2^-48 of the segment from x to {_plain(case)}"
    return Comparison(what, left, right, gap, size, (size == 0) | stays)


def _plain(case: Case) -> str:
    end = np.asarray(case.drawn["end"])
    return str(end.tolist()) if end.size <= 4 else "the drawn end"


def _script(variant: str, case: Case) -> str:
    return f"""\
end = torch.tensor({np.asarray(case.drawn["end"]).tolist()})
sample = torch.arange(len(x))


def R(t):
    point = x + t.reshape(-1, *[1] * (x.dim() - 1)) * (end - x)
    return attribute(model, point, target, baseline_at(point)).flatten(1)


grid = torch.arange({_INTERVALS + 1}) / {_INTERVALS}
maps = torch.stack([R(t.expand(len(x))) for t in grid])
size = maps.abs().amax((0, 2))
k = (maps[2:] - 2 * maps[1:-1] + maps[:-2]).abs().amax(2).argmax(0)
low, high, expected, between, obtained = grid[k], grid[k + 2], maps[k, sample], maps[k + 1, sample], maps[k + 2, sample]
for halvings in range({_HALVINGS + 1}):
    middle = (low + high) / 2
    between = R(middle) if halvings else between
    size = torch.maximum(size, between.abs().amax(1))
    jump = (obtained - 2 * between + expected).abs().amax(1)
    first = (expected - between).abs().amax(1) >= (between - obtained).abs().amax(1)
    low, high = torch.where(first, low, middle), torch.where(first, middle, high)
    expected, obtained = (
        torch.where(first[:, None], expected, between),
        torch.where(first[:, None], between, obtained),
    )
print("between  ", low.tolist(), high.tolist())
gap = (jump - {JUMP!r} * size).clamp(min=0.0)
scale = size
"""


AXIOM = Axiom(
    name="continuity",
    doc=__doc__,
    single=False,  # the last intervals have no two points there
    variants={"": "the map does not jump on the way from x to another point"},
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    kinks="any",
    draws=("end",),
)
