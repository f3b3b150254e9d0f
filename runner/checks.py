"""The job of checking methods on trained models, and the run that makes a report of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import calling
from ..claims import Method
from ..methods.registry import owner
from ..models.subject import Subject
from ..results import Finding, Report, Row
from ..sanity.claims import judge
from ..sanity.outcome import Check
from ..sanity.plan import Options, Plan, plan
from ..sanity.units import Bench, Named, Unit, lost
from . import journal
from .job import Death, cut
from .lock import must_be_free
from .running import Executor, on_this_machine
from .running import run as run_job
from .watch import Watch

TIMEOUT = 1200.0
"""Seconds of one call of a method, if nobody says how many: on a trained model with many samples a call takes minutes."""

Load = Callable[[str, str], Subject]


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


@dataclass
class ChecksJob:
    """Checks of methods on trained models as units; each is computed from its names and the options alone.

    methods       by name, where they are objects; else they are found by their names
    known, load   the checks that there are and what makes a subject, for tests; picklable where there are workers
    fingerprints  of the subjects, once they are prepared
    """

    options: Options
    methods: dict[str, Method] | None = None
    known: Sequence[Check] | None = None
    load: Load | None = None
    fingerprints: dict[Named, str] = field(default_factory=dict)
    _plan: Plan | None = None
    _bench: Bench | None = None

    noun = "parts"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_plan": None, "_bench": None}  # (a worker makes its own)

    @property
    def local(self) -> bool:
        """Whether methods are objects of this process."""
        return self.methods is not None

    @property
    def plan(self) -> Plan:
        """What there is to do, with the methods and the checks."""
        if self._plan is None:
            self._plan = plan(self.options, None if self.methods is None else list(self.methods.values()), self.known)
        return self._plan

    def bench(self, training: bool = False) -> Bench:
        """What this process needs to compute units; `training`: whether a bar is shown while a model is trained."""
        if self._bench is None:
            options = self.options
            loaded = self.load or functools.partial(load_subject, options, progress=training)
            self._bench = Bench(
                self.plan.checks, self.plan.methods, loaded, options.amount(), options.seed, options.device
            )
        return self._bench

    def prepare(self, watch: Watch) -> None:
        """Train every subject of the plan that has to be, here: workers find its checkpoint.

        Raises:
            UsageError: unknown names, missing data, weights that do not fit.
        """
        bench = self.bench(watch.training)
        permuting = {unit.subject for unit in self.plan.units if self.plan.checks[unit.check].permutes}
        for named in dict.fromkeys(unit.subject for unit in self.plan.units):
            watch.preparing(":".join(named))
            subject = bench.subject(named)
            if subject.permuted is not None and named in permuting:
                watch.preparing(f"{':'.join(named)}, labels permuted")
                subject.permuted()
            self.fingerprints[named] = journal.subject_fingerprint(subject)

    def units(self) -> Sequence[Unit]:
        """Check after check, and in each one method after the other."""
        return self.plan.units

    def groups(self, units: Sequence[Unit], size: int, apart: bool) -> list[list[Unit]]:
        """Units of one owner on one subject; those of one check, which compute much for all methods, next to each other."""
        if not apart:
            return [list(units)]
        shared: dict[tuple[str, Named], list[Unit]] = {}
        for unit in units:
            shared.setdefault((owner(unit.method), unit.subject), []).append(unit)
        return cut(shared.values(), size)

    def key(self, unit: Unit) -> Any:
        """What the findings of a unit depend on; claims are judged apart."""
        parts: dict[str, Any] = {
            "unit": asdict(unit),
            "subject": self.fingerprints[unit.subject],
            "scale": asdict(self.options.amount()),
            "seed": self.options.seed,
            "code": journal.code_version(self.options.device),
        }
        if owner(unit.method) or ":" in unit.model or self.local:
            parts["method"] = journal.source(self.plan.methods[unit.method])
            parts["modules"] = self._modules
        return parts

    @functools.cached_property
    def _modules(self) -> Mapping[str, str]:
        return journal.local_modules()

    def compute(self, unit: Unit, deadline: float | None) -> list[Finding]:
        """The findings of a unit."""
        return self.bench().compute(unit)

    def lost(self, unit: Unit, death: Death) -> list[Finding]:
        """The findings of a unit whose process died."""
        found = lost(self.plan.checks[unit.check], unit, death.why)
        for finding in found:
            finding.output = death.output
        return found

    def finished(self, rows: Sequence[Row]) -> bool:
        """Always: no time limit cuts a check off."""
        return True

    def judged(self, unit: Unit, rows: Sequence[Row]) -> list[Row]:
        """The findings that are wanted, with the verdicts of the claims as they are now."""
        findings = [row for row in rows if isinstance(row, Finding)]
        judge(findings, self.plan.methods[unit.method].claims)
        return [finding for finding in findings if finding.check in self.plan.variants]


def run(
    options: Options,
    methods: Sequence[Method] | None = None,
    jobs: int = 1,
    watch: Watch | None = None,
    known: Sequence[Check] | None = None,
    load: Load | None = None,
    *,
    executor: Executor | None = None,
    kept: journal.Journal | None = None,
) -> Report:
    """Check methods on trained models.

    An interruption ends the run with what was found until then; the report says so.

    Args:
        methods: the methods, where they are objects and not TARGETs (then in this process only).
        jobs: 1: in this process; more: so many worker processes; 0: one for each core.
        watch: told how it goes.
        known, load: the checks that there are and what makes a subject, for tests; picklable where there are workers.
        executor: where they are computed, instead of `jobs`.
        kept: the journal that finished units are taken from and kept in; opened here, closed by the caller.

    Raises:
        UsageError: see `plan` and `ChecksJob.prepare`; no CUDA device where one is asked for.
    """
    watch = watch or Watch()
    calling.must_have(options.device)
    by_name = None if methods is None else {method.name: method for method in methods}
    job = ChecksJob(options, by_name, known, load)
    job.plan  # noqa: B018 - wrong usage is told before anything is trained
    if kept is not None:
        must_be_free(kept.path.parent)
    job.prepare(watch)
    if kept is not None:
        kept.open()
    if executor is None:
        executor = on_this_machine(job.local, jobs, TIMEOUT, None, options.device)
    found = run_job(job, executor, kept, watch)
    scale = options.amount()
    return Report(
        [], options.seed, None, options.device,
        sanity=[row for rows in found.rows.values() for row in rows if isinstance(row, Finding)],
        subjects=[_told(job, named) for named in job.fingerprints],
        scale=f"{scale.name}, {scale.images} images",
        incomplete=found.stopped,
        asked=_asked(options),
    )  # fmt: skip


def _told(job: ChecksJob, named: Named) -> dict[str, Any]:
    subject = job.bench().subject(named)
    return {
        "model": subject.model_name,
        "data": subject.data_name,
        "accuracy": subject.accuracy,
        "needed": subject.needed,
        "images": len(subject.x),
        "fingerprint": job.fingerprints[named],
    }


def _asked(options: Options) -> dict[str, Any]:
    """What a run was asked for, as results.json has it: a part must never be taken for the whole."""
    return {
        **({"targets": list(options.targets)} if options.targets else {}),
        "selection": {"checks": list(options.checks), "model": options.model, "data": options.data},
        "limits": {"images": options.images, "scale": options.scale},
    }
