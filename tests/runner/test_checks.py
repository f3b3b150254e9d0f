"""Running full-model checks: plan and findings; on fakes that take no time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from attribcheck.errors import UsageError
from attribcheck.models.subject import Subject
from attribcheck.reports import validate_results
from attribcheck.runner.checks import run
from attribcheck.runner.watch import Watch
from attribcheck.sanity import checks
from attribcheck.sanity.plan import Options, plan, subject_of
from attribcheck.sanity.units import plain

from ..support.sanity_runs import TARGETS, TINY, by_name, rows, told


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
    assert row.limit == {"above": 0.1}
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


def test_the_random_numbers_and_threads_of_the_caller_are_untouched(fakes: Any) -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    run(TINY, by_name(fakes, "noisy"), known=fakes.CHECKS, load=fakes.load)
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads


def test_the_number_of_processes_changes_nothing(fakes: Any) -> None:
    options = Options(TARGETS, scale="tiny")
    alone = run(options, known=fakes.CHECKS, load=fakes.load)
    among = run(options, jobs=2, known=fakes.CHECKS, load=fakes.load)
    assert told(alone) == told(among)
    turned = run(Options(TARGETS[::-1], scale="tiny"), known=fakes.CHECKS[::-1], load=fakes.load)
    assert sorted(map(str, told(turned))) == sorted(map(str, told(alone)))


# -- the plan ----------------------------------------------------------------------------------------------------


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


def test_two_checks_look_at_permuted_labels() -> None:
    assert [check.name for check in checks.every() if check.permutes] == ["data-randomization", "competition"]


@pytest.mark.parametrize(("permutes", "trained"), [(False, 0), (True, 1)])
def test_a_model_on_permuted_labels_is_made_before_the_work_where_a_check_looks_at_it(
    fakes: Any, permutes: bool, trained: int
) -> None:
    made, told = [], []

    class Told(Watch):
        def preparing(self, subject: str) -> None:
            told.append(subject)

    def load(model: str, data: str) -> Subject:
        subject = fakes.load(model, data)
        return replace(subject, permuted=lambda: made.append(model) or subject)

    known = tuple(replace(check, permutes=permutes and check.name == "competition") for check in fakes.CHECKS)
    run(TINY, by_name(fakes, "gradient", "zero"), known=known, load=load, watch=Told())
    assert made == ["small"] * trained
    assert told == ["small:points", "small:points, labels permuted"][: 1 + trained]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("mnist-cnn", "digits")),
        ({"data": "cifar10"}, ("mnist-cnn", "cifar10")),
        ({"model": "mnist-mlp"}, ("mnist-mlp", "digits")),
        ({"model": "mnist-cnn(tanh)"}, ("mnist-cnn(tanh)", "digits")),
        ({"model": "mnist-cnn(tanh):mnist"}, ("mnist-cnn(tanh)", "mnist")),
        ({"model": "imdb-lstm"}, ("imdb-lstm", "sentiment")),
        ({"model": "small-vgg"}, ("small-vgg", "scenes")),
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
        ("cifar-cnn", "--model cifar-cnn needs --data: on which samples"),
        ("vgg16", "--model vgg16 needs --data: on which samples"),
        ("mine:net", "--model mine:net needs --data: on which samples"),
    ],
)
def test_a_model_without_its_data(model: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        subject_of(checks.load("continuity"), Options(model=model))
