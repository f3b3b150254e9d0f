"""Units computed on a Dask cluster: each group by a child process of one of its workers, contained there as it is here."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Generator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import UsageError, first_line
from ..methods.adapters import ADAPTERS
from ..methods.registry import owner
from .job import Death, Job, cut
from .journal import module_hash, own_code
from .limits import Limits
from .processes import CannotStart, Done, Stopped, contained

LARGEST_GROUP = 8
"""Units that are lost at most when a machine is: fewer than in a process of this machine."""
TRIES = 3
"""Workers that may be lost while they compute one unit alone, before that is charged to it."""
_PACKAGES = ("torch", "numpy", "scipy", "hypothesis", "scikit-image", "captum")
"""What figures depend on: of these a worker must have the same versions."""
_CONNECTING = 20
"""Seconds until a scheduler must answer."""
_DAEMON = "DASK_DISTRIBUTED__WORKER__DAEMON=False"


class Cluster:
    """The workers of a Dask scheduler. A worker that is lost is charged to no unit without tries alone.

    Args:
        address: of the scheduler, "tcp://...", or the path of its file.
        timeout: seconds of one call of a method.
        memory: GiB of one process; None: an equal share of a machine's.
        device: "cpu" or "cuda".

    Raises:
        UsageError: `distributed` is not installed, no scheduler answers, it has no workers, or they have other code.
    """

    def __init__(self, address: str, timeout: float, memory: float | None, device: str = "cpu") -> None:
        try:
            import distributed
        except ImportError:
            raise UsageError("--dask needs the package distributed: pip install 'attribcheck[dask]'") from None
        try:
            if Path(address).is_file():
                self._client = distributed.Client(scheduler_file=address, timeout=_CONNECTING)
            else:
                self._client = distributed.Client(address, timeout=_CONNECTING)
            threads = self._client.nthreads()
        except (OSError, ValueError, TypeError) as error:
            detail = first_line(error)
            raise UsageError(f"--dask {address}: no scheduler answers there ({detail})") from error
        if not threads:
            raise UsageError(f"--dask {address}: the scheduler has no workers; start some with `dask worker`")
        self.jobs = sum(threads.values())
        self._timeout, self._memory, self._device = timeout, memory, device

    def compute(
        self, job: Job[Any], groups: Sequence[Sequence[Any]], deadline: float | None
    ) -> Generator[Done, None, None]:
        """The rows of each unit, as the groups are finished.

        Raises:
            UsageError: a worker has other code.
        """
        import distributed

        self._must_agree([unit.method for group in groups for unit in group if hasattr(unit, "method")])
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        parts = cut(groups, LARGEST_GROUP)
        tries: dict[Any, int] = {}
        asked = {self._submit(job, part, left): part for part in parts}
        try:
            waiting = distributed.as_completed(list(asked))
            for future in waiting:
                part = asked.pop(future)
                if future.status == "finished":
                    yield from future.result()
                    continue
                error = future.exception()
                if not isinstance(error, distributed.KilledWorker):
                    raise CannotStart(f"a Dask worker could not compute: {first_line(error)}")
                for unit in part:
                    tries[unit] = tries.get(unit, 0) + (len(part) == 1)
                    if tries[unit] < TRIES:
                        again = self._submit(job, [unit], left)
                        asked[again] = [unit]
                        waiting.add(again)
                    else:
                        why = f"its Dask workers died, {TRIES} times, when it was computed alone"
                        yield unit, job.lost(unit, Death(why))
        finally:
            self._client.cancel(list(asked), force=True)
            self._client.close()

    def _submit(self, job: Job[Any], units: Sequence[Any], left: float | None) -> Any:
        work = pickle.dumps((job, list(units)))  # (the scheduler must not need what is in there)
        return self._client.submit(computed, work, self._timeout, self._memory, self._device, left, pure=False)

    def _must_agree(self, targets: Sequence[str]) -> None:
        """Refuse workers that would compute something else.

        Raises:
            UsageError: one has another version of attribcheck or of a package, or another module of the user's, or none.
        """
        foreign = {target for target in targets if owner(target) not in ("", *ADAPTERS)}
        modules = sorted({owner(target).partition(":")[0] for target in foreign})
        here = about_this_process(modules)
        for worker, there in self._client.run(about_this_process, modules).items():
            if there["daemon"]:
                raise UsageError(f"Dask worker {worker} may start no processes: start it with {_DAEMON}")
            for name, value in here.items():
                if name != "daemon" and there.get(name) != value:
                    raise UsageError(f"Dask worker {worker} has another {name}: {there.get(name)}, here {value}")


def about_this_process(modules: Sequence[str]) -> dict[str, Any]:
    """What the rows of a unit depend on besides its names, here and on a worker.

    Args:
        modules: of the user's, by name.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    found: dict[str, Any] = {
        "Python": ".".join(map(str, sys.version_info[:3])),
        "code of attribcheck": own_code(),
        "daemon": bool(multiprocessing.current_process().daemon),
    }
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    for name in modules:
        try:
            importlib.import_module(name)
            found[f"module {name}"] = module_hash(name)
        except Exception as error:
            found[f"module {name}"] = f"{type(error).__name__}: {first_line(error)}"
    return found


def computed(work: bytes, timeout: float, memory: float | None, device: str, left: float | None) -> list[Done]:
    """A group on a Dask worker: in a child process of it, which ends with this call.

    Args:
        work: a job and units of it, pickled.
    """
    job, units = pickle.loads(work)
    stop = Stopped()
    limits = Limits.of_machine(timeout, memory, max(1, os.cpu_count() or 1), device)
    deadline = None if left is None else time.monotonic() + left
    try:
        return list(contained(job, units, limits, deadline, device, stop))
    finally:
        stop.now()
