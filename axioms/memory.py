"""Memory: calls do not add up; what a call needed is free when its map is.

The number of tensors that are alive after four calls is that after two, and so is their size.

Source: the contract of a method, which returns a map and nothing else. A list that keeps every graph, or a hook that is
registered once for each call, ends a run over a data set after an hour.

The method is called on the same samples in fresh tensors; the maps are dropped. Only tensors that were made since count.

Preconditions: none. A cache of fixed size is no growth.

Holds: every method of the papers. Fails: attributes that collect activations, global lists of graphs.
"""

from __future__ import annotations

import gc

from torch import Tensor

from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_counts
from .setting import Setting
from .trial import Trial

CALLS = 2


def _draw(variant: str, setting: Setting) -> Case:
    return setting.base()


def _alive() -> list[int]:
    """How many tensors made since the last freeze are alive, and how many bytes they hold."""
    gc.collect()
    sizes = [thing.nbytes for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    return [len(sizes), sum(sizes)]


def _residual(variant: str, trial: Trial) -> Comparison:
    trial.module()
    gc.freeze()  # what exists by now is neither looked at nor counted
    try:
        counts = []
        for _ in range(2):
            for _ in range(CALLS):
                trial.attribute()
            counts.append(_alive())
    finally:
        gc.unfreeze()
    grown = [max(0, after - before) for before, after in zip(*counts, strict=True)]
    return compare_counts(f"tensors, and bytes in them, that {CALLS} more calls leave behind", grown)


def _script(variant: str, case: Case) -> str:
    return f"""\
import gc


def alive():
    gc.collect()
    sizes = [thing.nbytes for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return torch.tensor([len(sizes), sum(sizes)])


counts = []
for _ in range(2):
    for _ in range({CALLS}):
        attribute(model, x, target, baseline)
    counts.append(alive())
expected, obtained = counts
gap, scale = (obtained - expected).clamp(min=0).double(), torch.ones(2)
"""


AXIOM = Axiom(
    name="memory",
    doc=__doc__,
    variants={"": "calls leave no tensors behind"},
    draw=_draw,
    residual=_residual,
    script=_script,
    kinks="any",
    model=True,
)
