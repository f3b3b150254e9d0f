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
