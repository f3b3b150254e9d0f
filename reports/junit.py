"""results.json as JUnit XML, for the test pages of continuous integration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..results import REPORT_DIR
from .checks import measured
from .words import against, asked, outcome, printable, replay_line, sanity_outcome


def render(document: Mapping[str, Any], report_dir: str = REPORT_DIR) -> str:
    """One test case for each claimed result; observations without a claim are left out.

    An inconclusive claim is a failure of type 'inconclusive', since it gates as a refuted one does.

    Args:
        document: a results document.
        report_dir: the folder that the replay lines name.
    """
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    cases = []
    for result in document["results"]:
        if result["verdict"] == "unclaimed":
            continue
        name = f"{result['axiom']}[{result['family']}]"
        case = TestCase(printable(name), classname=printable(result["method"]), time=result["seconds"])
        if result["verdict"] != "pass":
            kind = Error if result["verdict"] == "error" else Failure
            type_ = outcome(result).label.replace(" ", "-")
            entry = kind(message=printable(_message(result)), type_=type_)
            entry.text = printable(_text(result, report_dir))
            case.result = [entry]
        cases.append(case)
    for entry in document["sanity"]:
        if entry["verdict"] == "unclaimed":
            continue
        name = f"{entry['check']}[{':'.join(part for part in (entry['model'], entry['data']) if part) or 'model'}]"
        case = TestCase(printable(name), classname=printable(entry["method"]), time=entry.get("seconds", 0.0))
        if entry["verdict"] != "pass":
            kind = Error if entry["verdict"] == "error" else Failure
            failed = kind(message=printable(_measured(entry)), type_=sanity_outcome(entry).label.replace(" ", "-"))
            failed.text = printable(_claim(entry))
            case.result = [failed]
        cases.append(case)
    if document.get("incomplete"):
        case = TestCase("all parts of the run", classname="attribcheck", time=0.0)
        case.result = [Failure(message=printable(document["incomplete"]), type_="incomplete")]
        cases.append(case)
    suite = TestSuite("attribcheck")
    for name, value in asked(document):
        suite.add_property(printable(name), printable(value))
    suite.add_testcases(cases)
    xml = JUnitXml("attribcheck")
    xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call, unused-ignore]
    # junitparser declares the encoding only when it writes the file itself.
    text = xml.tostring().decode("utf-8")  # type: ignore[no-untyped-call, unused-ignore]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _message(result: Mapping[str, Any]) -> str:
    note = f": {result['note']}" if result["note"] else ""
    return f"{outcome(result).sentence} {against(result['worst']).capitalize()}{note}"


def _measured(entry: Mapping[str, Any]) -> str:
    note = f": {entry['note']}" if entry["note"] else ""
    figures = f" {entry['statistic']} = {measured(entry)}; rule: {entry['rule']}" if entry["value"] is not None else ""
    return f"{sanity_outcome(entry).sentence}{figures}{note}"


def _claim(entry: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            f"claim: {entry.get('claim')}  observed: {entry['observed']}",
            *(f"{key}: {entry[key]}" for key in ("reason", "source") if entry.get(key)),
        ]
    )


def _text(result: Mapping[str, Any], report_dir: str) -> str:
    replay = replay_line(result, report_dir)
    lines = [_claim(result), *([f"replay: {replay}"] if replay else [])]
    if result["witness"] is not None and result["witness"]["script"]:
        lines += ["", result["witness"]["script"]]
    return "\n".join(lines)
