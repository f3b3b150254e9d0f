"""Documents rendered from results.json alone: HTML, JUnit XML, Markdown and the JSON itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..results import REPORT_DIR, Report
from . import html, junit, markdown
from .document import load_results, load_witness, validate_results, validate_witness
from .files import dump, to_json, write_text

__all__ = [
    "FORMATS",
    "REPORT_DIR",
    "Format",
    "NotWritten",
    "dump",
    "load_results",
    "load_witness",
    "save",
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


class NotWritten(UsageError):
    """A report that cannot be written; `written` has those that were."""

    def __init__(self, message: str, written: Sequence[Path]) -> None:
        super().__init__(message)
        self.written = list(written)


def write(document: Mapping[str, Any], directory: str | Path, formats: Sequence[str]) -> list[Path]:
    """Write the reports asked for, and every witness as a file of its own.

    results.json comes first, since everything else can be rendered from it; one that cannot be written stops no other.

    Args:
        document: a results document.
        directory: the report's folder, made if it is missing.
        formats: keys of `FORMATS`.

    Returns:
        The reports written, in the order asked for; the witnesses are not among them.

    Raises:
        UsageError: an unknown format, a witness file outside the folder or named twice.
        NotWritten: a file cannot be written.
        ValueError: the document holds NaN or infinity.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"unknown report format {unknown[0]!r}: choose from {', '.join(FORMATS)}")
    directory = Path(directory)
    texts = _witnesses(document, directory)
    wanted = list(dict.fromkeys(formats))
    written: dict[str, Path] = {}
    failed: list[UsageError] = []
    for name in sorted(wanted, key=lambda name: name != "json"):
        filename, render = FORMATS[name]
        try:
            written[name] = write_text(directory / filename, render(document, directory.as_posix()))
        except UsageError as error:
            failed.append(error)
    for path, text in texts.items():
        try:
            write_text(path, text)
        except UsageError as error:
            failed.append(error)
    found = [written[name] for name in wanted if name in written]
    if failed:
        raise NotWritten(f"{failed[0]}{_what_to_do(directory, written, len(failed) - 1)}", found)
    return found


def _what_to_do(directory: Path, written: Mapping[str, Path], more: int) -> str:
    others = f" (and {more} more files)" if more else ""
    if "json" not in written:
        return others
    return f"{others}; everything is in {written['json']}: `attribcheck report {written['json']} --report-dir FOLDER`"


def save(report: Report, directory: Path, formats: Sequence[str]) -> list[Path]:
    """Write the reports and the witnesses of a run. A run of axioms removes the witnesses of earlier ones in that folder.

    A run that was stopped before it found anything leaves what lies there.

    Raises:
        NotWritten: a file cannot be written.
    """
    if report.incomplete and not report.rows:
        return []
    document = report.document()
    written = write(document, directory, formats)
    if document["results"]:
        kept = {Path(result["witness_file"] or "").name for result in document["results"]}
        for old in (directory / "witnesses").glob("*.json"):
            if old.name not in kept:
                old.unlink(missing_ok=True)
    return written


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
