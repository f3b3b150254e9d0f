"""The registry of the full-model checks. A new check is one file and one entry of MODULES; imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from ..errors import UsageError, suggestion
from .outcome import Check

MODULES = {
    "parameter-randomization": "parameter_randomization",
    "data-randomization": "data_randomization",
    "class-sensitivity": "class_sensitivity",
    "pointing-game": "pointing_game",
    "input-invariance": "input_invariance",
    "sensitivity-n": "sensitivity_n",
    "region-perturbation": "region_perturbation",
    "competition": "competition",
    "continuity": "continuity",
}
"""The name of each check, in the order of reports, with the module of this folder that holds it as CHECK."""


def load(name: str) -> Check:
    """A check by its name.

    Raises:
        UsageError: no check is called that.
    """
    check: Check = importlib.import_module(f".{MODULES[known(name)]}", __package__).CHECK
    if check.name != name:
        raise ValueError(f"the check of {MODULES[name]}.py calls itself {check.name!r}, not {name!r}")
    return check


def known(name: str) -> str:
    """The name, if it is a check's; imports none.

    Raises:
        UsageError: no check is called that.
    """
    if name not in MODULES:
        raise UsageError(f"unknown check {name!r}; {suggestion(name, MODULES)}")
    return name


def find(full: str, among: Mapping[str, Check] | None = None) -> tuple[Check, str | None]:
    """A check and its variant (None where the name has none) by "name" or "name/variant".

    Args:
        full: the name.
        among: the checks that there are; the registry's by default.

    Raises:
        UsageError: an unknown name or variant.
    """
    name, _, variant = full.partition("/")
    if among is None or name not in among:
        check = load(name)
    else:
        check = among[name]
    if variant and full not in check.full_names:
        others = [each for each in check.full_names if "/" in each]
        raise UsageError(f"unknown variant {full!r}; {suggestion(full, others) if others else 'it has no variants'}")
    return check, variant or None


def every() -> list[Check]:
    """All checks, in the order of reports."""
    return [load(name) for name in MODULES]
