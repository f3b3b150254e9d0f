"""Rules of full-model checks: what they say of figures and intervals, their words, and findings that they do not decide."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
from attribcheck.sanity.outcome import Outcome, Rule

BELOW, ABOVE = Rule(below=0.5), Rule(above=0.5)
UP, DOWN = 0.5 + 2**-53, 0.5 - 2**-54
"""The neighbours of the limit."""


@pytest.mark.parametrize(
    ("found", "below", "above"),
    [
        (0.4, "holds", "violated"),
        (DOWN, "holds", "violated"),
        (0.5, "violated", "violated"),
        (UP, "violated", "holds"),
        (0.6, "violated", "holds"),
        ((0.2, 0.4), "holds", "violated"),
        ((0.2, DOWN), "holds", "violated"),
        ((0.2, 0.5), "inconclusive", "violated"),
        ((0.2, 0.6), "inconclusive", "inconclusive"),
        ((0.5, 0.6), "violated", "inconclusive"),
        ((UP, 0.6), "violated", "holds"),
        ((0.6, 0.8), "violated", "holds"),
        ((0.5, 0.5), "violated", "violated"),
        (float("nan"), "inconclusive", "inconclusive"),
    ],
)
def test_what_a_rule_says(found: Any, below: str, above: str) -> None:
    assert (BELOW.judge(found), ABOVE.judge(found)) == (below, above)
    if not isinstance(found, tuple):
        assert (BELOW.judge((found, found)), ABOVE.judge((found, found))) == (below, above), (
            "exact figures are intervals"
        )


@pytest.mark.parametrize("found", [-0.3, 0.0, 0.3, (-0.2, 0.4), (-0.4, 0.0), (0.0, 0.4), (0.1, 0.4)])
def test_the_two_sides_are_mirrored(found: Any) -> None:
    mirrored = (-found[1], -found[0]) if isinstance(found, tuple) else -found
    assert Rule(below=0.0).judge(found) == Rule(above=0.0).judge(mirrored)


@pytest.mark.parametrize(
    ("rule", "words", "limit"),
    [
        (Rule(below=0.5), "below 0.5", {"below": 0.5}),
        (Rule(above=0.0), "above 0", {"above": 0.0}),
        (Rule(below=0.0), "below 0", {"below": 0.0}),
        (Rule(below=1e-6), "below 1e-06", {"below": 1e-6}),
        (Rule(below=2.0**-5), "below 0.03125", {"below": 0.03125}),
        (Rule(above=-2), "above -2", {"above": -2.0}),
        (Rule(below=1.3 / 2.1), "below 0.619048", {"below": 1.3 / 2.1}),
        (Rule(above=0.0, scope="for each control"), "above 0 for each control", {"above": 0.0}),
    ],
)
def test_words_and_data(rule: Rule, words: str, limit: dict[str, float]) -> None:
    assert (str(rule), rule.limit) == (words, limit)
    assert {type(number) for number in rule.limit.values()} == {float}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("sensitivity_n", "above 0 for each control"),
        ("region_perturbation", "above 0"),
        ("pointing_game", "above 0"),
        ("input_invariance", "below 1e-06"),
        ("continuity", "below 0.03125"),
        ("excess", "below 0.5"),
    ],
)
def test_the_words_of_the_checks(module: str, words: str) -> None:
    assert str(importlib.import_module(f"attribcheck.sanity.{module}").RULE) == words


@pytest.mark.parametrize(
    "limits",
    [{}, {"below": 0.5, "above": 0.5}, {"below": float("nan")}, {"above": float("inf")}],
    ids=["none", "two", "nan", "inf"],
)
def test_a_rule_has_one_finite_limit(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="one finite limit"):
        Rule(**limits)


# -- findings --------------------------------------------------------------------------------------------------------


def test_the_interval_decides_before_the_value() -> None:
    found = Outcome("continuity", "a figure", 0.4, (0.3, 0.6), BELOW)
    assert found.observed == "inconclusive"
    assert replace(found, interval=None).observed == "holds"
    assert replace(found, interval=(0.3, 0.45)).observed == "holds"
    assert replace(found, rule=ABOVE, interval=(0.3, 0.45)).observed == "violated"


@pytest.mark.parametrize("kind", ["not-applicable", "inconclusive"])
def test_what_the_rule_does_not_decide(kind: Any) -> None:
    assert Outcome("continuity", "a figure", None, None, BELOW, unjudged=kind).observed == kind
    decided = Outcome("continuity", "a figure", 0.4, (0.3, 0.45), BELOW)
    assert replace(decided, unjudged=kind).observed == kind


def test_nothing_is_said_beside_the_rule() -> None:
    with pytest.raises(ValueError, match="continuity: no value to judge"):
        Outcome("continuity", "a figure", None, None, BELOW)
    for word in ("holds", "violated", "error", ""):
        with pytest.raises(ValueError, match="only the rule says"):
            Outcome("continuity", "a figure", 0.6, None, BELOW, unjudged=word)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Outcome("continuity", "a figure", 0.6, None, BELOW, observed="holds")  # type: ignore[call-arg]
