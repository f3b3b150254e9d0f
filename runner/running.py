"""One run of any job: takes what is finished from a journal, has the rest computed, and keeps it as it is finished."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import Terminated
from ..results import Row
from .here import Here
from .job import Job
from .journal import Journal
from .limits import Limits
from .processes import CannotStart, Done, Workers
from .watch import Watch


class Executor(Protocol):
    """Where groups of units are computed.

    jobs  how many groups at a time, each in a process of its own; 0: one after the other, in this process
    """

    jobs: int

    def compute(
        self, job: Job[Any], groups: Sequence[Sequence[Any]], deadline: float | None
    ) -> Generator[Done, None, None]:
        """The rows of each unit, as they are finished; nothing goes on after this generator has ended."""


LARGEST_GROUP = 24
"""Units that one process computes: so many that share their cases save most of what drawing costs."""
SHARES = 4
"""Groups for each of several processes, at least: they end at about the same time."""


@dataclass
class Found:
    """The rows of each unit that is finished, in the order of the job, and why the run was stopped, if it was."""

    rows: dict[Any, Sequence[Row]] = field(default_factory=dict)
    stopped: str | None = None


def run(
    job: Job[Any],
    executor: Executor,
    journal: Journal | None = None,
    watch: Watch | None = None,
    deadline: float | None = None,
) -> Found:
    """Compute the units of a job.

    An interruption ends the run with what was found until then.

    Args:
        executor: where they are computed.
        journal: where finished units are taken from and kept.
        watch: told how it goes.
        deadline: on time.monotonic, when no more cases are tried; None: no end.
    """
    watch = watch or Watch()
    units, found = job.units(), Found()
    known: dict[Any, Sequence[Row]] = {}
    if journal is not None:
        known = {unit: job.judged(unit, rows) for unit, rows in journal.taken(job, units).items()}
        if journal.resumed:
            watch.said(journal.told(job.noun, len(units)))
    left = [unit for unit in units if unit not in known]
    watch.begin(len(known), len(units), job.noun)
    try:
        groups = job.groups(left, _size(len(left), executor.jobs), apart=executor.jobs > 0)
        with closing(executor.compute(job, groups, deadline)) as computed:
            for unit, rows in computed:
                if journal is not None and job.finished(rows):
                    journal.write(job.key(unit), rows)
                known[unit] = job.judged(unit, rows)
                watch.done(len(known), len(units), known[unit])
    except (KeyboardInterrupt, CannotStart) as stop:
        found.stopped = f"{why(stop)} after {len(known)} of {len(units)} {job.noun}"
        if journal is not None:
            found.stopped += "; go on with --resume"
    found.rows = {unit: known[unit] for unit in units if unit in known}
    return found


def why(stop: BaseException) -> str:
    """What ended a run before its time, in words."""
    if isinstance(stop, Terminated):
        return "terminated"
    return "interrupted" if isinstance(stop, KeyboardInterrupt) else str(stop)


def _size(count: int, jobs: int) -> int:
    """The largest size of a group."""
    return count if jobs == 0 else max(1, min(LARGEST_GROUP, -(-count // (SHARES * jobs)) if jobs > 1 else count))


def on_this_machine(local: bool, jobs: int, timeout: float, memory: float | None, device: str) -> Executor:
    """Where units are computed for those who call attribcheck in code.

    Args:
        local: whether they can be computed in this process alone.
        jobs: 1: in this process; more: so many worker processes; 0: one for each core.
    """
    return Here() if local or jobs == 1 else executor(jobs, timeout, memory, device)


def executor(jobs: int, timeout: float, memory: float | None, device: str, dask: str | None = None) -> Executor:
    """Where units are computed for those who type a command: never in this process.

    Args:
        jobs: worker processes of this machine; 0: one for each core.
        timeout: seconds of one call of a method.
        memory: GiB of one worker; None: an equal share.
        dask: the address of a scheduler, or its file: the units go to its workers.

    Raises:
        UsageError: no scheduler answers there, or its workers have other code.
    """
    if dask is not None:
        from .cluster import Cluster

        return Cluster(dask, timeout, memory, device)
    jobs = jobs or multiprocessing.cpu_count()
    return Workers(jobs, Limits.of_machine(timeout, memory, jobs, device), device)
