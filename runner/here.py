"""Units computed in this process, one after the other: for methods that are objects, and for debuggers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ..calling import one_thread
from .job import Job
from .processes import Done


class Here:
    """This process: nothing that a method does is contained but what it raises."""

    jobs = 0

    def compute(
        self, job: Job[Any], groups: Sequence[Sequence[Any]], deadline: float | None
    ) -> Generator[Done, None, None]:
        """The rows of each unit."""
        for group in groups:
            for unit in group:
                with one_thread():
                    rows = job.compute(unit, deadline)
                yield unit, rows
