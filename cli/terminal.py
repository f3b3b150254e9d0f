"""What a person sees of a run: a progress bar, what fell, the summary, where the report is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..results import PROBLEMS, Finding, Report, Result
from ..runner.watch import Watch

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ..axioms.search.cell import Options
    from ..runner.checks import Options as SanityOptions


# Between two lines of progress where there is no bar: a log of hours stays readable, and nobody takes a run for dead.
PULSE = 60.0


class Terminal:
    """What a person sees of a run: a progress bar, what fell, the summary, where the report is."""

    def __init__(self, no_color: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        from rich.console import Console

        self.quiet, self.verbose = quiet, verbose
        self.out = Console(no_color=no_color, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, no_color=no_color, highlight=False)

    def watch(self, options: Options, jobs: int) -> Report:
        """Run with a progress bar on standard error; a line a minute where that is no terminal; with -q neither."""
        from ..axioms.search.cell import run as run_cells

        with self._bar() as bar:
            task, pulse = bar.add_task("preparing", total=None), _Pulse(self)

            def progress(done: int, total: int, result: Result) -> None:
                bar.update(task, completed=done, total=total, description=f"{result.method}: {result.axiom}"[:60])
                pulse.tell(done, total, "claims")
                if self.verbose:
                    self.line(result)

            watched: Progress_ = progress
            return run_cells(options, jobs=jobs, progress=watched)

    def watch_sanity(self, options: SanityOptions, jobs: int, report_dir: Path, resume: bool) -> Report:
        """Run full-model checks with a progress bar, and with a line on standard error for what fell as soon as it fell."""
        from ..runner.checks import run as run_checks

        watch = _Checks(self, self._bar())
        try:
            return run_checks(options, jobs=jobs, directory=report_dir, resumed=resume, watch=watch)
        finally:
            watch.bar.stop()

    def _bar(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.err, transient=True, disable=self.quiet or not self.err.is_terminal)

    def line(self, result: Result | Finding, console: Console | None = None) -> None:
        """Print one result, to standard output if nothing else is said."""
        from rich.text import Text

        style, word = _STYLE[result.verdict]
        if result.verdict == "fail" and result.claim == "fails":
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
                        self.out.print(f"    {replay_line(asdict(result), str(report_dir))}", markup=False)
        self.out.print(report.summary(), markup=False)
        if not self.quiet:
            for path in written:
                if path.parent == report_dir:
                    self.out.print(f"written: {path}", markup=False)


Progress_ = Callable[[int, int, "Result"], None]

_STYLE = {
    "pass": ("green", "as claimed"),
    "fail": ("bold red", "REFUTED"),
    "inconclusive": ("yellow", "inconclusive"),
    "error": ("bold red", "ERROR"),
    "unclaimed": ("cyan", "observed"),
}


class _Pulse:
    """Progress for a log."""

    def __init__(self, terminal: Terminal) -> None:
        self.err = None if terminal.quiet or terminal.err.is_terminal else terminal.err
        self.start = self.last = time.monotonic()

    def tell(self, done: int, total: int, what: str) -> None:
        """Print a line if the last one is a minute old."""
        now = time.monotonic()
        if self.err is not None and now - self.last >= PULSE and done < total:
            self.last = now
            self.err.print(f"{done} of {total} {what} after {(now - self.start) / 60:.0f} min", soft_wrap=True)


class _Checks(Watch):
    """Full-model checks as they go on: training with its own bar, then one bar for all."""

    def __init__(self, terminal: Terminal, bar: Progress) -> None:
        self.terminal, self.bar = terminal, bar
        self.training = terminal.err.is_terminal and not terminal.quiet
        self.task = bar.add_task("preparing", total=None)
        self.pulse = _Pulse(terminal)

    def preparing(self, subject: str) -> None:
        if self.terminal.verbose:
            self.terminal.err.print(f"preparing {subject}", markup=False)

    def said(self, line: str) -> None:
        if not self.terminal.quiet:
            self.terminal.err.print(line, markup=False, soft_wrap=True)

    def begin(self, done: int, total: int) -> None:
        self.bar.start()
        self.bar.update(self.task, completed=done, total=total)

    def done(self, done: int, total: int, findings: Sequence[Finding]) -> None:
        row = findings[0]
        self.bar.update(self.task, completed=done, total=total, description=f"{row.method}: {row.check}"[:60])
        self.pulse.tell(done, total, "parts")
        for finding in findings:
            if self.terminal.verbose:
                self.terminal.line(finding)
            elif finding.verdict in PROBLEMS and not self.terminal.quiet:
                self.terminal.line(finding, self.terminal.err)
