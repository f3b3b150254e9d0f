"""From options and targets to the units of a run of full-model checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..claims import Method
from ..errors import UsageError
from ..methods.registry import resolve, unique
from . import checks
from . import claims as verdicts
from .outcome import Check
from .study import SCALES, Scale
from .units import Named, Unit


@dataclass(frozen=True)
class Options:
    """What a run was asked for; plain data, so that workers can rebuild the same plan.

    targets    TARGETs; empty where methods are given as objects
    checks     "name" or "name/variant"; empty: all of them
    model      instead of the one that a check looks at by default
    data       the same
    data_root  the folder of data sets that are not embedded
    weights    a file with the model's weights
    images     samples, where not as many as the scale has
    scale      a key of SCALES
    quick      subjects that are hardly trained, for tests
    """

    targets: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    model: str | None = None
    data: str | None = None
    data_root: Path | None = None
    weights: Path | None = None
    images: int | None = None
    scale: str = "default"
    seed: int = 0
    device: str = "cpu"
    quick: bool = False

    def amount(self) -> Scale:
        """The scale, with as many samples as are wanted, and as many more rows of forward passes for them."""
        scale = SCALES[self.scale]
        if self.images is None:
            return scale
        rows = max(scale.rows, scale.rows * self.images // scale.images)
        return replace(scale, images=self.images, rows=rows)


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    methods   by name, with their claims on full-model checks
    checks    by name
    units     in the order of the report: check after check, and in each one method after the other
    variants  the findings that are wanted, "name" or "name/variant"
    """

    methods: dict[str, Method]
    checks: dict[str, Check]
    units: list[Unit]
    variants: frozenset[str]


def plan(options: Options, methods: Sequence[Method] | None = None, known: Sequence[Check] | None = None) -> Plan:
    """The units of a run.

    Args:
        methods: where they are objects and not TARGETs.
        known: the checks that there are; the registry's by default.

    Raises:
        UsageError: an unknown check, target, model or data; a claim that makes no sense.
    """
    found = unique([m for target in options.targets for m in resolve(target)]) if methods is None else list(methods)
    among = None if known is None else {check.name: check for check in known}
    for method in found:
        verdicts.claims_of(method, among)
    order = list(checks.MODULES if among is None else among)
    picked = [checks.find(name, among) for name in options.checks or order]
    whole = {check.name for check, variant in picked if variant is None}
    wanted = {check.name: check for check, _ in sorted(picked, key=lambda pair: order.index(pair[0].name))}
    names = [n for check in wanted.values() for n in check.full_names if check.name in whole or n in options.checks]
    units = [Unit(name, *subject_of(check, options), m.name) for name, check in wanted.items() for m in found]
    if not units:
        raise UsageError("the selection matches nothing: there is no method to check")
    return Plan({m.name: m for m in found}, wanted, units, frozenset(names))


def subject_of(check: Check, options: Options) -> Named:
    """The model and the data that a check looks at in a run.

    Raises:
        UsageError: an unknown model, or one that no data is known for.
    """
    model, data = check.subject.rsplit(":", 1)
    if options.model is not None:
        model, data = _model_and_data(options.model, options.data)
    return model, options.data or data


def _model_and_data(model: str, data: str | None) -> Named:
    """A model with its data, which a named model may bring along: mnist-cnn, mnist-cnn:digits."""
    if data is not None:
        return model, data
    from ..models import architectures, subjects

    known = architectures.ARCHITECTURES.get(re.split("[:(]", model)[0])
    if known is not None and ":" in model:
        return subjects.split(model)
    if ":" not in model:
        architectures.architecture(model)  # what is unknown is refused as such, before its data is asked for
        if known is not None and known.data is not None:
            return model, known.data
    raise UsageError(f"--model {model} needs --data: on which samples? known: {', '.join(subjects.SOURCES)}")
