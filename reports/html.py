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

from . import words
from .evidence import outcome_table, samples
from .picture import picture
from .tensors import flat, shape_of

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
    """Methods by axioms.

    Attributes:
        groups: each axiom with its variants; an axiom without variants has the one variant ''.
        rows: each method with one list of cells for each variant of each axiom.
    """

    groups: list[tuple[str, list[str]]]
    rows: list[tuple[str, list[list[Cell]]]]


def render(document: Mapping[str, Any], report_dir: str = words.REPORT_DIR) -> str:
    """The whole report as HTML.

    Args:
        document: a results document.
        report_dir: the folder that the replay lines name.
    """
    cells = _cells(document["results"], report_dir)
    problems = [cell for verdict in words.PROBLEMS for cell in cells if cell.result["verdict"] == verdict]
    checks = ((place, entry, words.sanity_outcome(entry)) for place, entry in enumerate(document["sanity"]))
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    page = _environment().get_template("report.html.j2")
    present = Counter(cell.outcome for cell in cells)
    text = page.render(
        document=document,
        cells=cells,
        problems=problems,
        failed_checks=[check for check in checks if check[2].problem],
        matrix=matrix(cells),
        counts=words.count_verdicts(document["results"]),
        legend=[(kind, present[kind]) for kind in words.LEGEND if kind in present],
        stands=words.stands(document),
        script=script,
        script_hash=digest,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )
    return words.printable(text)


def matrix(cells: Sequence[Cell]) -> Matrix:
    """Arrange cells by method and axiom, both in the order in which they first appear."""
    groups: dict[str, dict[str, None]] = {}
    by_place: dict[tuple[str, str, str], list[Cell]] = {}
    methods: dict[str, None] = {}
    for cell in cells:
        axiom, _, variant = cell.result["axiom"].partition("/")
        groups.setdefault(axiom, {})[variant] = None
        methods[cell.result["method"]] = None
        by_place.setdefault((cell.result["method"], axiom, variant), []).append(cell)
    columns = [(axiom, variant) for axiom, variants in groups.items() for variant in variants]
    rows = [(method, [by_place.get((method, *column), []) for column in columns]) for method in methods]
    return Matrix([(axiom, list(variants)) for axiom, variants in groups.items()], rows)


def _cells(results: Sequence[Mapping[str, Any]], report_dir: str) -> list[Cell]:
    cells, taken = [], set[str]()
    for result in results:
        # Readable and the same from run to run, so that a link to a cell keeps its meaning.
        names = (result["method"], result["axiom"], result["family"])
        anchor = stem = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-") for name in names)
        following = 2
        while anchor in taken:
            anchor, following = f"{stem}--{following}", following + 1
        taken.add(anchor)
        cells.append(Cell(anchor, result, words.outcome(result), words.replay_line(result, report_dir)))
    return cells


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
        sanity_outcome=words.sanity_outcome,
        residual=words.residual,
        tolerance=words.tolerance,
        against=words.against,
        picture=_picture,
        other_draws=_other_draws,
        samples=samples,
        outcome_table=outcome_table,
        curve=_curve,
        times=_times,
        plural=words.plural,
    )
    environment.filters.update(number=words.number, tally=words.tally, brief=words.brief, data=_data)
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
    text = words.rows_on_one_line(json.dumps(value, indent=1, ensure_ascii=False))
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit} more characters in results.json"


def _curve(values: Any) -> str:
    """The points of a small line for a list of at least three numbers, '' for anything else."""
    if len(shape_of(values)) != 1 or len(values) < 3:
        return ""
    known = [value for value in flat(values) if isinstance(value, (int, float))]
    if len(known) < len(values):
        return ""
    low, high = min(known), max(known)
    across, up = 156 / (len(known) - 1), 32 / ((high - low) or 1)
    points = ((2 + index * across, 34 - (value - low) * up) for index, value in enumerate(known))
    return " ".join(f"{right:.1f},{down:.1f}" for right, down in points)
