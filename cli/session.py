"""A run on the command line, from its folder to its reports: one at a time in a folder, a journal, and what is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .interruption import hear, undisturbed
from .terminal import Terminal

if TYPE_CHECKING:
    from ..results import Report
    from ..runner.journal import Journal
    from ..runner.watch import Watch


class Session:
    """What a run needs of the command line.

    Attributes:
        folder: of its reports, which no other run writes into.
        journal: of finished units.
        watch: shows how it goes.
    """

    def __init__(self, terminal: Terminal, folder: Path, journal: Journal, watch: Watch) -> None:
        self.terminal, self.folder, self.journal, self.watch = terminal, folder, journal, watch

    def close(self, report: Report, formats: list[str]) -> list[Path]:
        """Write the reports, and print what needs attention; Ctrl-C does not stop this.

        Raises:
            UsageError: a report cannot be written; everything else has been told then.
        """
        from ..reports import NotWritten, save

        if self.journal.failed:
            self.watch.said(self.journal.failed)
        with undisturbed():
            failed: NotWritten | None = None
            try:
                written = save(report, self.folder, formats)
            except NotWritten as error:
                failed, written = error, error.written
            self.terminal.tell(report, written, self.folder)
        if failed is not None:
            raise failed
        return written


@contextlib.contextmanager
def opened(terminal: Terminal, folder: Path, resume: bool = False, retry: bool = False) -> Iterator[Session]:
    """A session in a folder, for as long as this context lasts.

    Raises:
        UsageError: the folder cannot be written.
    """
    from ..reports.files import must_be_writable
    from ..runner.journal import Journal

    must_be_writable(folder)
    hear()
    with contextlib.closing(Journal(folder, resume, retry)) as journal, terminal.watching() as watch:
        yield Session(terminal, folder, journal, watch)
