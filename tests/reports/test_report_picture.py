"""Pictures of networks, and the tables and images of a witness."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any
from xml.etree import ElementTree

import pytest
from attribcheck.reports.evidence import outcome_table, samples
from attribcheck.reports.heatmap import heatmap
from attribcheck.reports.picture import picture
from attribcheck.reports.wiring import depths, shapes


def _draw(network: dict[str, Any], x: Any = None) -> ElementTree.Element:
    figure = ElementTree.fromstring(picture(network, x))
    (svg,) = figure.findall("svg")
    return svg


def _texts(svg: ElementTree.Element, kind: str) -> list[str]:
    return [text.text or "" for text in svg.iter("text") if kind in (text.get("class") or "").split()]


def test_a_dense_branching_network_shows_units_and_weights(witnesses: dict[str, Any]) -> None:
    network = witnesses["product"]["network"]
    svg = _draw(network, witnesses["product"]["x"][0])
    assert len(list(svg.iter("circle"))) == 2 + 1 + 1 + 1 + 1
    # Two weights of the first layers are zero and have no line; the product takes two lines without a weight.
    assert len(list(svg.iter("path"))) == 2 + 2 + 1
    assert _texts(svg, "weight") == ["1", "1", "1"]
    assert _texts(svg, "bias") == ["-0.5"]
    assert _texts(svg, "sign") == ["2", "1", "Σ", "Σ", "×", "Σ"]


def test_branches_share_a_column_and_do_not_overlap(witnesses: dict[str, Any]) -> None:
    svg = _draw(witnesses["product"]["network"])
    points = [(float(circle.get("cx", 0)), float(circle.get("cy", 0))) for circle in svg.iter("circle")]
    first, second = points[2:4]
    assert first[0] == second[0], "both linear layers are one call from the input"
    for index, (at, down) in enumerate(points):
        for right, lower in points[index + 1 :]:
            assert (at - right) ** 2 + (down - lower) ** 2 >= 30**2


def test_a_residual_line_passes_beside_the_units_that_it_skips(witnesses: dict[str, Any]) -> None:
    network = witnesses["residual"]["network"]
    assert depths(network) == {"x": 0, "h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
    svg = _draw(network)
    curves = [path for path in svg.iter("path") if (path.get("d") or "").count("C") == 4]
    assert len(curves) == 3, "each feature of x reaches the sum through three lanes"
    assert _texts(svg, "name").count("relu1 (shared)") == 2
    lines = [path for path in svg.iter("path") if "minus" in (path.get("class") or "")]
    assert len(lines) == sum(
        w < 0 for each in network["layers"].values() for row in each.get("weight", []) for w in row
    )


def test_everything_stays_inside_the_picture(witnesses: dict[str, Any]) -> None:
    for family in ("product", "residual", "conv"):
        svg = _draw(witnesses[family]["network"])
        width, height = float(svg.get("width", 0)), float(svg.get("height", 0))
        for text in svg.iter("text"):
            assert 10 < float(text.get("x", 0)) < width - 10, (family, text.text)
            assert 8 < float(text.get("y", 0)) < height, (family, text.text)


def test_a_convolutional_network_is_boxes_with_shapes(witnesses: dict[str, Any]) -> None:
    network = witnesses["conv"]["network"]
    svg = _draw(network)
    assert len(list(svg.iter("rect"))) == 1 + len(network["calls"])
    labels = _texts(svg, "big")
    assert labels[:4] == ["input  1×6×6", "conv2d  2×5×5", "relu  2×5×5", "maxpool2d  2×4×4"]
    # What comes after an unknown layer has no shape, rather than a guessed one.
    assert labels[4:] == ["softmax_gate", "sub", "flatten", "linear"]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ({"kind": "conv2d", "weight": [[[[1.0] * 3] * 3] * 2] * 5, "padding": 1}, [5, 8, 8]),
        ({"kind": "conv2d", "weight": [[[[1.0] * 3] * 3] * 2] * 5, "stride": 2}, [5, 3, 3]),
        ({"kind": "conv2d", "weight": [[[[1.0] * 3] * 3] * 2] * 5, "dilation": [2, 1]}, [5, 4, 6]),
        ({"kind": "conv2d", "weight": [[[[1.0] * 3] * 3]] * 4, "groups": 2}, [4, 6, 6]),
        ({"kind": "conv2d", "weight": [[[[1.0] * 3] * 3] * 2] * 5, "padding_mode": "circular"}, None),
        ({"kind": "maxpool2d", "kernel_size": 2}, [2, 4, 4]),
        ({"kind": "flatten"}, [128]),
        ({"kind": "linear", "weight": [[1.0] * 8] * 3}, [2, 8, 3]),
        ({"kind": "linear", "weight": [[1.0] * 7] * 3}, None),
        ({"kind": "gelu"}, [2, 8, 8]),
        ({"kind": "attention"}, None),
    ],
)
def test_shapes_are_known_or_left_open(layer: dict[str, Any], shape: list[int] | None) -> None:
    network = {
        "input_shape": [2, 8, 8],
        "layers": {"a": layer},
        "calls": [{"value": "h", "layer": "a", "inputs": ["x"]}],
    }
    assert shapes(network)["h"] == shape


def test_a_wide_network_is_boxes(witnesses: dict[str, Any]) -> None:
    network = {
        "input_shape": [7],
        "layers": {"a": {"kind": "linear", "weight": [[1.0] * 7]}},
        "calls": [{"value": "h", "layer": "a", "inputs": ["x"]}],
    }
    assert len(list(_draw(network).iter("rect"))) == 2


def test_a_permutation_and_a_scale_draw_what_they_do() -> None:
    network = {
        "input_shape": [3],
        "layers": {
            "p": {"kind": "permute", "order": [2, 0, 1]},
            "a": {"kind": "affine", "scale": 2.0, "shift": -1.0},
        },
        "calls": [
            {"value": "h", "layer": "p", "inputs": ["x"]},
            {"value": "k", "layer": "a", "inputs": ["h"]},
        ],
    }
    svg = _draw(network)
    heights = [float(circle.get("cy", 0)) for circle in svg.iter("circle")][:3]
    starts = [float((path.get("d") or "").split("L")[0].split()[1]) for path in svg.iter("path")][:3]
    assert [heights.index(start) for start in starts] == [2, 0, 1]
    assert _texts(svg, "weight") == ["2", "2", "2"]
    assert _texts(svg, "bias") == ["-1", "-1", "-1"]


def test_a_model_of_the_user_is_named(witnesses: dict[str, Any]) -> None:
    assert "<code>shop.models:trained</code>" in picture(witnesses["model"]["network"])


def test_hostile_names_are_escaped(document: dict[str, Any]) -> None:
    (witness,) = [result["witness"] for result in document["results"] if result["method"].startswith("<script>")]
    network = witness["network"]
    for unknown in (False, True):
        for layer in network["layers"].values():
            layer["kind"] = "<b>" if unknown else layer["kind"]
        text = picture(network)
        assert ElementTree.fromstring(text).find("svg") is not None
        assert "<img" not in text
        assert "<b>" not in text


def _pixels(address: str) -> list[list[tuple[int, int, int]]]:
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, body, size = 8, b"", (0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + content),)
        if kind == b"IHDR":
            size = struct.unpack(">II", content[:8])
        body += content if kind == b"IDAT" else b""
        at += 12 + length
    raw, (width, height) = zlib.decompress(body), size
    rows = [raw[row * (3 * width + 1) + 1 : (row + 1) * (3 * width + 1)] for row in range(height)]
    return [[(row[3 * at], row[3 * at + 1], row[3 * at + 2]) for at in range(width)] for row in rows]


def test_a_heatmap_is_white_at_zero_and_coloured_by_sign() -> None:
    ((below, zero, above), (half, strange, full)) = _pixels(heatmap([[-2.0, 0.0, 2.0], [1.0, None, 9.0]], 2.0))
    assert zero == (247, 247, 247)
    assert below[2] > below[0]
    assert above[0] > above[2]
    assert above[1] < half[1] < zero[1], "half of the scale is paler"
    assert strange == (255, 0, 255)
    assert full == above, "what is beyond the scale has full colour"


def test_features_stand_in_rows_with_bars_on_one_scale(witnesses: dict[str, Any]) -> None:
    (first, second), more = samples(witnesses["residual"])
    assert more == 0
    assert (first.title, second.title) == ("Sample 0, target 0", "Sample 1, target 1")
    assert first.table is not None
    assert first.table.heads == ["x", "baseline", "attribution", "expected", "obtained"]
    name, row = first.table.rows[1]
    assert name == "x[1]"
    assert [figure.text for figure in row] == ["1", "0", "-0.5", "-0.5", "-1"]
    assert [figure.share for figure in row] == [None, None, -0.25, -0.25, -0.5]
    assert (row[4].left, row[4].width) == (25, 25), "half of the left half of the track"
    assert outcome_table(witnesses["residual"]) is None, "the figures are in the table of features"


def test_long_rows_and_many_samples_are_cut_with_a_count(witnesses: dict[str, Any]) -> None:
    witness = witnesses["product"]
    witness["x"] = [[1.0] * 784] * 10
    witness["baseline"] = None
    witness["target"] = [0] * 10
    witness["figures"] |= {"expected": [1.0] * 30, "obtained": [2.0] * 30, "attribution": None}
    shown, more = samples(witness)
    assert (len(shown), more) == (3, 7)
    assert shown[0].table is not None
    assert (len(shown[0].table.rows), shown[0].table.more) == (12, 772)
    table = outcome_table(witness)
    assert table is not None
    assert (len(table.rows), table.more) == (12, 18)


def test_numbers_that_are_not_finite_are_named(document: dict[str, Any]) -> None:
    (witness,) = [result["witness"] for result in document["results"] if result["method"] == "mine:nan"]
    table = outcome_table(witness)
    assert table is not None
    assert [figure.text for figure in table.rows[0][1]] == ["1.5", "not finite", "-"]
    (sample,), _ = samples(witness)
    assert sample.table is not None
    assert sample.table.rows[0][1][2].text == "not finite"
