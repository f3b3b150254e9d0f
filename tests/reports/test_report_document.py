"""Reading, checking and writing results.json and witnesses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attribcheck.errors import UsageError
from attribcheck.reports.document import load_results, load_witness, validate_results, validate_witness
from attribcheck.reports.files import dump, to_json

FAILED = 5  # results[5] is a refuted claim with a witness


def test_the_sample_is_accepted_as_it_is_on_disk(results_file: Path) -> None:
    assert load_results(results_file) == json.loads(results_file.read_text(encoding="utf-8"))


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last, value = path

    def change(document: dict[str, Any]) -> None:
        for key in keys:
            document = document[key]
        document[last] = value

    return change


def _drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last = path

    def change(document: dict[str, Any]) -> None:
        for key in keys:
            document = document[key]
        del document[last]

    return change


R, W = ("results", FAILED), ("results", FAILED, "witness")

MALFORMED = {
    "unknown verdict": (_set(*R, "verdict", "maybe"), "results[5].verdict"),
    "unknown claim": (_set(*R, "claim", "perhaps"), "results[5].claim"),
    "unknown observation": (_set(*R, "observed", "passed"), "results[5].observed"),
    "no verdict": (_drop(*R, "verdict"), "'verdict' is a required property"),
    "no witness key": (_drop(*R, "witness"), "'witness' is a required property"),
    "unknown key": (_set(*R, "verdikt", "pass"), "'verdikt' was unexpected"),
    "unknown key at the top": (_set("extra", 1), "'extra' was unexpected"),
    "unknown key of worst": (_set(*R, "worst", "max", 1), "results[5].worst"),
    "axiom in capitals": (_set(*R, "axiom", "Completeness"), "results[5].axiom"),
    "axiom without a variant after the slash": (_set(*R, "axiom", "completeness/"), "results[5].axiom"),
    "negative count": (_set(*R, "examples", -1), "results[5].examples"),
    "fraction as a count": (_set(*R, "examples", 1.5), "results[5].examples"),
    "text as a residual": (_set(*R, "worst", "residual", "NaN"), "results[5].worst.residual"),
    "a residual that is flagged not finite": (
        _set(*R, "worst", "nonfinite", True),
        "results[5].worst.residual",
    ),
    "a pass that saw the opposite": (_set(*R, "verdict", "pass"), "results[5].observed"),
    "a failure that saw no violation": (_set(*R, "observed", "holds"), "results[5].observed"),
    "a verdict without a claim": (_set(*R, "claim", None), "results[5].claim"),
    "a claim filed as unclaimed": (_set(*R, "verdict", "unclaimed"), "results[5].claim"),
    "a witness file above the folder": (_set(*R, "witness_file", "../w.json"), "results[5].witness_file"),
    "a witness file below another": (
        _set(*R, "witness_file", "witnesses/../w.json"),
        "results[5].witness_file",
    ),
    "a witness file anywhere": (_set(*R, "witness_file", "/etc/w.json"), "results[5].witness_file"),
    "a date in words": (_set("created", "yesterday"), "created"),
    "no torch in the environment": (_drop("environment", "torch"), "'torch' is a required property"),
    "results that are no list": (_set("results", {}), "results"),
    "sanity with an unknown verdict": (_set("sanity", 0, "verdict", "ok"), "sanity[0].verdict"),
    "sanity with half an interval": (_set("sanity", 0, "interval", [1.0]), "sanity[0].interval"),
    "a limit in words": (_set("sanity", 0, "limit", "below 0.5"), "sanity[0].limit"),
    "a limit that is no number": (_set("sanity", 0, "limit", {"below": "0.5"}), "sanity[0].limit.below"),
    "a limit on no side": (_set("sanity", 0, "limit", {}), "sanity[0].limit"),
    "limits on both sides": (_set("sanity", 0, "limit", {"below": 0.5, "above": 0.1}), "sanity[0].limit"),
    "a limit on an unknown side": (_set("sanity", 0, "limit", {"near": 0.5}), "sanity[0].limit"),
    "sanity that passed without a claim": (_set("sanity", 0, "claim", None), "sanity[0].claim"),
    "sanity that holds and was claimed to fail": (_set("sanity", 0, "observed", "holds"), "sanity[0].observed"),
    "sanity that was claimed and filed as unclaimed": (_set("sanity", 2, "claim", "holds"), "sanity[2].claim"),
    "a subject without its accuracy": (_drop("subjects", 0, "accuracy"), "'accuracy' is a required property"),
    "an accuracy in per cent": (_set("subjects", 0, "accuracy", 98.1), "subjects[0].accuracy"),
    "incomplete without saying why": (_set("incomplete", ""), "incomplete"),
    "text in x": (_set(*W, "x", [["2", 1.0]]), "results[5].witness.x"),
    "ragged x": (_set(*W, "x", [[2.0, 1.0], [1.0]]), "results[5].witness.x: rows of different lengths"),
    "x of another shape": (_set(*W, "x", [[2.0]]), "results[5].witness"),
    "baseline of another shape": (_set(*W, "baseline", [[0.0]]), "results[5].witness.baseline"),
    "two targets for one sample": (_set(*W, "target", [0, 1]), "results[5].witness.target"),
    "negative target": (_set(*W, "target", [-1]), "results[5].witness.target[0]"),
    "layer without a kind": (_drop(*W, "network", "layers", "mul1", "kind"), "'kind' is a required property"),
    "call of no layer": (_set(*W, "network", "calls", 0, "layer", "gone"), "calls[0].layer: no layer 'gone'"),
    "call before its input": (_set(*W, "network", "calls", 0, "inputs", ["h3"]), "no earlier value 'h3'"),
    "value computed twice": (_set(*W, "network", "calls", 1, "value", "h1"), "'h1' is computed twice"),
    "no calls": (_set(*W, "network", "calls", []), "results[5].witness.network.calls"),
    "factory without a module": (
        _set(*W, "network", {"factory": "f", "sha256": "0" * 64}),
        "network.factory",
    ),
    "witness of another version": (_set(*W, "schema_version", 2), "results[5].witness.schema_version"),
    "unknown figure": (_set(*W, "figures", "p", 1), "results[5].witness.figures"),
}


@pytest.mark.parametrize(("change", "place"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_document_is_refused_at_its_place(
    document: dict[str, Any], change: Callable[[dict[str, Any]], None], place: str
) -> None:
    change(document)
    with pytest.raises(UsageError) as caught:
        validate_results(document, "r.json")
    assert str(caught.value).startswith("r.json: ")
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sanity_as_the_interface_has_it_is_accepted(document: dict[str, Any]) -> None:
    for entry in document["sanity"]:
        for key in ("claim", "reason", "source", "seconds"):
            entry.pop(key, None)
    del document["subjects"]
    validate_results(document)


@pytest.mark.parametrize("limit", [{"below": 0.5}, {"above": 0}, {"above": -1e-6}, None])
def test_a_limit_is_accepted(document: dict[str, Any], limit: dict[str, float] | None) -> None:
    for entry in document["sanity"]:
        assert "limit" not in entry, "the sample was written before rows had one"
        entry["limit"] = limit
    validate_results(document)


def test_a_cell_given_twice_is_refused(document: dict[str, Any]) -> None:
    document["results"].append(document["results"][0])
    last = len(document["results"]) - 1
    with pytest.raises(UsageError, match=rf"results\[{last}\]: the same method, axiom and family as results\[0\]"):
        validate_results(document)


def test_a_check_given_twice_is_refused(document: dict[str, Any]) -> None:
    document["sanity"].insert(0, document["sanity"][2])
    with pytest.raises(UsageError, match=r"sanity\[3\]: the same method, check, model and data as sanity\[0\]"):
        validate_results(document)


@pytest.mark.parametrize("version", [2, "1", None, True])
def test_another_schema_version_is_named_before_anything_else(document: dict[str, Any], version: Any) -> None:
    document["schema_version"] = version
    document["results"] = "anything"
    with pytest.raises(UsageError, match="reads 1; read it with the attribcheck that wrote it"):
        validate_results(document)


def test_a_long_wrong_value_does_not_flood_the_message(document: dict[str, Any]) -> None:
    document["results"][0]["verdict"] = "x" * 10_000
    with pytest.raises(UsageError) as caught:
        validate_results(document)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not strict JSON"),
        (b'{"schema_version": NaN}', "NaN is no JSON number"),
        (b'{"schema_version": -Infinity}', "-Infinity is no JSON number"),
        (b'{"schema_version": 1e999}', "1e999 is beyond every float"),
        (b"[" * 100_000, "is not strict JSON"),
        (b"[]", "holds no JSON object"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_document_is_one_clear_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    for load in (load_results, load_witness):
        with pytest.raises(UsageError) as caught:
            load(path)
        assert said in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_results(tmp_path / "gone.json")
    with pytest.raises(UsageError, match="is a folder"):
        load_witness(tmp_path)


def test_a_document_survives_the_round_trip(document: dict[str, Any], tmp_path: Path) -> None:
    document["results"][0]["note"] = 'a "[\n 1,\n 2\n]" kept, ünd ☃ and \ud800'
    path = dump(document, tmp_path / "r.json")
    assert load_results(path) == document
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_a_witness_survives_the_round_trip(document: dict[str, Any], tmp_path: Path) -> None:
    witness = document["results"][FAILED]["witness"]
    assert load_witness(dump(witness, tmp_path / "w.json")) == witness


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_written(document: dict[str, Any], tmp_path: Path, value: float) -> None:
    path = tmp_path / "r.json"
    path.write_text("before")
    document["results"][0]["worst"]["residual"] = value
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(document, path)
    assert path.read_text() == "before"


def test_rows_of_numbers_stand_on_one_line(document: dict[str, Any]) -> None:
    assert "[2.0, -1.0, 0.0]" in to_json(document)


def test_a_witness_that_is_not_wired_is_refused_by_itself(witnesses: dict[str, Any]) -> None:
    witness = witnesses["residual"]
    validate_witness(witness)
    witness["network"]["calls"][3]["inputs"] = ["h3", "h9"]
    with pytest.raises(UsageError, match=r"network\.calls\[3\]\.inputs: no earlier value 'h9'"):
        validate_witness(witness)
