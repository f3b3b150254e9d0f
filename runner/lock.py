"""The folder of a report, for one run at a time. No torch here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder of a report, for one run alone: a lock of the system on the folder itself, which ends with the process.

    It leaves no file behind, and a process that this one starts does not hold it.

    Raises:
        UsageError: another run writes there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}; choose another --report-dir") from error
    with _lock(folder):
        yield


def must_be_free(folder: Path) -> None:
    """Refuse a folder that another run writes into before the work rather than after it; makes nothing.

    Raises:
        UsageError: another run writes there.
    """
    if folder.is_dir():
        with _lock(folder):
            pass


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: there two runs are not told apart
        yield
        return
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another run writes into {folder}; wait for it, or choose another --report-dir") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(file)
