"""What the tests of full-model runs share: options, fake methods, and how a report is read."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attribcheck.claims import Method
from attribcheck.methods.registry import as_method
from attribcheck.results import Finding, Report
from attribcheck.runner import checks
from attribcheck.runner.journal import Journal
from attribcheck.sanity.plan import Options

TINY = Options(scale="tiny")
TARGETS = ("fake_checks:gradient", "fake_checks:zero", "fake_checks:noisy")


def run(
    options: Options,
    methods: list[Method] | None = None,
    *,
    directory: Path | None = None,
    resumed: bool = False,
    **given: Any,
) -> Report:
    """A run of full-model checks, with a journal in a folder where one is named."""
    if directory is None:
        return checks.run(options, methods, **given)
    with closing(Journal(directory, resumed)) as journal:
        return checks.run(options, methods, kept=journal, **given)


def rows(report: Report) -> dict[tuple[str, str], Finding]:
    """The findings by method and check."""
    found = {(row.method.rpartition(":")[2], row.check): row for row in report.sanity}
    assert len(found) == len(report.sanity), "a finding stands twice"
    return found


def by_name(fakes: Any, *names: str) -> list[Method]:
    """Fake methods as objects."""
    return [as_method(getattr(fakes, name)) for name in names]


def told(report: Report) -> list[dict[str, Any]]:
    """The findings without what depends on the clock."""
    return [{**asdict(row), "seconds": 0} for row in report.sanity]
