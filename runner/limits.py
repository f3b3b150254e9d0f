"""What bounds the work of a process: time for one call, memory, files; what ends it; and the record that outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import signal
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from .. import calling
from ..errors import MethodError

GIB = 2**30
LARGEST_FILE = GIB
"""Bytes of a file that a method writes: what it prints without end must not fill the disk."""
AWAITED = 0.5
"""Seconds after a call in which a process was forked; most that fork on purpose never come back."""
COPIED = "forked the process, and the copy came back from the call"
SPARED = 0.8
"""Of the memory, that all workers together may take, where nobody says how much."""


@dataclass(frozen=True)
class Limits:
    """Of a worker process.

    timeout  seconds of one call of a method
    memory   GiB of its data; None: no limit
    """

    timeout: float
    memory: float | None = None

    @staticmethod
    def of_machine(timeout: float, memory: float | None, jobs: int, device: str) -> Limits:
        """Limits for one of several workers: an equal share of the memory of this machine, where nobody says how much.

        On CUDA there is no limit on memory: a process maps there many times what it uses.
        """
        if device == "cuda" or not hasattr(os, "sysconf"):
            return Limits(timeout, None)
        if memory is None:
            memory = SPARED * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB / max(1, jobs)
        return Limits(timeout, memory)


def limit_resources(limits: Limits) -> None:
    """Make an allocation beyond the limit an ordinary error, and so a file that grows without end; where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: LARGEST_FILE}
    if limits.memory is not None and sys.platform == "linux":  # (elsewhere it does not count what is mapped)
        wanted[resource.RLIMIT_DATA] = int(limits.memory * GIB)
    for which, amount in wanted.items():
        _, hard = resource.getrlimit(which)
        lowest = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (lowest, hard))


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, however that ends; on Linux."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Entry(NamedTuple):
    """What the record of a worker says: for what the last call was made, on what, and since when, by the time of the file."""

    at: str | None
    about: object
    calling: bool
    since: float


_HEAD = struct.Struct("<??Q")
_MARK = struct.Struct("<?")


class Record:
    """A small file that says what a worker is doing; it is written before each call, and read where the worker has died."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._written: tuple[str | None, object] | None = None
        os.pwrite(self._file, _HEAD.pack(False, False, 0), 0)

    def begin(self, at: str | None, about: object) -> None:
        """A call begins."""
        if self._written is None or self._written[0] != at or self._written[1] is not about:
            try:
                text = pickle.dumps((at, about), protocol=pickle.HIGHEST_PROTOCOL)
            except Exception:  # what cannot be told is not told
                text = pickle.dumps((at, None))
            os.pwrite(self._file, text, _HEAD.size)
            self._written, self._size = (at, about), len(text)
        os.pwrite(self._file, _HEAD.pack(False, True, self._size), 0)

    def end(self) -> None:
        """The call has ended."""
        os.pwrite(self._file, _HEAD.pack(self.copied, False, self._size), 0)

    @property
    def copied(self) -> bool:
        """Whether a copy of the process came back from a call."""
        (found,) = _MARK.unpack(os.pread(self._file, _MARK.size, 0))
        return bool(found)

    def mark_copied(self) -> None:
        """Say so, in the copy."""
        os.pwrite(self._file, _MARK.pack(True), 0)


def read_record(path: Path) -> Entry:
    """What a worker did last; nothing where its record cannot be read."""
    try:
        since, content = path.stat().st_mtime, path.read_bytes()
        _, busy, size = _HEAD.unpack_from(content)
    except (OSError, struct.error):
        return Entry(None, None, False, time.time())
    try:
        at, about = pickle.loads(content[_HEAD.size : _HEAD.size + size])
    except Exception:  # it was killed in the middle of a line
        at = about = None
    return Entry(at, about, busy, since)


class Watched(calling.Guard):
    """Around each call of a worker: the record, and a watch that ends the process where the call does not return.

    The watch is a thread that needs no lock of Python's: it ends code in C too. It writes where the call was.
    """

    contained = True
    passes = (calling.Stop,)  # a worker never hears Ctrl-C: a KeyboardInterrupt is the method's own

    def __init__(self, limits: Limits, record: Record, told: IO[str]) -> None:
        self.limits, self.record, self.told = limits, record, told
        self._forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_parent=self._note_fork)

    def _note_fork(self) -> None:
        self._forked = True

    @contextlib.contextmanager
    def around(self, about: object) -> Iterator[None]:
        """One call."""
        self.record.begin(self.what, about)
        faulthandler.dump_traceback_later(self.limits.timeout, exit=True, file=self.told)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self.record.end()
        if self._forked:
            self._await_copy()
        if self.record.copied:
            raise MethodError(COPIED)

    def _await_copy(self) -> None:
        """Give a copy of this process the time to come back from the call, if it does."""
        self._forked, start = False, time.monotonic()
        while not self.record.copied and time.monotonic() - start < AWAITED:
            time.sleep(0.005)

    def copied(self) -> None:
        """Leave a mark for the process that goes on."""
        self.record.mark_copied()
