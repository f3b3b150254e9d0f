"""What a reader needs to see of a witness: its samples as tables or maps, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .heatmap import heatmap
from .tensors import flat, indices, is_rectangular, largest, shape_of
from .words import number

_MOST_SAMPLES = 3
_MOST_FEATURES = 12
_MOST_CHANNELS = 3
_WITH_BARS = ("attribution", "expected", "obtained")


@dataclass(frozen=True)
class Figure:
    """One number of a table.

    Attributes:
        text: the number as read.
        share: its size from -1 to 1 against the largest of its kind, None where a bar would say nothing.
    """

    text: str
    share: float | None = None

    @property
    def left(self) -> int:
        """Where its bar starts, in hundredths of the track, whose middle is zero."""
        return round(50 + 50 * min(0.0, self.share or 0.0))

    @property
    def width(self) -> int:
        """How long its bar is, in hundredths of the track."""
        return round(50 * abs(self.share or 0.0))


@dataclass(frozen=True)
class Table:
    """Rows of figures under named columns, and how many rows were left out."""

    heads: list[str]
    rows: list[tuple[str, list[Figure]]]
    more: int


@dataclass(frozen=True)
class Map:
    """A small image of one channel, with the numbers of its ends."""

    name: str
    address: str
    width: int
    height: int
    low: str
    high: str


@dataclass(frozen=True)
class Sample:
    """One sample of a witness: a table of its features, or maps of it."""

    title: str
    table: Table | None
    maps: list[Map]
    more: int


def samples(witness: Mapping[str, Any]) -> tuple[list[Sample], int]:
    """The first samples of a witness, and how many more there are.

    Beside x and the baseline stand the attribution and those figures that have one number for each feature.
    """
    shape = shape_of(witness["x"])
    figures = witness["figures"]
    columns = {"x": witness["x"], "baseline": witness["baseline"]}
    columns |= {name: figures.get(name) for name in _WITH_BARS if _has_shape(figures.get(name), shape)}
    columns = {name: values for name, values in columns.items() if values is not None}
    shown = []
    for index in range(min(len(witness["x"]), _MOST_SAMPLES)):
        title = f"Sample {index}, " if len(witness["x"]) > 1 else ""
        title += f"target {witness['target'][index]}" if index < len(witness["target"]) else "no target"
        values = {name: batch[index] for name, batch in columns.items()}
        if _is_image(shape[1:]):
            maps, more = _maps(values)
            shown.append(Sample(title, None, maps, more))
        else:
            shown.append(Sample(title, _features(values, shape[1:]), [], 0))
    return shown, len(witness["x"]) - len(shown)


def outcome_table(witness: Mapping[str, Any]) -> Table | None:
    """Expected against obtained; None where they are maps over the features, which `samples` shows."""
    figures, shape = witness["figures"], shape_of(witness["x"])
    pair = {name: figures[name] for name in ("expected", "obtained") if figures[name] is not None}
    if not pair or all(_has_shape(values, shape) for values in pair.values()):
        return None
    lists = {name: list(flat(values)) for name, values in pair.items()}
    length = max(map(len, lists.values()))
    scale = largest(list(lists.values()))
    rows = []
    for index in range(min(length, _MOST_FEATURES)):
        values = [column[index] if index < len(column) else None for column in lists.values()]
        known = [value for value in values if value is not None]
        row = [_figure(value, scale) for value in values]
        row.append(Figure(number(known[1] - known[0]) if len(known) == 2 else "-"))
        rows.append((str(index) if length > 1 else "", row))
    return Table([*lists, "difference"], rows, length - len(rows))


def _has_shape(values: Any, shape: list[int]) -> bool:
    return isinstance(values, list) and shape_of(values) == shape and is_rectangular(values)


def _is_image(shape: list[int]) -> bool:
    return len(shape) >= 2 and min(shape[-2:]) >= 4 and shape[-1] * shape[-2] > 24


def _features(values: Mapping[str, Any], shape: list[int]) -> Table:
    lists = {name: list(flat(sample)) for name, sample in values.items()}
    # One scale for all bars, since they are compared with each other.
    scale = largest([lists[name] for name in _WITH_BARS if name in lists])
    rows = []
    for position, index in zip(range(_MOST_FEATURES), indices(shape), strict=False):
        scales = {name: scale if name in _WITH_BARS else 0.0 for name in lists}
        row = [_figure(column[position], scales[name]) for name, column in lists.items()]
        rows.append((f"x[{', '.join(map(str, index))}]", row))
    return Table(list(lists), rows, len(lists["x"]) - len(rows))


def _figure(value: float | None, scale: float) -> Figure:
    return Figure(number(value), value / scale if scale and value is not None else None)


def _maps(values: Mapping[str, Any]) -> tuple[list[Map], int]:
    maps, more = [], 0
    # Attributions are compared with each other, so they share one scale; x and the baseline share another.
    scales = {
        shared: largest([sample for name, sample in values.items() if (name in _WITH_BARS) == shared])
        for shared in (True, False)
    }
    for name, sample in values.items():
        planes = _planes(sample)
        for channel, plane in enumerate(planes[:_MOST_CHANNELS]):
            title = f"{name}, channel {channel}" if len(planes) > 1 else name
            known = [value for value in flat(plane) if value is not None]
            low, high = (number(min(known)), number(max(known))) if known else ("not finite", "not finite")
            size = max(1, round(150 / max(len(plane), len(plane[0]))))
            address = heatmap(plane, scales[name in _WITH_BARS])
            maps.append(Map(title, address, size * len(plane[0]), size * len(plane), low, high))
        more += max(0, len(planes) - _MOST_CHANNELS)
    return maps, more


def _planes(sample: Any) -> list[list[list[float | None]]]:
    if len(shape_of(sample)) == 2:
        return [sample]
    return [plane for part in sample for plane in _planes(part)]
