"""The command line: run, sanity, list, explain, replay, report."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .terminal import Terminal

if TYPE_CHECKING:
    from ..results import Report

REPORT_DIR = "attribcheck-report"
_LISTS = ["methods", "axioms", "families", "options", "targets", "checks", "models", "data"]


class _Commands(click.Group):
    """Turns a UsageError into one line on standard error and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            click.echo(f"attribcheck: {error}", err=True)
            ctx.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="attribcheck")
def cli() -> None:
    """Check what neural-network attribution methods claim, on generated networks and on trained models.

    A refuted claim comes back as the smallest network that shows it, with a script that anyone can run.
    """


class _Positive(click.ParamType):
    """A whole number (or any number) that must be above zero, refused with one clear line."""

    def __init__(self, whole: bool, at_least: float = 1) -> None:
        self.whole, self.at_least = whole, at_least
        self.name = "integer" if whole else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = int(value) if self.whole else float(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a {'whole ' if self.whole else ''}number", param, ctx)
        if not self.at_least <= number < float("inf"):
            self.fail(
                f"{value} is not {'at least ' + str(self.at_least) if self.whole else 'a positive number'}", param, ctx
            )
        return number


@cli.command()
@click.argument("targets", nargs=-1, metavar="[TARGET ...]")
@click.option("--axiom", "axioms", multiple=True, metavar="NAME", help="Only this axiom or axiom/variant (repeatable).")
@click.option("--exclude-axiom", "excluded", multiple=True, metavar="NAME", help="Not this one (repeatable).")
@click.option("--family", "families", multiple=True, metavar="NAME", help="Only this family of networks (repeatable).")
@click.option("-n", "--max-examples", type=_Positive(True), default=100, show_default=True, metavar="N",
              help="Cases for each claim.")  # fmt: skip
@click.option("--seed", type=_Positive(True, at_least=0), default=0, show_default=True, metavar="N")
@click.option("--max-time", type=_Positive(False, at_least=1e-9), metavar="SECONDS",
              help="Stop then; cells that were cut off are inconclusive.")  # fmt: skip
@click.option("-j", "--jobs", type=_Positive(True, at_least=0), default=1, show_default=True, metavar="N",
              help="Worker processes; 0: one for each core.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--observe", is_flag=True, help="Also check every other axiom and family that applies, unclaimed.")
@click.option("--model", metavar="MODULE:FACTORY", help="Your own trained network, as the family 'model'.")
@click.option("--data", metavar="MODULE:BATCH", help="Inputs [M, ...] from which its cases are drawn.")
@click.option("--report", "formats", default="html,json", show_default=True, metavar="FORMATS",
              help="html, json, junit, md; separated by commas.")  # fmt: skip
@click.option(
    "--report-dir", type=click.Path(path_type=Path), default=Path(REPORT_DIR), show_default=True, metavar="DIR"
)
@click.option("--no-color", is_flag=True, help="Plain text.")
@click.option("-q", "--quiet", is_flag=True, help="Only the summary.")
@click.option("-v", "--verbose", is_flag=True, help="One line for each cell.")
@click.pass_context
def run(
    ctx: click.Context, targets: tuple[str, ...], axioms: tuple[str, ...], excluded: tuple[str, ...],
    families: tuple[str, ...], max_examples: int, seed: int, max_time: float | None, jobs: int, device: str,
    observe: bool, model: str | None, data: str | None, formats: str, report_dir: Path, no_color: bool, quiet: bool,
    verbose: bool,
) -> None:  # fmt: skip
    """Check the claims of each TARGET: a built-in method, a group (builtin, captum), captum:Class, package.module:object.

    Exit codes: 0 every claim stands; 1 a claim is refuted, not shown or inconclusive; 2 wrong usage, or a method that
    raised or returned something else than an attribution.
    """
    from ..axioms.search.cell import Options
    from ..axioms.search.plan import Selection
    from ..reports.files import must_be_writable

    wanted = known_formats(formats)
    if data is not None and model is None:
        raise UsageError("--data needs --model module:factory")
    must_be_writable(report_dir)
    options = Options(
        targets=targets or ("builtin",),
        selection=Selection(axioms, excluded, families, observe),
        max_examples=max_examples,
        seed=seed,
        device=device,
        model=model,
        data=data,
        deadline=None if max_time is None else time.monotonic() + max_time,
    )
    terminal = Terminal(no_color, quiet, verbose)
    report = terminal.watch(options, jobs)
    written = save(report, report_dir, wanted)
    terminal.tell(report, written, report_dir)
    ctx.exit(report.exit_code)


def known_formats(formats: str) -> list[str]:
    """The report formats of a comma-separated list; raises UsageError for an unknown one."""
    from ..reports import FORMATS

    wanted = [name.strip() for name in formats.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown:
        raise UsageError(f"unknown report format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    if not wanted:
        raise UsageError(f"--report names no format; known: {', '.join(FORMATS)}")
    return wanted


def save(report: Report, directory: Path, formats: list[str]) -> list[Path]:
    """Write the reports and the witnesses; witnesses of earlier runs in that folder are removed first.

    A run that was stopped before it found anything leaves what lies there.

    Raises:
        UsageError: a file cannot be written.
    """
    from ..reports import write

    if report.incomplete and not report.rows:
        return []
    folder = directory / "witnesses"
    if folder.is_dir():
        for old in folder.glob("*.json"):
            old.unlink()
    return write(report.document(), directory, formats)


@cli.command()
@click.argument("targets", nargs=-1, metavar="[TARGET ...]")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="Only this check or check/variant (repeatable).")
@click.option("--model", metavar="NAME", help="Instead of the one each check looks at: a name, or module:factory.")
@click.option("--data", metavar="NAME", help="The same; see `list models` and `list data`.")
@click.option(
    "--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets lie that are not embedded."
)
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights for --model; none are trained then."
)
@click.option("--images", type=_Positive(True), metavar="N", help="Samples; [default: as many as the scale has]")
@click.option("--scale", type=click.Choice(["tiny", "default", "full"]), default="default", show_default=True,
              help="How much is computed.")  # fmt: skip
@click.option("--seed", type=_Positive(True, at_least=0), default=0, show_default=True, metavar="N")
@click.option("-j", "--jobs", type=_Positive(True, at_least=0), default=1, show_default=True, metavar="N",
              help="Worker processes; 0: one for each core.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--resume", is_flag=True, help="Take what an interrupted run of the same options has finished.")
@click.option("--report", "formats", default="html,json", show_default=True, metavar="FORMATS",
              help="html, json, junit, md; separated by commas.")  # fmt: skip
@click.option(
    "--report-dir", type=click.Path(path_type=Path), default=Path(REPORT_DIR), show_default=True, metavar="DIR"
)
@click.option("--no-color", is_flag=True, help="Plain text.")
@click.option("-q", "--quiet", is_flag=True, help="Only the summary.")
@click.option("-v", "--verbose", is_flag=True, help="One line for each finding.")
@click.pass_context
def sanity(
    ctx: click.Context, targets: tuple[str, ...], checks: tuple[str, ...], model: str | None, data: str | None,
    data_root: Path | None, weights: Path | None, images: int | None, scale: str, seed: int, jobs: int, device: str,
    resume: bool, formats: str, report_dir: Path, no_color: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Check each TARGET on trained models: randomised parameters, other classes, shifted inputs, removed pixels ...

    Exit codes: 0 every claim stands; 1 a claimed property falls, could not be shown or is inconclusive; 2 wrong usage, or
    a method that raised or returned something else than an attribution.
    """
    from ..reports import write
    from ..reports.files import must_be_writable
    from ..runner.checks import Options

    wanted = known_formats(formats)
    must_be_writable(report_dir)
    if weights is not None and model is None:
        raise UsageError("--weights needs --model: say whose weights they are")
    options = Options(
        targets=targets or ("builtin",),
        checks=checks,
        model=model,
        data=data,
        data_root=data_root,
        weights=weights,
        images=images,
        scale=scale,
        seed=seed,
        device=device,
    )
    terminal = Terminal(no_color, quiet, verbose)
    report = terminal.watch_sanity(options, jobs, report_dir, resume)
    written = write(report.document(), report_dir, wanted)
    terminal.tell(report, written, report_dir)
    measured = [row for row in report.sanity if row.observed not in ("not-applicable", "unsupported")]
    if not measured and not report.incomplete:
        raise UsageError(f"the selection matches nothing: {report.sanity[0].note}")
    ctx.exit(report.exit_code)


@cli.command("list")
@click.argument("what", type=click.Choice(_LISTS))
def list_(what: str) -> None:
    """List methods, axioms, families of networks, their options, targets; checks of trained models, models, data."""
    from . import catalogue

    rows = catalogue.LISTS[what]()
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        click.echo(f"{name:<{width}}  {text}")


@cli.command()
@click.argument("name")
def explain(name: str) -> None:
    """Explain an axiom, a method or a check: statement, formula, source, what holds and what fails."""
    from . import catalogue

    click.echo(catalogue.explain(name))


@cli.command()
@click.argument("witness", type=click.Path(path_type=Path), metavar="WITNESS.json|DIR")
@click.argument("target", required=False)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.pass_context
def replay(ctx: click.Context, witness: Path, target: str | None, device: str) -> None:
    """Evaluate saved counterexamples again, with the method that they name or with TARGET.

    Exit codes: 0 not reproduced; 1 reproduced; 2 wrong usage or unreadable input.
    """
    from ..axioms.search import replay as replaying

    outcomes = replaying.replay(witness, target, device)
    for outcome in outcomes:
        click.echo(outcome.line())
    if any(outcome.error and not outcome.reproduced for outcome in outcomes):
        ctx.exit(2)
    ctx.exit(1 if any(outcome.reproduced for outcome in outcomes) else 0)


@cli.command()
@click.argument("results", type=click.Path(path_type=Path), metavar="RESULTS.json")
@click.option("--report", "formats", default="html", show_default=True, metavar="FORMATS",
              help="html, json, junit, md; separated by commas.")  # fmt: skip
@click.option("--report-dir", type=click.Path(path_type=Path), metavar="DIR", help="[default: where RESULTS.json lies]")
def report(results: Path, formats: str, report_dir: Path | None) -> None:
    """Render reports again from saved results."""
    from ..reports import load_results, write

    wanted = known_formats(formats)
    document = load_results(results)
    directory = report_dir or results.parent
    for path in write(document, directory, wanted):
        click.echo(f"written: {path}")


def main() -> None:
    """The entry point of the command `attribcheck`."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # the working directory is importable, as with python -m
    cli(prog_name="attribcheck")
