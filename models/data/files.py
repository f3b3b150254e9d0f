"""Finding the files of a data set under the folder that the user names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...errors import UsageError


def root_of(name: str, data_root: str | Path | None) -> Path:
    """The folder that the user names.

    Raises:
        UsageError: none is named, or it does not exist.
    """
    if data_root is None:
        raise UsageError(f"{name} is read from files: name their folder with --data-root DIR (nothing is downloaded)")
    root = Path(data_root)
    if not root.is_dir():
        raise UsageError(f"--data-root {data_root}: there is no such folder")
    return root


def find(name: str, root: Path, folders: Iterable[str], files: Iterable[str]) -> Path:
    """The first of some files, or folders, that exists in one of the usual folders below the root.

    Raises:
        UsageError: there is none; the line names the first file looked for.
    """
    folders, files = list(folders), list(files)
    for folder in folders:
        for file in files:
            if (root / folder / file).exists():
                return root / folder / file
    others = f" (nor {', '.join(files[1:])})" if len(files) > 1 else ""
    places = [str(folder) for folder in folders if folder]
    elsewhere = f", nor in its {' or '.join(places)}" if places else ""
    raise UsageError(f"{name}: there is no {root / files[0]}{others}{elsewhere}")
