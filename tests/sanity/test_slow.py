"""Every full-model check on its model, hardly trained: the whole way from the command line's options to the reports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from attribcheck.reports import FORMATS, validate_results, write
from attribcheck.results import Report
from attribcheck.runner.checks import run
from attribcheck.sanity import checks
from attribcheck.sanity.plan import Options

pytestmark = pytest.mark.slow

METHODS = (
    "gradient",
    "gradient-times-input",
    "guided-backprop",
    "gradcam",
    "smoothgrad",
    "integrated-gradients",
    "cgi",
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Models are trained once for all tests of this file, and nowhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTRIBCHECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def told(report: Report) -> list[dict[str, Any]]:
    """The findings without what depends on the clock."""
    return [{**asdict(row), "seconds": 0} for row in report.sanity]


@pytest.mark.parametrize("name", checks.MODULES)
def test_a_check_finds_something_of_every_method(name: str, tmp_path: Path) -> None:
    report = run(Options(METHODS, (name,), scale="tiny", quick=True))
    check = checks.load(name)
    assert [(row.method, row.check) for row in report.sanity] == [
        (method, variant) for method in METHODS for variant in check.full_names
    ]
    assert not [row.line() for row in report.sanity if row.observed == "error"]
    measured = [row for row in report.sanity if row.value is not None]
    assert {row.method for row in measured} >= {"gradient", "gradient-times-input", "guided-backprop"}
    for row in measured:
        assert row.statistic
        assert row.rule
        assert row.figures
        low, high = row.interval or (row.value, row.value)
        assert low <= row.value <= high
    document = json.loads(json.dumps(report.document(), allow_nan=False))
    validate_results(document)
    assert len(write(document, tmp_path, list(FORMATS))) == len(FORMATS)


@pytest.mark.parametrize("name", ["class-sensitivity", "sensitivity-n"])
def test_the_number_of_processes_changes_nothing(name: str) -> None:
    options = Options(METHODS, (name,), scale="tiny", quick=True)
    assert told(run(options)) == told(run(options, jobs=2))


def test_the_order_of_the_methods_changes_nothing() -> None:
    """What a check computes once for all methods is the same, whichever method asks first."""
    there, back = (
        run(Options(each, ("region-perturbation",), scale="tiny", quick=True)) for each in (METHODS, METHODS[::-1])
    )
    assert sorted(map(str, told(there))) == sorted(map(str, told(back)))


@pytest.mark.parametrize("model", ["imdb-mlp", "mnist-cnn(tanh)"])
def test_checks_take_other_models(model: str) -> None:
    report = run(Options(("gradient-times-input",), model=model, scale="tiny", quick=True))
    assert {row.model for row in report.sanity} == {model}
    assert not [row.line() for row in report.sanity if row.observed == "error"]
    assert [row for row in report.sanity if row.value is not None]
