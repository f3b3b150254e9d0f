"""The journal of finished units, from which a run goes on, and what keys are made of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..claims import Method
from ..errors import UsageError
from ..models.subject import Subject
from ..results import Finding, Observed, Result, Row, environment
from .job import Job
from .lock import locked

JOURNAL = "progress.jsonl"
EARLIER = "sanity-progress.jsonl"
"""The journal of versions before there was one for every run; nothing is taken from it."""
_ROOT = Path(__file__).parent.parent


class Journal:
    """One line of JSON for each finished unit: its key and its rows. Only the parent process writes, as units finish.

    A key says everything that the rows depend on, so lines of other options, other code or other weights stay where they are
    and are never used. Units that erred are kept with their error, and taken as it is unless they are to be tried again. The
    file stays after a finished run.

    Args:
        folder: of the report.
        resumed: take what is there; else it is begun anew.
        retry: try units again that erred.
    """

    def __init__(self, folder: Path, resumed: bool = False, retry: bool = False) -> None:
        self.path = folder / JOURNAL
        self.resumed, self.retry = resumed, retry
        self.failed: str | None = None
        self._kept: dict[str, list[Row]] = {}
        self._of_this_run = 0
        self._earlier = resumed and (folder / EARLIER).exists()
        self._file: IO[str] | None = None
        self._lock = contextlib.ExitStack()

    def open(self) -> None:
        """Take the folder, and read the journal or begin it anew: after the plan, so that wrong usage leaves what lies there.

        Raises:
            UsageError: another run writes into the folder, or the file cannot be read or written.
        """
        self._lock.enter_context(locked(self.path.parent))
        try:
            if self.resumed and self.path.exists():
                self._read()
            self._file = self.path.open("a" if self.resumed else "w", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write {self.path}: {error.strerror or error}; choose another --report-dir"
            ) from error

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                kind = Finding if entry["kind"] == "finding" else Result
                self._kept[entry["key"]] = [kind(**row) for row in entry["rows"]]
            except (ValueError, TypeError, KeyError):
                continue  # a line that was cut off, or of another version
        if text and not text.endswith("\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def taken(self, job: Job[Any], units: Sequence[Any]) -> dict[Any, Sequence[Row]]:
        """The units that are finished, with their rows."""
        if not self._kept:
            return {}
        found: dict[Any, Sequence[Row]] = {}
        for unit in units:
            rows = self._kept.get(fingerprint(job.key(unit)))
            if rows is not None and not (self.retry and any(row.observed == Observed.ERROR for row in rows)):
                found[unit] = rows
        self._of_this_run = len(found)
        return found

    def told(self, noun: str, total: int) -> str:
        """What was taken from it, in one line."""
        others = len(self._kept) - self._of_this_run
        line = f"{self._of_this_run} of {total} {noun} are taken from {self.path}"
        if others:
            line += f"; {others} are not of this run (other options, code or weights)"
        if self._earlier:
            line += f"; {EARLIER} is of an earlier version, and nothing is taken from it"
        return line

    def write(self, key: Any, rows: Sequence[Row]) -> None:
        """Append a finished unit; the system has it when this returns. A full disk stops the journal and not the run."""
        kind = "finding" if rows and isinstance(rows[0], Finding) else "result"
        entry = {"key": fingerprint(key), "kind": kind, "rows": [row.document() for row in rows]}
        line = json.dumps(entry, allow_nan=False) + "\n"
        try:
            if self._file is None:  # after a failure: a line may have been cut off
                self._file = self.path.open("a", encoding="utf-8")
                line = "\n" + line
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self.failed = f"cannot write {self.path}: {error.strerror or error}; not everything can be resumed from it"
            self._let_go()  # what is left in the buffer must not be written later on

    def close(self) -> None:
        """Close the file, which stays, and leave the folder to others."""
        self._let_go()
        self._lock.close()

    def _let_go(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None


# -- keys ------------------------------------------------------------------------------------------------------


def fingerprint(key: Any) -> str:
    """A key as one short text."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32]


@functools.cache
def code_version(device: str) -> str:
    """The code of attribcheck and the versions of all packages that are installed, as one short text."""
    digest = hashlib.sha256(json.dumps(environment(device), sort_keys=True).encode())
    versions = sorted({(d.metadata["Name"] or "", d.version) for d in metadata.distributions()})
    digest.update(json.dumps([versions, own_code()]).encode())
    return digest.hexdigest()[:32]


@functools.cache
def own_code() -> str:
    """The code of attribcheck as one short text."""
    digest = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        if not {"tests", "build", ".venv"} & set(path.relative_to(_ROOT).parts):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def module_hash(name: str) -> str | None:
    """The hash of a loaded module's file, wherever it lies; None where it has none."""
    path = getattr(sys.modules.get(name), "__file__", None)
    return _hash(Path(path)) if path and Path(path).is_file() else None


def local_modules() -> Mapping[str, str]:
    """The modules that were loaded from under the working directory, with a hash of each: a method may be made of several.

    Installed packages and attribcheck itself are none of them: `code_version` has these.
    """
    here, found = Path.cwd().resolve(), {}
    for name, module in sorted(sys.modules.copy().items()):
        path = getattr(module, "__file__", None)
        if path is not None and (own := _own(Path(path), here)):
            found[name] = _hash(own)
    return found


def source(method: Method) -> list[str]:
    """A hash of each file that a method of somebody else's is written in, wherever it lies."""
    function: Any = method.function
    while isinstance(function, functools.partial):
        function = function.func
    names = {getattr(inspect.unwrap(function), "__module__", ""), *re.findall(r"([\w.]+):", method.name)}
    return [found for name in sorted(filter(None, names)) if (found := module_hash(name))]


def subject_fingerprint(subject: Subject) -> str:
    """The weights, the architecture and the samples of a subject, as one short text."""
    digest = hashlib.sha256(repr(subject.model).encode())
    state = subject.model.state_dict()
    for name in sorted(state):
        digest.update(name.encode())
        _add(digest, state[name])
    for tensor in (subject.x, subject.labels, subject.present, subject.masks, subject.data):
        _add(digest, tensor)
    digest.update(repr((subject.group_axis, subject.accuracy, subject.needed)).encode())
    return digest.hexdigest()[:16]


def _add(digest: Any, tensor: Tensor | None) -> None:
    if tensor is not None:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _own(path: Path, here: Path) -> Path | None:
    path = path.resolve()
    if not path.is_file() or not path.is_relative_to(here):
        return None
    parts = path.relative_to(here).parts
    if {"site-packages", "dist-packages", ".venv"} & set(parts):
        return None
    if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] != "tests":
        return None
    return path


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
