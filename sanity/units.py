"""One check of one method on one model: findings out, whatever happens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..claims import Method
from ..errors import MethodError, Unsupported, UsageError, defect, first_line
from ..models.subject import Subject
from ..results import Finding, Observed
from .outcome import Check, NotApplicable, Outcome
from .study import Scale, Study

Named = tuple[str, str]
"""A subject by the names of its model and of its data."""


@dataclass(frozen=True)
class Unit:
    """What is computed, kept and counted as one: a check of a method on a model with its data, all by name."""

    check: str
    model: str
    data: str
    method: str

    @property
    def subject(self) -> Named:
        """The model and its data."""
        return self.model, self.data


@dataclass
class Bench:
    """What a process needs to compute units: everything by name, and each subject loaded once.

    load  a model and its data, by name, to a Subject; picklable where there are worker processes
    """

    checks: Mapping[str, Check]
    methods: Mapping[str, Method]
    load: Callable[[str, str], Subject]
    scale: Scale
    seed: int
    device: str
    _subjects: dict[Named, Subject] = field(default_factory=dict)
    _studies: dict[tuple[Named, str], tuple[Study, Exception | None]] = field(default_factory=dict)

    def subject(self, named: Named) -> Subject:
        """A subject, with at most as many samples as the scale asks for."""
        if named not in self._subjects:
            self._subjects[named] = self.load(*named).first(self.scale.images)
        return self._subjects[named]

    def compute(self, unit: Unit) -> list[Finding]:
        """The findings of a unit, one for each variant of the check; never raises but on a missing subject."""
        study, refused = self._study(unit)
        start = time.perf_counter()
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)  # whatever was computed before in this process
            found = findings(self.checks[unit.check], study, refused)
        for finding in found:
            finding.seconds = round(time.perf_counter() - start, 3)
        return found

    def _study(self, unit: Unit) -> tuple[Study, Exception | None]:
        """The study of a method and a subject, and why it can be part of no check; the same one for all checks."""
        key = unit.subject, unit.method
        if key not in self._studies:
            study = Study(self.subject(unit.subject), self.methods[unit.method], self.scale, self.seed, self.device)
            try:
                study.cost()
                self._studies[key] = study, None
            except Exception as error:
                error.__cause__ = error.__context__ = None  # their frames hold tensors
                self._studies[key] = study, error.with_traceback(None)
        return self._studies[key]


def findings(check: Check, study: Study, refused: Exception | None = None) -> list[Finding]:
    """What a check finds, one finding for each of its variants, also of those that it did not come to.

    Args:
        check: any.
        study: a method on a subject.
        refused: why nothing can be found, where that is known.
    """
    found: dict[str, Finding] = {}
    observed, why = Observed.NOT_APPLICABLE, "the check makes no such finding on this model"
    try:
        if refused is not None:
            raise refused
        for outcome in check.run(study):
            if outcome.check not in check.full_names or outcome.check in found:
                raise AssertionError(f"{check.name} is not to find {outcome.check!r}")
            found[outcome.check] = _row(outcome, study)
    except NotApplicable as error:
        why = str(error)
    except Unsupported as error:
        observed, why = Observed.UNSUPPORTED, first_line(error)
    except (MethodError, UsageError) as error:
        observed, why = Observed.ERROR, str(error)
    except Exception as error:
        observed, why = Observed.ERROR, defect(error)
    for name in check.full_names:
        if name not in found:
            found[name] = Finding(name, *_names(study), observed=observed, note=why)
    return [found[name] for name in check.full_names]


def lost(check: Check, unit: Unit, why: str) -> list[Finding]:
    """The findings of a unit whose process died: errors, and why."""
    return [
        Finding(name, unit.model, unit.data, unit.method, observed=Observed.ERROR, note=why)
        for name in check.full_names
    ]


def _names(study: Study) -> tuple[str, str, str]:
    return study.subject.model_name, study.subject.data_name, study.method.name


def _row(outcome: Outcome, study: Study) -> Finding:
    """A finding from what a check found; inconclusive where the model has not learnt enough to say something."""
    subject = study.subject
    known = [number for number in (outcome.value, *(outcome.interval or ())) if number is not None]
    if not all(map(math.isfinite, known)):
        raise AssertionError(f"{outcome.check}: the statistic is not finite")
    row = Finding(
        outcome.check, *_names(study),
        statistic=outcome.statistic,
        value=None if outcome.value is None else float(outcome.value),
        interval=None if outcome.interval is None else [float(end) for end in outcome.interval],
        rule=str(outcome.rule),
        paper=None if outcome.paper is None else plain(dict(outcome.paper)),
        observed=outcome.observed,
        figures=plain(dict(outcome.figures)),
        note=outcome.note,
        limit=outcome.rule.limit,
    )  # fmt: skip
    if subject.accuracy < subject.needed and row.observed in (Observed.HOLDS, Observed.VIOLATED):
        weak = (
            f"{row.observed}, but the model classifies {subject.accuracy:.1%} of unseen samples correctly, and below "
            f"{subject.needed:.0%} the check says nothing"
        )
        row.observed, row.note = Observed.INCONCLUSIVE, f"{row.note}; {weak}" if row.note else weak
    return row


def plain(value: Any) -> Any:
    """Figures as strict JSON has them: plain numbers to six digits, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # a tensor, an array, or a number of NumPy
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
