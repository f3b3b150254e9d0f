"""Groups of processes, as a terminal starts and interrupts them."""

from __future__ import annotations

import os
import time

import pytest


def wait_until_gone(group: int) -> None:
    """Return when no process of the group is left; fails after half a minute."""
    for _ in range(150):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("processes are left")
