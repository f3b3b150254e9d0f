"""Running full-model checks: plan, claims, workers, interruption, resumption; on fakes that take no time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import attribcheck as ac
import pytest
from attribcheck.claims import Claim, Method
from attribcheck.errors import UsageError
from attribcheck.methods.registry import BUILTIN, as_method
from attribcheck.methods.sanity_claims import NAMES
from attribcheck.plan import Selection
from attribcheck.plan import plan as plan_axioms
from attribcheck.reports import validate_results
from attribcheck.sanity import checks, resume
from attribcheck.sanity.plan import Options, plan, subject_of
from attribcheck.sanity.run import run
from attribcheck.sanity.verdicts import claims_of, judge
from attribcheck.sanity.watch import Watch
from attribcheck.sanity.workers import plain
from attribcheck.verdicts import Finding, Report

TINY = Options(scale="tiny")
TARGETS = ("fake_checks:gradient", "fake_checks:zero", "fake_checks:noisy")


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The fake checks, under a name by which worker processes import them too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fake_checks

    yield fake_checks
    sys.modules.pop("fake_checks", None)


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


# -- findings --------------------------------------------------------------------------------------------------------


def test_every_variant_of_every_method_has_its_row(fakes: Any) -> None:
    report = run(Options(TARGETS, scale="tiny"), known=fakes.CHECKS, load=fakes.load)
    assert [(row.method, row.check) for row in report.sanity] == [
        *((target, "sensitivity-n") for target in TARGETS),
        *((target, f"competition/{variant}") for target in TARGETS for variant in ("kept", "randomization")),
    ]
    validate_results(json.loads(json.dumps(report.document())))


def test_a_row_holds_what_the_check_found(fakes: Any) -> None:
    row = rows(run(TINY, by_name(fakes, "gradient"), known=fakes.CHECKS, load=fakes.load))["gradient", "sensitivity-n"]
    assert (row.model, row.data, row.statistic, row.rule) == ("small", "points", "mean |R|", "above 0.1")
    assert row.value is not None
    assert row.interval == [pytest.approx(row.value - 0.1), pytest.approx(row.value + 0.1)]
    assert row.paper == {"source": "a paper, Table 1", "value": 0.5}
    assert row.figures["sizes"] == [1, 2, 4]
    assert len(row.figures["curve"]) == 3
    assert row.figures["not finite"] is None
    assert row.source == "this file"


def test_what_a_check_does_not_come_to_is_said(fakes: Any) -> None:
    row = rows(run(TINY, by_name(fakes, "zero"), known=fakes.CHECKS, load=fakes.load))[
        "zero", "competition/randomization"
    ]
    assert row.observed == "not-applicable"
    assert row.note is not None
    assert row.note.startswith("there is nothing positive; the claim that it holds speaks of models on which it can")
    assert (row.verdict, row.claim) == ("unclaimed", None)


@pytest.mark.parametrize(
    ("method", "observed", "note"),
    [
        ("raises", "error", "raised RuntimeError: no map today"),
        ("refuses", "unsupported", "no network is good enough"),
    ],
)
def test_a_method_that_fails_has_a_row_for_each_finding(fakes: Any, method: str, observed: str, note: str) -> None:
    report = run(TINY, by_name(fakes, method), known=fakes.CHECKS, load=fakes.load)
    assert {(row.check, row.observed, row.note) for row in report.sanity} == {
        (check, observed, note) for check in ("sensitivity-n", "competition/kept", "competition/randomization")
    }
    assert report.exit_code == (2 if observed == "error" else 0)


def test_a_method_that_costs_too_much_is_stopped_at_once(fakes: Any) -> None:
    report = run(TINY, by_name(fakes, "costly"), known=fakes.CHECKS, load=fakes.load)
    assert {(row.observed, row.note) for row in report.sanity} == {
        ("not-applicable", "one map takes more than 250 rows of forward passes; --scale tiny has 1000 for all maps")
    }
    assert run(Options(scale="full"), by_name(fakes, "costly"), known=fakes.CHECKS, load=fakes.load).exit_code == 2


def test_a_defect_of_a_check_is_an_error_of_its_row_alone(fakes: Any) -> None:
    report = run(TINY, by_name(fakes, "gradient"), known=(fakes.BROKEN, *fakes.CHECKS), load=fakes.load)
    found = rows(report)
    assert found["gradient", "continuity"].verdict == "error"
    assert "a defect of attribcheck, please report it: AssertionError" in (found["gradient", "continuity"].note or "")
    assert found["gradient", "sensitivity-n"].verdict == "pass"
    assert report.exit_code == 2


def test_a_model_that_has_not_learnt_leaves_everything_open(fakes: Any) -> None:
    report = run(TINY, by_name(fakes, "gradient", "noisy"), known=fakes.on("weak:points"), load=fakes.load)
    assert {row.observed for row in report.sanity} == {"inconclusive"}
    found = rows(report)
    assert found["gradient", "sensitivity-n"].verdict == "inconclusive"
    assert found["gradient", "sensitivity-n"].value is not None
    assert "holds, but the model classifies 40.0% of unseen samples correctly" in (
        found["gradient", "sensitivity-n"].note or ""
    )
    assert found["noisy", "sensitivity-n"].verdict == "unclaimed"
    assert report.exit_code == 1


def test_figures_become_plain_numbers() -> None:
    import numpy as np
    import torch

    given = {
        "tensor": torch.tensor([1.0, 2.0]), "array": np.float32(1) / 3, "whole": np.int64(4), 5: (True, None, "text"),
        "lost": [float("inf"), -0.123456789], "inner": {"flag": np.bool_(True)},
    }  # fmt: skip
    made = plain(given)
    assert made == {
        "tensor": [1.0, 2.0], "array": 0.333333, "whole": 4, "5": [True, None, "text"],
        "lost": [None, -0.123457], "inner": {"flag": True},
    }  # fmt: skip
    json.dumps(made, allow_nan=False)


# -- the plan --------------------------------------------------------------------------------------------------------


def test_one_variant_can_be_asked_for(fakes: Any) -> None:
    options = Options(checks=("competition/kept",), scale="tiny")
    report = run(options, by_name(fakes, "gradient", "zero"), known=fakes.CHECKS, load=fakes.load)
    assert [(row.method, row.check) for row in report.sanity] == [
        ("gradient", "competition/kept"),
        ("zero", "competition/kept"),
    ]
    both = Options(checks=("competition/kept", "competition", "sensitivity-n"), scale="tiny")
    found = plan(both, by_name(fakes, "gradient"), fakes.CHECKS)
    assert found.variants == {"competition/kept", "competition/randomization", "sensitivity-n"}
    assert [unit.check for unit in found.units] == ["sensitivity-n", "competition"]


@pytest.mark.parametrize("name", ["signs", "competition/nothing", "competitions"])
def test_an_unknown_check_is_refused(fakes: Any, name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown (check|variant)"):
        plan(Options(checks=(name,)), by_name(fakes, "gradient"), fakes.CHECKS)


def test_more_images_may_cost_more_rows() -> None:
    assert Options(images=32).amount().images == 32
    assert Options(images=32).amount().rows == 2 * Options().amount().rows
    assert Options(images=4).amount().rows == Options().amount().rows


def test_the_registry_names_nine_checks() -> None:
    assert list(checks.MODULES) == [
        "parameter-randomization", "data-randomization", "class-sensitivity", "pointing-game", "input-invariance",
        "sensitivity-n", "region-perturbation", "competition", "continuity",
    ]  # fmt: skip


# -- claims ----------------------------------------------------------------------------------------------------------


def claimed(*claims: Claim) -> Method:
    """A method with claims."""
    return Method("mine", print, claims=claims)


def test_claims_on_checks_are_none_of_the_axioms(fakes: Any) -> None:
    cells = plan_axioms(by_name(fakes, "gradient"), Selection())
    assert [(cell.axiom.name, cell.family) for cell in cells] == [("dummy", "linear")]
    alone = claimed(ac.holds("sanity/continuity"))
    assert all(cell.claim is None for cell in plan_axioms([alone], Selection(axioms=("dummy",), families=("linear",))))


def test_a_claim_on_an_unknown_check_is_refused_everywhere(fakes: Any) -> None:
    method = claimed(ac.holds("sanity/continuty"))
    with pytest.raises(UsageError, match=r"mine claims holds\('sanity/continuty'.*did you mean 'continuity'"):
        plan_axioms([method], Selection())
    with pytest.raises(UsageError, match=r"mine claims holds\('sanity/continuty'.*did you mean 'continuity'"):
        plan(Options(), [method], fakes.CHECKS)


def test_the_claims_of_the_catalogue_make_sense() -> None:
    assert set(BUILTIN) >= NAMES
    for method in BUILTIN.values():
        assert all(claim.source or claim.reason for claim in claims_of(method))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("mnist-cnn", "digits")),
        ({"data": "cifar10"}, ("mnist-cnn", "cifar10")),
        ({"model": "mnist-mlp"}, ("mnist-mlp", "digits")),
        ({"model": "mnist-cnn(tanh)"}, ("mnist-cnn(tanh)", "digits")),
        ({"model": "mnist-cnn(tanh):mnist"}, ("mnist-cnn(tanh)", "mnist")),
        ({"model": "imdb-lstm"}, ("imdb-lstm", "sentiment")),
        ({"model": "vgg16", "data": "voc2007"}, ("vgg16", "voc2007")),
        ({"model": "mine:net", "data": "mine:batch"}, ("mine:net", "mine:batch")),
    ],
)
def test_what_a_check_looks_at(options: dict[str, str], expected: tuple[str, str]) -> None:
    assert subject_of(checks.load("continuity"), Options(**options)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("mnist-cn", "unknown model 'mnist-cn'; did you mean 'mnist-cnn'"),
        ("vgg16", "--model vgg16 needs --data: on which samples"),
        ("mine:net", "--model mine:net needs --data: on which samples"),
    ],
)
def test_a_model_without_its_data(model: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        subject_of(checks.load("continuity"), Options(model=model))


@pytest.mark.parametrize(
    "on", ["mnist-cnn", "mnist-cnn:digits", "mnist-mlp(tanh):mnist", "my.module:net", "mine:net:digits"]
)
def test_a_claim_on_a_model(on: str) -> None:
    assert claims_of(claimed(ac.holds("sanity/continuity", on=on)))


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("mnist-cn", "unknown model 'mnist-cn'; did you mean"),
        ("mnist-cn:digits", "unknown model 'mnist-cn'; did you mean"),
        ("mnist-cnn:digit", "unknown data 'digit'; did you mean 'digits'"),
        ("mnist-cnn(swish)", "swish"),
        ("relu", "unknown model 'relu'"),
    ],
)
def test_a_claim_on_no_model(on: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        claims_of(claimed(ac.holds("sanity/continuity", on=on)))


REFUSED = {
    "a variant that there is not": (ac.holds("sanity/competition/keep"), "unknown variant 'competition/keep'"),
    "a tolerance": (ac.holds("sanity/competition", tol=0.1), "has its own rule"),
    "a witness": (ac.fails("sanity/competition", reason="?", witness="w.json"), "has its own rule"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_claim_that_makes_no_sense(fakes: Any, what: str) -> None:
    claim, said = REFUSED[what]
    with pytest.raises(UsageError, match=said):
        plan(Options(), [claimed(claim)], fakes.CHECKS)


def test_two_claims_on_one_thing(fakes: Any) -> None:
    claims = ac.holds("sanity/competition"), ac.fails("sanity/competition", reason="?")
    with pytest.raises(UsageError, match="two claims on 'sanity/competition' for 'any'"):
        claims_of(claimed(*claims), {check.name: check for check in fakes.CHECKS})


def judged(observed: str | dict[str, str], *claims: Claim, model: str = "cnn") -> dict[str, tuple[str, str | None]]:
    """The verdict and the claim of findings of the check c: of its one variant, or of several."""
    several = {"c/v": observed} if isinstance(observed, str) else observed
    found = [Finding(check, model, "digits", "mine", observed=each) for check, each in several.items()]
    judge(found, claims)
    return {finding.check: (finding.verdict, finding.claim) for finding in found}


HOLDS, FAILS = ac.holds("sanity/c"), ac.fails("sanity/c", reason="?")


@pytest.mark.parametrize(
    ("observed", "holds", "fails"),
    [
        ("holds", "pass", "fail"),
        ("violated", "fail", "pass"),
        ("inconclusive", "inconclusive", "inconclusive"),
        ("error", "error", "error"),
        ("not-applicable", "unclaimed", "unclaimed"),
        ("unsupported", "unclaimed", "unclaimed"),
    ],
)
def test_verdicts(observed: str, holds: str, fails: str) -> None:
    assert judged(observed, HOLDS)["c/v"][0] == holds
    assert judged(observed, FAILS)["c/v"][0] == fails
    assert judged(observed)["c/v"] == ("error" if observed == "error" else "unclaimed", None)
    # On a model that is named, what cannot be checked is open.
    named = ac.holds("sanity/c", on="cnn:digits"), ac.fails("sanity/c", on="cnn", reason="?")
    if observed in ("not-applicable", "unsupported"):
        assert [judged(observed, claim)["c/v"][0] for claim in named] == ["inconclusive", "inconclusive"]
    else:
        assert [judged(observed, claim)["c/v"][0] for claim in named] == [holds, fails]


def test_the_more_specific_claim_wins() -> None:
    claims = [
        ac.holds("sanity/c"),
        ac.fails("sanity/c", on="cnn", reason="?"),
        ac.holds("sanity/c", on="cnn:digits"),
        ac.fails("sanity/c/v", reason="?"),
        ac.holds("sanity/c/v", on="cnn"),
        ac.fails("sanity/c/v", on="cnn:digits", reason="?"),
        ac.holds("sanity/d"),
    ]
    for count in range(1, 7):
        for order in (claims[:count], list(reversed(claims[:count]))):
            assert judged("holds", *order)["c/v"][1] == claims[count - 1].kind
    assert judged("holds", *claims, model="mlp")["c/v"] == ("fail", "fails"), "claims on another model say nothing"
    assert judged("holds", claims[1], model="mlp")["c/v"] == ("unclaimed", None)
    assert judged("holds", claims[-1])["c/v"] == ("unclaimed", None)


def test_a_claim_on_a_bare_name_speaks_of_the_finding_of_that_name() -> None:
    found = {"c": "holds", "c/v": "violated"}
    assert judged(found, HOLDS) == {"c": ("pass", "holds"), "c/v": ("unclaimed", None)}
    assert judged(found, FAILS) == {"c": ("fail", "fails"), "c/v": ("unclaimed", None)}


def test_a_variant_that_is_asked_for_alone_is_judged_with_the_others(fakes: Any) -> None:
    """The claim that some variant fails is not refuted by the one that is looked at."""
    method = as_method(fakes.gradient).but(claims=(ac.fails("sanity/competition", reason="some"),))
    for variant in ("kept", "randomization"):
        alone = run(
            Options(checks=(f"competition/{variant}",), scale="tiny"), [method], known=fakes.CHECKS, load=fakes.load
        )
        both = run(Options(checks=("competition",), scale="tiny"), [method], known=fakes.CHECKS, load=fakes.load)
        assert told(alone) == [row for row in told(both) if row["check"] == f"competition/{variant}"]


def test_a_general_claim_that_it_holds_means_every_variant() -> None:
    assert judged({"c/v": "holds", "c/w": "violated"}, HOLDS) == {"c/v": ("pass", "holds"), "c/w": ("fail", "holds")}


@pytest.mark.parametrize(
    ("v", "w", "expected"),
    [
        ("violated", "holds", [("pass", "fails"), ("unclaimed", None)]),
        ("violated", "inconclusive", [("pass", "fails"), ("unclaimed", None)]),
        ("violated", "violated", [("pass", "fails"), ("pass", "fails")]),
        ("inconclusive", "holds", [("inconclusive", "fails"), ("unclaimed", None)]),
        ("holds", "holds", [("fail", "fails"), ("fail", "fails")]),
        ("holds", "not-applicable", [("fail", "fails"), ("unclaimed", None)]),
        ("holds", "error", [("fail", "fails"), ("error", "fails")]),
    ],
)
def test_a_general_claim_that_it_fails_means_some_variant(
    v: str, w: str, expected: list[tuple[str, str | None]]
) -> None:
    assert list(judged({"c/v": v, "c/w": w}, FAILS).values()) == expected
    # A variant with a claim of its own has no part in it.
    assert judged({"c/v": v, "c/w": w}, FAILS, ac.holds("sanity/c/w"))["c/v"][0] == {"holds": "fail"}.get(
        v, expected[0][0]
    )


# -- processes, interruption, resumption -----------------------------------------------------------------------------


def test_the_number_of_processes_changes_nothing(fakes: Any) -> None:
    options = Options(TARGETS, scale="tiny")
    alone = run(options, known=fakes.CHECKS, load=fakes.load)
    among = run(options, jobs=2, known=fakes.CHECKS, load=fakes.load)
    assert told(alone) == told(among)
    turned = run(Options(TARGETS[::-1], scale="tiny"), known=fakes.CHECKS[::-1], load=fakes.load)
    assert sorted(map(str, told(turned))) == sorted(map(str, told(alone)))


class Listening(Watch):
    """Keeps what it is told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.parts: list[str] = []
        self.lines: list[str] = []
        self.started: tuple[int, int] | None = None
        self.stop_after = stop_after

    def said(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, done: int, total: int) -> None:
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
    assert report.incomplete is not None
    assert report.incomplete.startswith("a worker process died")
    assert report.exit_code == 1


DRIVER = """
import sys
from pathlib import Path

if __name__ == "__main__":
    import fake_checks
    from attribcheck.sanity.plan import Options
    from attribcheck.sanity.run import run

    targets = ("fake_checks:zero", "fake_checks:sleeps")
    report = run(
        Options(targets, scale="tiny"), jobs=2, directory=Path(sys.argv[1]), known=fake_checks.CHECKS, load=fake_checks.load
    )
    print(report.incomplete, [row.method for row in report.sanity])
"""


def wait_until_gone(group: int) -> None:
    """Return when no process of the group is left; fails after half a minute."""
    for _ in range(150):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("processes are left")


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """As a terminal sends it: to the process and its workers at once."""
    (tmp_path / "driver.py").write_text(DRIVER)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "driver.py", str(tmp_path)]
    child = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
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
            monkeypatch.setattr(resume, "_source", lambda method, source=source: source)
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


def test_what_erred_is_tried_again(fakes: Any, tmp_path: Path) -> None:
    methods = by_name(fakes, "raises")
    for resumed in (False, True):
        listening = Listening()
        run(TINY, methods, directory=tmp_path, resumed=resumed, watch=listening, known=fakes.CHECKS, load=fakes.load)
        assert listening.started == (0, 2)


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


def test_the_random_numbers_and_threads_of_the_caller_are_untouched(fakes: Any) -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    run(TINY, by_name(fakes, "noisy"), known=fakes.CHECKS, load=fakes.load)
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads
