"""Writing the reports and the witnesses into a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attribcheck import reports
from attribcheck.errors import UsageError
from attribcheck.reports import FORMATS, NotWritten, load_results, load_witness, write


def test_every_format_is_written_under_its_name(document: dict[str, Any], tmp_path: Path) -> None:
    written = write(document, tmp_path / "new" / "report", list(FORMATS))
    names = ["report.html", "results.json", "junit.xml", "report.md"]
    assert [path.relative_to(tmp_path / "new" / "report").as_posix() for path in written] == names
    assert all(path.stat().st_size for path in written)
    assert load_results(written[1]) == document


def test_only_what_is_asked_for_is_written(document: dict[str, Any], tmp_path: Path) -> None:
    assert write(document, tmp_path, ["md", "md"]) == [tmp_path / "report.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "witnesses"]


def test_each_witness_is_a_file_that_loads_by_itself(document: dict[str, Any], tmp_path: Path) -> None:
    write(document, tmp_path, ["json"])
    expected = {result["witness_file"]: result["witness"] for result in document["results"] if result["witness"]}
    assert len(expected) == 7
    for name, witness in expected.items():
        assert load_witness(tmp_path / name) == witness
    assert len(list((tmp_path / "witnesses").iterdir())) == 7, "nothing else, temporary files included"


def test_the_replay_line_names_the_folder_as_given(document: dict[str, Any], tmp_path: Path) -> None:
    (path,) = write(document, tmp_path / "a b", ["md"])
    name = "captum-DeepLift--completeness-delta--product.json"
    assert f"attribcheck replay '{(tmp_path / 'a b').as_posix()}/witnesses/{name}'" in path.read_text(encoding="utf-8")


def test_an_unknown_format_names_the_known_ones(document: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown report format 'pdf': choose from html, json, junit, md"):
        write(document, tmp_path / "new", ["html", "pdf"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../outside.json", "witnesses/../../outside.json", "/outside.json"])
def test_a_witness_never_leaves_the_folder(document: dict[str, Any], tmp_path: Path, name: str) -> None:
    document["results"][5]["witness_file"] = str(tmp_path) + name if name.startswith("/") else name
    with pytest.raises(UsageError, match=r"results\[5\].witness_file: .* leads out of the report's folder"):
        write(document, tmp_path / "report", ["json"])
    assert list(tmp_path.iterdir()) == []


def test_two_witnesses_never_share_a_file(document: dict[str, Any], tmp_path: Path) -> None:
    document["results"][6]["witness_file"] = document["results"][5]["witness_file"]
    with pytest.raises(UsageError, match=r"results\[6\].witness_file: .* is the file of another witness too"):
        write(document, tmp_path / "report", ["json"])


def test_what_is_not_finite_leaves_no_half_report(document: dict[str, Any], tmp_path: Path) -> None:
    document["seed"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(document, tmp_path / "report", ["html", "json"])
    assert not (tmp_path / "report").exists()


def test_a_folder_that_is_a_file_is_a_usage_error(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*; choose another folder with --report-dir"):
        write(document, tmp_path / "taken", ["json"])


def test_a_file_that_cannot_be_replaced_leaves_no_temporary(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        write(document, tmp_path, ["md"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "witnesses"]


def test_an_old_report_is_replaced(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("old")
    write(document, tmp_path, ["json"])
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == document


def test_importing_the_reports_loads_no_renderer() -> None:
    heavy = "('jinja2', 'markupsafe', 'jsonschema', 'referencing', 'junitparser', 'torch', 'numpy')"
    code = f"import sys, attribcheck.reports; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_on_a_disk_that_fills_up_results_json_comes_first(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else can be rendered from it: the line says how."""
    left = ["room for one file"]

    def filling(path: Path, text: str) -> Path:
        if not left:
            raise UsageError(f"cannot write {path}: No space left on device")
        left.pop()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    monkeypatch.setattr(reports, "write_text", filling)
    with pytest.raises(NotWritten) as full:
        write(document, tmp_path, ["html", "md", "json"])
    assert full.value.written == [tmp_path / "results.json"]
    assert load_results(tmp_path / "results.json") == document
    assert str(full.value) == (
        f"cannot write {tmp_path}/report.html: No space left on device (and 8 more files); everything is in "
        f"{tmp_path}/results.json: `attribcheck report {tmp_path}/results.json --report-dir FOLDER`"
    )
