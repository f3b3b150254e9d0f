"""`attribcheck sanity` on the command line: what it prints, writes and returns; on fakes that take no time."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attribcheck.cli.commands import cli
from attribcheck.errors import UsageError
from attribcheck.reports import load_results
from attribcheck.runner import checks as running
from attribcheck.runner.here import Here
from attribcheck.sanity import checks
from click.testing import CliRunner, Result

ALL = ("fake_checks:gradient", "fake_checks:zero", "fake_checks:noisy")


@pytest.fixture(autouse=True)
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The fake checks in place of the registry's, and an empty working directory."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "support"))
    monkeypatch.chdir(tmp_path)
    import fake_checks

    known = {check.name: check for check in fake_checks.CHECKS}
    monkeypatch.setattr(checks, "MODULES", dict.fromkeys(known, ""))
    monkeypatch.setattr(checks, "load", lambda name: known[checks.known(name)])
    monkeypatch.setattr(
        running, "load_subject", lambda options, model, data, progress=False: fake_checks.load(model, data)
    )
    monkeypatch.setattr(
        "attribcheck.runner.running.executor", lambda *given: Here()
    )  # (fakes are of this process alone)
    yield fake_checks
    sys.modules.pop("fake_checks", None)


def sanity(*arguments: str) -> Result:
    """One run; its exceptions are the test's."""
    return CliRunner().invoke(
        cli, ["sanity", "--scale", "tiny", *arguments], prog_name="attribcheck", catch_exceptions=False
    )


def test_claims_that_stand(tmp_path: Path) -> None:
    result = sanity("fake_checks:gradient", "--check", "sensitivity-n")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "1 checked: 1 as claimed\nwritten: attribcheck-report/report.html\nwritten: attribcheck-report/results.json\n"
    )
    assert result.stderr == ""
    document = load_results(tmp_path / "attribcheck-report" / "results.json")
    assert document["results"] == []
    assert document["max_examples"] is None
    assert document["environment"]["scale"] == "tiny, 4 images"
    assert [subject["model"] for subject in document["subjects"]] == ["small"]
    (row,) = document["sanity"]
    assert (row["method"], row["verdict"], row["claim"]) == ("fake_checks:gradient", "pass", "holds")


def test_what_falls_is_told_at_once_and_at_the_end() -> None:
    result = sanity("fake_checks:zero", "--report", "json")
    assert result.exit_code == 1
    cell = "competition/kept[fake_checks:zero-small:points]"
    line = f"REFUTED      {cell}: claimed to hold, violated; sum R+ 0; rule: above 0\n"
    assert result.stderr == line
    assert result.stdout.startswith(line)
    assert "3 checked: 1 as claimed, 1 refuted or not shown, 1 observed without a claim" in result.stdout


def test_a_claimed_failure_that_is_not_shown() -> None:
    result = sanity("fake_checks:gradient", "--report", "json")
    assert result.exit_code == 1
    assert result.stdout.count("NOT SHOWN    competition/") == 2
    assert "claimed to fail, holds" in result.stdout
    assert "the claimed failure could not be shown" in result.stdout


def test_quiet_and_verbose() -> None:
    quiet = sanity("fake_checks:zero", "-q", "--report", "json")
    assert (quiet.stdout.count("\n"), quiet.stderr) == (1, "")
    verbose = sanity(*ALL, "-v", "--report", "json", "--no-color")
    assert re.findall(r"^(?:observed|as claimed) +(\S+)", verbose.stdout, re.MULTILINE) == [
        "sensitivity-n[fake_checks:gradient-small:points]:",
        "sensitivity-n[fake_checks:zero-small:points]:",
        "sensitivity-n[fake_checks:noisy-small:points]:",
        "competition/randomization[fake_checks:zero-small:points]:",
        "competition/kept[fake_checks:noisy-small:points]:",
        "competition/randomization[fake_checks:noisy-small:points]:",
    ]
    assert verbose.stderr == "preparing small:points\n"


def test_a_method_without_claims_gates_nothing() -> None:
    result = sanity("fake_checks:noisy")
    assert result.exit_code == 0
    assert "3 checked: 3 observed without a claim" in result.stdout


@pytest.mark.parametrize("others", [(), ("fake_checks:zero",)])
def test_a_method_that_raises(others: tuple[str, ...]) -> None:
    result = sanity("fake_checks:raises", *others, "--report", "json")
    assert result.exit_code == 2, "an error wins over what falls"
    assert "ERROR        sensitivity-n[fake_checks:raises-small:points]: " in result.stdout
    assert "raised RuntimeError: no map today" in result.stdout
    assert "second line" not in result.output
    assert "Traceback" not in result.output


def test_a_method_that_no_check_can_look_at() -> None:
    """What matches nothing is an error, not a pass."""
    result = sanity("fake_checks:refuses", "--report", "json")
    assert result.exit_code == 2
    assert result.stderr == "attribcheck: the selection matches nothing: no network is good enough\n"


def test_a_model_that_has_not_learnt(fakes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = {check.name: replace(check, subject="weak:points") for check in fakes.CHECKS}
    monkeypatch.setattr(checks, "load", weak.__getitem__)
    result = sanity("fake_checks:gradient", "--check", "sensitivity-n")
    assert result.exit_code == 1
    assert "inconclusive sensitivity-n[" in result.stdout
    assert (
        "the model classifies 40.0% of unseen samples correctly, and below 90% the check says nothing" in result.stdout
    )


@pytest.mark.parametrize("said", ["no such data: give --data-root", "the weights have 10 classes, the data 20"])
def test_a_subject_that_cannot_be_had(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(options: Any, model: str, data: str, progress: bool = False) -> Any:
        raise UsageError(said)

    monkeypatch.setattr(running, "load_subject", refuse)
    result = sanity("fake_checks:gradient")
    assert result.exit_code == 2
    assert (result.stdout, result.stderr) == ("", f"attribcheck: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_is_reported_and_resumed(tmp_path: Path) -> None:
    stopped = sanity("fake_checks:zero", "fake_checks:interrupts", "--report", "html,json,md,junit")
    assert stopped.exit_code == 1
    assert "1 checked: 1 as claimed; interrupted after 1 of 4 parts; go on with --resume\n" in stopped.stdout
    folder = tmp_path / "attribcheck-report"
    assert load_results(folder / "results.json")["incomplete"] == "interrupted after 1 of 4 parts; go on with --resume"
    assert "The run was stopped: interrupted after 1 of 4 parts" in (folder / "report.html").read_text()
    assert "The run was stopped: interrupted after 1 of 4 parts" in (folder / "report.md").read_text()
    again = sanity("fake_checks:zero", "--resume", "--report", "json")
    assert again.stderr.startswith("1 of 2 parts are taken from attribcheck-report/progress.jsonl\n")
    assert "incomplete" not in json.loads((folder / "results.json").read_text())


def test_reports_are_rendered_again(tmp_path: Path) -> None:
    formats = ("--report", "html,json,md,junit")
    sanity(*ALL, *formats)
    folder = tmp_path / "attribcheck-report"
    first = {path.name: path.read_text() for path in folder.glob("*.*") if path.suffix != ".jsonl"}
    assert set(first) == {"report.html", "results.json", "report.md", "junit.xml"}
    again = CliRunner().invoke(cli, ["report", str(folder / "results.json"), *formats])
    assert again.exit_code == 0
    assert {name: (folder / name).read_text() for name in first} == first


def test_a_run_of_axioms_leaves_claims_on_checks_alone() -> None:
    result = CliRunner().invoke(cli, ["run", "fake_checks:gradient", "-n", "5"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.startswith("1 checked: 1 as claimed\n")


def test_a_log_gets_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attribcheck.cli.terminal.PULSE", 0.0)
    assert sanity("fake_checks:gradient").stderr.startswith("1 of 2 parts after 0 min\n")
    assert "parts" not in sanity("fake_checks:gradient", "-q").stderr
