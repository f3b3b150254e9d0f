"""What the tests of full-model runs share: options, fake methods, and how a report is read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from attribcheck.claims import Method
from attribcheck.methods.registry import as_method
from attribcheck.results import Finding, Report
from attribcheck.sanity.plan import Options

TINY = Options(scale="tiny")
TARGETS = ("fake_checks:gradient", "fake_checks:zero", "fake_checks:noisy")


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
