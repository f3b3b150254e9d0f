"""The words and symbols that every report uses: outcomes, counts, figures and the replay line."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ..results import PROBLEMS, REPORT_DIR, Verdict

# What neither XML 1.0 nor HTML can carry.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Outcome:
    """What became of one cell.

    Attributes:
        key: a CSS class.
        symbol: tells the outcome without colour.
        label: tells it in a word or two.
        sentence: tells it to someone who has not seen the legend.
        problem: whether it gates.
    """

    key: str
    symbol: str
    label: str
    sentence: str
    problem: bool = False


_CLAIMED = {
    ("pass", "holds"): Outcome("holds", "✓", "holds", "The claim that it holds stands."),
    ("pass", "fails"): Outcome("shown", "✗", "fails as claimed", "The claimed failure was shown."),
    ("fail", "holds"): Outcome(
        "refuted", "✖", "refuted", "The claim that it holds is refuted by a counterexample.", True
    ),
    ("fail", "fails"): Outcome("refuted", "✖", "not shown", "The claimed failure could not be shown.", True),
}
_OPEN = Outcome("open", "?", "inconclusive", "The claim could be neither confirmed nor refuted.", True)
_ERROR = Outcome("error", "!", "error", "The method raised, or returned something that is no attribution.", True)
_SEEN = {
    "holds": Outcome("seen", "(✓)", "holds, unclaimed", "Nothing is claimed; no counterexample was found."),
    "violated": Outcome("seen", "(✗)", "violated, unclaimed", "Nothing is claimed; a counterexample was found."),
    "not-applicable": Outcome("seen", "(–)", "not applicable", "The axiom does not apply here."),
    "unsupported": Outcome("seen", "(∅)", "unsupported", "The method refuses every network of the family."),
    "inconclusive": Outcome("seen", "(?)", "open, unclaimed", "Nothing is claimed; too little was seen to say."),
    "error": Outcome(
        "seen", "(!)", "error, unclaimed", "Nothing is claimed; the method raised or returned no attribution."
    ),
}

LEGEND = (*_CLAIMED.values(), _OPEN, _ERROR, *_SEEN.values())


def outcome(result: Mapping[str, Any]) -> Outcome:
    """The outcome of one result of results.json."""
    if result["verdict"] == "error":
        return _ERROR
    if result["verdict"] == "inconclusive":
        return _OPEN
    if result["verdict"] == "unclaimed":
        return _SEEN[result["observed"]]
    return _CLAIMED[result["verdict"], result["claim"]]


_CHECKED = {
    ("pass", "holds"): Outcome("holds", "✓", "holds", "The claim that it holds stands: the rule is met."),
    ("pass", "fails"): Outcome("shown", "✗", "fails as claimed", "The claimed failure was shown: the rule is not met."),
    ("pass", None): Outcome("holds", "✓", "stands", "The claim stands."),
    ("fail", "holds"): Outcome("refuted", "✖", "refuted", "The claim that it holds falls: the rule is not met.", True),
    ("fail", "fails"): Outcome(
        "refuted", "✖", "not shown", "The claimed failure could not be shown: the rule is met.", True
    ),
    ("fail", None): Outcome("refuted", "✖", "fails", "The claim falls.", True),
}
_MEASURED = {
    "holds": Outcome("seen", "(✓)", "holds, unclaimed", "Nothing is claimed; the rule is met."),
    "violated": Outcome("seen", "(✗)", "violated, unclaimed", "Nothing is claimed; the rule is not met."),
    "not-applicable": Outcome("seen", "(–)", "not applicable", "The check says nothing here."),
    "unsupported": Outcome("seen", "(∅)", "unsupported", "The method refuses the model."),
    "inconclusive": Outcome("seen", "(?)", "open, unclaimed", "Nothing is claimed; the limit lies in the interval."),
}
_ONLY_MEASURED = Outcome("seen", "(·)", "unclaimed", "Measured; nothing is claimed.")

SANITY_LEGEND = (*_CHECKED.values(), _OPEN, _ERROR, *_MEASURED.values(), _ONLY_MEASURED)


def sanity_outcome(entry: Mapping[str, Any]) -> Outcome:
    """The outcome of one row of the full-model checks."""
    verdict = entry["verdict"]
    if verdict in ("error", "inconclusive"):
        return _ERROR if verdict == "error" else _OPEN
    if verdict == "unclaimed":
        return _MEASURED.get(entry["observed"], _ONLY_MEASURED)
    return _CHECKED[verdict, entry.get("claim")]


def count_verdicts(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many entries have each verdict, all verdicts present."""
    counts = Counter(entry["verdict"] for entry in entries)
    return {verdict: counts[verdict] for verdict in Verdict}


_RESTRICTED = {
    "axioms": "only these axioms",
    "excluded": "not these axioms",
    "families": "only these families",
    "checks": "only these checks",
    "observe": "also what is not claimed",
}


def asked(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run was asked for, name by name; a part of all claims must not be taken for the whole.

    Documents that were written before say nothing of it.
    """
    found = []
    if document.get("command"):
        found.append(("command", document["command"]))
    if document.get("targets"):
        found.append(("targets", ", ".join(document["targets"])))
    for part in ("selection", "limits"):
        for name, value in (document.get(part) or {}).items():
            if value not in (None, False, [], ""):
                text = ", ".join(map(str, value)) if isinstance(value, list) else brief(value)
                found.append((_RESTRICTED.get(name, name.replace("_", " ")), text))
    return found


def stands(document: Mapping[str, Any]) -> bool:
    """Whether nothing gates: no claim refuted, inconclusive, in error or not reached."""
    fell = any(entry["verdict"] in PROBLEMS for entry in (*document["results"], *document["sanity"]))
    return not fell and not document.get("incomplete")


def overall(document: Mapping[str, Any]) -> str:
    """The whole document in a few sentences."""
    return " ".join(summary(document))


def summary(document: Mapping[str, Any]) -> list[str]:
    """The whole document in sentences, the one to read first at the front."""
    sentences = []
    if document["results"] or not document["sanity"]:
        sentences += _sentences(document["results"], "claim", "refuted or not shown")
    if document["sanity"]:
        sentences += _sentences(document["sanity"], "claim on trained models", "refuted or not shown")
    if document.get("incomplete"):
        sentences.insert(0, f"The run was stopped: {document['incomplete']}.")
    return sentences


def _sentences(entries: Sequence[Mapping[str, Any]], noun: str, fail: str) -> list[str]:
    counts = count_verdicts(entries)
    claimed = len(entries) - counts["unclaimed"]
    if not entries:
        return [f"No {noun} was checked."]
    if not claimed:
        return [f"Nothing was claimed: {plural(counts['unclaimed'], 'observation')}."]
    seen = [f"{counts['unclaimed']} more observed without a claim."] if counts["unclaimed"] else []
    fell = claimed - counts["pass"]
    if not fell:
        return [f"The one {noun} stands." if claimed == 1 else f"All {claimed} {several(noun)} stand.", *seen]
    named = (("fail", fail), ("error", "in error"), ("inconclusive", "inconclusive"))
    kinds = ", ".join(f"{counts[verdict]} {word}" for verdict, word in named if counts[verdict])
    verb = "does" if fell == 1 else "do"
    return [f"{fell} of {plural(claimed, noun)} {verb} not stand: {kinds}.", *seen]


def plural(count: int, noun: str) -> str:
    """The count with its noun: 1 claim, 2 claims, 2 claims on trained models."""
    return f"{count} {noun if count == 1 else several(noun)}"


def several(noun: str) -> str:
    """A noun for several: claims, claims on trained models."""
    head, space, rest = noun.partition(" on ")
    return f"{head}s{space}{rest}"


def number(value: Any) -> str:
    """A number for reading: exact where that is short, four digits otherwise; None is not finite."""
    if value is None:
        return "not finite"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e6:
            return str(int(value))
        return repr(value) if len(repr(value)) <= 7 else f"{value:.4g}"
    return str(value)


def residual(worst: Mapping[str, Any]) -> str:
    """The worst residual; 'not finite' where it is flagged so, '-' where there is none."""
    if worst["residual"] is None:
        return "not finite" if worst.get("nonfinite") else "-"
    return number(worst["residual"])


def tolerance(worst: Mapping[str, Any]) -> str:
    """The tolerance; '-' where there is none."""
    return "-" if worst["tolerance"] is None else number(worst["tolerance"])


def against(worst: Mapping[str, Any]) -> str:
    """The worst residual against the tolerance, in one phrase."""
    if worst["residual"] is None and not worst.get("nonfinite"):
        return f"no residual (tolerance {tolerance(worst)})"
    return f"residual {residual(worst)}, tolerance {tolerance(worst)}"


def replay_line(result: Mapping[str, Any], report_dir: str = REPORT_DIR) -> str | None:
    """The command that evaluates the witness of a result again, None without a saved one."""
    if not result.get("witness_file") or result["witness"] is None:
        return None
    return f"attribcheck replay {shlex.quote((PurePath(report_dir) / result['witness_file']).as_posix())}"


def tally(drawn: Any) -> str:
    """Counts of what was drawn, such as 'small 80, wide 20'."""
    if not isinstance(drawn, dict):
        return brief(drawn)
    parts = []
    for key, value in drawn.items():
        parts.append(f"{key}: {tally(value)}" if isinstance(value, dict) else f"{key} {brief(value)}")
    separator = "; " if any(isinstance(value, dict) for value in drawn.values()) else ", "
    return separator.join(parts)


def brief(value: Any, limit: int = 400) -> str:
    """Any value of a document as short text; strings as they are, the rest as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit} more characters)"


def printable(text: str) -> str:
    """The text with every character that HTML and XML cannot carry replaced."""
    return _UNPRINTABLE.sub("\ufffd", text)
