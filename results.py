"""Results and reports as objects: what `check` returns, and the document that is written. No torch here."""

from __future__ import annotations

import datetime
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
PROBLEMS = ("fail", "error", "inconclusive")
"""The verdicts that keep a report from standing."""


@dataclass
class Result:
    """One checked cell: a method, an axiom's variant, a family; the fields of results.json.

    claim      "holds" | "fails" | None
    observed   "holds" | "violated" | "unsupported" | "not-applicable" | "error" | "inconclusive"
    verdict    "pass" | "fail" | "inconclusive" | "error" | "unclaimed"
    worst      {"residual": the one that is largest for its tolerance, or None, "tolerance": ...}, with
               "nonfinite": True where it was NaN or inf
    """

    method: str
    axiom: str
    family: str
    claim: str | None = None
    reason: str | None = None
    source: str | None = None
    observed: str = "inconclusive"
    verdict: str = "inconclusive"
    examples: int = 0
    discarded: int = 0
    unsupported: int = 0
    vacuous: int = 0
    seconds: float = 0.0
    seed: int = 0
    worst: dict[str, Any] = field(default_factory=lambda: {"residual": None, "tolerance": None})
    drawn: dict[str, int] = field(default_factory=dict)
    witness: dict[str, Any] | None = None
    witness_file: str | None = None
    note: str | None = None

    @property
    def id(self) -> str:
        """A name for people: axiom/variant[method-family]."""
        return f"{self.axiom}[{self.method}-{self.family}]"

    def line(self) -> str:
        """One line for a terminal."""
        claim = {"holds": "claimed to hold", "fails": "claimed to fail", None: "observed"}[self.claim]
        figures = ""
        if self.observed in ("holds", "violated") and self.worst["tolerance"] is not None:
            figures = f"; residual {residual_text(self.worst)} against {self.worst['tolerance']:.0e}"
        note = f"; {self.note}" if self.note else ""
        return f"{self.id}: {claim}, {self.observed}{figures}{note}"


def residual_text(worst: dict[str, Any]) -> str:
    """A residual for people."""
    if worst.get("nonfinite"):
        return "not finite"
    return "-" if worst["residual"] is None else f"{worst['residual']:.3g}"


@dataclass
class Finding:
    """One row of the full-model checks: what a check found of a method on a trained model; the fields of results.json.

    check      "name" or "name/variant"
    statistic  what `value` is, in words
    interval   the 95 % confidence interval of the value; None where the value is exact
    rule       when the property holds
    observed   "holds" | "violated" | "inconclusive" | "not-applicable" | "unsupported" | "error"
    verdict    "pass" | "fail" | "inconclusive" | "error" | "unclaimed"
    claim      "holds" | "fails" | None
    seconds    what all findings of the check on this method and model took together
    """

    check: str
    model: str
    data: str
    method: str
    statistic: str | None = None
    value: float | None = None
    interval: list[float] | None = None
    rule: str | None = None
    paper: dict[str, Any] | None = None
    observed: str = "inconclusive"
    verdict: str = "unclaimed"
    figures: dict[str, Any] = field(default_factory=dict)
    note: str | None = None
    claim: str | None = None
    reason: str | None = None
    source: str | None = None
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """A name for people: check/variant[method-model:data]."""
        return f"{self.check}[{self.method}-{self.model}:{self.data}]"

    def line(self) -> str:
        """One line for a terminal."""
        claim = {"holds": "claimed to hold", "fails": "claimed to fail", None: "observed"}[self.claim]
        figures = ""
        if self.value is not None:
            within = f" [{self.interval[0]:.3g}, {self.interval[1]:.3g}]" if self.interval else ""
            figures = f"; {self.statistic} {self.value:.3g}{within}; rule: {self.rule}"
        note = f"; {self.note}" if self.note else ""
        return f"{self.id}: {claim}, {self.observed}{figures}{note}"


@dataclass
class Report:
    """All results of one run.

    ok          every claim stands (nothing failed, erred or stayed inconclusive), and the run was not stopped
    results     of the axioms
    sanity      of the full-model checks
    subjects    the trained models that these looked at: model, data, accuracy, needed, images, weights
    scale       how much the full-model checks computed, in words
    incomplete  why and where the run was stopped, None where it was not
    """

    results: list[Result]
    seed: int = 0
    max_examples: int | None = 100
    device: str = "cpu"
    sanity: list[Finding] = field(default_factory=list)
    subjects: list[dict[str, Any]] = field(default_factory=list)
    scale: str | None = None
    incomplete: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every claim stands; an error in an unclaimed cell counts too."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0: every claim stands; 1: a claim fell, stayed open, or was not reached; 2: a method erred."""
        verdicts = {row.verdict for row in self.rows}
        return 2 if "error" in verdicts else 1 if self.incomplete or verdicts & {"fail", "inconclusive"} else 0

    @property
    def rows(self) -> list[Result | Finding]:
        """What has a verdict: the results of the axioms and of the full-model checks."""
        return [*self.results, *self.sanity]

    def count(self, verdict: str) -> int:
        """How many results have a verdict."""
        return sum(row.verdict == verdict for row in self.rows)

    def summary(self) -> str:
        """One line: how many claims stand, and what else there is."""
        parts = [f"{self.count(v)} {w}" for v, w in _WORDS if self.count(v)]
        stopped = f"; {self.incomplete}" if self.incomplete else ""
        return f"{len(self.rows)} checked: {', '.join(parts) if parts else 'nothing'}{stopped}"

    def document(self) -> dict[str, Any]:
        """The content of results.json (see reports/schema)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seed": self.seed,
            "max_examples": self.max_examples,
            "environment": {**environment(self.device), **({"scale": self.scale} if self.scale else {})},
            "results": [asdict(result) for result in self.results],
            "sanity": [asdict(finding) for finding in self.sanity],
            **({"subjects": self.subjects} if self.subjects else {}),
            **({"incomplete": self.incomplete} if self.incomplete else {}),
        }

    def save(self, path: str | Path) -> None:
        """Write results.json to a path (strict JSON, atomically)."""
        from .reports.document import dump

        dump(self.document(), Path(path))

    def __str__(self) -> str:
        lines = [row.line() for row in self.rows if row.verdict not in ("pass",)]
        return "\n".join([*lines, self.summary()])


_WORDS = (
    ("pass", "as claimed"),
    ("fail", "refuted or not shown"),
    ("inconclusive", "inconclusive"),
    ("error", "in error"),
    ("unclaimed", "observed without a claim"),
)


def environment(device: str) -> dict[str, str]:
    """The versions that a reader needs to run it again."""
    from . import __version__

    known = {"attribcheck": __version__, "python": platform.python_version()}
    for name in ("torch", "hypothesis", "captum"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**known, "device": device, "platform": platform.platform()}
