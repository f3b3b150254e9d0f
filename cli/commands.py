"""The command line: run, sanity, list, explain, replay, report."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import UsageError
from ..results import REPORT_DIR, Observed
from .interruption import hear, hear_early
from .session import Session, opened
from .terminal import Terminal

if TYPE_CHECKING:
    from ..results import Report
    from ..runner.running import Executor

_LISTS = ["methods", "axioms", "families", "options", "targets", "checks", "models", "data"]


class _Commands(click.Group):
    """Turns a UsageError into one line on standard error and exit code 2, an interruption into one and exit code 1."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            click.echo(f"attribcheck: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("attribcheck: interrupted before anything was checked", err=True)
            ctx.exit(1)


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


class _Common(NamedTuple):
    """The options that `run` and `sanity` share."""

    jobs: int
    device: str
    timeout: float | None
    memory: float | None
    dask: str | None
    resume: bool
    retry_errors: bool
    formats: str
    report_dir: Path
    no_color: bool
    quiet: bool
    verbose: bool

    def executor(self, timeout: float) -> Executor:
        """Where units are computed: never in this process, which nothing that a method does may spoil."""
        from ..runner.running import executor

        return executor(self.jobs, self.timeout or timeout, self.memory, self.device, self.dask)

    def limits(self) -> dict[str, float]:
        """What bounds a call, where somebody said so."""
        said = {"timeout": self.timeout, "memory": self.memory}
        return {name: value for name, value in said.items() if value is not None}


def _with_common(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of _Common, as one argument `common`."""
    options = [
        click.option("-j", "--jobs", type=_Positive(True, at_least=0), default=1, show_default=True, metavar="N",
                     help="Worker processes; 0: one for each core."),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True),
        click.option("--timeout", type=_Positive(False, at_least=1e-9), metavar="SECONDS",
                     help="Of one call of a method, which is ended then.  [default: 120; on trained models 1200]"),
        click.option("--memory", type=_Positive(False, at_least=1e-9), metavar="GIB",
                     help="Of one worker.  [default: an equal share of 80 % of this machine's]"),
        click.option("--dask", metavar="ADDRESS",
                     help="Compute on the workers of a Dask scheduler (or of a scheduler file) instead."),
        click.option("--resume", is_flag=True, help="Take what a run of the same options has finished, from its journal."),
        click.option("--retry-errors", is_flag=True, help="With --resume: try again what erred."),
        click.option("--report", "formats", default="html,json", show_default=True, metavar="FORMATS",
                     help="html, json, junit, md; separated by commas."),
        click.option("--report-dir", type=click.Path(path_type=Path), default=Path(REPORT_DIR), show_default=True,
                     metavar="DIR"),
        click.option("--no-color", is_flag=True, help="Plain text."),
        click.option("-q", "--quiet", is_flag=True, help="Only the summary."),
        click.option("-v", "--verbose", is_flag=True, help="One line for each result."),
    ]  # fmt: skip

    @functools.wraps(command)
    def called(*args: Any, **given: Any) -> None:
        common = _Common(**{name: given.pop(name) for name in _Common._fields})
        if common.retry_errors and not common.resume:
            raise UsageError("--retry-errors needs --resume: without it everything is computed anew")
        command(*args, common=common, **given)

    for option in reversed(options):
        called = option(called)
    return called


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
@click.option("--observe", is_flag=True, help="Also check every other axiom and family that applies, unclaimed.")
@click.option("--model", metavar="MODULE:FACTORY", help="Your own trained network, as the family 'model'.")
@click.option("--data", metavar="MODULE:BATCH", help="Inputs [M, ...] from which its cases are drawn.")
@_with_common
@click.pass_context
def run(
    ctx: click.Context, targets: tuple[str, ...], axioms: tuple[str, ...], excluded: tuple[str, ...],
    families: tuple[str, ...], max_examples: int, seed: int, max_time: float | None, observe: bool, model: str | None,
    data: str | None, common: _Common,
) -> None:  # fmt: skip
    """Check the claims of each TARGET: a built-in method, a group (builtin, captum), captum:Class, package.module:object.

    Exit codes: 0 every claim stands; 1 a claim is refuted, not shown or inconclusive; 2 wrong usage, or a method that
    raised or returned something else than an attribution.
    """
    if data is not None and model is None:
        raise UsageError("--data needs --model module:factory")

    def start(session: Session) -> Report:
        from ..axioms.search.plan import Options, Selection
        from ..runner import axioms as job

        options = Options(
            targets=targets or ("builtin",),
            selection=Selection(axioms, excluded, families, observe),
            max_examples=max_examples,
            seed=seed,
            device=common.device,
            model=model,
            data=data,
            max_time=max_time,
        )
        executor = common.executor(job.TIMEOUT)
        return job.run(options, executor=executor, kept=session.journal, watch=session.watch)

    ctx.exit(_carried_out(ctx, common, start).exit_code)


def _carried_out(ctx: click.Context, common: _Common, start: Callable[[Session], Report]) -> Report:
    """A run from its options to its reports.

    Raises:
        UsageError: a report cannot be written, another run writes into the folder, and what `start` raises.
    """
    formats = known_formats(common.formats)
    terminal = Terminal(common.no_color, common.quiet, common.verbose)
    with opened(terminal, common.report_dir, common.resume, common.retry_errors) as session:
        report = start(session)
        report.asked = {"command": shlex.join(["attribcheck", *ctx.find_root().obj]), **report.asked}
        report.asked["limits"] = {**report.asked.get("limits", {}), **common.limits()}
        session.close(report, formats)
    return report


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
@_with_common
@click.pass_context
def sanity(
    ctx: click.Context, targets: tuple[str, ...], checks: tuple[str, ...], model: str | None, data: str | None,
    data_root: Path | None, weights: Path | None, images: int | None, scale: str, seed: int, common: _Common,
) -> None:  # fmt: skip
    """Check each TARGET on trained models: randomised parameters, other classes, shifted inputs, removed pixels ...

    Exit codes: 0 every claim stands; 1 a claimed property falls, could not be shown or is inconclusive; 2 wrong usage, or
    a method that raised or returned something else than an attribution.
    """
    if weights is not None and model is None:
        raise UsageError("--weights needs --model: say whose weights they are")

    def start(session: Session) -> Report:
        from ..runner import checks as job
        from ..sanity.plan import Options

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
            device=common.device,
        )
        executor = common.executor(job.TIMEOUT)
        return job.run(options, executor=executor, kept=session.journal, watch=session.watch)

    report = _carried_out(ctx, common, start)
    measured = [row for row in report.sanity if row.observed not in (Observed.NOT_APPLICABLE, Observed.UNSUPPORTED)]
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
@click.option("--timeout", type=_Positive(False, at_least=1e-9), metavar="SECONDS",
              help="Of one call of a method, which is ended then.  [default: 120]")  # fmt: skip
@click.pass_context
def replay(ctx: click.Context, witness: Path, target: str | None, device: str, timeout: float | None) -> None:
    """Evaluate saved counterexamples again, with the method that they name or with TARGET.

    Exit codes: 0 not reproduced; 1 reproduced; 2 wrong usage or unreadable input.
    """
    from ..runner import replays
    from ..runner.axioms import TIMEOUT
    from ..runner.running import executor

    hear()
    outcomes = replays.replay(witness, target, device, executor(1, timeout or TIMEOUT, None, device))
    for outcome in outcomes:
        click.echo(outcome.line())
    if any((outcome.error or outcome.observed == Observed.ERROR) and not outcome.reproduced for outcome in outcomes):
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
    hear_early()
    cli(prog_name="attribcheck")
