"""Interruption and resumption of full-model checks: nothing is lost and nothing is mixed; on fakes that take no time."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import attribcheck as ac
import pytest
from attribcheck.errors import UsageError
from attribcheck.reports import validate_results
from attribcheck.runner import journal as resume
from attribcheck.runner.watch import Watch
from attribcheck.sanity.plan import Options

from ..support.groups import started, wait_until_gone
from ..support.sanity_runs import TARGETS, TINY, by_name, rows, run, told


class Listening(Watch):
    """Keeps what it is told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.parts: list[str] = []
        self.lines: list[str] = []
        self.started: tuple[int, int] | None = None
        self.stop_after = stop_after

    def said(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, done: int, total: int, noun: str) -> None:
        self.started = (done, total)

    def done(self, done: int, total: int, findings: Any) -> None:
        self.parts.append(f"{findings[0].method.rpartition(':')[2]} {findings[0].check}")
        if self.stop_after == len(self.parts):
            raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(fakes: Any, tmp_path: Path) -> None:
    options = Options(TARGETS, scale="tiny")
    whole = run(options, known=fakes.CHECKS, load=fakes.load)
    report = run(options, directory=tmp_path, watch=Listening(stop_after=2), known=fakes.CHECKS, load=fakes.load)
    assert report.incomplete == "interrupted after 2 of 6 parts; go on with --resume"
    assert told(report) == told(whole)[:2]
    assert report.exit_code == 1
    assert not report.ok
    document = json.loads(json.dumps(report.document()))
    validate_results(document)
    assert document["incomplete"] == report.incomplete
    listening = Listening()
    again = run(options, directory=tmp_path, resumed=True, watch=listening, known=fakes.CHECKS, load=fakes.load)
    assert told(again) == told(whole)
    assert again.incomplete is None
    assert listening.started == (2, 6)
    assert len(listening.parts) == 4
    assert listening.lines == [f"2 of 6 parts are taken from {tmp_path / resume.JOURNAL}"]


def test_an_interruption_inside_a_method(fakes: Any, tmp_path: Path) -> None:
    report = run(TINY, by_name(fakes, "zero", "interrupts"), directory=tmp_path, known=fakes.CHECKS, load=fakes.load)
    assert [row.method for row in report.sanity] == ["zero"]
    assert report.incomplete == "interrupted after 1 of 4 parts; go on with --resume"


def test_a_worker_that_dies_leaves_the_rest(fakes: Any, tmp_path: Path) -> None:
    options = Options(("fake_checks:zero", "fake_checks:dies"), scale="tiny")
    report = run(options, jobs=2, directory=tmp_path, known=fakes.CHECKS, load=fakes.load)
    assert (report.incomplete, report.exit_code) == (None, 2)
    found = {(row.method, row.observed, row.note) for row in report.sanity if row.method.endswith("dies")}
    assert found == {
        ("fake_checks:dies", "error", "the process was killed by SIGKILL (out of memory, or by the method itself)")
    }
    assert {row.observed for row in report.sanity if row.method.endswith("zero")} == {"violated", "not-applicable"}


DRIVER = """
import sys
from pathlib import Path

if __name__ == "__main__":
    import fake_checks
    from attribcheck.sanity.plan import Options
    from attribcheck.runner.checks import run
    from attribcheck.runner.journal import Journal

    targets = ("fake_checks:zero", "fake_checks:sleeps")
    report = run(
        Options(targets, scale="tiny"), jobs=2, known=fake_checks.CHECKS, load=fake_checks.load,
        kept=Journal(Path(sys.argv[1])),
    )
    print(report.incomplete, [row.method for row in report.sanity])
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """As a terminal sends it: to the process and its workers at once."""
    (tmp_path / "driver.py").write_text(DRIVER)
    paths = os.pathsep.join([str(Path(__file__).parent.parent / "support"), *sys.path])
    command = [sys.executable, "driver.py", str(tmp_path)]
    child = started(command, tmp_path, PYTHONPATH=paths)
    journal = tmp_path / resume.JOURNAL
    while child.poll() is None and not (journal.exists() and journal.read_text().count("\n") == 2):
        time.sleep(0.2)
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=50)
    assert "Traceback" not in err
    assert out.startswith("interrupted after 2 of 4 parts; go on with --resume ['fake_checks:zero', ")
    wait_until_gone(child.pid)


@pytest.mark.parametrize(
    "changed",
    [
        Options(TARGETS, scale="tiny", seed=1),
        Options(TARGETS, scale="tiny", images=3),
        Options(TARGETS, scale="default"),
    ],
    ids=["seed", "images", "scale"],
)
def test_other_options_are_never_mixed_in(fakes: Any, tmp_path: Path, changed: Options) -> None:
    run(Options(TARGETS, scale="tiny"), directory=tmp_path, known=fakes.CHECKS, load=fakes.load)
    listening = Listening()
    report = run(changed, directory=tmp_path, resumed=True, watch=listening, known=fakes.CHECKS, load=fakes.load)
    assert listening.started == (0, 6)
    assert "6 are not of this run (other options, code or weights)" in listening.lines[0]
    assert told(report) == told(run(changed, known=fakes.CHECKS, load=fakes.load))
    # Both runs' parts are there now.
    listening = Listening()
    run(
        Options(TARGETS, scale="tiny"),
        directory=tmp_path,
        resumed=True,
        watch=listening,
        known=fakes.CHECKS,
        load=fakes.load,
    )
    assert listening.started == (6, 6)


def test_other_weights_and_another_source_are_never_mixed_in(
    fakes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = by_name(fakes, "gradient")

    def other(model: str, data: str) -> Any:
        subject = fakes.load(model, data)
        subject.model[0].weight.data[0, 0] += 1e-6
        return subject

    run(TINY, methods, directory=tmp_path, known=fakes.CHECKS, load=fakes.load)
    for load, source, kept in ((fakes.load, [], 2), (other, [], 0), (fakes.load, ["edited"], 0)):
        if source:
            monkeypatch.setattr(resume, "source", lambda method, source=source: source)
        listening = Listening()
        run(TINY, methods, directory=tmp_path, resumed=True, watch=listening, known=fakes.CHECKS, load=load)
        assert listening.started == (kept, 2)


def test_without_resume_the_journal_begins_anew(fakes: Any, tmp_path: Path) -> None:
    for _ in range(2):
        run(TINY, by_name(fakes, "gradient"), directory=tmp_path, known=fakes.CHECKS, load=fakes.load)
    assert len((tmp_path / resume.JOURNAL).read_text().splitlines()) == 2


def test_a_line_that_was_cut_off_is_computed_again(fakes: Any, tmp_path: Path) -> None:
    methods = by_name(fakes, "gradient")
    whole = run(TINY, methods, directory=tmp_path, known=fakes.CHECKS, load=fakes.load)
    path = tmp_path / resume.JOURNAL
    path.write_text(path.read_text()[:-40] + "\nnothing\n{}\n" + path.read_text()[:30])
    listening = Listening()
    again = run(TINY, methods, directory=tmp_path, resumed=True, watch=listening, known=fakes.CHECKS, load=fakes.load)
    assert listening.started == (1, 2)
    assert told(again) == told(whole)
    listening = Listening()
    run(TINY, methods, directory=tmp_path, resumed=True, watch=listening, known=fakes.CHECKS, load=fakes.load)
    assert listening.started == (2, 2)


def test_what_erred_is_kept_and_tried_again_on_request(fakes: Any, tmp_path: Path) -> None:
    methods, found = by_name(fakes, "raises"), []
    for resumed, retry, kept in ((False, False, 0), (True, False, 2), (True, True, 0)):
        listening, journal = Listening(), resume.Journal(tmp_path, resumed, retry)
        report = run(TINY, methods, watch=listening, known=fakes.CHECKS, load=fakes.load, kept=journal)
        journal.close()
        assert listening.started == (kept, 2)
        found.append(told(report))
    assert found[0] == found[1] == found[2]
    assert {row["observed"] for row in found[0]} == {"error"}


def test_claims_may_change_between_the_runs(fakes: Any, tmp_path: Path) -> None:
    (method,) = by_name(fakes, "gradient")
    run(TINY, [method], directory=tmp_path, known=fakes.CHECKS, load=fakes.load)
    other = method.but(claims=(ac.fails("sanity/sensitivity-n", reason="a change of mind"),))
    report = run(TINY, [other], directory=tmp_path, resumed=True, known=fakes.CHECKS, load=fakes.load)
    row = rows(report)["gradient", "sensitivity-n"]
    assert (row.verdict, row.reason) == ("fail", "a change of mind")


def test_a_journal_that_cannot_be_written(fakes: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        run(TINY, by_name(fakes, "zero"), directory=tmp_path / "file", known=fakes.CHECKS, load=fakes.load)
