"""The main job: built-in methods and Captum's, on generated networks and on a network trained on handwritten digits."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..axioms.search.plan import Options
from ..cli.session import opened
from ..cli.terminal import Terminal
from ..errors import UsageError
from ..methods.registry import BUILTIN
from ..results import PROBLEMS, REPORT_DIR, Report, Verdict
from ..runner.axioms import TIMEOUT, run
from ..runner.running import executor


@click.command()
@click.option("--jobs", default=0, show_default=True, help="Worker processes; 0: one for each core.")
@click.option("-n", "--max-examples", default=100, show_default=True)
@click.option("--resume", is_flag=True, help="Take what a run that was stopped has finished.")
@click.option("--report-dir", type=click.Path(path_type=Path), default=Path(REPORT_DIR), show_default=True)
@click.pass_context
def main(ctx: click.Context, jobs: int, max_examples: int, resume: bool, report_dir: Path) -> None:
    """Check everything, write the report, and fail only where a built-in claim falls or something errs."""
    try:
        options = Options(
            targets=("builtin", "captum"),
            max_examples=max_examples,
            model="attribcheck.models.digits:network",
            data="attribcheck.models.digits:images",
        )
        with opened(Terminal(), report_dir, resume) as session:
            where = executor(jobs, TIMEOUT, None, "cpu")
            report = run(options, executor=where, kept=session.journal, watch=session.watch)
            report.asked["command"] = "make report"
            written = session.close(report, ["html", "json", "md", "junit"])
    except UsageError as error:
        raise click.ClickException(str(error)) from error
    if written:
        click.echo(f"open {(report_dir / 'report.html').resolve().as_uri()}")
    ctx.exit(exit_code(report))


def exit_code(report: Report) -> int:
    """2 where something erred, 1 where a claim of a built-in method does not stand or the run was stopped, else 0."""
    if any(row.verdict == Verdict.ERROR for row in report.results):
        return 2
    fallen = [row for row in report.results if row.method in BUILTIN and row.verdict in PROBLEMS]
    return 1 if fallen or report.incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
