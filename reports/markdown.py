"""results.json as Markdown, short enough for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..results import PROBLEMS, REPORT_DIR, Verdict
from .checks import measured, subject
from .words import (
    against,
    asked,
    brief,
    count_verdicts,
    outcome,
    overall,
    plural,
    printable,
    replay_line,
    sanity_outcome,
)

# GitHub refuses a comment of more than 65,536 characters.
_LIMIT = 60_000
_MOST_ROWS = 60


def render(document: Mapping[str, Any], report_dir: str = REPORT_DIR) -> str:
    """A verdict table by method, and every problem with its residual, replay line and script.

    Args:
        document: a results document.
        report_dir: the folder that the replay lines name.
    """
    environment = ", ".join(f"{name} {value}" for name, value in document["environment"].items() if value)
    parts = [
        "# attribcheck report",
        overall(document),
        f"Seed {document['seed']}, {document['max_examples'] or '-'} examples a cell. {prose(environment)}",
        *(f"{prose(name)}: {code(value)}" for name, value in asked(document)),
        _summary(document),
    ]
    if document["sanity"]:
        parts += ["## Checks on trained models", _subjects(document), _by_check(document), *_rows(document["sanity"])]
    results = document["results"]
    problems = [result for verdict in PROBLEMS for result in results if result["verdict"] == verdict]
    if problems:
        parts.append("## What fell")
    length = sum(map(len, parts))
    for index, result in enumerate(problems):
        text = _problem(result, report_dir)
        length += len(text) + 2
        if length > _LIMIT:
            parts.append(f"... and {plural(len(problems) - index, 'more problem')}, in full in report.html.")
            break
        parts.append(text)
    return printable("\n\n".join(part for part in parts if part) + "\n")


def code(text: str) -> str:
    """A code span that holds any text, also inside a table."""
    text = " ".join(text.split()) or " "
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    # Pipes end a table's cell even inside a code span, unless escaped.
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", r"\|")


def prose(text: str) -> str:
    """Plain text that Markdown and its HTML leave as it is, on one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def block(text: str, language: str = "") -> str:
    """A fenced code block that its content cannot close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _summary(document: Mapping[str, Any]) -> str:
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for result in document["results"]:
        by_method.setdefault(result["method"], []).append(result)
    if not by_method:
        return ""
    rows = []
    for method, results in by_method.items():
        counts = count_verdicts(results)
        rows.append([code(method), *(str(counts[verdict] or "") for verdict in Verdict)])
    return _table(["method", *Verdict], rows)


def _subjects(document: Mapping[str, Any]) -> str:
    subjects = document.get("subjects")
    if not subjects:
        return ""
    rows = [
        [prose(s["model"]), prose(s["data"]), f"{s['accuracy']:.1%}", f"{s['needed']:.1%}", str(s["images"])]
        for s in subjects
    ]
    return _table(["model", "data", "classified correctly", "needed", "images"], rows)


def _by_check(document: Mapping[str, Any]) -> str:
    by_check: dict[str, list[Mapping[str, Any]]] = {}
    for entry in document["sanity"]:
        by_check.setdefault(entry["check"], []).append(entry)
    rows = []
    for check, entries in by_check.items():
        counts = count_verdicts(entries)
        rows.append([prose(check), *(str(counts[verdict] or "") for verdict in Verdict)])
    return _table(["check", *Verdict], rows)


def _rows(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows with what was measured: all of them where they are few, else those that gate."""
    chosen = entries
    if len(entries) > _MOST_ROWS:
        chosen = [entry for verdict in PROBLEMS for entry in entries if entry["verdict"] == verdict]
    table = _table(
        ["check", "method", "model", "measured", "rule", "paper", "outcome", "note"],
        [_row(entry) for entry in chosen[:_MOST_ROWS]],
    )
    left = len(entries) - min(len(chosen), _MOST_ROWS)
    more = [f"... and {plural(left, 'more row')}, in full in report.html."] if left else []
    return [table, *more] if chosen else more


def _row(entry: Mapping[str, Any]) -> list[str]:
    kind = sanity_outcome(entry)
    paper = entry["paper"]
    printed = "" if paper is None else f"{paper['value']} ({paper['source']})"
    found = f"{entry['statistic'] or 'value'} = {measured(entry)}"
    texts = (entry["check"], subject(entry), found, entry["rule"] or "", printed, brief(entry["note"] or ""))
    check, *rest = map(prose, texts)
    return [check, code(entry["method"]), *rest[:-1], f"{kind.symbol} {kind.label}", rest[-1]]


def _problem(result: Mapping[str, Any], report_dir: str) -> str:
    kind = outcome(result)
    title = f"{result['axiom']}[{result['family']}]"
    lines = [f"### {kind.symbol} {code(result['method'])} {code(title)}: {kind.label}", ""]
    lines += [kind.sentence, "", f"- {against(result['worst'])}"]
    lines += [f"- {key}: {prose(result[key])}" for key in ("note", "reason", "source") if result[key]]
    replay = replay_line(result, report_dir)
    if replay:
        lines += ["", block(replay, "sh")]
    if result["witness"] is not None and result["witness"]["script"]:
        script = block(result["witness"]["script"], "python")
        lines += ["", "<details><summary>Script that shows it</summary>", "", script, "", "</details>"]
    return "\n".join(lines)
