"""What happens in a worker process: a group of units, one after the other, told to the parent as they are finished."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

import torch

from .. import calling
from ..results import OUTPUT_LIMIT, Observed, Row, Verdict
from .job import Job
from .limits import COPIED, Limits, Record, Watched, die_with_parent, limit_resources

BEGIN, DONE, END = "begin", "done", "end"
"""What a worker tells: it begins with a unit; the rows of a unit, by its number; nothing is left."""
ENDING = 5.0
"""Seconds that threads have to end in, when the process wants to."""


@dataclass(frozen=True)
class Group:
    """A group of units as a process computes it; called in the worker, with the connection to tell the parent.

    left    seconds until no more cases are tried; None: no end
    folder  where its record and what it prints are kept; the parent reads them
    """

    job: Job[Any]
    units: Sequence[Any]
    limits: Limits
    left: float | None
    folder: Path

    @property
    def record(self) -> Path:
        """The file that says what it does."""
        return self.folder / "record"

    @property
    def printed(self) -> Path:
        """The file of what it prints."""
        return self.folder / "output"

    def __call__(self, tell: connection.Connection) -> None:
        """Compute the units."""
        deadline = None if self.left is None else time.monotonic() + self.left
        _apart()
        said = self.printed.open("w+", encoding="utf-8", errors="replace")
        limit_resources(self.limits)
        torch.set_num_threads(1)  # sums are rounded otherwise with more; and workers would wait for each other
        calling.originals()
        record, threads = Record(self.record), _threads()
        calling.guard_with(Watched(self.limits, record, said))
        held: list[tuple[int, list[Row], str]] = []
        for number, unit in enumerate(self.units):
            _flush()
            _print_into(said.fileno())
            tell.send((BEGIN, number))
            rows = list(self.job.compute(unit, deadline))
            _flush()
            output = read_output(self.printed)
            for row in rows:
                row.output = output
            if record.copied:
                _accuse(rows, COPIED)
            left = [thread.name for thread in _threads() - threads]
            threads = _threads()
            if left:  # it may end in time, as those of a pool do when the process ends
                held.append((number, rows, f"left a thread that does not end: {_named(left)}"))
            else:
                tell.send((DONE, number, rows))
        endless = held and not _threads_end()
        for number, rows, why in held:
            if endless:
                _accuse(rows, why)
            tell.send((DONE, number, rows))
        tell.send((END,))
        os._exit(0)  # whatever a method has left running


def _threads() -> set[threading.Thread]:
    """Those that keep a process from ending."""
    return {each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()}


def _named(names: Sequence[str]) -> str:
    first = min(names, key=lambda name: (len(name), name))
    return f"{first} (and {len(names) - 1} more)" if len(names) > 1 else first


def _threads_end() -> bool:
    """Whether all threads end when the process wants to end, as an interpreter that ends would wait for them."""
    waiting = threading.Thread(target=threading._shutdown, daemon=True)  # type: ignore[attr-defined]
    waiting.start()
    waiting.join(ENDING)
    return not waiting.is_alive()


def _accuse(rows: Sequence[Row], why: str) -> None:
    """Make rows errors of the method, whatever was seen of it besides."""
    for row in rows:
        row.observed, row.verdict, row.note = Observed.ERROR, Verdict.ERROR, why


def _apart() -> None:
    """Hear no Ctrl-C, and end with the parent: however it ends, and whatever a method has started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "setsid"):
        os.setsid()  # what a method starts is in the group of this process, and ends with it
    die_with_parent()
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: Any) -> None:
    """Wait for the parent's end; where the system has nothing better, and for a parent that is not the one that forked."""
    connection.wait([sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _print_into(file: int) -> None:
    """Let everything that is printed, in Python and in C, go into a file, which is emptied."""
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    for number in (1, 2):
        os.dup2(file, number)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def read_output(path: Path) -> str | None:
    """What a worker has printed, cut to OUTPUT_LIMIT characters; None where it printed nothing."""
    half = OUTPUT_LIMIT // 2
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            first = file.read(4 * half)
            file.seek(max(len(first), size - 4 * half))
            last = file.read()
    except OSError:
        return None
    text = (first + last).decode("utf-8", "replace")
    whole = size == len(first) + len(last)
    if whole and len(text) <= OUTPUT_LIMIT:
        return text or None
    left_out = (len(text) if whole else size) - OUTPUT_LIMIT
    return f"{text[:half]}\n[{left_out} characters left out]\n{text[-half:]}"
