"""Documents rendered from results.json alone: HTML, JUnit XML, Markdown and the JSON itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from . import html, junit, markdown
from .document import dump, load_results, load_witness, to_json, validate_results, validate_witness
from .files import write_text
from .words import REPORT_DIR

__all__ = [
    "FORMATS",
    "REPORT_DIR",
    "Format",
    "dump",
    "load_results",
    "load_witness",
    "validate_results",
    "validate_witness",
    "write",
]


class Format(NamedTuple):
    """One kind of report.

    Attributes:
        filename: its name in the report's folder.
        render: takes the results document and the folder's name for replay lines, and returns text.
    """

    filename: str
    render: Callable[[Mapping[str, Any], str], str]


def _json(document: Mapping[str, Any], report_dir: str) -> str:
    return to_json(document)


FORMATS: dict[str, Format] = {
    "html": Format("report.html", html.render),
    "json": Format("results.json", _json),
    "junit": Format("junit.xml", junit.render),
    "md": Format("report.md", markdown.render),
}


def write(document: Mapping[str, Any], directory: str | Path, formats: Sequence[str]) -> list[Path]:
    """Write the reports asked for, and every witness as a file of its own.

    Args:
        document: a results document.
        directory: the report's folder, made if it is missing.
        formats: keys of `FORMATS`.

    Returns:
        The reports written, in the order asked for; the witnesses are not among them.

    Raises:
        UsageError: an unknown format, a witness file outside the folder or named twice, or a folder that
            cannot be written.
        ValueError: the document holds NaN or infinity.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"unknown report format {unknown[0]!r}: choose from {', '.join(FORMATS)}")
    directory = Path(directory)
    # All is rendered before anything is written, so that a failure leaves no half report.
    texts = _witnesses(document, directory)
    reports = {}
    for name in dict.fromkeys(formats):
        filename, render = FORMATS[name]
        reports[directory / filename] = render(document, directory.as_posix())
    for path, text in {**texts, **reports}.items():
        write_text(path, text)
    return list(reports)


def _witnesses(document: Mapping[str, Any], directory: Path) -> dict[Path, str]:
    texts: dict[Path, str] = {}
    for index, result in enumerate(document["results"]):
        name = result.get("witness_file")
        if result["witness"] is None or not name:
            continue
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            raise UsageError(f"results[{index}].witness_file: {name!r} leads out of the report's folder")
        text = to_json(result["witness"])
        if texts.setdefault(path, text) != text:
            raise UsageError(f"results[{index}].witness_file: {name!r} is the file of another witness too")
    return texts
