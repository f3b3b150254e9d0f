"""Claims: which one decides a cell, which make no sense, and when a claim stands, falls or stays open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attribcheck as ac
import pytest
import torch
from attribcheck.axioms import AXIOMS, applies
from attribcheck.axioms.networks.families import SUMMARIES
from attribcheck.axioms.search.plan import Options, Selection, plan
from attribcheck.claims import Claim
from attribcheck.cli.commands import cli
from attribcheck.errors import UsageError
from attribcheck.methods.registry import as_method
from attribcheck.reports import load_results, load_witness
from attribcheck.runner.axioms import run
from click.testing import CliRunner
from torch import Tensor, nn

N = 20


def gradient(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The gradient of the target logits."""
    point = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


def times_input(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The gradient times the input: complete on linear graphs, not with smooth units."""
    return x * gradient(model, x, target)


def checked(method: Callable[..., Any], *claims: Claim, **options: Any) -> ac.Report:
    """The report on a few claims."""
    return ac.check(method, claims=claims, **{"max_examples": N, **options})


def cells(*claims: Claim, **options: Any) -> dict[tuple[str, str], tuple[str | None, str | None]]:
    """What is planned for some claims: (axiom, family) with the kind and the reason of the claim that decides."""
    method = as_method(gradient).but(claims=claims)
    found = plan([method], Selection(**options))
    table = {
        (cell.label, cell.family): (cell.claim.kind, cell.claim.reason) if cell.claim else (None, None)
        for cell in found
    }
    assert len(table) == len(found), "a cell is planned twice"
    return table


# -- what a claim means ---------------------------------------------------------------------------------------------


def test_a_general_claim_means_every_variant_that_applies() -> None:
    planned = cells(ac.holds("sensitivity-n", on="linear"))
    assert planned == {(f"sensitivity-n/{v}", "linear"): ("holds", None) for v in ("1", "n", "N-1", "N")}
    planned = cells(ac.holds("implementation-invariance", on="smooth"))
    assert ("implementation-invariance/activation-change", "smooth") in planned
    assert ("implementation-invariance/rescale", "smooth") not in planned


def test_completeness_alone_means_delta() -> None:
    assert list(cells(ac.holds("completeness", on="linear"))) == [("completeness/delta", "linear")]


def test_a_general_failure_means_some_variant() -> None:
    assert list(cells(ac.fails("sensitivity-n", on="relu", reason="?"))) == [("sensitivity-n", "relu")]
    (result,) = checked(times_input, ac.fails("completeness", on="linear", reason="the bias is lost")).results
    # The first variant holds on linear graphs; it is the second that fails.
    assert (result.axiom, result.observed, result.verdict) == ("completeness/output", "violated", "pass")
    assert result.witness is not None
    assert result.witness["axiom"] == "completeness/output"


@pytest.mark.parametrize("turned", [False, True])
def test_the_more_specific_claim_wins(turned: bool) -> None:
    claims = [ac.holds("sensitivity-n", on="linear"), ac.fails("sensitivity-n/n", on="linear", reason="specific")]
    planned = cells(*(reversed(claims) if turned else claims))
    assert planned.pop(("sensitivity-n/n", "linear")) == ("fails", "specific")
    assert planned == {(f"sensitivity-n/{v}", "linear"): ("holds", None) for v in ("1", "N-1", "N")}
    planned = cells(ac.fails("sensitivity-n", on="linear", reason="general"), ac.holds("sensitivity-n/1", on="linear"))
    assert planned == {
        ("sensitivity-n/1", "linear"): ("holds", None),
        ("sensitivity-n", "linear"): ("fails", "general"),
    }
    # It is looked for in the other variants only, so the same method can meet both claims.
    (specific, general) = checked(
        ac.get_method("occlusion-1"),
        ac.holds("sensitivity-n/1", on="product"),
        ac.fails("sensitivity-n", on="product", reason="interactions"),
    ).results
    assert (specific.axiom, specific.verdict, general.verdict) == ("sensitivity-n/1", "pass", "pass")
    assert general.axiom in ("sensitivity-n/n", "sensitivity-n/N-1", "sensitivity-n/N")


def test_what_can_only_fail_is_no_part_of_what_holds() -> None:
    planned = cells(ac.holds("class-sensitivity", on="relu"))
    assert set(planned) == {(f"class-sensitivity/{v}", "relu") for v in ("parity", "other-logits", "logit-permutation")}
    assert list(cells(ac.fails("class-sensitivity/collapse", on="relu", reason="?"))) == [
        ("class-sensitivity/collapse", "relu")
    ]


def test_claims_on_several_families_stand_beside_each_other() -> None:
    planned = cells(ac.holds("dummy"), ac.fails("dummy", on="linear", reason="linear"))
    assert planned == {("dummy", "any"): ("holds", None), ("dummy", "linear"): ("fails", "linear")}


def test_each_axiom_can_be_claimed_wherever_it_applies() -> None:
    for axiom in AXIOMS.values():
        for variant in axiom.variants:
            for family in set(SUMMARIES) - {"model"}:
                only = variant in axiom.fails_only
                claim = ac.fails(axiom.full(variant), family, "?") if only else ac.holds(axiom.full(variant), family)
                if applies(axiom, variant, family):
                    assert list(cells(claim)) == [(axiom.full(variant), family)]
                else:
                    with pytest.raises(UsageError, match="the axiom does not apply to that family"):
                        cells(claim)


NONSENSE: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown axiom": (
        lambda: cells(ac.holds("completness")),
        "unknown axiom 'completness'; did you mean 'completeness'",
    ),
    "unknown variant": (lambda: cells(ac.holds("completeness/gamma")), "unknown variant 'completeness/gamma'"),
    "unknown family": (lambda: cells(ac.holds("dummy", on="relus")), "unknown family 'relus'; did you mean 'relu'"),
    "does not apply": (
        lambda: cells(ac.holds("implementation-invariance/max-as-relus", on="smooth")),
        r"gradient claims holds\('implementation-invariance/max-as-relus', on='smooth'\): the axiom does not apply",
    ),
    "can only fail": (
        lambda: cells(ac.holds("class-sensitivity/collapse", on="relu")),
        r"gradient claims holds\('class-sensitivity/collapse', on='relu'\): it can only be claimed to fail",
    ),
    "twice": (
        lambda: cells(ac.holds("dummy"), ac.holds("dummy")),
        "gradient: two claims on 'dummy' for the family 'any'",
    ),
    "both": (
        lambda: cells(ac.holds("sensitivity-n"), ac.fails("sensitivity-n", reason="?")),
        "gradient: two claims on 'sensitivity-n' for the family 'any'",
    ),
    "no reason": (lambda: ac.fails("dummy"), "a reason is mandatory"),
    "zero tolerance": (lambda: ac.holds("dummy", tol=0), "tol must be a positive finite number, not 0"),
    "infinite tolerance": (lambda: ac.holds("dummy", tol=float("inf")), "tol must be a positive finite number"),
    "NaN tolerance": (lambda: ac.fails("dummy", reason="?", tol=float("nan")), "tol must be a positive finite number"),
    "no claim": (lambda: ac.method(claims=["dummy"]), r"made with holds\(...\) or fails\(...\), not 'dummy'"),
    "unknown baseline": (lambda: ac.method(baseline="zero"), "baseline must be one of 'zeros', 'min', .* not 'zero'"),
    "no callable": (lambda: ac.method()(3), "decorates a callable"),
    "check no callable": (lambda: ac.check(3), "is not callable"),
    "check a group": (lambda: ac.check("builtin"), "'builtin' is a group of"),
    "check an unknown name": (lambda: ac.check("gradent"), "unknown target 'gradent'; did you mean 'gradient'"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_in_one_line(what: str) -> None:
    attempt, said = NONSENSE[what]
    with pytest.raises(UsageError, match=said) as caught:
        attempt()
    assert "\n" not in str(caught.value)


# -- selection ------------------------------------------------------------------------------------------------------


def test_selection_and_observe() -> None:
    claims = (ac.holds("dummy"), ac.holds("completeness", on="linear"))
    assert list(cells(*claims, axioms=("dummy",))) == [("dummy", "any")]
    assert list(cells(*claims, excluded=("dummy",))) == [("completeness/delta", "linear")]
    assert list(cells(*claims, families=("linear",))) == [("completeness/delta", "linear")]
    observed = cells(*claims, families=("linear",), axioms=("dummy", "completeness"), observe=True)
    assert observed == {
        ("completeness/delta", "linear"): ("holds", None),
        ("completeness/output", "linear"): (None, None),
        ("dummy", "linear"): (None, None),
    }
    everything = cells(*claims, observe=True)
    applying = [
        (axiom.full(v), family)
        for axiom in AXIOMS.values()
        for v in axiom.variants
        for family in SUMMARIES
        if family != "model" and v not in axiom.fails_only and applies(axiom, v, family)
    ]
    assert set(everything) == set(applying)


@pytest.mark.parametrize(
    "options",
    [
        {"axioms": ("symmetry",)},
        {"excluded": ("dummy",)},
        {"families": ("relu",)},
        {"axioms": ("dummy",), "excluded": ("dummy",)},
    ],
)
def test_a_selection_that_matches_nothing_is_an_error(options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UsageError, match="the selection matches nothing for gradient"):
        cells(ac.holds("dummy", on="linear"), **options)


# -- verdicts -------------------------------------------------------------------------------------------------------


def test_a_failure_without_a_counterexample_is_refuted() -> None:
    report = checked(gradient, ac.fails("dummy", on="linear", reason="wishful thinking"))
    (result,) = report.results
    assert (result.claim, result.observed, result.verdict) == ("fails", "holds", "fail")
    assert result.note == "the claimed failure could not be shown: no counterexample among the cases drawn"
    assert (report.exit_code, report.ok) == (1, False)
    assert (result.examples, result.witness) == (N, None)


def test_a_tolerance_is_used_and_shown() -> None:
    def nearly(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return times_input(model, x, target) * (1 + 1e-6)

    (strict,) = checked(nearly, ac.holds("completeness", on="linear")).results
    assert (strict.verdict, strict.worst["tolerance"]) == ("fail", 1e-10)
    (wide,) = checked(nearly, ac.holds("completeness", on="linear", tol=1e-5)).results
    assert (wide.verdict, wide.worst["tolerance"], wide.note) == ("pass", 1e-5, None)
    assert 1e-10 < wide.worst["residual"] <= 1e-5
    # A tolerance is not a licence: beyond it the claim falls, and a claimed failure must exceed it too.
    (beyond,) = checked(nearly, ac.holds("completeness", on="linear", tol=1e-8)).results
    assert (beyond.verdict, beyond.worst["tolerance"]) == ("fail", 1e-8)
    (small,) = checked(nearly, ac.fails("completeness/delta", on="linear", reason="?", tol=1e-5)).results
    assert small.verdict == "fail"


def test_a_tolerance_that_is_not_needed_is_named() -> None:
    (result,) = checked(times_input, ac.holds("completeness", on="linear", tol=0.5)).results
    assert result.verdict == "pass"
    assert str(result.note).startswith("the claim is weaker than what was seen")


def test_a_deadline_leaves_claims_inconclusive() -> None:
    claims = (ac.holds("dummy", on="linear"), ac.fails("completeness/delta", on="smooth", reason="saturation"))
    options = Options(max_examples=N, max_time=1e-9)
    report = run(options, [as_method(times_input).but(claims=claims)])
    for result in report.results:
        assert (result.observed, result.verdict, result.examples) == ("inconclusive", "inconclusive", 0)
        assert result.note == "cut off by --max-time"
    assert (report.exit_code, len(report.results)) == (1, 2)


# -- pinned witnesses -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A witness that gradient times input is not complete on smooth networks."""
    (result,) = checked(times_input, ac.holds("completeness", on="smooth")).results
    assert result.witness is not None
    path = tmp_path_factory.mktemp("pinned") / "witness.json"
    path.write_text(json.dumps(result.witness))
    return path


def pin(path: Path, axiom: str = "completeness/delta") -> Claim:
    """The claim that an axiom fails on smooth networks, with a witness."""
    return ac.fails(axiom, on="smooth", reason="saturation", witness=str(path))


@pytest.mark.parametrize("axiom", ["completeness/delta", "completeness"])
def test_a_pinned_witness_is_evaluated_and_nothing_drawn(pinned: Path, axiom: str) -> None:
    first, second = (checked(times_input, pin(pinned, axiom), seed=seed).results[0] for seed in (0, 1))
    assert (first.observed, first.verdict, first.examples) == ("violated", "pass", 1)
    assert first.axiom == "completeness/delta"
    assert first.note == "shown by the pinned witness"
    document = load_witness(pinned)
    assert first.witness is not None
    for name in ("network", "x", "target", "baseline", "drawn"):
        assert first.witness[name] == document[name]
    assert first.witness == second.witness
    assert first.worst["residual"] == document["figures"]["residual"]


def test_a_stale_witness_does_not_show_the_failure(pinned: Path) -> None:
    report = checked(ac.get_method("integrated-gradients"), pin(pinned))
    (result,) = report.results
    assert (result.observed, result.verdict, report.exit_code) == ("holds", "fail", 1)
    assert result.note == (
        "the claimed failure could not be shown: the pinned witness is stale: it no longer shows the failure"
    )


def test_a_method_that_raises_on_its_pinned_witness(pinned: Path) -> None:
    def raises(*arguments: Any) -> Tensor:
        raise ValueError("not today")

    (result,) = checked(raises, pin(pinned)).results
    assert (result.observed, result.verdict) == ("error", "error")
    assert result.note == "on the pinned witness: raised ValueError: not today"


def test_a_method_that_refuses_its_pinned_witness_is_in_no_error(pinned: Path) -> None:
    """Refusing a network is no error; a claim whose every network is refused is inconclusive."""

    def refuses(*arguments: Any) -> Tensor:
        raise ac.Unsupported("no")

    (result,) = checked(refuses, pin(pinned)).results
    assert (result.observed, result.verdict) == ("unsupported", "inconclusive")


def test_a_pinned_witness_that_cannot_be_used_is_an_error_of_its_claim_alone(pinned: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    for claim, line in (
        (pin(tmp_path / "missing.json"), "missing.json: no such file"),
        (pin(pinned, "dummy"), "the pinned witness is one of completeness/delta, not dummy"),
        (pin(tmp_path / "bad.json"), "bad.json: has no schema_version"),
    ):
        report = ac.check(times_input, claims=[claim, ac.holds("linearity", on="linear")], max_examples=N)
        spoilt, other = report.results
        assert (spoilt.verdict, other.verdict, report.exit_code) == ("error", "pass", 2)
        assert line in spoilt.note


# -- ac.check and its report ----------------------------------------------------------------------------------------


def test_a_bare_function_is_observed_and_nothing_gates() -> None:
    report = ac.check(times_input, families=["linear"], axioms=["completeness", "dummy"], max_examples=N)
    assert [(r.axiom, r.claim, r.observed, r.verdict) for r in report.results] == [
        ("completeness/delta", None, "holds", "unclaimed"),
        ("completeness/output", None, "violated", "unclaimed"),
        ("dummy", None, "holds", "unclaimed"),
    ]
    assert (report.ok, report.exit_code) == (True, 0)


def test_claims_replace_the_methods_own() -> None:
    declared = ac.method(claims=[ac.holds("symmetry", on="linear")])(gradient)
    assert [r.axiom for r in ac.check(declared, max_examples=5).results] == ["symmetry"]
    assert [r.axiom for r in ac.check(declared, claims=[ac.holds("dummy", on="linear")]).results] == ["dummy"]


def test_progress_is_told_of_each_cell() -> None:
    told: list[tuple[int, int, str]] = []
    claims = [ac.holds("dummy", on="linear"), ac.holds("symmetry", on="linear")]
    ac.check(gradient, claims=claims, max_examples=5, progress=lambda k, n, result: told.append((k, n, result.axiom)))
    assert told == [(1, 2, "dummy"), (2, 2, "symmetry")]


def test_a_report_says_and_saves_what_it_holds(tmp_path: Path) -> None:
    report = checked(
        times_input, ac.holds("dummy", on="linear"), ac.holds("completeness", on="smooth"), seed=3, observe=False
    )
    assert (report.ok, report.exit_code) == (False, 1)
    line, summary = str(report).splitlines()
    assert line.startswith("completeness/delta[times_input-smooth]: claimed to hold, violated; residual ")
    assert summary == "2 checked: 1 as claimed, 1 refuted or not shown"
    report.save(tmp_path / "deeper" / "results.json")
    document = load_results(tmp_path / "deeper" / "results.json")
    assert (document["seed"], document["max_examples"]) == (3, N)
    assert [(r["axiom"], r["verdict"]) for r in document["results"]] == [
        ("completeness/delta", "fail"),
        ("dummy", "pass"),
    ]
    assert document["results"][0]["witness"] == report.results[0].witness
    assert {"attribcheck", "python", "torch", "hypothesis", "device", "platform"} <= document["environment"].keys()
    rendered = CliRunner().invoke(cli, ["report", str(tmp_path / "deeper" / "results.json"), "--report", "md"])
    assert rendered.exit_code == 0
    good = checked(times_input, ac.holds("dummy", on="linear"))
    assert (good.ok, good.exit_code, str(good)) == (True, 0, "1 checked: 1 as claimed")
