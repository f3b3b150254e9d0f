"""What earlier versions wrote still renders and replays; of their journals nothing is taken, and one line says so."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attribcheck.cli import cli
from attribcheck.reports import FORMATS, load_results
from click.testing import CliRunner

BEFORE = Path(__file__).parent.parent / "fixtures" / "before"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what was written, and the method that it was written of."""
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("kind", ["run", "sanity"])
def test_results_render(kind: str, here: Path) -> None:
    document = load_results(here / kind / "results.json")
    assert len(document["results"]) + len(document["sanity"]) >= 8
    given = ["report", f"{kind}/results.json", "--report", ",".join(FORMATS), "--report-dir", "out"]
    done = CliRunner().invoke(cli, given, catch_exceptions=False)
    assert done.exit_code == 0
    for form in FORMATS.values():
        assert (here / "out" / form.filename).stat().st_size > 300
    assert load_results(here / "out" / "results.json") == document


def test_witnesses_replay(here: Path) -> None:
    done = CliRunner().invoke(cli, ["replay", "run"], catch_exceptions=False)
    lines = done.output.splitlines()
    assert done.exit_code == 1
    assert len(lines) == len(list((here / "run" / "witnesses").iterdir())) == 6
    assert all(": reproduced: " in line for line in lines)
    (raised,) = [line for line in lines if "mine:raising" in line]
    assert raised.endswith("reproduced: raised ValueError: no such layer")


def test_an_old_journal_gets_one_line(here: Path) -> None:
    given = [
        "sanity",
        "gradient",
        "--check",
        "class-sensitivity",
        "--scale",
        "tiny",
        "--model",
        "mnist-mlp",
        "--data",
        "digits",
    ]
    done = CliRunner().invoke(cli, [*given, "--resume", "--report-dir", "sanity"], catch_exceptions=False)
    assert done.exit_code in (0, 1)
    (line,) = done.stderr.splitlines()[:1]
    assert line == (
        "0 of 1 parts are taken from sanity/progress.jsonl; "
        "sanity-progress.jsonl is of an earlier version, and nothing is taken from it"
    )
