"""Which figures of a full-model check are drawn, and over what."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attribcheck.reports.curves import curves, shown


def drawn(figures: dict[str, Any]) -> dict[str, Any]:
    """By name: the label of what stands under a drawing, or a text, or the same of what is inside."""

    def told(each: Any) -> Any:
        if each.inner:
            return {inner.name: told(inner) for inner in each.inner}
        found = re.search(r'<text class="name"[^>]*>(.*?)</text>', each.drawing)
        return [found.group(1)] if found else each.text

    return {each.name: told(each) for each in shown(figures)}


UP, DOWN, WAVE = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.1, 0.3, 0.2]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"mean": 0.5, "name": "text", "none": None}, {"mean": "0.5", "name": "text", "none": "-"}),
        ({"flag": True}, {"flag": "yes"}),
        ({"pair": [1, 2], "gap": [None, 1.0]}, {"pair": "1, 2", "gap": "-, 1"}),
        ({"wave": WAVE}, {"wave": [""]}),
        ({"rising alone": UP}, {"rising alone": [""]}),
        ({"sizes": UP, "wave": WAVE}, {"wave": ["sizes"]}),
        ({"falls": DOWN, "wave": WAVE}, {"falls": [""], "wave": [""]}),
        ({"sizes": UP, "longer": [*WAVE, 1.0]}, {"sizes": [""], "longer": [""]}),
        ({"layers": ["a", "b", "c"], "wave": WAVE}, {"wave": ["layers"]}),
        ({"names": ["a", "b", "c"]}, {"names": '["a", "b", "c"]'}),
        ({"sizes": UP, "controls": {"one": UP, "two": WAVE}}, {"controls": ["sizes"]}),
        ({"layers": ["a", "b", "c"], "inner": {"layer": [1, 2, 3], "wave": WAVE}}, {"inner": ["layer"]}),
        ({"removed": {"x": [3, 2, 1], "y": WAVE, "x label": "pixels"}}, {"removed": ["pixels"]}),
        ({"x": UP, "wave": WAVE}, {"wave": ["x"]}),
        ({"mixed": {"wave": WAVE, "mean": 0.5}}, {"mixed": {"wave": [""], "mean": "0.5"}}),
        ({"sizes": [1, 10, 100], "wave": WAVE}, {"wave": ["sizes (logarithmic)"]}),
        ({"sizes": [0, 10, 100], "wave": WAVE}, {"wave": ["sizes"]}),
        ({"table": [[1, 2], [3, 4]]}, {"table": "[[1, 2], [3, 4]]"}),
        ({"lost": [None, None, 1.0]}, {"lost": "-, -, 1"}),
        ({"nothing": []}, {"nothing": ""}),
    ],
)  # fmt: skip
def test_what_stands_under_a_curve(figures: dict[str, Any], expected: dict[str, Any]) -> None:
    assert drawn(figures) == expected


def test_curves_of_a_mapping_share_one_drawing_up_to_six() -> None:
    few = {f"line {k}": WAVE for k in range(6)}
    (one,) = shown({"all": few})
    assert one.drawing.count("<polyline class=") == 6 + 6, "with a legend"
    (many,) = shown({"all": {**few, "line 6": UP}})
    assert len(many.inner) == 7


def test_places_of_points() -> None:
    drawing = curves({"line": [1.0, None, 3.0, 2.0]})
    assert '<circle class="c0" cx="46" cy="118" r="2"/>' in drawing, "one point between gaps"
    assert '<polyline class="c0" points="213,8 296,63"/>' in drawing
    flat = curves({"line": [2, 2, 2]})
    assert 'points="46,8 171,8 296,8"' in flat
    assert 'aria-label="line, from 2 to 2"' in flat


def test_names_are_escaped() -> None:
    drawing = curves({'<b>"': WAVE, "&": UP}, name="<i>")
    assert "<b>" not in drawing
    assert "<i>" not in drawing
    assert "&lt;b&gt;" in drawing
