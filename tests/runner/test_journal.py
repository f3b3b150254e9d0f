"""The journal of a run of axioms: what it serves, and to which run alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attribcheck.cli import cli
from attribcheck.errors import UsageError
from attribcheck.methods.registry import BUILTIN, get_method, owner
from attribcheck.results import Observed, Result
from attribcheck.runner import Options
from attribcheck.runner import journal as journals
from attribcheck.runner.axioms import AxiomsJob, prepared
from attribcheck.runner.here import Here
from attribcheck.runner.journal import JOURNAL, Journal
from attribcheck.runner.lock import locked, must_be_free
from click.testing import CliRunner
from click.testing import Result as Done

METHODS = """
import attribcheck as ac
import helping
import torch


@ac.method(claims=[ac.holds("dummy", on="linear"), ac.holds("symmetry", on="linear")])
def mine(model, x, target, baseline=None):
    if helping.RAISES:
        raise ValueError("no")
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a method that is made of two files; it is called in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("attribcheck.runner.running.executor", lambda *given: Here())
    (tmp_path / "kept.py").write_text(METHODS)
    (tmp_path / "helping.py").write_text("RAISES = False\n")
    yield tmp_path
    forget()


def forget() -> None:
    for name in ("kept", "helping"):
        sys.modules.pop(name, None)


def run(*options: str) -> Done:
    forget()
    return CliRunner().invoke(
        cli, ["run", "kept:mine", "-n", "4", "--report", "json", *options], catch_exceptions=False
    )


def taken(done: Done) -> str:
    return done.stderr.partition(" claims are taken")[0]


def test_a_finished_run_is_served_again_and_its_journal_stays(here: Path) -> None:
    run()
    journal = here / "attribcheck-report" / JOURNAL
    before = journal.read_text()
    assert len(before.splitlines()) == 2
    report = (here / "attribcheck-report" / "results.json").read_text()
    assert taken(run("--resume")) == "2 of 2"
    assert journal.read_text() == before
    again = json.loads((here / "attribcheck-report" / "results.json").read_text())
    assert again["results"] == json.loads(report)["results"]


@pytest.mark.parametrize("options", [("--seed", "1"), ("-n", "5")])
def test_other_options_are_another_run(options: tuple[str, ...], here: Path) -> None:
    run()
    done = run("--resume", *options)
    assert taken(done) == "0 of 2"
    assert "2 are not of this run (other options, code or weights)" in done.stderr
    assert taken(run("--resume")) == "2 of 2"  # what was there before has stayed


@pytest.mark.parametrize("file", ["kept.py", "helping.py"])
def test_a_change_in_any_file_of_the_method_is_another_run(file: str, here: Path) -> None:
    run()
    path = here / file
    path.write_text(path.read_text() + "# changed\n")
    os.utime(path, (1, 1))  # (bytecode is told by the time of its source)
    assert taken(run("--resume")) == "0 of 2"


def test_the_claim_is_part_of_the_key(here: Path) -> None:
    forget()
    options = Options(("kept:mine",), max_examples=4)
    cells, _ = prepared(options)
    job = AxiomsJob(options, tuple(cell.named for cell in cells))
    first, second = (json.dumps(job.key(unit)) for unit in job.units())
    assert first != second
    assert json.loads(first)["unit"]["claim"]["kind"] == "holds"


def test_the_code_and_every_installed_package_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = journals.code_version.__wrapped__("cpu")
    assert journals.code_version.__wrapped__("cpu") == before
    monkeypatch.setattr(journals.metadata, "distributions", list)
    assert journals.code_version.__wrapped__("cpu") != before


def test_errors_are_kept_and_tried_again_on_request(here: Path) -> None:
    (here / "helping.py").write_text("RAISES = True\n")
    assert run().exit_code == 2
    assert taken(run("--resume")) == "2 of 2"
    again = run("--resume", "--retry-errors")
    assert (again.exit_code, taken(again)) == (2, "0 of 2")
    refused = run("--retry-errors")
    assert (refused.exit_code, refused.stderr) == (
        2, "attribcheck: --retry-errors needs --resume: without it everything is computed anew\n",
    )  # fmt: skip


def test_what_a_time_limit_cut_off_is_not_kept(here: Path) -> None:
    assert run("--max-time", "1e-9").exit_code == 1
    assert (here / "attribcheck-report" / JOURNAL).read_text() == ""
    assert run("--resume").exit_code == 0


def test_wrong_usage_leaves_the_journal_of_the_last_run(here: Path) -> None:
    run()
    before = (here / "attribcheck-report" / JOURNAL).read_text()
    assert run("--axiom", "nothing").exit_code == 2
    assert (here / "attribcheck-report" / JOURNAL).read_text() == before


def test_a_line_that_was_cut_off_costs_its_unit_alone(here: Path) -> None:
    run()
    path = here / "attribcheck-report" / JOURNAL
    path.write_text(path.read_text()[:-30])
    assert taken(run("--resume")) == "1 of 2"
    assert taken(run("--resume")) == "2 of 2"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_journal_that_cannot_grow_stops_no_run(here: Path) -> None:
    folder = here / "attribcheck-report"
    folder.mkdir()
    (folder / JOURNAL).symlink_to("/dev/full")
    done = run()
    assert done.exit_code == 0
    assert "2 checked: 2 as claimed" in done.stdout
    assert done.stderr == (
        f"cannot write attribcheck-report/{JOURNAL}: No space left on device; not everything can be resumed from it\n"
    )


def row(method: str) -> Result:
    return Result(method, "dummy", "linear", observed=Observed.HOLDS)


def test_a_finished_unit_is_with_the_system_at_once(tmp_path: Path) -> None:
    """kill -9 asks nobody: nothing may wait in a buffer."""
    journal = Journal(tmp_path)
    journal.open()
    for count in (1, 2, 3):
        journal.write({"unit": count}, [row("mine")])
        assert len((tmp_path / JOURNAL).read_text().splitlines()) == count
    journal.close()


def test_after_a_failure_the_journal_goes_on_and_the_loss_is_told(tmp_path: Path) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            """Nothing is left to write."""

    journal = Journal(tmp_path)
    journal.open()
    journal.write({"unit": 1}, [row("first")])
    journal._file = Full()  # type: ignore[assignment]
    journal.write({"unit": 2}, [row("lost")])
    journal.write({"unit": 3}, [row("third")])
    journal.close()
    kept = [json.loads(line)["rows"][0]["method"] for line in (tmp_path / JOURNAL).read_text().splitlines() if line]
    assert kept == ["first", "third"]
    assert str(journal.failed).endswith("No space left on device; not everything can be resumed from it")


def test_a_journal_that_is_taken_away_stops_no_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can neither be written nor opened again; what was lost is told at the end, whatever came later."""
    opened = Path.open

    def refusing(path: Path, mode: str = "r", *given: Any, **options: Any) -> Any:
        if path.name == JOURNAL and mode == "a":
            raise OSError(28, "No space left on device")
        file = opened(path, mode, *given, **options)
        return open("/dev/full", "w") if path.name == JOURNAL and mode == "w" else file

    monkeypatch.setattr(Path, "open", refusing)
    done = run()
    assert (done.exit_code, "2 checked: 2 as claimed" in done.stdout) == (0, True)
    assert done.stderr.startswith(f"cannot write attribcheck-report/{JOURNAL}: No space left on device; ")


def test_a_folder_is_for_one_run(here: Path) -> None:
    must_be_free(here / "nowhere")
    assert not (here / "nowhere").exists()
    with locked(here / "out"):
        with pytest.raises(UsageError, match="another run writes into "), locked(here / "out"):
            pass
        with pytest.raises(UsageError, match="another run writes into "):
            must_be_free(here / "out")
        journal = Journal(here / "out")
        with pytest.raises(UsageError, match="another run writes into "):
            journal.open()
    with locked(here / "out"):
        pass


def test_every_method_is_found_again_by_its_name() -> None:
    """Workers know methods by their names."""
    for method in BUILTIN.values():
        assert get_method(method.name).name == method.name
        assert owner(method.name) == ""
    for name in ("smoothgrad(lrp-epsilon)", "lrp-epsilon(epsilon=0.01)", "captum:IntegratedGradients(n_steps=20)"):
        assert get_method(name).name == name
    assert owner("captum:IntegratedGradients(n_steps=20)") == "captum"
    assert owner("mine:f") == "mine:f"
    assert owner("smoothgrad(mine:f)") == "mine:f"
