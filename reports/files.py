"""Write files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

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
