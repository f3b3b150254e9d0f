"""Write files whole or not at all, documents as strict JSON."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError


def must_be_writable(directory: Path) -> None:
    """Refuse a folder for reports before the work rather than after it; makes nothing.

    Raises:
        UsageError: the folder is no folder, or nothing can be made in it (or in the first folder above it that is there).
    """
    there = next(path for path in (directory, *directory.absolute().parents) if os.path.exists(path))  # (never raises)
    if not there.is_dir():
        raise _refused(directory, os.strerror(errno.ENOTDIR))
    if not os.access(there, os.W_OK | os.X_OK):
        raise _refused(directory, os.strerror(errno.EACCES))


def _refused(path: Path, reason: str) -> UsageError:
    return UsageError(f"cannot write {path}: {reason}; choose another folder with --report-dir")


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8 so that a reader sees the old file or the new one, never a part.

    Args:
        path: the file; its folder is made if it is missing.
        text: the content; lone surrogates are written as backslash escapes.

    Returns:
        `path`.

    Raises:
        UsageError: the file cannot be written.
    """
    # In the same folder, since a rename is atomic only within one file system.
    temporary = path.with_name(f".attribcheck-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as stream:
                stream.write(text.encode("utf-8", errors="backslashreplace"))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    return path


def dump(document: Mapping[str, Any], path: str | Path) -> Path:
    """Write a document as strict JSON, whole or not at all.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON cannot.
        UsageError: the file cannot be written.
    """
    return write_text(Path(path), to_json(document))


def to_json(document: Mapping[str, Any]) -> str:
    """Strict JSON, indented, with each row of numbers on one line.

    Raises:
        ValueError: the document holds NaN or infinity.
    """
    return rows_on_one_line(json.dumps(document, indent=1, allow_nan=False)) + "\n"


def rows_on_one_line(text: str) -> str:
    """Indented JSON with each list of numbers on one line."""
    # A raw line break cannot stand inside a JSON string, so this meets only real lists.
    return re.sub(r'\[\n\s*([^\[\]{}"]*?)\n\s*\]', lambda row: f"[{' '.join(row.group(1).split())}]", text)
