"""The job of evaluating saved counterexamples again: each in a process that the method cannot spoil."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..axioms.search.replay import Outcome, readable, replay_one, witnesses
from ..errors import UsageError
from ..results import Row
from .job import Death
from .running import Executor
from .running import run as run_job


@dataclass
class ReplayJob:
    """Witnesses as units, by their paths."""

    paths: tuple[Path, ...]
    target: str | None
    device: str

    noun = "witnesses"
    local = False

    def units(self) -> Sequence[Path]:
        """The files, in order."""
        return self.paths

    def groups(self, units: Sequence[Path], size: int, apart: bool) -> list[list[Path]]:
        """All in a row: after one that ends its process another one goes on."""
        return [list(units)]

    def key(self, unit: Path) -> Any:
        """The witness and the method; no replay is kept today."""
        return [unit.read_text(encoding="utf-8", errors="replace"), self.target]

    def compute(self, unit: Path, deadline: float | None) -> list[Outcome]:
        """A witness, evaluated."""
        try:
            return [replay_one(unit, self.target, self.device)]
        except UsageError as error:
            return [Outcome(unit, "", "", False, wrong=str(error))]

    def lost(self, unit: Path, death: Death) -> list[Outcome]:
        """The method ended the process, or did not return: reproduced where the witness shows an error."""
        name, axiom, erred = readable(unit, self.target)
        return [Outcome(unit, name, axiom, erred, error=death.why)]

    def finished(self, rows: Sequence[Row]) -> bool:
        """Always."""
        return True

    def judged(self, unit: Path, rows: Sequence[Row]) -> Sequence[Row]:
        """As they are."""
        return rows


def replay(path: Path, target: str | None, device: str, executor: Executor) -> list[Outcome]:
    """Evaluate a witness, or every witness of a folder, again.

    Args:
        target: another method to try on the same cases; by default the one that the witness names.
        executor: where methods are called.

    Raises:
        UsageError: nothing readable there, an unknown target, or no CUDA device.
    """
    job = ReplayJob(tuple(witnesses(path, device)), target, device)
    for each in job.paths:
        readable(each, target)
    found = run_job(job, executor)
    if found.stopped:
        raise KeyboardInterrupt
    outcomes = [row for rows in found.rows.values() for row in rows if isinstance(row, Outcome)]
    for outcome in outcomes:
        if outcome.wrong is not None:
            raise UsageError(outcome.wrong)
    return outcomes
