"""Ctrl-C and SIGTERM on the command line: at once while nothing has been begun, with what was found until then later on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from ..errors import Terminated

_BEFORE = "attribcheck: {} before anything was checked\n"


def hear_early() -> None:
    """End the process at once from now on: a KeyboardInterrupt in the middle of importing torch would abort it."""
    for number, word in ((signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")):
        signal.signal(number, _ending(_BEFORE.format(word)))


def _ending(line: str) -> Any:
    def end(number: int, frame: Any) -> None:
        os.write(2, line.encode())
        os._exit(1)

    end.early = True  # type: ignore[attr-defined]
    return end


def hear() -> None:
    """Raise KeyboardInterrupt, or Terminated, from now on: where `hear_early` was called before."""
    if getattr(signal.getsignal(signal.SIGINT), "early", False):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: Any) -> None:
    raise Terminated


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal stop what is written down at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
