"""Groups of processes, as a terminal starts and interrupts them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest


def started(command: list[str], cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """A process in a group of its own that hears Ctrl-C, also where the tests do not (in the background of a script)."""
    return subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=_hears_ctrl_c,
    )  # fmt: skip


def _hears_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until_gone(group: int) -> None:
    """Return when no process of the group is left; fails after half a minute."""
    for _ in range(150):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("processes are left")


def alive(name: str, value: str) -> list[int]:
    """The processes that were started with this variable in their environment, and what these have started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has just ended
            continue
        if f"{name}={value}".encode() in environment and state != "Z":
            found.append(int(folder.name))
    return found


def wait_until_none(name: str, value: str) -> None:
    """Return when none of them is left; fails after half a minute."""
    for _ in range(150):
        if not alive(name, value):
            return
        time.sleep(0.2)
    pytest.fail(f"processes are left: {alive(name, value)}")
