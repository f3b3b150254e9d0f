"""The full-model checks of a results document, arranged for the page: one cell for each row, a matrix, tables by check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from . import words

_LIMIT_IN_WORDS = re.compile(r"\b(?:above|below|at least|at most)\s+(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w%])")
_WIDTH, _HEIGHT, _EDGE = 150, 14, 4


@dataclass(frozen=True)
class Cell:
    """One row of the full-model checks with the anchor of its figures.

    Attributes:
        anchor: the id of its figures in the page.
        result: the row as results.json has it.
        outcome: what became of it.
        subject: the model and its data.
        bar: its value and interval against the limit of its rule, as SVG; '' without a value.
    """

    anchor: str
    result: Mapping[str, Any]
    outcome: words.Outcome
    subject: str
    bar: str


@dataclass(frozen=True)
class Table:
    """The rows of one "check/variant".

    Attributes:
        name: the check with its variant.
        anchor: its id in the page.
        statistic, rule: of all its rows; '' where they differ, and each row tells its own.
        cells: its rows.
        problems: how many of them gate.
    """

    name: str
    anchor: str
    statistic: str
    rule: str
    cells: list[Cell]
    problems: int


def cells(entries: Sequence[Mapping[str, Any]], anchors: Sequence[str]) -> list[Cell]:
    """The rows of results.json as cells, in their order; the bars of one check share their axis."""
    by_check: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_check.setdefault(entry["check"], []).append(entry)
    spans = {check: _span(rows) for check, rows in by_check.items()}
    return [
        Cell(anchor, entry, words.sanity_outcome(entry), subject(entry), _bar(entry, spans[entry["check"]]))
        for anchor, entry in zip(anchors, entries, strict=True)
    ]


def tables(found: Sequence[Cell]) -> list[Table]:
    """The cells by check, in the order in which these first appear."""
    by_check: dict[str, list[Cell]] = {}
    for cell in found:
        by_check.setdefault(cell.result["check"], []).append(cell)
    return [
        Table(
            name,
            f"rows-{re.sub(r'[^A-Za-z0-9.]+', '-', name)}",
            _common(rows, "statistic"),
            _common(rows, "rule"),
            rows,
            sum(cell.outcome.problem for cell in rows),
        )
        for name, rows in by_check.items()
    ]


def subject(entry: Mapping[str, Any]) -> str:
    """The model and the data of a row."""
    return " on ".join(part for part in (entry["model"], entry["data"]) if part)


def _common(rows: Sequence[Cell], key: str) -> str:
    texts = {cell.result[key] for cell in rows if cell.result[key]}
    return texts.pop() if len(texts) == 1 else ""


def _numbers(entry: Mapping[str, Any]) -> list[float]:
    """What a row's bar shows: the value, the ends of the interval, the limit."""
    value = entry["value"]
    if isinstance(value, str) or value is None:
        return []
    found = [value, *(entry["interval"] or []), _limit(entry)]
    return [number for number in found if number is not None]


def _limit(entry: Mapping[str, Any]) -> float | None:
    """The limit of a row's rule; None without one."""
    if "limit" in entry:
        return next(iter((entry["limit"] or {}).values()), None)
    # Documents that were written before rows had a limit tell it in the sentence of the rule alone.
    found = _LIMIT_IN_WORDS.search(entry["rule"] or "")
    return None if found is None else float(found.group(1))


def _span(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    known = [number for entry in rows for number in _numbers(entry)]
    return (min(known), max(known)) if known else (0.0, 1.0)


def _bar(entry: Mapping[str, Any], span: tuple[float, float]) -> str:
    """The interval as a bar, the value as a dot, the limit as a line."""
    if not _numbers(entry):
        return ""
    low, high = span

    def place(value: float) -> str:
        return f"{_EDGE + (_WIDTH - 2 * _EDGE) * (value - low) / ((high - low) or 1):.1f}"

    middle, limit = _HEIGHT / 2, _limit(entry)
    ends = [end for end in entry["interval"] or [] if end is not None]
    parts = [f'<path class="base" d="M0 {middle:g}H{_WIDTH}"/>']
    if limit is not None:
        parts.append(f'<path class="limit" d="M{place(limit)} 0V{_HEIGHT}"/>')
    if len(ends) == 2:
        parts.append(f'<path class="range" d="M{place(ends[0])} {middle:g}H{place(ends[1])}"/>')
    parts.append(f'<circle cx="{place(entry["value"])}" cy="{middle:g}" r="3"/>')
    spoken = f"{measured(entry)}{'' if limit is None else f', limit {words.number(limit)}'}"
    return (
        f'<svg class="interval" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(spoken)}">{"".join(parts)}</svg>'
    )


def measured(entry: Mapping[str, Any]) -> str:
    """The value of a row with its interval, for reading; '-' without one."""
    value = entry["value"]
    if value is None:
        return "-"
    text = value if isinstance(value, str) else words.number(value)
    if entry["interval"]:
        text += " [" + ", ".join(words.number(end) for end in entry["interval"]) + "]"
    return text
