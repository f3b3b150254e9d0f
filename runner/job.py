"""What a run computes, whatever it is: a job has units, groups that share what is dear, and rows of results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..results import Row

Unit = TypeVar("Unit")
Key = Any


@dataclass(frozen=True)
class Death:
    """How the process that computed a unit ended before the unit did.

    why     in one line: it did not return, it was killed, it called os._exit
    about   what the method was called on last (a Case, of axioms); None where that is not known
    at      for what: an axiom's variant
    output  what the method had printed, cut
    """

    why: str
    about: object = None
    at: str | None = None
    output: str | None = None


def cut(rows: Iterable[Sequence[Unit]], size: int) -> list[list[Unit]]:
    """Rows of units in pieces of at most `size`; no piece has units of two rows."""
    return [list(row[start : start + size]) for row in rows for start in range(0, len(row), size)]


class Job(Protocol[Unit]):
    """A job travels to worker processes by pickling, so it holds names and numbers, and finds everything else itself.

    noun   what its units are called in the plural, "claims"
    local  whether it holds objects that only this process has, methods for instance
    """

    noun: str

    @property
    def local(self) -> bool:
        """Whether it can be computed in this process alone."""

    def units(self) -> Sequence[Unit]:
        """What there is to compute, in the order of the report: hashable, plain data."""

    def groups(self, units: Sequence[Unit], size: int, apart: bool) -> list[list[Unit]]:
        """The units in groups of at most `size`, those together that share what is dear: drawn cases, a trained model.

        Args:
            apart: a group is computed by a process of its own, so methods that somebody else wrote are in none with others.
        """

    def key(self, unit: Unit) -> Key:
        """Everything that the rows of a unit depend on, as strict JSON."""

    def compute(self, unit: Unit, deadline: float | None) -> Sequence[Row]:
        """The rows of a unit, in any process; `deadline` on that process' time.monotonic."""

    def lost(self, unit: Unit, death: Death) -> Sequence[Row]:
        """The rows of a unit whose process died: errors of that unit alone."""

    def finished(self, rows: Sequence[Row]) -> bool:
        """Whether the rows are all that the unit has to say, and not what a time limit cut off."""

    def judged(self, unit: Unit, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows as the report has them, from what was computed or kept: judged by the claims as they are now."""
