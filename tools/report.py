"""The main job: built-in methods and Captum's, on generated networks and on a network trained on handwritten digits."""

from __future__ import annotations

from pathlib import Path

import click

from ..axioms.networks.families import MODEL
from ..axioms.search.cell import Options
from ..cli import commands as cli
from ..errors import UsageError
from ..methods.registry import BUILTIN
from ..reports.files import must_be_writable
from ..results import Result


def _too_large(result: Result) -> bool:
    """Whether a method refuses the trained network, as exact Shapley values do its 64 pixels: that is no claim that fell."""
    return result.family == MODEL and result.observed == "unsupported"


@click.command()
@click.option("--jobs", default=0, show_default=True, help="Worker processes; 0: one for each core.")
@click.option("-n", "--max-examples", default=100, show_default=True)
@click.option("--report-dir", type=click.Path(path_type=Path), default=Path(cli.REPORT_DIR), show_default=True)
@click.pass_context
def main(ctx: click.Context, jobs: int, max_examples: int, report_dir: Path) -> None:
    """Check everything, write the report, and fail only where a built-in claim falls or something errs."""
    options = Options(
        targets=("builtin", "captum"),
        max_examples=max_examples,
        model="attribcheck.models.digits:network",
        data="attribcheck.models.digits:images",
    )
    terminal = cli.Terminal()
    try:
        must_be_writable(report_dir)
        report = terminal.watch(options, jobs)
        written = cli.save(report, report_dir, ["html", "json", "md", "junit"])
    except UsageError as error:
        raise click.ClickException(str(error)) from error
    terminal.tell(report, written, report_dir)
    errors = [r for r in report.results if r.verdict == "error"]
    fallen = [
        r for r in report.results
        if r.method in BUILTIN and r.verdict in ("fail", "inconclusive") and not _too_large(r)
    ]  # fmt: skip
    if written:
        click.echo(f"open {(report_dir / 'report.html').resolve().as_uri()}")
    ctx.exit(2 if errors else 1 if fallen or report.incomplete else 0)


if __name__ == "__main__":
    main()
