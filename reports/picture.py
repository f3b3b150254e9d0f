"""Draw a network given as data: units and weights where it is small and dense, else a box for each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import count, pairwise
from typing import Any

from .tensors import shape_of
from .wiring import Shape, depths, shapes
from .words import number

_MOST_UNITS = 6
_MOST_LABELS = 16
_RADIUS = 15
_UNIT_STEP = 46
_LANE_STEP = 12
_BOX = (132, 40)
_BOX_STEP = (158, 66)

_SIGNS = {
    "linear": "Σ", "relu": "relu", "leaky_relu": "leaky", "tanh": "tanh", "sigmoid": "σ", "softplus": "s+",
    "gelu": "gelu", "add": "+", "sub": "−", "mul": "×", "maximum": "max", "affine": "a·z+b", "permute": "π",
    "flatten": "", "batchnorm": "bn",
}  # fmt: skip


@dataclass
class _Node:
    """A value in its column, or the lane of a value that passes a column on its way to a later one."""

    value: str
    column: int
    size: int
    lane: bool = False
    points: list[tuple[float, float]] = field(default_factory=list)


def picture(network: Mapping[str, Any], x: Any = None) -> str:
    """An `<svg>` element that shows the network, safe to place in HTML.

    Args:
        network: the `network` of a witness; one that is a factory gives a line of text.
        x: one sample, whose features are written into the input units of a small network.
    """
    if "factory" in network:
        return f"<p>The network is built by <code>{escape(str(network['factory']))}</code>.</p>"
    known = shapes(network)
    if _is_small(network, known):
        return _units(network, known, x)
    return _boxes(network, known)


def _is_small(network: Mapping[str, Any], known: Mapping[str, Shape]) -> bool:
    kinds = {layer["kind"] for layer in network["layers"].values()}
    # Past twelve columns of circles a reader follows the boxes more easily.
    return (
        kinds <= set(_SIGNS)
        and max(depths(network).values()) <= 12
        and all(shape is not None and len(shape) == 1 and shape[0] <= _MOST_UNITS for shape in known.values())
    )


# Both drawings: columns by depth, lanes for values that skip columns


def _arrange(network: Mapping[str, Any], sizes: Mapping[str, int]) -> list[list[_Node]]:
    depth = depths(network)
    last = dict(depth)
    for call in network["calls"]:
        for value in call["inputs"]:
            last[value] = max(last.get(value, 0), depth[call["value"]] - 1)
    columns: list[list[_Node]] = [[] for _ in range(max(depth.values()) + 1)]
    for value, column in depth.items():
        columns[column].append(_Node(value, column, sizes[value]))
        for passed in range(column + 1, last[value] + 1):
            columns[passed].append(_Node(value, passed, sizes[value], lane=True))
    _untangle(network, columns)
    return columns


def _untangle(network: Mapping[str, Any], columns: list[list[_Node]]) -> None:
    """Order each column by the mean place of what feeds it, so that few edges cross."""
    feeds = {call["value"]: call["inputs"] for call in network["calls"]}
    for before, column in pairwise(columns):
        place = {node.value: index / max(1, len(before) - 1) for index, node in enumerate(before)}

        def wanted(node: _Node, place: dict[str, float] = place) -> float:
            sources = [node.value] if node.lane else feeds.get(node.value, [])
            places = [place[source] for source in sources if source in place]
            return sum(places) / len(places) if places else 0.5

        column.sort(key=wanted)


def _way(columns: list[list[_Node]], value: str, unit: int, until: int) -> list[tuple[float, float]]:
    """The points that unit `unit` of `value` passes on its way to column `until`."""
    nodes = (node for column in columns[:until] for node in column if node.value == value)
    return [node.points[min(unit, len(node.points) - 1)] for node in nodes]


# Small and dense: circles and weights


def _units(network: Mapping[str, Any], known: Mapping[str, Shape], x: Any) -> str:
    columns = _arrange(network, {value: (shape or [1])[0] for value, shape in known.items()})
    width, height = _place_units(network, columns, known)
    calls = {call["value"]: call for call in network["calls"]}
    uses = Counter(call["layer"] for call in network["calls"])
    edges, labels, circles = [], [], []
    features = x if isinstance(x, list) and len(x) == (known["x"] or [0])[0] else None
    for node in (node for column in columns for node in column if not node.lane):
        call = calls.get(node.value)
        layer = network["layers"][call["layer"]] if call else {"kind": "input"}
        title = "x" if call is None else call["layer"] + (" (shared)" if uses[call["layer"]] > 1 else "")
        if call:
            joined = list(_edges(layer, call, known))
            labelled = [edge for edge in joined if edge[3] is not None]
            for source, start, end, weight, mark in joined:
                way = [*_way(columns, source, start, node.column), node.points[end]]
                edges.append(_edge(way, weight, mark))
                if mark and len(labelled) <= _MOST_LABELS:
                    share = 0.36 + 0.36 * (start / max(1, (known[source] or [1])[0] - 1))
                    labels.append(_edge_label(way, share if len(joined) > 1 else 0.5, mark))
        top = min(y for _, y in node.points) - _RADIUS - 8
        labels.append(_text(node.points[0][0], top, _clip(title, 16), "name"))
        for index, (at, down) in enumerate(node.points):
            sign = _SIGNS[layer["kind"]] if call else number(features[index]) if features else f"x{index}"
            circles.append(f'<circle cx="{at:.0f}" cy="{down:.0f}" r="{_RADIUS}" class="unit"/>')
            circles.append(_text(at, down + 3.5, sign, "sign" if len(sign) < 5 else "sign small"))
            shift = _shift(layer, index)
            if shift:
                circles.append(_text(at, down + _RADIUS + 10, f"{shift:+.4g}", "bias"))
    caption = "Lines carry weights (none where the weight is 0); the number under a unit is its bias."
    return _svg(width, height, [*edges, *labels, *circles], "network as units and weights", caption)


def _place_units(
    network: Mapping[str, Any], columns: list[list[_Node]], known: Mapping[str, Shape]
) -> tuple[float, float]:
    def tall(node: _Node) -> float:
        return (node.size - 1) * (_LANE_STEP if node.lane else _UNIT_STEP)

    gap = 70.0
    heights = [sum(map(tall, column)) + gap * (len(column) - 1) for column in columns]
    middle = max(heights) / 2
    at = _RADIUS + 26.0
    calls = {call["value"]: call for call in network["calls"]}
    for index, (column, height) in enumerate(zip(columns, heights, strict=True)):
        if index:
            at += max(_gap(network, calls[node.value], known) for node in column if not node.lane)
        down = middle - height / 2
        for node in column:
            step = _LANE_STEP if node.lane else _UNIT_STEP
            node.points = [(at, down + step * unit) for unit in range(node.size)]
            down += tall(node) + gap
    # Room for a name above the highest unit and a bias below the lowest.
    points = [point for column in columns for node in column for point in node.points]
    rise = min(down for _, down in points) - _RADIUS - 22
    for node in (node for column in columns for node in column):
        node.points = [(right, down - rise) for right, down in node.points]
    return at + _RADIUS + 26, max(down for _, down in points) - rise + _RADIUS + 16


def _gap(network: Mapping[str, Any], call: Mapping[str, Any], known: Mapping[str, Shape]) -> float:
    """How far a column stands from the one before it: weights need room to be read."""
    if network["layers"][call["layer"]]["kind"] not in ("linear", "affine"):
        return 68
    return 70 + 20 * (known[call["inputs"][0]] or [1])[0]


def _edges(
    layer: Mapping[str, Any], call: Mapping[str, Any], known: Mapping[str, Shape]
) -> Iterator[tuple[str, int, int, float | None, str]]:
    """For each line: the value and the unit it comes from, the unit it goes to, its weight and its label."""
    kind, inputs = layer["kind"], call["inputs"]
    size = (known[call["value"]] or [0])[0]
    if kind == "linear":
        for unit, row in enumerate(layer["weight"]):
            for source, weight in enumerate(row):
                if weight:
                    yield inputs[0], source, unit, weight, number(weight)
    elif kind == "permute":
        for unit, source in enumerate(layer["order"]):
            yield inputs[0], source, unit, None, ""
    else:
        for position, value in enumerate(inputs):
            for unit in range(size):
                scale = _at(layer.get("scale"), unit) if kind == "affine" else None
                minus = "−" if kind == "sub" and position else ""
                yield value, unit, unit, scale, number(scale) if scale is not None else minus


def _shift(layer: Mapping[str, Any], unit: int) -> float | None:
    key = {"linear": "bias", "affine": "shift"}.get(layer["kind"])
    return _at(layer.get(key), unit) if key else None


def _at(values: Any, unit: int) -> float | None:
    if isinstance(values, list) and len(shape_of(values)) == 1:
        values = values[unit] if len(values) > 1 else values[0]
    return values if isinstance(values, (int, float)) else None


def _edge(way: list[tuple[float, float]], weight: float | None, mark: str) -> str:
    kind = "" if weight is None else " plus" if weight > 0 else " minus"
    thick = 1.2 if weight is None else min(3.2, 1.0 + 0.5 * abs(weight))
    title = f"<title>{escape(mark)}</title>" if mark else ""
    return f'<path d="{_curve(way)}" class="edge{kind}" stroke-width="{thick:.1f}">{title}</path>'


def _curve(way: list[tuple[float, float]], upright: bool = False) -> str:
    """A straight line between neighbours, a smooth curve through lanes."""
    (at, down), *rest = way
    parts = [f"M{at:.0f} {down:.0f}"]
    for right, lower in rest:
        if len(way) == 2 and not upright:
            parts.append(f"L{right:.0f} {lower:.0f}")
        elif upright:
            half = (down + lower) / 2
            parts.append(f"C{at:.0f} {half:.0f} {right:.0f} {half:.0f} {right:.0f} {lower:.0f}")
        else:
            half = (at + right) / 2
            parts.append(f"C{half:.0f} {down:.0f} {half:.0f} {lower:.0f} {right:.0f} {lower:.0f}")
        at, down = right, lower
    return "".join(parts)


def _edge_label(way: list[tuple[float, float]], share: float, mark: str) -> str:
    (at, down), (right, lower) = way[-2:]
    return _text(at + share * (right - at), down + share * (lower - down) + 3, mark, "weight")


# Everything else: a box for each call


def _boxes(network: Mapping[str, Any], known: Mapping[str, Shape]) -> str:
    columns = _arrange(network, dict.fromkeys(known, 1))
    wide, tall = _BOX
    widths = [sum(30 if node.lane else _BOX_STEP[0] for node in row) for row in columns]
    width = max(widths) + 20
    for index, (row, used) in enumerate(zip(columns, widths, strict=True)):
        at = (width - used) / 2
        for node in row:
            room = 30 if node.lane else _BOX_STEP[0]
            node.points = [(at + room / 2, 30.0 + index * _BOX_STEP[1])]
            at += room
    calls = {call["value"]: call for call in network["calls"]}
    uses = Counter(call["layer"] for call in network["calls"])
    edges, boxes = [], []
    for node in (node for row in columns for node in row if not node.lane):
        call = calls.get(node.value)
        at, down = node.points[0]
        top = down - tall / 2
        entries = count(1)
        for source in call["inputs"] if call else ():
            # Several inputs enter side by side, so that a difference shows which is subtracted.
            enter = at - wide / 2 + wide * next(entries) / (len(call["inputs"]) + 1) if call else at
            way = _way(columns, source, 0, node.column)
            start = (way[0][0], way[0][1] + tall / 2)
            edges.append(f'<path d="{_curve([start, *way[1:], (enter, top)], upright=True)}" class="edge"/>')
        layer = network["layers"].get(call["layer"], {"kind": "?"}) if call else {"kind": "input"}
        name = "x" if call is None else call["layer"] + (" (shared)" if uses[call["layer"]] > 1 else "")
        shape = known.get(node.value)
        label = layer["kind"] + (f"  {'×'.join(map(str, shape))}" if shape else "")
        corner = f'x="{at - wide / 2:.0f}" y="{top:.0f}"'
        boxes.append(f'<rect {corner} width="{wide}" height="{tall}" rx="6" class="unit"/>')
        boxes.append(_text(at, down - 3, _clip(label), "sign big"))
        boxes.append(_text(at, down + 12, _clip(name), "name"))
    caption = "One box for each call: the kind, the shape of a sample where it is known, and the layer."
    return _svg(width, 60 + (len(columns) - 1) * _BOX_STEP[1], [*edges, *boxes], "network as calls", caption)


def _clip(text: str, limit: int = 22) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text(at: float, down: float, text: str, kind: str) -> str:
    return f'<text x="{at:.1f}" y="{down:.1f}" class="{kind}">{escape(text)}</text>'


def _svg(width: float, height: float, parts: list[str], title: str, caption: str) -> str:
    return (
        f'<figure class="picture"><svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
