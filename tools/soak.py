"""Soaks the built-in claims: `make soak`. Rounds of fresh cases for every claim that holds, as long as the budget lasts.

A right method must never be accused, however long one looks. Each round draws other cases, from a seed of its own. Ten
thousand examples for every claim take many hours, so the budget is stated, and what was reached is told.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..axioms.search.plan import Cell, Options
from ..claims import Kind
from ..errors import UsageError
from ..reports.files import must_be_writable, write_text
from ..results import Observed, Result
from ..runner.axioms import TIMEOUT, prepared, run
from ..runner.lock import locked
from ..runner.running import Executor
from .where import add_executor, executor_of, where

# Examples of a claim in one round: fewer reach all claims in a smaller budget, more spend less of it on preparing.
PER_ROUND = 50
# Seeds that no ordinary run has, so that a soak sees other cases.
FIRST_SEED = 1_000_000


def _holds(cell: Cell) -> bool:
    return cell.claim is not None and cell.claim.kind == Kind.HOLDS


@dataclass
class Soak:
    """What was reached.

    examples  of each claim, by the id of its Result; also of those that had none
    alarms    refuted claims, and methods that raised
    stopped   why and where the last round was stopped before the budget was spent; None where it was not
    drawn     how many examples had each option, "form=module"
    """

    examples: dict[str, int]
    first_round: int = 0
    rounds: int = 0
    seconds: float = 0.0
    alarms: list[Result] = field(default_factory=list)
    drawn: Counter[str] = field(default_factory=Counter)
    stopped: str | None = None

    def summary(self) -> str:
        """One line."""
        counts = sorted(self.examples.values())
        total, middle = sum(counts), statistics.median_low(counts)
        stopped = f"; {self.stopped}" if self.stopped else ""
        return (
            f"{len(counts)} claims, {total} examples in {self.seconds:.0f} s: at least {counts[0]}, median {middle}, at most "
            f"{counts[-1]} for each; {len(self.alarms)} alarms; {self.rounds} whole rounds{stopped}"
        )

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "first_round": self.first_round,
            "whole_rounds": self.rounds,
            "seconds": round(self.seconds),
            "alarms": [result.line() for result in self.alarms],
            "examples": self.examples,
            "drawn": dict(sorted(self.drawn.items())),
            "stopped": self.stopped,
        }

    def page(self, how: str) -> str:
        """As a page of Markdown; how: the budget, in words."""
        by_axiom: dict[str, list[int]] = {}
        for name, count in self.examples.items():
            by_axiom.setdefault(name.partition("[")[0].partition("/")[0], []).append(count)
        refuted = Counter(result.axiom.partition("/")[0] for result in self.alarms)
        rows = "\n".join(
            f"| {axiom} | {len(counts)} | {sum(counts)} | {min(counts)} | {refuted[axiom]} |"
            for axiom, counts in sorted(by_axiom.items())
        )
        total, options = sum(self.examples.values()), dict[str, Counter[str]]()
        for key, count in self.drawn.items():
            name, _, value = key.partition("=")
            options.setdefault(name, Counter())[value] += count
        choices = "\n".join(
            f"| {name} | {', '.join(f'{value} {100 * count / total:.1f}%' for value, count in values.most_common())} |"
            for name, values in sorted(options.items())
        )
        none = [name for name, count in self.examples.items() if not count]
        without = f"\n{len(none)} claims had no case: {', '.join(f'`{name}`' for name in none[:20])}.\n" if none else ""
        alarms = "".join(f"\n- {result.line()}" for result in self.alarms) or " None."
        return f"""# Soak: whether what is right is accused

`make soak` tries fresh cases for each claim of the built-in methods that something holds, from seeds that no ordinary run
has: {how}.

{self.summary()}. Alarms:{alarms}
{without}
## By axiom

| axiom | claims | examples | fewest for one claim | alarms |
|---|---|---|---|---|
{rows}

## How often each option was drawn

| option | share of the examples |
|---|---|
{choices}
"""


def soak(
    targets: tuple[str, ...],
    directory: Path,
    max_examples: int,
    budget: float,
    jobs: int = 1,
    first_round: int = 0,
    per_round: int = PER_ROUND,
    executor: Executor | None = None,
) -> Soak:
    """Run rounds until each claim has its examples or the budget (seconds) is spent; Ctrl-C ends them earlier.

    Writes soak.json to the directory after each round, and the witness of each alarm at once.

    Args:
        jobs: 1: in this process; more: so many worker processes; 0: one for each core.
        executor: where cells are checked, instead of `jobs`.

    Raises:
        UsageError: no method has the name of a target; none of them claims that anything holds; the directory cannot be
            written.
    """
    must_be_writable(directory)
    start = time.monotonic()
    cells, _ = prepared(Options(targets))
    found = Soak({f"{cell.label}[{cell.method.name}-{cell.family}]": 0 for cell in cells if _holds(cell)}, first_round)
    if not found.examples:
        raise UsageError(f"{' '.join(targets)}: there is no claim that anything holds")
    rounds = -(-max_examples // per_round)

    def seen(done: int, total: int, result: Result) -> None:
        found.examples[result.id] += result.examples
        found.drawn.update(result.drawn)
        if result.observed in (Observed.VIOLATED, Observed.ERROR):
            found.alarms.append(result)
            path = directory / f"alarm-{len(found.alarms)}.json"
            _write(path, result.witness or {"claim": result.id, "note": result.note})
            print(f"ALARM {result.line()} ({path})", flush=True)
        if sys.stderr.isatty():
            print(f"\rround {number + 1}/{rounds}: {done}/{total} claims", end="", file=sys.stderr, flush=True)

    for number in range(first_round, rounds):
        left = max(0.0, start + budget - time.monotonic())
        options = Options(targets, max_examples=per_round, seed=FIRST_SEED + number, max_time=left)
        found.stopped = run(options, None, jobs, seen, _holds, executor=executor).incomplete
        found.seconds = time.monotonic() - start
        ended = found.stopped is not None or found.seconds > budget
        found.rounds += not ended
        _write(directory / "soak.json", found.document())
        print(f"\rround {number + 1}/{rounds}: {found.summary()}", file=sys.stderr, flush=True)
        if ended:
            break
    return found


def _write(path: Path, document: object) -> None:
    write_text(path, json.dumps(document, allow_nan=False) + "\n")


def main(argv: list[str] | None = None) -> int:
    """The command; 1 where a claim was refuted or the soak was stopped, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m attribcheck.tools.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("targets", nargs="*", default=["builtin"], help="TARGETs; the built-in methods by default")
    parser.add_argument("-n", "--max-examples", type=int, default=10_000, help="examples for each claim")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds after which no more cases are tried")
    add_executor(parser)
    parser.add_argument("--per-round", type=int, default=PER_ROUND, help="examples for each claim in one round")
    parser.add_argument("--first-round", type=int, default=0, help="go on after a soak that ended before this round")
    parser.add_argument("--write", type=Path, help="the Markdown file for what was reached")
    parser.add_argument("--report-dir", type=Path, default=Path("attribcheck-report/soak"))
    given = parser.parse_args(argv)
    try:
        must_be_writable(given.report_dir)
        with locked(given.report_dir):
            found = soak(
                tuple(given.targets), given.report_dir, given.max_examples, given.budget, 1, given.first_round,
                given.per_round, executor_of(given, TIMEOUT),
            )  # fmt: skip
        if given.write is not None:
            how = f"up to {given.max_examples} examples for each within {given.budget:g} s, {where(given)}"
            write_text(given.write, found.page(how))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{found.summary()} (go on with --first-round {found.first_round + found.rounds})")
    return 1 if found.alarms or found.stopped else 0


if __name__ == "__main__":
    sys.exit(main())
