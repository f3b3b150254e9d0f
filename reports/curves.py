"""The figures of a full-model check for the page: numbers as text, lists of numbers as inline SVG curves with axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .words import brief, number

_FEWEST = 3
_MOST_LINES = 6
_MANY = 50  # an axis that spans more than this is logarithmic, if it can be
_LEFT, _TOP, _WIDTH, _HEIGHT, _BELOW = 46, 8, 250, 110, 32


@dataclass(frozen=True)
class Shown:
    """One figure: a text, a drawing, or figures in turn; the others are empty."""

    name: str
    text: str = ""
    drawing: str = ""
    inner: tuple[Shown, ...] = ()


@dataclass(frozen=True)
class Axis:
    """What stands under a curve: numbers, or names at equal distances."""

    name: str
    values: Sequence[Any]


def shown(figures: Mapping[str, Any], axis: Axis | None = None) -> tuple[Shown, ...]:
    """What a reader sees of figures, in their order.

    A list of three or more numbers (None where one is missing) is a curve. What stands under it: the list `x` beside it;
    else the first list beside it, if it holds texts or whole numbers that rise; else what stands under the curves around
    it; else the first list beside it, if it rises. It must have the length of the curve; failing that, 1, 2, 3 ... A
    mapping of curves of one length is one drawing, and so is one with `x`, where "x label" and "y label" name the axes.

    Args:
        figures: numbers, texts, lists and mappings of these.
        axis: what stands around them.
    """
    own = _axis(figures, axis)
    entries = []
    for name, value in figures.items():
        if own is not None and value is own.values:
            continue
        if isinstance(value, Mapping):
            entries.append(_together(name, value, own) or Shown(name, inner=shown(value, own)))
        elif _is_curve(value):
            entries.append(Shown(name, drawing=curves({name: value}, _fitting(own, len(value)))))
        else:
            entries.append(Shown(name, text=_text(value)))
    return tuple(entries)


def _together(name: str, figures: Mapping[str, Any], around: Axis | None) -> Shown | None:
    """A mapping of curves as one drawing; None where it holds anything else."""
    axis = _axis(figures, around)
    labels = {key: figures[key] for key in ("x label", "y label") if isinstance(figures.get(key), str)}
    lines = {
        key: value for key, value in figures.items() if key not in labels and (axis is None or value is not axis.values)
    }
    if not lines or len(lines) > _MOST_LINES or not all(map(_is_curve, lines.values())):
        return None
    lengths = {len(value) for value in lines.values()}
    if len(lengths) > 1:
        return None
    axis = _fitting(axis, lengths.pop())
    if axis is not None and "x label" in labels:
        axis = Axis(labels["x label"], axis.values)
    return Shown(name, drawing=curves(lines, axis, labels.get("y label", name)))


def _axis(figures: Mapping[str, Any], around: Axis | None) -> Axis | None:
    """What stands under the curves of a mapping."""
    if _is_curve(figures.get("x")):
        return Axis("x", figures["x"])
    shared = around is not None and _share(figures, len(around.values), None)
    for name, value in figures.items():
        if isinstance(value, list) and len(value) >= _FEWEST:
            texts, whole = (all(isinstance(each, kind) for each in value) for kind in (str, int))
            if (texts or _is_rising(value)) and (texts or whole or not shared) and _share(figures, len(value), value):
                return Axis(name, value)
            return around
    return around


def _share(figures: Any, length: int, besides: list[Any] | None) -> bool:
    """Whether there is a curve of this length in the figures, besides one."""
    if isinstance(figures, Mapping):
        return any(_share(value, length, besides) for value in figures.values())
    return figures is not besides and _is_curve(figures) and len(figures) == length


def _fitting(axis: Axis | None, length: int) -> Axis | None:
    return axis if axis is not None and len(axis.values) == length else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_curve(value: Any) -> bool:
    """Whether a value is drawn: a list of numbers, of which some may be missing."""
    if not isinstance(value, list) or len(value) < _FEWEST:
        return False
    known = [each for each in value if each is not None]
    return len(known) >= 2 and all(map(_is_number, known))


def _is_rising(values: list[Any]) -> bool:
    return all(map(_is_number, values)) and all(before < after for before, after in itertools.pairwise(values))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return number(value)
    if isinstance(value, list) and all(_is_number(each) or each is None for each in value):
        return ", ".join("-" if each is None else number(each) for each in value)
    return brief(value)


def curves(lines: Mapping[str, Sequence[float | None]], axis: Axis | None = None, name: str = "") -> str:
    """A drawing of lines over one axis: SVG that names both axes, and the lines where there are several.

    Args:
        lines: each with its values; a line is broken where one is missing. All have one length.
        axis: what stands under them; 1, 2, 3 ... by default.
        name: of the vertical axis; that of the one line by default.
    """
    length = len(next(iter(lines.values())))
    under = axis or Axis("", list(range(1, length + 1)))
    texts = [each for each in under.values if isinstance(each, str)]
    across = list(range(length)) if texts or None in under.values else list(under.values)
    if min(across) > 0 and max(across) >= _MANY * min(across):
        across, under = [math.log(at) for at in across], Axis(f"{under.name} (logarithmic)", under.values)
    known = [value for line in lines.values() for value in line if value is not None]
    low, high = min(known), max(known)
    left, right = min(across), max(across)

    def place(at: float, value: float) -> str:
        x = _LEFT + _WIDTH * (at - left) / ((right - left) or 1)
        y = _TOP + _HEIGHT * (high - value) / ((high - low) or 1)
        return f"{x:.0f},{y:.0f}"

    parts = []
    for index, line in enumerate(lines.values()):
        for piece in _pieces(across, line):
            points = " ".join(place(at, value) for at, value in piece)
            parts.append(
                f'<polyline class="c{index}" points="{points}"/>'
                if len(piece) > 1
                else f'<circle class="c{index}" cx="{points.partition(",")[0]}" cy="{points.partition(",")[2]}" r="2"/>'
            )
    if low < 0 < high:
        start, end = place(left, 0), place(right, 0)
        parts.insert(0, f'<polyline class="zero" points="{start} {end}"/>')
    label = name or (next(iter(lines)) if len(lines) == 1 else "")
    spoken = f"{label or ', '.join(lines)}, from {number(low)} to {number(high)}"
    return (
        f'<svg class="curve" viewBox="0 0 {_LEFT + _WIDTH + 14} {_TOP + _HEIGHT + _BELOW}" width="{_LEFT + _WIDTH + 14}" '
        f'height="{_TOP + _HEIGHT + _BELOW}" role="img" aria-label="{escape(spoken)}">'
        f'<path class="axes" d="M{_LEFT} {_TOP}V{_TOP + _HEIGHT}H{_LEFT + _WIDTH}"/>{"".join(parts)}'
        f"{_labels(under, low, high)}</svg>{_legend(lines)}"
    )


def _pieces(across: Sequence[float], line: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for at, value in zip(across, line):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((at, value))
    return [piece for piece in pieces if piece]


def _labels(axis: Axis, low: float, high: float) -> str:
    bottom = _TOP + _HEIGHT
    first, last = (_short(axis.values[place]) for place in (0, -1))
    return (
        f'<text class="end" x="{_LEFT - 4}" y="{_TOP + 8}">{escape(number(high))}</text>'
        f'<text class="end" x="{_LEFT - 4}" y="{bottom}">{escape(number(low))}</text>'
        f'<text x="{_LEFT}" y="{bottom + 13}">{escape(first)}</text>'
        f'<text class="end" x="{_LEFT + _WIDTH}" y="{bottom + 13}">{escape(last)}</text>'
        f'<text class="name" x="{_LEFT + _WIDTH // 2}" y="{bottom + 26}">{escape(_short(axis.name, 40))}</text>'
    )


def _short(value: Any, most: int = 16) -> str:
    text = value if isinstance(value, str) else number(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _legend(lines: Mapping[str, Any]) -> str:
    if len(lines) < 2:
        return ""
    items = (
        f'<span><svg class="curve" viewBox="0 0 18 8" width="18" height="8" aria-hidden="true">'
        f'<polyline class="c{index}" points="0,4 18,4"/></svg> {escape(name)}</span>'
        for index, name in enumerate(lines)
    )
    return f'<span class="lines">{"".join(items)}</span>'
