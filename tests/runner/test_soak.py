"""Soaking: every claim that holds gets fresh cases in each round; an alarm is told at once, and the budget is kept."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attribcheck.errors import UsageError
from attribcheck.runner.here import Here
from attribcheck.tools.soak import PER_ROUND, main, soak

METHODS = """
import attribcheck as ac
import torch


def gradient(model, x, target):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


@ac.method(claims=[
    ac.holds("dummy", on="linear"),
    ac.holds("symmetry", on="linear"),
    ac.fails("completeness/delta", on="linear", reason="not multiplied by the input"),
])
def right(model, x, target, baseline=None):
    return gradient(model, x, target)


@ac.method(claims=[ac.holds("dummy", on="linear"), ac.holds("completeness/delta", on="linear")])
def wrong(model, x, target, baseline=None):
    return gradient(model, x, target)


@ac.method(claims=[ac.fails("completeness/delta", on="linear", reason="not multiplied by the input")])
def modest(model, x, target, baseline=None):
    return gradient(model, x, target)


@ac.method(claims=[ac.holds("dummy", on="linear"), ac.holds("symmetry", on="relu"), ac.holds("symmetry", on="linear")])
def interrupted(model, x, target, baseline=None):
    if len(calls) > 70:
        raise KeyboardInterrupt
    calls.append(1)
    return gradient(model, x, target)


calls = []
"""


@pytest.fixture(autouse=True)
def methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "soaked.py").write_text(METHODS)
    yield
    sys.modules.pop("soaked", None)


def test_every_claim_that_holds_gets_fresh_cases_in_each_round(tmp_path: Path) -> None:
    found = soak(("soaked:right",), tmp_path, 2 * PER_ROUND, budget=300)
    assert found.examples == {
        "dummy[soaked:right-linear]": 2 * PER_ROUND,
        "symmetry[soaked:right-linear]": 2 * PER_ROUND,
    }
    assert (found.rounds, found.alarms) == (2, [])
    written = json.loads((tmp_path / "soak.json").read_text())
    assert written["examples"] == found.examples
    assert (written["whole_rounds"], written["alarms"]) == (2, [])


def test_an_alarm_ends_with_one_and_leaves_its_witness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soaked:wrong", "-n", "50", "--report-dir", "out"]) == 1
    out = capsys.readouterr().out
    assert "ALARM" in out
    assert "completeness/" in out
    assert "1 alarms; 1 whole rounds (go on with --first-round 1)" in out
    witness = json.loads((tmp_path / "out" / "alarm-1.json").read_text())
    assert witness["axiom"].startswith("completeness/")
    assert witness["figures"]["residual"] > witness["figures"]["tolerance"]
    written = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert written["examples"]["dummy[soaked:wrong-linear]"] == PER_ROUND
    assert 0 < written["examples"]["completeness/delta[soaked:wrong-linear]"] < PER_ROUND


def test_rounds_can_be_shorter(tmp_path: Path) -> None:
    found = soak(("soaked:right",), tmp_path, 20, budget=300, per_round=10)
    assert set(found.examples.values()) == {20}
    assert found.rounds == 2


def test_rounds_go_on_where_a_soak_ended(tmp_path: Path) -> None:
    found = soak(("soaked:right",), tmp_path, 3 * PER_ROUND, budget=300, first_round=2)
    assert set(found.examples.values()) == {PER_ROUND}
    assert json.loads((tmp_path / "soak.json").read_text())["first_round"] == 2


def test_the_page_of_what_was_reached(tmp_path: Path) -> None:
    assert main(["soaked:right", "-n", "50", "--write", "SOAK.md"]) == 0
    page = (tmp_path / "SOAK.md").read_text()
    assert "up to 50 examples for each within 600 s, in 1 worker process." in page
    assert "at least 50, median 50, at most 50 for each; 0 alarms; 1 whole rounds. Alarms: None." in page
    assert "| dummy | 1 | 50 | 50 | 0 |\n| symmetry | 1 | 50 | 50 | 0 |\n" in page
    shares = re.search(r"\| tier \| small ([0-9.]+)%, wide ([0-9.]+)% \|", page)
    assert shares is not None
    assert [float(share) for share in shares.groups()] == [80, 20]
    assert "no case" not in page
    late = soak(("soaked:right",), tmp_path, 50, budget=0).page("in no time")
    assert "2 claims had no case: `dummy[soaked:right-linear]`, `symmetry[soaked:right-linear]`." in late


def test_a_budget_that_is_spent_draws_nothing_more(tmp_path: Path) -> None:
    start = time.monotonic()
    found = soak(("integrated-gradients", "lrp-0"), tmp_path, 10_000, budget=0)
    assert time.monotonic() - start < 60  # 150 streams of cases would take some minutes
    assert found.rounds == 0
    assert set(found.examples.values()) == {0}
    assert "at least 0, median 0, at most 0 for each; 0 alarms; 0 whole rounds" in found.summary()


def test_an_interruption_keeps_what_was_seen(tmp_path: Path) -> None:
    found = soak(("soaked:interrupted",), tmp_path, 10_000, budget=300)
    assert sorted(found.examples.values()) == [0, 0, PER_ROUND]
    assert found.stopped == "interrupted after 1 of 3 claims"
    assert json.loads((tmp_path / "soak.json").read_text())["examples"] == found.examples


def test_a_soak_that_was_stopped_is_no_success(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attribcheck.tools.soak.executor_of", lambda *given: Here())  # (there it is Ctrl-C)
    assert main(["soaked:interrupted", "-n", "50", "--report-dir", "out"]) == 1
    assert "0 alarms; 0 whole rounds; interrupted after 1 of 3 claims (go on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gradiant"], "gradiant"),
        (["soaked:modest"], "soaked:modest: there is no claim that anything holds"),
        (["soaked:right", "-n", "50", "--report-dir", "soaked.py/inside"], "cannot write"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("error: ")
    assert said in err


def test_no_soak_without_a_directory_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        soak(("soaked:right",), tmp_path / "file", PER_ROUND, budget=300)
