"""results.json as one self-contained HTML file, which reads without JavaScript and without a network."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..results import PROBLEMS, REPORT_DIR
from . import checks, words
from .curves import shown
from .evidence import outcome_table, samples
from .files import rows_on_one_line
from .picture import picture

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Cell:
    """One result with the anchor of its figures.

    Attributes:
        anchor: the id of its figures in the page.
        result: the result as results.json has it.
        outcome: what became of it.
        replay: the command that evaluates its witness again.
    """

    anchor: str
    result: Mapping[str, Any]
    outcome: words.Outcome
    replay: str | None


@dataclass(frozen=True)
class Matrix:
    """Methods by axioms, or by full-model checks.

    Attributes:
        groups: each axiom with its variants; an axiom without variants has the one variant ''.
        rows: each method with one list of cells for each variant of each axiom.
    """

    groups: list[tuple[str, list[str]]]
    rows: list[tuple[str, list[list[Any]]]]


def render(document: Mapping[str, Any], report_dir: str = REPORT_DIR) -> str:
    """The whole report as HTML.

    Args:
        document: a results document.
        report_dir: the folder that the replay lines name.
    """
    taken: set[str] = set()
    cells = _cells(document["results"], report_dir, taken)
    found = checks.cells(document["sanity"], _anchors(document["sanity"], ("method", "check", "model", "data"), taken))
    problems = [cell for verdict in PROBLEMS for cell in cells if cell.result["verdict"] == verdict]
    fallen = [cell for verdict in PROBLEMS for cell in found if cell.result["verdict"] == verdict]
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    page = _environment().get_template("report.html.j2")
    text = page.render(
        document=document,
        cells=cells,
        checks=found,
        problems=problems,
        fallen=fallen,
        matrix=matrix(cells, "axiom"),
        checks_matrix=matrix(found, "check"),
        tables=checks.tables(found),
        counts=words.count_verdicts([*document["results"], *document["sanity"]]),
        legend=_legend(words.LEGEND, cells),
        checks_legend=_legend(words.SANITY_LEGEND, found),
        stands=words.stands(document),
        script=script,
        script_hash=digest,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )
    return words.printable(text)


def matrix(cells: Sequence[Any], key: str) -> Matrix:
    """Arrange cells by method and by what they check, both in the order in which they first appear.

    Args:
        cells: of the axioms, or of the full-model checks.
        key: where a result has the name of what it checks, "axiom" or "check".
    """
    groups: dict[str, dict[str, None]] = {}
    by_place: dict[tuple[str, str, str], list[Any]] = {}
    methods: dict[str, None] = {}
    for cell in cells:
        name, _, variant = cell.result[key].partition("/")
        groups.setdefault(name, {})[variant] = None
        methods[cell.result["method"]] = None
        by_place.setdefault((cell.result["method"], name, variant), []).append(cell)
    columns = [(name, variant) for name, variants in groups.items() for variant in variants]
    rows = [(method, [by_place.get((method, *column), []) for column in columns]) for method in methods]
    return Matrix([(name, list(variants)) for name, variants in groups.items()], rows)


def _legend(kinds: Sequence[words.Outcome], cells: Sequence[Any]) -> list[tuple[words.Outcome, int]]:
    present = Counter(cell.outcome for cell in cells)
    return [(kind, present[kind]) for kind in dict.fromkeys(kinds) if kind in present]


def _cells(results: Sequence[Mapping[str, Any]], report_dir: str, taken: set[str]) -> list[Cell]:
    anchors = _anchors(results, ("method", "axiom", "family"), taken)
    return [
        Cell(anchor, result, words.outcome(result), words.replay_line(result, report_dir))
        for anchor, result in zip(anchors, results, strict=True)
    ]


def _anchors(entries: Sequence[Mapping[str, Any]], keys: Sequence[str], taken: set[str]) -> list[str]:
    """An anchor for each entry, readable and the same from run to run, so that a link to a cell keeps its meaning."""
    anchors = []
    for entry in entries:
        names = (entry[key] for key in keys if entry[key])
        anchor = stem = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-") for name in names)
        following = 2
        while anchor in taken:
            anchor, following = f"{stem}--{following}", following + 1
        taken.add(anchor)
        anchors.append(anchor)
    return anchors


@functools.cache
def _environment() -> Any:
    # Jinja2 is needed by those who render only.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(
        summary=words.summary,
        asked=words.asked,
        residual=words.residual,
        tolerance=words.tolerance,
        against=words.against,
        picture=_picture,
        other_draws=_other_draws,
        samples=samples,
        outcome_table=outcome_table,
        measured=checks.measured,
        shown=shown,
        times=_times,
        plural=words.plural,
    )
    environment.filters.update(percent=_percent, number=words.number, tally=words.tally, brief=words.brief, data=_data)
    return environment


def _picture(witness: Mapping[str, Any]) -> Any:
    from markupsafe import Markup

    # The picture escapes every text that it places.
    drawn = [Markup(picture(witness["network"], witness["x"][0]))]
    for name, value in _networks(witness).items():
        drawn.append(Markup("<h5>{}</h5>").format(f"{name}: the other network of this check"))
        drawn.append(Markup(picture(value)))
    return Markup("").join(drawn)


def _networks(witness: Mapping[str, Any]) -> dict[str, Any]:
    """The networks that the axiom drew besides the one under test (rewritten, moved ...)."""
    drawn = witness.get("drawn") or {}
    return {name: value for name, value in drawn.items() if isinstance(value, Mapping) and "calls" in value}


def _other_draws(witness: Mapping[str, Any]) -> dict[str, Any]:
    """What the axiom drew besides, without the networks, which are shown as pictures."""
    shown = _networks(witness)
    return {name: value for name, value in (witness.get("drawn") or {}).items() if name not in shown}


def _times(worst: Mapping[str, Any]) -> str:
    """How often the tolerance goes into a residual beyond it."""
    if not worst["residual"] or not worst["tolerance"] or worst["residual"] <= worst["tolerance"]:
        return ""
    return f"{worst['residual'] / worst['tolerance']:.2g} times the tolerance"


def _data(value: Any, limit: int = 20_000) -> str:
    """A network as indented JSON with its rows on one line, cut where it would fill the page."""
    text = rows_on_one_line(json.dumps(value, indent=1, ensure_ascii=False))
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit} more characters in results.json"


def _percent(share: float) -> str:
    return f"{share:.1%}"
