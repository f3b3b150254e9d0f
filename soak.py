"""Soaks the built-in claims: `make soak`. Rounds of fresh cases for every claim that holds, as long as the budget lasts.

A right method must never be accused, however long one looks. Each round draws other cases, from a seed of its own. Ten
thousand examples for every claim take many hours, so the budget is stated, and what was reached is told.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from .plan import Cell
from .runner import Options, run
from .verdicts import Result

PER_ROUND = 50
# Seeds that no ordinary run has, so that a soak sees other cases.
FIRST_SEED = 1_000_000


def _holds(cell: Cell) -> bool:
    return cell.claim is not None and cell.claim.kind == "holds"


def main(argv: list[str] | None = None) -> int:
    """Run rounds until each claim has its examples or the budget is spent; 1 where a claim was refuted."""
    parser = argparse.ArgumentParser(prog="python -m attribcheck.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", default=["builtin"], help="TARGETs; the built-in methods by default")
    parser.add_argument("-n", "--max-examples", type=int, default=10_000, help="examples for each claim")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds after which no more cases are tried")
    parser.add_argument("-j", "--jobs", type=int, default=1)
    parser.add_argument("--first-round", type=int, default=0, help="go on after a soak that ended before this round")
    parser.add_argument("--report-dir", type=Path, default=Path("attribcheck-report/soak"))
    given = parser.parse_args(argv)
    examples: Counter[str] = Counter()
    alarms: list[Result] = []
    deadline = time.monotonic() + given.budget
    given.report_dir.mkdir(parents=True, exist_ok=True)
    rounds = -(-given.max_examples // PER_ROUND)
    number = given.first_round

    def seen(done: int, total: int, result: Result) -> None:
        examples[result.id] += result.examples
        if result.observed in ("violated", "error"):
            alarms.append(result)
            path = given.report_dir / f"alarm-{len(alarms)}.json"
            path.write_text(json.dumps(result.witness or {"note": result.note}, allow_nan=False) + "\n")
            print(f"ALARM {result.line()} ({path})", flush=True)
        if sys.stderr.isatty():
            print(f"\rround {number + 1}/{rounds}: {done}/{total} claims", end="", file=sys.stderr, flush=True)

    while number < rounds and time.monotonic() < deadline:
        options = Options(tuple(given.targets), max_examples=PER_ROUND, seed=FIRST_SEED + number, deadline=deadline)
        run(options, jobs=given.jobs, progress=seen, wanted=_holds)
        number += 1
    fewest, most = min(examples.values(), default=0), max(examples.values(), default=0)
    print(
        f"\n{len(examples)} claims, {sum(examples.values())} examples, {fewest} to {most} for each; "
        f"{len(alarms)} alarms; ended in round {number} of {rounds} (go on with --first-round {number})"
    )
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
