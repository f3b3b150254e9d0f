"""How long each mutant lives: `make power`. Examples until a claim of it falls, over seeds, and the size of the witness.

A mutant (see tests/mutants) dies under a seed when one of the claims that its author would make is refuted within the
examples of an ordinary run. The figures are written to POWER.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribcheck import axioms
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.falsify import WIDE_SHARE, Tally, search, tried
from attribcheck.methods.registry import as_method
from attribcheck.results import Row
from attribcheck.runner.axioms import TIMEOUT
from attribcheck.runner.job import Death
from attribcheck.runner.journal import code_version
from attribcheck.runner.running import Executor, run
from attribcheck.runner.watch import Watch
from attribcheck.tools.where import add_executor, executor_of

from .mutants import MUTANTS, TEN, Mutant

ALL = {**MUTANTS, **TEN}


@dataclass
class Life(Row):
    """One claim of a mutant under one seed: the examples until it fell (None: it stood), and how it was drawn."""

    name: str
    cell: str
    seed: int
    examples: int | None
    layers: int | None = None
    features: int | None = None

    @property
    def id(self) -> str:
        """The claim of the mutant."""
        return f"{self.cell}[{self.name}]"


def benches(mutant: Mutant) -> Iterator[tuple[str, Bench]]:
    """The cells of a mutant's claims, by name."""
    method = as_method(mutant.method, mutant.name)
    for full, family in mutant.breaks:
        axiom, variant = axioms.find(full)
        yield f"{full}[{family}]", Bench(axiom, variant or "", method, family)


@dataclass(frozen=True)
class PowerJob:
    """Seeds as units: every claim of the mutants under one of them."""

    names: tuple[str, ...]
    n: int
    seeds: int

    noun = "seeds"
    local = False

    def units(self) -> Sequence[int]:
        """The seeds."""
        return range(self.seeds)

    def groups(self, units: Sequence[int], size: int, apart: bool) -> list[list[int]]:
        """Each by itself: cells share their cases within a seed."""
        return [[unit] for unit in units]

    def key(self, unit: int) -> Any:
        """What the lives under a seed depend on."""
        return ["power", self.names, self.n, unit, code_version("cpu")]

    def compute(self, unit: int, deadline: float | None) -> list[Life]:
        """The lives under a seed; witnesses are shrunk under the first one."""
        cells = [(name, cell, bench) for name in self.names for cell, bench in benches(ALL[name])]
        cells.sort(key=lambda each: each[2].origin.key)  # cells that share their cases stand next to each other
        found = []
        for name, cell, bench in cells:
            tally, n_wide = Tally(), self.n // WIDE_SHARE
            sample = tried(bench, tally, False, self.n - n_wide, unit) or tried(bench, tally, True, n_wide, unit)
            life = Life(name, cell, unit, None if sample is None else tally.examples)
            if unit == 0 and sample is not None:
                case = search(bench, self.n, unit).violated
                if case is not None and isinstance(case.network, Network):
                    life.layers, life.features = case.network.weighted_layers(), case.network.n_features
            found.append(life)
        return found

    def lost(self, unit: int, death: Death) -> list[Life]:
        """A mutant must not end the process: that is no death that is measured here."""
        raise RuntimeError(f"seed {unit}: {death.why}\n{death.output}")

    def finished(self, rows: Sequence[Row]) -> bool:
        """Always."""
        return True

    def judged(self, unit: int, rows: Sequence[Row]) -> Sequence[Row]:
        """As they are: nothing is claimed."""
        return rows


class _Told(Watch):
    def done(self, done: int, total: int, rows: Sequence[Row]) -> None:
        print(f"{done}/{total} seeds done", file=sys.stderr, flush=True)


def measure(names: tuple[str, ...], seeds: int, n: int, executor: Executor) -> list[Life]:
    """Every claim of the mutants under every seed."""
    found = run(PowerJob(names, n, seeds), executor, watch=_Told())
    if found.stopped:
        raise SystemExit(found.stopped)
    return [row for rows in found.rows.values() for row in rows if isinstance(row, Life)]


def table(lives: list[Life], names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """A row of Markdown for each mutant, and the names of those that outlived a seed."""
    rows, survivors = [], []
    for name in names:
        own = [life for life in lives if life.name == name]
        seeds = sorted({life.seed for life in own})
        first = [min((x.examples for x in own if x.seed == seed and x.examples), default=None) for seed in seeds]
        dead = [examples for examples in first if examples is not None]
        if len(dead) < len(first):
            survivors.append(f"{name} ({len(first) - len(dead)} of {len(first)} seeds)")
        sizes = [(x.layers, x.features) for x in own if x.layers is not None and x.features is not None]
        layers, features = min(sizes, key=sum, default=("-", "-"))
        worst = max(dead) if len(dead) == len(first) else f"stands in {len(first) - len(dead)}"
        median = f"{statistics.median(dead):g}" if dead else "-"
        claims = ", ".join(f"`{claim}`" for claim in dict.fromkeys(life.cell for life in own))
        rows.append(f"| {name.replace('_', ' ')} | {claims} | {median} | {worst} | {layers} | {features} |")
    return rows, survivors


def main(argv: list[str] | None = None) -> int:
    """Measure and write the figures; 1 where a mutant outlived a seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mutants", nargs="*", help="names; all of them by default")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("-n", "--max-examples", type=int, default=100)
    add_executor(parser)
    parser.add_argument("--write", type=Path, help="the Markdown file for the figures")
    given = parser.parse_args(argv)
    names = tuple(given.mutants or ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        parser.error(f"unknown mutant {unknown[0]!r}; known: {', '.join(ALL)}")
    lives = measure(names, given.seeds, given.max_examples, executor_of(given, TIMEOUT))
    text = report(lives, names, given.seeds, given.max_examples)
    print(text)
    if given.write is not None:
        given.write.write_text(text)
    return 1 if any(table(lives, names)[1]) else 0


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"


def report(lives: list[Life], names: tuple[str, ...], seeds: int, n: int) -> str:
    """The page of figures."""
    parts = [
        f"""# Power: how long a broken method lives

`make power` measures it: {len(names)} attribution methods that are wrong on purpose, each with one mistake, under {seeds}
seeds, {n} examples each. A method dies when one of the claims that its author would make is refuted; the figure is the
number of examples until then. Layers (with weights) and features are those of the shrunk witness.
"""
    ]
    for title, group in (
        ("Methods that the generators were tuned with", MUTANTS),
        ("Methods written by somebody who had not seen the generators", TEN),
    ):
        chosen = tuple(name for name in names if name in group)
        if not chosen:
            continue
        rows, survivors = table(lives, chosen)
        own = [life for life in lives if life.name in chosen and life.layers is not None]
        sizes = [(x.layers or 0, x.features or 0) for x in own]
        middle = [statistics.median(column) for column in zip(*sizes, strict=True)] if sizes else []
        said = f"Median witness: {_count(middle[0], 'layer')}, {_count(middle[1], 'feature')}. " if middle else ""
        outlived = f"Outlived a seed: {'; '.join(survivors)}." if survivors else "Every one died under every seed."
        parts.append(
            f"\n## {title}\n\n{len(chosen)} methods. {said}{outlived}\n\n"
            "| method | claims | median | worst | layers | features |\n|---|---|---|---|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    from tests.power import main as power  # under its name, by which workers find the job

    sys.exit(power())
