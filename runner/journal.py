"""The journal of finished units, from which an interrupted run goes on, and the keys that keep other runs' apart."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from ..claims import Method
from ..errors import UsageError
from ..methods.registry import BUILTIN
from ..models.subject import Subject
from ..results import Finding, environment
from ..sanity.study import Scale
from ..sanity.units import Unit

JOURNAL = "sanity-progress.jsonl"
_ROOT = Path(__file__).parent.parent


class Journal:
    """One line of JSON for each finished unit: its key and its findings. Only the parent process writes.

    A key says everything that the findings depend on, so lines of other options, other code or other weights stay where they
    are and are never used. Units that erred are not written: they are tried again.

    Raises:
        UsageError: the file cannot be read or written.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.finished: dict[str, list[Finding]] = {}
        self.foreign = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume and path.exists():
                self._read()
            self._file: TextIO = path.open("a" if resume else "w", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --report-dir") from error

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self.finished[entry["key"]] = [Finding(**finding) for finding in entry["findings"]]
            except (ValueError, TypeError, KeyError):
                continue  # a line that was cut off, or of another version
        if text and not text.endswith("\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def write(self, key: str, found: list[Finding]) -> None:
        """Append a finished unit; it is on disk when this returns."""
        if any(finding.observed == "error" for finding in found):
            return
        entry = {"key": key, "findings": [asdict(finding) for finding in found]}
        self._file.write(json.dumps(entry, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()


def key(unit: Unit, method: Method, subject: str, scale: Scale, seed: int, device: str) -> str:
    """What the findings of a unit depend on, as one short text.

    Args:
        subject: the fingerprint of the unit's subject.
    """
    parts = [asdict(unit), subject, asdict(scale), seed, code_version(device), _source(method)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def code_version(device: str) -> str:
    """The code of attribcheck, and the versions of the libraries under it."""
    digest = hashlib.sha256(json.dumps(environment(device), sort_keys=True).encode())
    for path in sorted(_ROOT.rglob("*.py")):
        if not {"tests", "build", ".venv"} & set(path.relative_to(_ROOT).parts):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _source(method: Method) -> list[str]:
    """The files that a user's own method is written in; what those files import is not looked at."""
    if method.name in BUILTIN:
        return []
    function: Any = method.function
    while isinstance(function, functools.partial):
        function = function.func
    names = {getattr(inspect.unwrap(function), "__module__", ""), *re.findall(r"([\w.]+):", method.name)}
    paths = [getattr(sys.modules.get(name or ""), "__file__", None) for name in sorted(names)]
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths if path and Path(path).is_file()]


def fingerprint(subject: Subject) -> str:
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
