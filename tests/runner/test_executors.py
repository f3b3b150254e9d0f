"""One run gives one results.json wherever it is computed, and however often it was stopped. The slow tier."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attribcheck.errors import UsageError
from attribcheck.runner.cluster import Cluster

from ..support.groups import started

pytestmark = pytest.mark.slow
GENEROUS = 300
METHODS = """
import attribcheck as ac
import torch

FAMILIES = ("linear", "relu", "conv", "maxpool", "smooth", "residual")


def gradient(model, x, target):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


def claims(*axioms):
    return [ac.holds(axiom, on=family) for axiom in axioms for family in FAMILIES]


@ac.method(claims=claims("dummy", "symmetry", "linearity", "class-sensitivity/parity", "batch-independence"))
def right(model, x, target, baseline=None):
    return gradient(model, x, target)


@ac.method(baseline="given", claims=claims("completeness", "scale-equivariance", "dummy", "repeat-determinism"))
def wrong(model, x, target, baseline):
    return gradient(model, x, target).abs() * (x - baseline)


@ac.method(stochastic=True, claims=claims("purity"))
def noisy(model, x, target, baseline=None):
    return gradient(model, x, target) + 1e-3 * torch.randn_like(x)
"""
TARGETS = ("alike:right", "alike:wrong", "alike:noisy")
EXAMPLES = 12


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the methods."""
    folder = tmp_path_factory.mktemp("alike")
    (folder / "alike.py").write_text(METHODS)
    return folder


def command(folder: str, *options: str) -> list[str]:
    given = ["-n", str(EXAMPLES), "--report", "json", "--report-dir", folder, *options]
    return [sys.executable, "-m", "attribcheck", "run", *TARGETS, *given]


def document(path: Path) -> str:
    """results.json as text, without what depends on the clock and on how it was asked for."""
    found = json.loads(path.read_text())
    assert found.pop("created")
    assert found.pop("command", "")
    for result in found["results"]:
        assert result.pop("seconds") >= 0
    return json.dumps(found)


@pytest.fixture(scope="module")
def whole(here: Path) -> str:
    """The run in this process."""
    code = (
        "from attribcheck.runner import Options, run\n"
        f"run(Options({TARGETS!r}, max_examples={EXAMPLES})).save('whole.json')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=here, check=True, timeout=GENEROUS)
    text = document_of_a_call(here / "whole.json")
    found = json.loads(text)["results"]
    assert len(found) == 60
    assert {row["verdict"] for row in found} == {"pass", "fail"}
    assert sum(row["witness"] is not None for row in found) >= 5
    return text


def document_of_a_call(path: Path) -> str:
    found = json.loads(path.read_text())
    found["command"] = "none"
    path.write_text(json.dumps(found))
    return document(path)


def test_three_workers(here: Path, whole: str) -> None:
    subprocess.run(command("three", "-j", "3", "-q"), cwd=here, timeout=GENEROUS, check=False)
    assert document(here / "three" / "results.json") == whole


def test_killed_and_resumed(here: Path, whole: str) -> None:
    """kill -9 of everything, at any moment; what was finished is taken, the rest is computed."""
    taken = 0
    for round_ in range(30):
        options = ("-j", "2", "-q", *(["--resume"] if round_ else []))
        child = started(command("killed", *options), here)
        journal = here / "killed" / "progress.jsonl"
        before = len(journal.read_text().splitlines()) if journal.exists() and round_ else 0
        while child.poll() is None:
            time.sleep(0.05)
            if journal.exists() and len(journal.read_text().splitlines()) >= before + 9:
                os.kill(child.pid, signal.SIGKILL)
        child.communicate(timeout=GENEROUS)
        if child.returncode >= 0:
            break
        taken += 1
    assert taken >= 3
    assert document(here / "killed" / "results.json") == whole
    kept = [json.loads(line)["key"] for line in (here / "killed" / "progress.jsonl").read_text().splitlines() if line]
    assert len(set(kept)) == 60


# -- Dask ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def running(arguments: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this context."""
    with (folder / "dask.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], cwd=folder, env={**os.environ, **environment}, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield child
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@pytest.fixture
def scheduler(here: Path) -> Iterator[str]:
    """A scheduler on loopback."""
    port = free_port()
    with running(["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"], here):
        for _ in range(200):
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"tcp://127.0.0.1:{port}"


def worker(address: str, folder: Path, **environment: str) -> Any:
    given = [
        "worker",
        address,
        "--nthreads",
        "1",
        "--no-dashboard",
        "--no-nanny",
        "--local-directory",
        str(folder / "dask"),
    ]
    return running(given, folder, **environment)


def connected(address: str, count: int) -> None:
    """Wait until so many workers are there."""
    import distributed

    with distributed.Client(address) as client:
        client.wait_for_workers(count, timeout=60)


def test_dask_with_a_worker_killed_in_the_middle(here: Path, whole: str, scheduler: str) -> None:
    with ExitStack() as workers:
        first, _ = (workers.enter_context(worker(scheduler, here)) for _ in range(2))
        connected(scheduler, 2)
        child = started(command("dask", "--dask", scheduler, "-q"), here)
        journal = here / "dask" / "progress.jsonl"
        while child.poll() is None and not (journal.exists() and len(journal.read_text().splitlines()) >= 8):
            time.sleep(0.05)
        assert child.poll() is None, child.communicate()
        os.killpg(first.pid, signal.SIGKILL)
        out, err = child.communicate(timeout=GENEROUS)
    assert child.returncode == 1, out + err
    assert document(here / "dask" / "results.json") == whole


def refused(here: Path, scheduler: str) -> subprocess.CompletedProcess[str]:
    """A run on workers that will not do."""
    given = command("other", "--dask", scheduler)
    return subprocess.run(given, cwd=here, capture_output=True, text=True, timeout=GENEROUS, check=False)


def test_workers_with_another_module_are_refused(here: Path, tmp_path: Path, scheduler: str) -> None:
    (tmp_path / "alike.py").write_text(METHODS + "\n# another one\n")
    with worker(scheduler, tmp_path):
        connected(scheduler, 1)
        done = refused(here, scheduler)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert done.stderr.startswith("attribcheck: Dask worker tcp://127.0.0.1:")
    assert " has another module alike: " in done.stderr


def test_workers_that_may_start_no_processes_are_refused(here: Path, scheduler: str) -> None:
    given = ["worker", scheduler, "--nthreads", "1", "--no-dashboard", "--local-directory", str(here / "dask")]
    with running(given, here):
        connected(scheduler, 1)
        done = refused(here, scheduler)
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith("may start no processes: start it with DASK_DISTRIBUTED__WORKER__DAEMON=False")


def test_no_scheduler_and_no_workers(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attribcheck.runner.cluster._CONNECTING", 1)
    with pytest.raises(UsageError, match=r"--dask tcp://127.0.0.1:1: no scheduler answers there"):
        Cluster("tcp://127.0.0.1:1", 1.0, None)
    with pytest.raises(UsageError, match="the scheduler has no workers; start some with `dask worker`"):
        Cluster(scheduler, 1.0, None)


def test_soak_and_power_run_on_dask(here: Path, scheduler: str) -> None:
    root = Path(__file__).parent.parent.parent
    with worker(scheduler, here, PYTHONPATH=str(root)):
        connected(scheduler, 1)
        soak = [sys.executable, "-m", "attribcheck.tools.soak", "alike:right", "-n", "50", "--dask", scheduler]
        done = subprocess.run(
            [*soak, "--report-dir", "soak"], cwd=here, capture_output=True, text=True, timeout=GENEROUS, check=False
        )
        assert (done.returncode, "30 claims, " in done.stdout) == (0, True), done.stdout + done.stderr
        power = [sys.executable, "-m", "tests.power", "saliency", "--seeds", "2", "-n", "20", "--dask", scheduler]
        names = subprocess.run([*power[:3], "nothing"], cwd=root, capture_output=True, text=True, check=False)
        power[3] = names.stderr.rpartition("known: ")[2].split(",")[0].strip()
        done = subprocess.run(power, cwd=root, capture_output=True, text=True, timeout=GENEROUS, check=False)
        assert done.stdout.startswith("# Power: "), done.stdout + done.stderr
