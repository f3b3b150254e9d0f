"""Write files whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ..errors import UsageError


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
        reason = error.strerror or str(error)
        raise UsageError(f"cannot write {path}: {reason}; choose another folder with --report-dir") from error
    return path
