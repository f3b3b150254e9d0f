"""Claims on full-model checks: what they speak of, and what findings make of them; on fakes that take no time."""

from __future__ import annotations

import re
from typing import Any

import attribcheck as ac
import pytest
from attribcheck.axioms.search.plan import Options as AxiomOptions
from attribcheck.axioms.search.plan import Selection
from attribcheck.axioms.search.plan import plan as plan_axioms
from attribcheck.claims import Claim, Method
from attribcheck.errors import UsageError
from attribcheck.methods.registry import BUILTIN, as_method
from attribcheck.methods.sanity_claims import NAMES
from attribcheck.results import Finding
from attribcheck.runner.axioms import prepared
from attribcheck.runner.checks import run
from attribcheck.sanity.claims import claims_of, judge
from attribcheck.sanity.plan import Options, plan

from ..support.sanity_runs import by_name, told


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
        prepared(AxiomOptions(), [method])
    with pytest.raises(UsageError, match=r"mine claims holds\('sanity/continuty'.*did you mean 'continuity'"):
        plan(Options(), [method], fakes.CHECKS)


def test_the_claims_of_the_catalogue_make_sense() -> None:
    assert set(BUILTIN) >= NAMES
    for method in BUILTIN.values():
        assert all(claim.source or claim.reason for claim in claims_of(method))


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
