"""Equivalence: two methods give one map.

R(x) = R'(x), where R' is the method after the slash: equivalence/gradient-times-input

Source: Ancona et al. 2018, Propositions 1 to 4, and each claim's own. The other method may be any TARGET: a built-in
one, one of Captum's, an object of your own.

Both methods refer to one baseline: the drawn one where both take any, zeros where either takes none or zeros (gradient *
input, LRP), as the propositions ask for. On `any` and elsewhere, networks that either method refuses are not counted.

Preconditions: no kink at x, nor along the segment from the baseline of the method under test. What a proposition needs
besides is the family of the claim: bias-free networks, linear graphs, networks whose linear outputs keep away from zero.

Holds: epsilon-LRP with epsilon = 0 and gradient * input on ReLU networks; DeepLIFT, integrated gradients, occlusion and
gradient * input on linear graphs. Fails: the first with a finite epsilon, by O(epsilon / |z|); on sigmoids, for any.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..claims import Method
from ..errors import MethodError, UsageError
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .script import seeded
from .setting import Setting
from .trial import Trial


class _Others(Mapping[str, str]):
    """A variant for every TARGET that names one method; there is no list of them."""

    def __getitem__(self, name: str) -> str:
        return f"R = R of {name}"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name != "" and bool(other_method(name))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@functools.lru_cache
def other_method(name: str) -> Method:
    """The method after the slash; raises UsageError where nothing, or a group, has that name."""
    # Methods are declared with axioms' names, so their registry comes later than the axioms.
    from ..methods.registry import get_method

    return get_method(name)


def _from_zeros(kind: str | None) -> bool:
    return kind in (None, "zeros")


def _draw(variant: str, setting: Setting) -> Case:
    other = other_method(variant)
    case = replace(setting, data=setting.data or other.needs_data).base()
    if _from_zeros(setting.baseline) or _from_zeros(other.baseline):
        case = case.but(baseline=None)
    return case


def _residual(variant: str, trial: Trial) -> Comparison:
    other = other_method(variant)
    expected_of = Trial(other, trial.case, trial.device, trial.given)
    try:
        expected = expected_of.attribute()
    except (MethodError, UsageError) as error:
        raise MethodError(f"the method it is compared with, {other.name}: {error}") from error
    trial.finite = trial.finite and expected_of.finite
    return compare_maps(f"the map against that of {other.name}", trial.attribute(), expected)


def _script(variant: str, case: Case) -> str:
    other = other_method(variant)
    start = "None" if other.baseline is None else "reference"
    data = ", data=data" if other.data else ""
    lines = [
        "import attribcheck",
        "",
        f"other = attribcheck.get_method({variant!r})",
        "obtained = attribute(model, x, target, baseline)",
        *(seeded(case.seed) if other.stochastic else []),
        f"expected = other(model, x, target, {start}{data})",
        "gap = (obtained - expected).abs().flatten(1).amax(1)",
        "scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)",
    ]
    return "\n".join(lines)


AXIOM = Axiom(
    name="equivalence",
    doc=__doc__,
    variants=_Others(),
    others="<other method>",
    draw=_draw,
    residual=_residual,
    script=_script,
    model=True,
)
