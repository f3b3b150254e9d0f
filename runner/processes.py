"""Worker processes of this machine: a fresh one for each group of units, which nothing that a method does there can spoil."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import queue
import re
import signal
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..results import Row
from .job import Death, Job
from .limits import Limits, read_record
from .worker import BEGIN, END, Group, read_output

Done = tuple[Any, Sequence[Row]]

PRELOADED = f"{__package__}.preloaded"
SILENT = "silent"
_LOOK = 1.0
"""Seconds between two looks at a worker that tells nothing."""
_STARTS = 3
"""Processes one after the other that may end before they begin with a unit."""
_GRACE = 10.0
"""Seconds after which a worker is killed whose watch did not end it: a method can switch it off."""
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


class Workers:
    """Groups of units, each in a process of its own, several at a time."""

    def __init__(self, jobs: int, limits: Limits, device: str = "cpu") -> None:
        self.jobs, self.limits, self.device = jobs, limits, device

    def compute(
        self, job: Job[Any], groups: Sequence[Sequence[Any]], deadline: float | None
    ) -> Generator[Done, None, None]:
        """The rows of each unit, as they are finished; every process ends with this generator.

        Args:
            job: that travels.
            groups: of its units.
            deadline: on time.monotonic, when no more cases are tried; None: no end.
        """
        told: queue.SimpleQueue[Done | BaseException | None] = queue.SimpleQueue()
        stop = Stopped()

        def compute(group: Sequence[Any]) -> None:
            try:
                for done in contained(job, group, self.limits, deadline, self.device, stop):
                    told.put(done)
                told.put(None)
            except OSError as error:
                # No process, or no folder for what it prints: what was found is reported all the same.
                told.put(CannotStart(f"worker processes cannot be started: {error.strerror or error}"))
            except BaseException as error:
                told.put(error)

        pool = ThreadPoolExecutor(max(1, min(self.jobs, len(groups))), thread_name_prefix="attribcheck")
        try:
            for group in groups:
                pool.submit(compute, group)
            left = len(groups)
            while left:
                item = told.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    left -= 1
                else:
                    yield item
        finally:
            stop.now()
            pool.shutdown(wait=True, cancel_futures=True)


class Stopped:
    """Whether the work is to end at once; it ends the processes that compute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kills: dict[int, Callable[[], None]] = {}
        self.asked = False

    def now(self) -> None:
        """End every process."""
        with self._lock:
            self.asked = True
            kills = list(self._kills.values())
        for kill in kills:
            kill()

    @contextlib.contextmanager
    def ending(self, kill: Callable[[], None]) -> Iterator[None]:
        """A context in which `now` calls this too."""
        with self._lock:
            self._kills[id(kill)] = kill
        try:
            if self.asked:
                kill()
            yield
        finally:
            with self._lock:
                del self._kills[id(kill)]


class CannotStart(Exception):
    """Worker processes end before they begin with anything; the message says how."""


def contained(
    job: Job[Any], units: Sequence[Any], limits: Limits, deadline: float | None, device: str, stop: Stopped
) -> Iterator[Done]:
    """The units of a group in a process of its own, and in further ones after it where it dies.

    What ends a process is charged to the unit in progress alone, and the units after it are computed by another process. One
    that somebody killed, the system for want of memory perhaps, may have been no fault of the unit's: it is tried once more,
    alone.

    Raises:
        CannotStart: several processes one after the other did not come to a unit.
    """
    left, alone, idle = deque(units), False, 0
    while left and not stop.asked:
        ended = yield from _process(job, left, 1 if alone else len(left), limits, deadline, device, stop)
        if stop.asked:
            return
        if ended is None:
            alone, idle = False, 0
        elif ended.unit is None:
            idle += 1
            if idle == _STARTS:
                raise CannotStart(f"worker processes cannot be started: {ended.death.why}")
        elif ended.killed and not alone:
            left.remove(ended.unit)
            left.appendleft(ended.unit)
            alone = True
        else:
            left.remove(ended.unit)
            yield ended.unit, job.lost(ended.unit, ended.death)
            alone, idle = False, 0


@dataclass(frozen=True)
class _Ended:
    """A process that ended before its units did.

    unit    that it was in the middle of; None: of none
    killed  by somebody outside of it and of us
    """

    death: Death
    unit: Any
    killed: bool


def _process(
    job: Job[Any], left: deque[Any], count: int, limits: Limits, deadline: float | None, device: str, stop: Stopped
) -> Generator[Done, None, _Ended | None]:
    """The first units that are left, in one process; what is finished is taken out. How it ended, where it died."""
    with tempfile.TemporaryDirectory(prefix="attribcheck-", ignore_cleanup_errors=True) as folder:
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        units = list(itertools.islice(left, count))
        group = Group(job, units, limits, seconds, Path(folder))
        context = _context(device)
        hear, tell = context.Pipe(duplex=False)
        process = context.Process(target=group, args=(tell,), daemon=False)  # type: ignore[attr-defined]
        process.start()
        tell.close()
        kill = functools.partial(_kill, process)
        in_progress, overdue = None, False
        try:
            with stop.ending(kill):
                for word, *given in _told_by(process, hear):
                    if word == END:
                        return None
                    if word == SILENT:
                        overdue = _is_overdue(group.record, limits)
                        if overdue:
                            break
                    elif word == BEGIN:
                        in_progress = units[given[0]]
                    else:
                        unit, rows = units[given[0]], given[1]
                        in_progress = None if in_progress is unit else in_progress
                        left.remove(unit)
                        yield unit, rows
        finally:
            kill()
            process.join()
            hear.close()
        return _ended(group, process.exitcode, in_progress, overdue)


def _told_by(process: BaseProcess, hear: connection.Connection) -> Iterator[tuple[Any, ...]]:
    """What a worker tells, and SILENT where it has told nothing for a while, until it has ended.

    Whatever it has started may hold the other end of the pipe, so the end of the process is waited for as well.
    """
    while True:
        ready = connection.wait([hear, process.sentinel], _LOOK)
        if hear in ready:
            try:
                yield hear.recv()
            except (EOFError, OSError):
                return
        elif ready:
            return
        else:
            yield (SILENT,)


def _kill(process: BaseProcess) -> None:
    """End a worker with everything that it has started."""
    if process.pid is None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError, ValueError):
        process.kill()


def _is_overdue(record: Path, limits: Limits) -> bool:
    entry = read_record(record)
    return entry.calling and time.time() - entry.since > limits.timeout + _GRACE


def _ended(group: Group, code: int | None, unit: Any, overdue: bool) -> _Ended:
    """How a process ended: a watch that ran out, a signal, or an end that somebody asked for."""
    entry, output = read_record(group.record), read_output(group.printed) or ""
    ran_out = overdue or (entry.calling and code == 1 and "Timeout (" in output)
    if ran_out:
        why = f"did not return within {group.limits.timeout:g} s{_where(output)}"
    elif code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (out of memory, or by the method itself)" if name == "SIGKILL" else ""
        why = f"the process was killed by {name}{hint}"
    else:
        why = f"ended the process, with exit code {code}"
    death = Death(why, entry.about, entry.at, output or None)
    return _Ended(death, unit, not ran_out and code == -getattr(signal, "SIGKILL", 9))


def _where(output: str) -> str:
    """The innermost line of Python that a watch saw, of a file that is neither ours nor a library's."""
    frames = _FRAME.findall(output[output.rindex("Timeout (") :]) if "Timeout (" in output else []
    own = [frame for frame in frames if not _is_known(frame[0])]
    if not own:
        return ""
    file, line, function = own[0]
    return f": {Path(file).name}, line {line} in {function}"


def _is_known(file: str) -> bool:
    root, path = Path(__file__).parent.parent, Path(file)
    ours = path.is_relative_to(root) and not path.is_relative_to(root / "tests")
    return ours or "site-packages" in path.parts or path.is_relative_to(sysconfig.get_path("stdlib"))


# -- how processes are made ------------------------------------------------------------------------------------


def _context(device: str) -> multiprocessing.context.BaseContext:
    """Forks of a server that has imported everything; where there is none, and with CUDA, processes from nothing."""
    if device == "cuda" or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    return _server()


@functools.cache
def _server() -> multiprocessing.context.BaseContext:
    """The fork server, started by a thread that stays: it would end with the one that starts it (see `die_with_parent`)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    started = threading.Event()

    def stay() -> None:
        try:
            ensure_running()
        finally:
            started.set()
        threading.Event().wait()

    threading.Thread(target=stay, name="attribcheck fork server", daemon=True).start()
    started.wait()
    return context
