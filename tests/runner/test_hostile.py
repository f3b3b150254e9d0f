"""A method cannot spoil a run: whatever it does, the verdicts on a right method beside it stand, and it is named.

Each row is a run of the command line with two workers. The slow tier, since each starts processes and some wait for a limit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from attribcheck.reports import load_results, validate_results
from attribcheck.results import OUTPUT_LIMIT

from ..support.groups import alive, started, wait_until_none

pytestmark = pytest.mark.slow
SUPPORT = Path(__file__).parent.parent / "support"
GENEROUS = 120
"""Seconds after which a run that never ends fails its test; none takes a tenth of it."""


class Row(NamedTuple):
    """What a hostile method does, and what must be said of it.

    code   the exit code of the run
    said   part of a note, or of the figures of a witness, of one of its claims
    """

    method: str
    code: int
    said: str


TABLE = [
    Row("exits", 2, "ended the process, with exit code 0"),
    Row("kills_itself", 2, "the process was killed by SIGKILL"),
    Row("segfaults", 2, "the process was killed by SIGSEGV"),
    Row("never_returns", 2, "did not return within 8 s: hostile.py, line "),
    Row("never_returns_in_c", 2, "did not return within 8 s: hostile.py, line "),
    Row("returns_a_subclass", 2, "returned an Odd that cannot be read"),
    Row("sets_the_default_device", 2, "Cannot copy out of meta tensor"),
    Row("raises_its_own", 2, "raised Own: of its own"),
    Row("raises_generator_exit", 2, "raised GeneratorExit"),
    Row("raises_stop_test", 2, "raised StopTest"),
    Row("leaves_a_thread", 2, "left a thread that does not end"),
    Row("forks", 2, "forked the process, and the copy came back from the call"),
    Row("forks_and_stays", 0, ""),  # (as those who start processes on purpose do; none is left behind)
    Row("patches_torch", 2, "replaced torch.relu, torch.nn.functional.relu in the whole process"),
    Row("closes_stdout", 1, "standard streams"),
    Row("allocates", 2, "can't allocate memory"),
    Row("raises", 2, "raised ValueError: no"),
    Row("calls_exit", 2, "raised SystemExit: 0"),
    Row("recurses", 2, "raised RecursionError"),
    Row("raises_what_cannot_be_read", 2, "raised Unreadable: (its message cannot be read)"),
    Row("raises_keyboard_interrupt", 2, "raised KeyboardInterrupt"),
    Row("changes_folder", 1, "working directory"),
    Row("prints_much", 0, ""),
]


def command(*targets: str, jobs: int = 2, options: tuple[str, ...] = ()) -> list[str]:
    given = ["-n", "10", "--timeout", "8", "-j", str(jobs), *options]
    return [sys.executable, "-m", "attribcheck", "run", *(f"hostile:{name}" for name in targets), *given]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the methods."""
    shutil.copy(SUPPORT / "hostile.py", tmp_path)
    return tmp_path


def results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of the report, by method."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in load_results(folder / "attribcheck-report" / "results.json")["results"]:
        found.setdefault(row["method"].partition(":")[2], []).append(row)
    return found


@pytest.mark.parametrize("row", TABLE, ids=[row.method for row in TABLE])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_method_that(row: Row, jobs: int, here: Path) -> None:
    marked = {**os.environ, "HOSTILE": str(here)}
    done = subprocess.run(
        command(row.method, "right", jobs=jobs), cwd=here, env=marked, capture_output=True, text=True, timeout=GENEROUS,
        check=False,
    )  # fmt: skip
    assert done.returncode == row.code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "xxxxxxxx" not in done.stdout + done.stderr  # nothing that it prints stands in the middle of ours
    found = results(here)
    assert [each["verdict"] for each in found["right"]] == ["pass"] * 3
    assert len(found[row.method]) == 3
    told = json.dumps([[each["note"], (each["witness"] or {}).get("figures")] for each in found[row.method]])
    assert row.said in told
    if row.code == 2:
        assert "error" in {each["verdict"] for each in found[row.method]}
    wait_until_none("HOSTILE", str(here))


def test_what_is_printed_is_kept_with_the_claim_and_cut(here: Path) -> None:
    subprocess.run(command("prints_much"), cwd=here, capture_output=True, timeout=GENEROUS, check=True)
    for row in results(here)["prints_much"]:
        assert row["output"].startswith("xxxx")
        assert "characters left out" in row["output"]
        assert OUTPUT_LIMIT <= len(row["output"]) < OUTPUT_LIMIT + 100


def test_a_hang_ends_in_a_witness_that_is_not_called_again(here: Path) -> None:
    subprocess.run(command("counts"), cwd=here, capture_output=True, timeout=GENEROUS, check=False)
    (row,) = results(here)["counts"]
    assert row["note"].startswith("did not return within 8 s")
    assert row["witness"]["figures"]["error"] == row["note"]
    assert (here / row["witness_file"]).exists() or (here / "attribcheck-report" / row["witness_file"]).exists()
    assert (here / "calls").read_text() == "x"


@pytest.mark.parametrize(
    ("method", "said"), [("exits", "ended the process"), ("never_returns", "did not return within 8 s")]
)
def test_a_witness_of_it_is_replayed_and_reproduced(method: str, said: str, here: Path) -> None:
    subprocess.run(command(method), cwd=here, capture_output=True, timeout=GENEROUS, check=False)
    given = [sys.executable, "-m", "attribcheck", "replay", "attribcheck-report", "--timeout", "8"]
    done = subprocess.run(given, cwd=here, capture_output=True, text=True, timeout=GENEROUS, check=False)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines), done.stderr) == (1, 3, "")
    assert all(": reproduced: " in line and said in line for line in lines)
    right = subprocess.run(
        [*given, "hostile:right"], cwd=here, capture_output=True, text=True, timeout=GENEROUS, check=False
    )
    assert (right.returncode, right.stdout.count("not reproduced: the method answers")) == (0, 3)


@pytest.mark.parametrize("method", ["never_returns", "never_returns_in_c"])
def test_ctrl_c_is_answered_while_a_method_hangs(method: str, here: Path) -> None:
    child = started(command("right", method, options=("--timeout", "600", "-v")), here, HOSTILE=str(here))
    assert child.stdout is not None
    for _ in range(3):
        child.stdout.readline()
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=GENEROUS)
    assert (child.returncode, "Traceback" in out + err) == (1, False)
    assert "interrupted after 3 of 6 claims; go on with --resume" in out
    assert len(results(here)["right"]) == 3
    wait_until_none("HOSTILE", str(here))


def test_sigterm_is_answered_as_ctrl_c(here: Path) -> None:
    child = started(command("right", "never_returns", options=("--timeout", "600", "-v")), here, HOSTILE=str(here))
    assert child.stdout is not None
    for _ in range(3):
        child.stdout.readline()
    child.terminate()
    out, err = child.communicate(timeout=GENEROUS)
    assert (child.returncode, "Traceback" in out + err) == (1, False)
    assert "terminated after 3 of 6 claims; go on with --resume" in out
    wait_until_none("HOSTILE", str(here))


def test_ctrl_c_while_workers_start(here: Path) -> None:
    """At once after the start, and a little later each time: one line, and exit code 1."""
    for wait in (0.5, 1.0, 2.0, 3.0):
        child = started(command("right", "never_returns", options=("--timeout", "600")), here, HOSTILE=str(here))
        time.sleep(wait)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=GENEROUS)
        if child.returncode == -signal.SIGINT:  # Python itself was not ready yet
            continue
        assert child.returncode == 1, (wait, out, err)
        assert "interrupted" in out + err
        assert "Aborted" not in out + err
    wait_until_none("HOSTILE", str(here))


def test_kill_of_the_parent_loses_nothing_finished_and_leaves_nobody(here: Path) -> None:
    child = started(command("right", "never_returns", options=("--timeout", "600", "-v")), here, HOSTILE=str(here))
    assert child.stdout is not None
    for _ in range(3):
        child.stdout.readline()
    child.kill()
    child.communicate(timeout=GENEROUS)
    wait_until_none("HOSTILE", str(here))
    again = subprocess.run(
        command("right", options=("--resume", "-v")),
        cwd=here,
        capture_output=True,
        text=True,
        timeout=GENEROUS,
        check=False,
    )
    assert again.returncode == 0
    assert "3 of 3 claims are taken from attribcheck-report/progress.jsonl" in again.stderr
    validate_results(load_results(here / "attribcheck-report" / "results.json"))


def test_kill_of_a_worker_is_no_fault_of_what_it_computes(here: Path) -> None:
    child = started(command("right", "slow", options=("-v",)), here, HOSTILE=str(here))
    killed = []
    while child.poll() is None and not killed:
        killed = [pid for pid in alive("HOSTILE", str(here)) if (here / f"computing-{pid}").exists()]
        time.sleep(0.05)
    os.kill(killed[0], signal.SIGKILL)
    out, err = child.communicate(timeout=GENEROUS)
    assert child.returncode == 0, out + err
    assert "4 checked: 4 as claimed" in out


def test_a_second_run_into_the_same_folder_is_refused(here: Path) -> None:
    child = started(command("right", "never_returns", options=("--timeout", "600", "-v")), here, HOSTILE=str(here))
    assert child.stdout is not None
    child.stdout.readline()
    second = subprocess.run(command("right"), cwd=here, capture_output=True, text=True, timeout=GENEROUS, check=False)
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == (
        "attribcheck: another run writes into attribcheck-report; wait for it, or choose another --report-dir\n"
    )
    child.kill()
    child.communicate(timeout=GENEROUS)
    wait_until_none("HOSTILE", str(here))
    third = subprocess.run(command("right"), cwd=here, capture_output=True, timeout=GENEROUS, check=False)
    assert third.returncode == 0  # the lock ended with its process


def test_a_full_disk_loses_no_result(here: Path) -> None:
    """No file may grow beyond what results.json takes: the report in HTML does not fit."""
    whole = subprocess.run(command("right"), cwd=here, capture_output=True, timeout=GENEROUS, check=True)
    assert whole.returncode == 0
    folder = here / "attribcheck-report"
    size = (folder / "results.json").stat().st_size
    assert size < (folder / "report.html").stat().st_size
    (folder / "results.json").unlink()
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); "
        "sys.argv = ['attribcheck', *sys.argv[1:]]; runpy.run_module('attribcheck', run_name='__main__')"
    ).format(2 * size)
    given = [sys.executable, "-c", code, *command("right")[3:]]
    full = subprocess.run(given, cwd=here, capture_output=True, text=True, timeout=GENEROUS, check=False)
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    (line,) = full.stderr.splitlines()
    assert line.startswith("attribcheck: cannot write attribcheck-report/report.html: File too large; ")
    assert line.endswith(
        "everything is in attribcheck-report/results.json: "
        "`attribcheck report attribcheck-report/results.json --report-dir FOLDER`"
    )
    assert [row["verdict"] for row in results(here)["right"]] == ["pass"] * 3
