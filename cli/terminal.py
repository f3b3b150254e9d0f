"""What a person sees of a run: a progress bar, what fell, the summary, where the report is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..claims import Kind
from ..results import PROBLEMS, Report, Result, Row, Verdict
from ..runner.watch import Watch

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


# Between two lines of progress where there is no bar: a log of hours stays readable, and nobody takes a run for dead.
PULSE = 60.0


class Terminal:
    """What a person sees of a run: a progress bar, what fell, the summary, where the report is."""

    def __init__(self, no_color: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        from rich.console import Console

        self.quiet, self.verbose = quiet, verbose
        self.out = Console(no_color=no_color, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, no_color=no_color, highlight=False)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """A watch with a progress bar on standard error; a line a minute where that is no terminal; with -q neither."""
        shown = _Shown(self, self._bar())
        try:
            yield shown
        finally:
            shown.bar.stop()

    def _bar(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.err, transient=True, disable=self.quiet or not self.err.is_terminal)

    def line(self, result: Row, console: Console | None = None) -> None:
        """Print one result, to standard output if nothing else is said."""
        from rich.text import Text

        style, word = _STYLE[result.verdict]
        if result.verdict == Verdict.FAIL and result.claim == Kind.FAILS:
            word = "NOT SHOWN"
        (console or self.out).print(Text(f"{word:<13}", style=style) + Text(result.line()), soft_wrap=True)

    def tell(self, report: Report, written: list[Path], report_dir: Path) -> None:
        """Print what needs attention, the summary, and where to read more."""
        from ..reports.words import replay_line

        if not self.quiet:
            for result in report.rows:
                if result.verdict in PROBLEMS:
                    self.line(result)
                    if isinstance(result, Result) and result.witness is not None:
                        figures = result.witness["figures"]
                        if "error" not in figures:  # (an error is told in the line already)
                            self.out.print(f"    {figures['what']}", markup=False)
                            self.out.print(
                                f"    expected {figures['expected']}  obtained {figures['obtained']}", markup=False
                            )
                        self.out.print(f"    {replay_line(result.document(), str(report_dir))}", markup=False)
        self.out.print(report.summary(), markup=False)
        if not self.quiet:
            for path in written:
                if path.parent == report_dir:
                    self.out.print(f"written: {path}", markup=False)


_STYLE = {
    Verdict.PASS: ("green", "as claimed"),
    Verdict.FAIL: ("bold red", "REFUTED"),
    Verdict.INCONCLUSIVE: ("yellow", "inconclusive"),
    Verdict.ERROR: ("bold red", "ERROR"),
    Verdict.UNCLAIMED: ("cyan", "observed"),
}


class _Pulse:
    """Progress for a log."""

    def __init__(self, terminal: Terminal) -> None:
        self.err = None if terminal.quiet or terminal.err.is_terminal else terminal.err
        self.start = self.last = time.monotonic()

    def tell(self, done: int, total: int, noun: str) -> None:
        """Print a line if the last one is a minute old."""
        now = time.monotonic()
        if self.err is not None and now - self.last >= PULSE and done < total:
            self.last = now
            self.err.print(f"{done} of {total} {noun} after {(now - self.start) / 60:.0f} min", soft_wrap=True)


class _Shown(Watch):
    """A run as it goes on: training with its own bar, then one bar for all, and a line for what fell as soon as it fell."""

    def __init__(self, terminal: Terminal, bar: Progress) -> None:
        self.terminal, self.bar = terminal, bar
        self.training = terminal.err.is_terminal and not terminal.quiet
        self.task = bar.add_task("preparing", total=None)
        self.pulse, self.noun = _Pulse(terminal), ""

    def preparing(self, what: str) -> None:
        if self.terminal.verbose:
            self.terminal.err.print(f"preparing {what}", markup=False)

    def said(self, line: str) -> None:
        if not self.terminal.quiet:
            self.terminal.err.print(line, markup=False, soft_wrap=True)

    def begin(self, done: int, total: int, noun: str) -> None:
        self.noun = noun
        self.bar.start()
        self.bar.update(self.task, completed=done, total=total)

    def done(self, done: int, total: int, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self.bar.update(self.task, completed=done, total=total, description=rows[0].id[:60])
        self.pulse.tell(done, total, self.noun)
        for row in rows:
            if self.terminal.verbose:
                self.terminal.line(row)
            elif row.verdict in PROBLEMS and not self.terminal.quiet:
                self.terminal.line(row, self.terminal.err)
