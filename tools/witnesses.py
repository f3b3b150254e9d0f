"""Writes the witnesses that the built-in claims of failure are pinned to: `make witnesses`, after a claim was added.

A search shows each failure once; the smallest network it found then comes with the package, is evaluated again on every
run, and is what `attribcheck explain` shows. A witness that is there already stays; to renew one, delete its file.
"""

from __future__ import annotations

import argparse
import json
import sys

from ..axioms.search.plan import Cell, Options
from ..claims import Kind
from ..methods.naming import pinned_for
from ..methods.registry import BUILTIN
from ..results import Observed, Result
from ..runner.axioms import run


def _unpinned(cell: Cell) -> bool:
    return cell.claim is not None and cell.claim.kind == Kind.FAILS and cell.claim.witness is None


def main(argv: list[str] | None = None) -> int:
    """Search for the missing witnesses; 1 where one was not found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("methods", nargs="*", help="built-in methods; all of them by default")
    parser.add_argument("-n", "--max-examples", type=int, default=200)
    parser.add_argument("-j", "--jobs", type=int, default=1)
    arguments = parser.parse_args(argv)
    names = arguments.methods or list(BUILTIN)
    missing = []

    def write(done: int, total: int, result: Result) -> None:
        found = result.observed == Observed.VIOLATED and result.witness is not None
        print(f"{done}/{total} {'found' if found else 'NOT FOUND':9} {result.id}", flush=True)
        if not found:
            missing.append(result.line())
            return
        claim = next(
            c for c in BUILTIN[result.method].claims
            if c.kind == Kind.FAILS and c.on == result.family and c.axiom in (result.axiom, result.axiom.partition("/")[0])
        )  # fmt: skip
        path = pinned_for(result.method, claim)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.witness, allow_nan=False) + "\n")

    report = run(
        Options(tuple(names), max_examples=arguments.max_examples),
        jobs=arguments.jobs,
        progress=write,
        wanted=_unpinned,
    )
    if report.incomplete:
        missing.append(report.incomplete)
    print("\n".join(missing) if missing else "every claimed failure has its witness")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
