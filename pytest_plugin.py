"""The pytest plugin: one item for each claim of the methods named in the ini file. Loads without torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .results import REPORT_DIR

if TYPE_CHECKING:
    from .axioms.search.plan import Cell, Options
    from .results import Result

_PROPERTY = "attribcheck_result"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini settings, and options of the same names."""
    group = parser.getgroup("attribcheck", "claims of attribution methods")
    parser.addini("axioms_methods", "methods whose claims are checked: TARGETs of attribcheck", type="args", default=[])
    parser.addini("axioms_max_examples", "cases for each claim (default 100)", default="100")
    parser.addini("axioms_seed", "seed of the cases (default 0)", default="0")
    parser.addini("axioms_report_dir", f"where the report is written (default {REPORT_DIR})", default=REPORT_DIR)
    group.addoption("--axioms-methods", action="append", metavar="TARGET", help="check the claims of this method")
    group.addoption("--axioms-max-examples", metavar="N", help="cases for each claim")
    group.addoption("--axioms-seed", metavar="N", help="seed of the cases")
    group.addoption("--axioms-report-dir", metavar="DIR", help="where the report is written")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and the collector of results on the controlling process."""
    config.addinivalue_line("markers", "axioms: property checks of attribution methods")
    config.addinivalue_line("markers", "slow: full-model checks")
    config.addinivalue_line("markers", "gpu: needs CUDA")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collected(config), "attribcheck-collected")


def _setting(config: pytest.Config, name: str) -> Any:
    given = config.getoption(f"axioms_{name}")
    return config.getini(f"axioms_{name}") if given is None else given


def _number(config: pytest.Config, name: str, at_least: int) -> int:
    value = _setting(config, name)
    try:
        number = int(value)
    except ValueError:
        number = at_least - 1
    if number < at_least:
        raise pytest.UsageError(f"axioms_{name} must be a whole number of at least {at_least}, not {value!r}")
    return number


def _options(config: pytest.Config) -> Options:
    from .axioms.search.plan import Options

    return Options(
        targets=tuple(_setting(config, "methods")),
        max_examples=_number(config, "max_examples", 1),
        seed=_number(config, "seed", 0),
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Append one item for each claim, before -k and -m choose."""
    if not _setting(config, "methods") or _narrowed(config):
        return
    from .errors import UsageError
    from .reports.files import must_be_writable
    from .runner.axioms import prepared

    options = _options(config)
    try:
        must_be_writable(Path(str(_setting(config, "report_dir"))))
        cells, _ = prepared(options)
    except UsageError as error:
        raise pytest.UsageError(f"attribcheck: {error}") from error
    collector = Claims.from_parent(session, name="axioms", nodeid="axioms")
    for cell in cells:
        if cell.claim is not None:
            items.append(ClaimItem.from_parent(collector, name=cell.id, cell=cell, options=options))


def _narrowed(config: pytest.Config) -> bool:
    """Whether the command line names files or tests and does not ask for axioms: then only those are meant."""
    named = config.args_source == pytest.Config.ArgsSource.ARGS
    asked = "axioms" in (config.getoption("markexpr") or "") or config.getoption("axioms_methods") is not None
    return named and not asked


class Claims(pytest.Collector):
    """The parent of the items; they come from the ini file, not from a file of tests."""

    def collect(self) -> Iterator[pytest.Item]:
        """Nothing: the items are appended after collection."""
        return iter(())


class ClaimFailed(Exception):
    """A claim that does not stand."""


class ClaimItem(pytest.Item):
    """One claim of one method on one family."""

    def __init__(self, *, cell: Cell, options: Options, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell, self.options = cell, options
        self.add_marker(pytest.mark.axioms)

    def runtest(self) -> None:
        """Check the claim, in this process; its result travels to the controlling process with the report of the item."""
        import json

        from .axioms.search.cell import run_cell
        from .calling import one_thread
        from .results import Verdict

        with one_thread():
            result = run_cell(self.cell, self.options)
        self.user_properties.append((_PROPERTY, json.loads(json.dumps(result.document()))))
        if result.verdict != Verdict.PASS:
            raise ClaimFailed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The witness, the residual against the tolerance, the replay line; no traceback of the harness."""
        if isinstance(excinfo.value, ClaimFailed):
            from .axioms.search.failures import failure_text

            result: Result = excinfo.value.args[0]
            return failure_text(result, str(_setting(self.config, "report_dir")))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item comes from, for the terminal."""
        return self.config.rootpath, None, self.name


class _Collected:
    """Gathers the results of all workers and writes one report."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: list[dict[str, Any]] = []
        self.written: list[Path] = []
        self.lock = ExitStack()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the result out of an item's report (also of one that ran in another process)."""
        if report.when == "call":
            self.results += [dict(value) for name, value in report.user_properties if name == _PROPERTY]  # type: ignore[call-overload]
            report.user_properties[:] = [p for p in report.user_properties if p[0] != _PROPERTY]

    def pytest_sessionstart(self) -> None:
        """Take the report's folder: all workers are one run, and a second run into it is refused."""
        if not _setting(self.config, "methods") or _narrowed(self.config) or self.config.getoption("collectonly"):
            return
        from .errors import UsageError
        from .reports.files import must_be_writable
        from .runner.lock import locked

        folder = Path(str(_setting(self.config, "report_dir")))
        try:
            must_be_writable(folder)
            self.lock.enter_context(locked(folder))
        except UsageError as error:
            raise pytest.UsageError(f"attribcheck: {error}") from error

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the merged report, in the order of the plan."""
        with self.lock:
            self._write(exitstatus)

    def _write(self, exitstatus: int) -> None:
        if not self.results:
            return
        from .reports import save
        from .results import Report, Result

        results = [Result(**data) for data in self.results]
        results.sort(key=lambda r: (r.method, r.axiom, r.family))
        stopped = f"interrupted after {len(results)} claims" if exitstatus == pytest.ExitCode.INTERRUPTED else None
        report = Report(
            results, _number(self.config, "seed", 0), _number(self.config, "max_examples", 1), incomplete=stopped
        )
        self.written = save(report, Path(str(_setting(self.config, "report_dir"))), ["html", "json"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where the report is."""
        for path in self.written:
            if path.suffix == ".html":
                terminalreporter.write_line(f"attribcheck: {len(self.results)} claims checked, report in {path}")
