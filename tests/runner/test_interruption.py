"""Runs that are stopped before their end: what was found is reported, and nothing is left behind or overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attribcheck as ac
import pytest
from attribcheck.cli.commands import cli
from attribcheck.reports import load_results
from attribcheck.runner.here import Here
from click.testing import CliRunner, Result

from ..support.groups import started, wait_until_gone

METHODS = """
import os
import time

import attribcheck as ac
import torch

CLAIMS = [ac.holds("dummy", on="linear"), ac.holds("symmetry", on="linear"), ac.holds("linearity", on="linear")]
OTHERS = [ac.holds("dummy", on="relu"), ac.holds("symmetry", on="relu"), ac.holds("dummy", on="conv")]


def gradient(model, x, target):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


@ac.method(claims=CLAIMS)
def right(model, x, target, baseline=None):
    return gradient(model, x, target)


@ac.method(claims=OTHERS)
def interrupted(model, x, target, baseline=None):
    raise KeyboardInterrupt


@ac.method(claims=OTHERS)
def dies(model, x, target, baseline=None):
    os._exit(3)


@ac.method(claims=OTHERS)
def sleeps(model, x, target, baseline=None):
    time.sleep(600)


@ac.method(claims=CLAIMS)
def called(model, x, target, baseline=None):
    open("called", "w").close()
    return gradient(model, x, target)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own with the methods."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    (tmp_path / "stopped.py").write_text(METHODS)
    yield tmp_path
    sys.modules.pop("stopped", None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["run", "-n", "10", *arguments])


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods are called in this process, where a KeyboardInterrupt is Ctrl-C."""
    monkeypatch.setattr("attribcheck.runner.running.executor", lambda *given: Here())


@pytest.mark.usefixtures("in_this_process")
def test_an_interrupted_run_reports_what_it_has(here: Path) -> None:
    stopped = run("stopped:right", "stopped:interrupted", "--report", "html,json,md,junit")
    assert stopped.exit_code == 1
    assert "3 checked: 3 as claimed; interrupted after 3 of 6 claims; go on with --resume\n" in stopped.stdout
    folder = here / "attribcheck-report"
    document = load_results(folder / "results.json")
    assert document["incomplete"] == "interrupted after 3 of 6 claims; go on with --resume"
    assert {(r["method"], r["verdict"]) for r in document["results"]} == {("stopped:right", "pass")}
    for name in ("report.html", "report.md"):
        assert "The run was stopped: interrupted after 3 of 6 claims" in (folder / name).read_text()


@pytest.mark.usefixtures("in_this_process")
def test_a_run_that_was_stopped_before_it_found_anything_leaves_the_report_of_the_last(here: Path) -> None:
    assert run("stopped:right").exit_code == 0
    before = {path: path.read_bytes() for path in (here / "attribcheck-report").glob("re*")}
    assert len(before) == 2
    stopped = run("stopped:interrupted")
    assert (stopped.exit_code, stopped.stdout) == (
        1,
        "0 checked: nothing; interrupted after 0 of 3 claims; go on with --resume\n",
    )
    assert {path: path.read_bytes() for path in before} == before


def test_in_code_the_report_says_so() -> None:
    def stop(done: int, total: int, result: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    report = ac.check("gradient", axioms=["linearity"], observe=True, max_examples=4, progress=stop)
    assert len(report.results) == 2
    assert report.incomplete is not None
    assert report.incomplete.startswith("interrupted after 2 of ")
    assert not report.ok


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_worker_that_dies_is_an_error_of_what_it_did(jobs: str, here: Path) -> None:
    done = run("stopped:dies", "stopped:right", "-j", jobs, "-q")
    assert (done.exit_code, done.stdout) == (2, "6 checked: 3 as claimed, 3 in error\n")
    document = load_results(here / "attribcheck-report" / "results.json")
    notes = {row["note"] for row in document["results"] if row["method"] == "stopped:dies"}
    assert notes == {"ended the process, with exit code 3"}
    assert all(row["witness"] for row in document["results"] if row["method"] == "stopped:dies")


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_as_a_terminal_sends_it(jobs: int, here: Path) -> None:
    """To the process and its workers at once, while methods are running."""
    command = ["-m", "attribcheck", "run", "stopped:right", "stopped:sleeps", "-n", "10", "-v", "-j", str(jobs)]
    child = started([sys.executable, "-u", *command], here)
    assert child.stdout is not None
    seen = [child.stdout.readline() for _ in range(3)]
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=100)
    assert all(line.startswith("as claimed") for line in seen)
    assert "Traceback" not in err
    assert child.returncode == 1
    assert "interrupted after 3 of 6 claims" in out
    assert len(load_results(here / "attribcheck-report" / "results.json")["results"]) == 3
    wait_until_gone(child.pid)


@pytest.mark.parametrize("folder", ["taken", "taken/below/it"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(folder: str, here: Path) -> None:
    (here / "taken").write_text("")
    refused = run("stopped:called", "--report-dir", folder)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"attribcheck: cannot write {folder}: Not a directory; choose another folder with --report-dir\n"
    )
    assert not (here / "called").exists()
    assert run("stopped:called").exit_code == 0
    assert (here / "called").exists()


def test_full_model_checks_refuse_it_before_anything_is_trained(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "taken").write_text("")
    started: list[str] = []
    monkeypatch.setattr("attribcheck.runner.checks.run", lambda *given, **options: started.append("run"))
    refused = CliRunner().invoke(cli, ["sanity", "gradient", "--report-dir", "taken"])
    assert (refused.exit_code, refused.stdout, started) == (2, "", [])
    assert refused.stderr.startswith("attribcheck: cannot write taken: Not a directory; ")


def test_a_folder_without_permission_is_refused_before_the_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # (root, who may run this, is denied nothing)
    refused = run("stopped:called", "--report-dir", "locked/below")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("attribcheck: cannot write locked/below: Permission denied; ")
    assert not (here / "called").exists()


def test_the_plugin_reports_what_it_has(here: Path) -> None:
    def checked(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-m", "axioms", "--axioms-max-examples", "10", *options]
        return subprocess.run(command, capture_output=True, text=True)

    targets = ("--axioms-methods", "stopped:right", "--axioms-methods", "stopped:interrupted")
    assert checked(*targets).returncode == pytest.ExitCode.INTERRUPTED
    document = load_results(here / "attribcheck-report" / "results.json")
    assert document["incomplete"] == "interrupted after 3 claims"
    refused = checked(*targets, "--axioms-report-dir", "stopped.py")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "cannot write stopped.py: Not a directory" in refused.stderr
    assert json.dumps(document) == json.dumps(load_results(here / "attribcheck-report" / "results.json"))


def test_where_no_process_can_be_made_the_run_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("attribcheck.runner.processes.tempfile.TemporaryDirectory", full)
    stopped = run("stopped:right")
    assert (stopped.exit_code, stopped.stderr) == (1, "")
    why = "worker processes cannot be started: No space left on device after 0 of 3 claims; go on with --resume"
    assert stopped.stdout == f"0 checked: nothing; {why}\n"
