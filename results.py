"""Results and reports as objects: what `check` returns, and the document that is written. No torch here."""

from __future__ import annotations

import datetime
import platform
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from .claims import Kind

SCHEMA_VERSION = 1
REPORT_DIR = "attribcheck-report"
"""The folder of reports, where nobody names another one."""
OUTPUT_LIMIT = 4000
"""Of what a method prints while a row is computed, so many characters are kept: the first and the last half of them."""


class Observed(StrEnum):
    """What was seen of a method on the cases of a row."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNSUPPORTED = "unsupported"
    NOT_APPLICABLE = "not-applicable"
    ERROR = "error"
    INCONCLUSIVE = "inconclusive"


class Verdict(StrEnum):
    """What becomes of a claim."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    INCONCLUSIVE = "inconclusive"
    UNCLAIMED = "unclaimed"


PROBLEMS = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE)
"""The verdicts that keep a report from standing."""


@dataclass(kw_only=True)
class Row(ABC):
    """What results of axioms and findings of full-model checks have in common; fields of results.json.

    claim    what is claimed, with its reason and its source; None: nothing
    seconds  what it took; of a finding, what all findings of the check on this method and model took together
    output   what the method printed meanwhile, at most OUTPUT_LIMIT characters of it; None where it printed nothing, or
             where it was called in this process
    """

    claim: Kind | None = None
    reason: str | None = None
    source: str | None = None
    observed: Observed = Observed.INCONCLUSIVE
    verdict: Verdict = Verdict.UNCLAIMED
    note: str | None = None
    seconds: float = 0.0
    output: str | None = None

    SPEAKS_OF: ClassVar[str] = ""
    """Of what a claim on "any" speaks."""

    @property
    @abstractmethod
    def id(self) -> str:
        """A name for people."""

    def add_note(self, text: str) -> None:
        """Say one more thing of it."""
        self.note = f"{self.note}; {text}" if self.note else text

    def document(self) -> dict[str, Any]:
        """The row of results.json."""
        fields = asdict(self)
        if self.output is None:
            del fields["output"]
        return fields

    def line(self) -> str:
        """One line for a terminal."""
        claim = {Kind.HOLDS: "claimed to hold", Kind.FAILS: "claimed to fail", None: "observed"}[self.claim]
        note = f"; {self.note}" if self.note else ""
        return f"{self.id}: {claim}, {self.observed}{self._figures()}{note}"

    def _figures(self) -> str:
        """What the line says of figures."""
        return ""


@dataclass
class Result(Row):
    """One checked cell: a method, an axiom's variant, a family; the fields of results.json.

    worst      {"residual": the one that is largest for its tolerance, or None, "tolerance": ...}, with
               "nonfinite": True where it was NaN or inf
    """

    method: str
    axiom: str
    family: str
    examples: int = 0
    discarded: int = 0
    unsupported: int = 0
    vacuous: int = 0
    seed: int = 0
    worst: dict[str, Any] = field(default_factory=lambda: {"residual": None, "tolerance": None})
    drawn: dict[str, int] = field(default_factory=dict)
    witness: dict[str, Any] | None = None
    witness_file: str | None = None

    SPEAKS_OF: ClassVar[str] = "networks that the method treats"

    @property
    def id(self) -> str:
        """A name for people: axiom/variant[method-family]."""
        return f"{self.axiom}[{self.method}-{self.family}]"

    def _figures(self) -> str:
        if self.observed not in (Observed.HOLDS, Observed.VIOLATED) or self.worst["tolerance"] is None:
            return ""
        return f"; residual {residual_text(self.worst)} against {self.worst['tolerance']:.0e}"


def residual_text(worst: dict[str, Any]) -> str:
    """A residual for people."""
    if worst.get("nonfinite"):
        return "not finite"
    return "-" if worst["residual"] is None else f"{worst['residual']:.3g}"


@dataclass
class Finding(Row):
    """One row of the full-model checks: what a check found of a method on a trained model; the fields of results.json.

    check      "name" or "name/variant"
    statistic  what `value` is, in words
    interval   the 95 % confidence interval of the value; None where the value is exact
    rule       when the property holds
    limit      the rule as data, {"below": 0.5} or {"above": 0.0}; None where the check came to no rule
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
    figures: dict[str, Any] = field(default_factory=dict)
    limit: dict[str, float] | None = None

    SPEAKS_OF: ClassVar[str] = "models on which it can be checked"

    @property
    def id(self) -> str:
        """A name for people: check/variant[method-model:data]."""
        return f"{self.check}[{self.method}-{self.model}:{self.data}]"

    def _figures(self) -> str:
        if self.value is None:
            return ""
        within = f" [{self.interval[0]:.3g}, {self.interval[1]:.3g}]" if self.interval else ""
        return f"; {self.statistic} {self.value:.3g}{within}; rule: {self.rule}"


@dataclass
class Report:
    """All results of one run.

    ok          every claim stands (nothing failed, erred or stayed inconclusive), and the run was not stopped
    results     of the axioms
    sanity      of the full-model checks
    subjects    the trained models that these looked at: model, data, accuracy, needed, images, weights
    scale       how much the full-model checks computed, in words
    incomplete  why and where the run was stopped, None where it was not
    asked       what the run was asked for: command, targets, selection and limits, as results.json has them
    """

    results: list[Result]
    seed: int = 0
    max_examples: int | None = 100
    device: str = "cpu"
    sanity: list[Finding] = field(default_factory=list)
    subjects: list[dict[str, Any]] = field(default_factory=list)
    scale: str | None = None
    incomplete: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every claim stands; an error in an unclaimed cell counts too."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0: every claim stands; 1: a claim fell, stayed open, or was not reached; 2: a method erred."""
        verdicts = {row.verdict for row in self.rows}
        return 2 if Verdict.ERROR in verdicts else 1 if self.incomplete or verdicts & {*PROBLEMS} else 0

    @property
    def rows(self) -> list[Result | Finding]:
        """What has a verdict: the results of the axioms and of the full-model checks."""
        return [*self.results, *self.sanity]

    def count(self, verdict: Verdict) -> int:
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
            **self.asked,
            "environment": {**environment(self.device), **({"scale": self.scale} if self.scale else {})},
            "results": [result.document() for result in self.results],
            "sanity": [finding.document() for finding in self.sanity],
            **({"subjects": self.subjects} if self.subjects else {}),
            **({"incomplete": self.incomplete} if self.incomplete else {}),
        }

    def save(self, path: str | Path) -> None:
        """Write results.json to a path (strict JSON, atomically)."""
        from .reports.files import dump

        dump(self.document(), Path(path))

    def __str__(self) -> str:
        lines = [row.line() for row in self.rows if row.verdict != Verdict.PASS]
        return "\n".join([*lines, self.summary()])


_WORDS = (
    (Verdict.PASS, "as claimed"),
    (Verdict.FAIL, "refuted or not shown"),
    (Verdict.INCONCLUSIVE, "inconclusive"),
    (Verdict.ERROR, "in error"),
    (Verdict.UNCLAIMED, "observed without a claim"),
)


def environment(device: str) -> dict[str, str]:
    """The versions that a reader needs to run it again."""
    known = {"attribcheck": metadata.version("attribcheck"), "python": platform.python_version()}
    for name in ("torch", "hypothesis", "captum"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**known, "device": device, "platform": platform.platform()}
