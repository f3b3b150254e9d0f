"""Runs full-model checks: trains the subjects, computes the units of the plan, keeps and judges what they find."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ..claims import Method
from ..errors import UsageError
from ..models.subject import Subject
from ..results import Finding, Report
from ..sanity import claims as verdicts
from ..sanity.outcome import Check
from ..sanity.plan import Options, Plan, plan
from ..sanity.units import Bench, Named, Unit, elsewhere, here
from . import journal as resume
from .processes import STOPS, why
from .watch import Watch

Load = Callable[[str, str], Subject]
PERMUTES = ("data-randomization", "competition")
"""The checks that look at a second model, which is trained on permuted labels."""


def load_subject(options: Options, model: str, data: str, progress: bool = False) -> Subject:
    """A trained model with its samples; trained on first use, and read from its checkpoint from then on.

    Raises:
        UsageError: unknown names, missing data, weights that do not fit.
    """
    from ..models.subjects import subject

    return subject(
        model, data, images=options.amount().images, data_root=options.data_root, weights=options.weights,
        seed=options.seed, device=options.device, progress=progress, quick=options.quick,
    )  # fmt: skip


def run(
    options: Options,
    methods: Sequence[Method] | None = None,
    jobs: int = 1,
    directory: Path | None = None,
    resumed: bool = False,
    watch: Watch | None = None,
    known: Sequence[Check] | None = None,
    load: Load | None = None,
) -> Report:
    """Check methods on trained models.

    An interruption ends the run with what was found until then; the report says so.

    Args:
        methods: the methods, where they are objects and not TARGETs (then in this process only).
        jobs: worker processes; 0: one for each core.
        directory: where the journal of finished units is kept; None: nowhere.
        resumed: take finished units from the journal.
        watch: told how it goes.
        known, load: the checks that there are and what makes a subject, for tests; picklable where there are workers.

    Raises:
        UsageError: see `plan` and `load_subject`; no CUDA device where one is asked for.
    """
    watch = watch or Watch()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    todo = plan(options, methods, known)
    bench = _bench(options, methods, known, load, watch.training)
    found = _Found(todo, options, watch, _prepared(todo, bench, watch))
    if directory is not None:
        found.open(directory / resume.JOURNAL, resumed)
    left = found.left()
    watch.begin(len(todo.units) - len(left), len(todo.units))
    jobs = 1 if methods is not None else min(jobs or multiprocessing.cpu_count(), max(1, len(left)))
    make = functools.partial(_bench, options, None, known, load)
    incomplete = None
    try:
        with closing(here(bench, left) if jobs == 1 else elsewhere(make, left, jobs)) as computed:
            for unit, findings in computed:
                found.add(unit, findings)
    except STOPS as stop:
        incomplete = why(stop)
    finally:
        found.close()
    return found.report(incomplete)


def _bench(
    options: Options,
    methods: Sequence[Method] | None,
    known: Sequence[Check] | None,
    load: Load | None,
    training: bool = False,
) -> Bench:
    todo = plan(options, methods, known)
    loaded = load or functools.partial(load_subject, options, progress=training)
    return Bench(todo.checks, todo.methods, loaded, options.amount(), options.seed, options.device)


def _prepared(todo: Plan, bench: Bench, watch: Watch) -> dict[Named, Subject]:
    """Every subject of the plan, trained here where it has to be: workers find its checkpoint."""
    subjects = {}
    for named in dict.fromkeys(unit.subject for unit in todo.units):
        watch.preparing(":".join(named))
        subjects[named] = subject = bench.subject(named)
        if subject.permuted is not None and any(u.subject == named and u.check in PERMUTES for u in todo.units):
            watch.preparing(f"{':'.join(named)}, labels permuted")
            subject.permuted()
    return subjects


class _Found:
    """The findings so far, and the journal that they are kept in."""

    def __init__(self, todo: Plan, options: Options, watch: Watch, subjects: dict[Named, Subject]) -> None:
        self.todo, self.options, self.watch, self.subjects = todo, options, watch, subjects
        self.findings: dict[Unit, list[Finding]] = {}
        self.journal: resume.Journal | None = None
        self._fingerprints: dict[Named, str] = {}

    def open(self, path: Path, resumed: bool) -> None:
        """Open the journal, and take what is finished from it."""
        self.journal = resume.Journal(path, resumed)
        if not resumed:
            return
        for unit in self.todo.units:
            kept = self.journal.finished.get(self.key(unit))
            if kept is not None:
                self.add(unit, kept, keep=False)
        others = len(self.journal.finished) - len(self.findings)
        self.watch.said(
            f"{len(self.findings)} of {len(self.todo.units)} parts are taken from {path}"
            + (f"; {others} are not of this run (other options, code or weights)" if others else "")
        )

    def key(self, unit: Unit) -> str:
        """The key of a unit in the journal."""
        options = self.options
        method, scale = self.todo.methods[unit.method], options.amount()
        return resume.key(unit, method, self.fingerprint(unit.subject), scale, options.seed, options.device)

    def fingerprint(self, named: Named) -> str:
        """The fingerprint of a subject."""
        if named not in self._fingerprints:
            self._fingerprints[named] = resume.fingerprint(self.subjects[named])
        return self._fingerprints[named]

    def left(self) -> list[Unit]:
        """What is still to be computed."""
        return [unit for unit in self.todo.units if unit not in self.findings]

    def add(self, unit: Unit, findings: list[Finding], keep: bool = True) -> None:
        """Take the findings of a unit, keep them in the journal, and judge them."""
        if keep and self.journal is not None:
            self.journal.write(self.key(unit), findings)
        verdicts.judge(findings, self.todo.methods[unit.method].claims)
        wanted = [finding for finding in findings if finding.check in self.todo.variants]
        self.findings[unit] = wanted
        if keep:
            self.watch.done(len(self.findings), len(self.todo.units), wanted)

    def close(self) -> None:
        """Close the journal."""
        if self.journal is not None:
            self.journal.close()

    def report(self, incomplete: str | None) -> Report:
        """The findings in the order of the plan."""
        scale = self.options.amount()
        rows = [row for unit in self.todo.units for row in self.findings.get(unit, [])]
        if incomplete is not None:
            done, total = len(self.findings), len(self.todo.units)
            resumable = "; go on with --resume" if self.journal is not None else ""
            incomplete = f"{incomplete} after {done} of {total} parts{resumable}"
        return Report(
            [], self.options.seed, None, self.options.device,
            sanity=rows,
            subjects=[self._told(named) for named in self.subjects],
            scale=f"{scale.name}, {scale.images} images",
            incomplete=incomplete,
        )  # fmt: skip

    def _told(self, named: Named) -> dict[str, Any]:
        subject = self.subjects[named]
        return {
            "model": subject.model_name,
            "data": subject.data_name,
            "accuracy": subject.accuracy,
            "needed": subject.needed,
            "images": len(subject.x),
            "fingerprint": self.fingerprint(named),
        }
