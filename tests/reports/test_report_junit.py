"""The JUnit report, read back by the library that test pages use."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from attribcheck.reports import junit
from junitparser import Error, Failure, JUnitXml, TestCase


@pytest.fixture
def cases(document: dict[str, Any]) -> dict[tuple[str, str], TestCase]:
    document["sanity"] = []
    xml = JUnitXml.fromstring(junit.render(document).encode("utf-8"))
    return {(case.classname, case.name): case for suite in xml for case in suite}


def test_there_is_one_case_for_each_claim_and_none_for_observations(
    document: dict[str, Any], cases: dict[tuple[str, str], TestCase]
) -> None:
    claimed = {
        (result["method"], f"{result['axiom']}[{result['family']}]")
        for result in document["results"]
        if result["claim"]
    }
    assert set(cases) == claimed
    assert len(claimed) == 12


def test_the_counts_are_those_of_the_verdicts(document: dict[str, Any]) -> None:
    document["sanity"] = []
    root = ElementTree.fromstring(junit.render(document).encode("utf-8"))
    for element in (root, root[0]):
        assert [element.get(name) for name in ("tests", "failures", "errors")] == ["12", "8", "1"]


@pytest.mark.parametrize(
    ("classname", "name", "kind", "type_"),
    [
        ("captum:DeepLift", "completeness/delta[product]", Failure, "refuted"),
        ("lrp-epsilon", "completeness/output[relu-nobias]", Failure, "not-shown"),
        ("mine:method", "symmetry[relu]", Failure, "inconclusive"),
        ("mine:method", "dummy[relu]", Error, "error"),
    ],
)
def test_each_problem_has_its_kind(
    cases: dict[tuple[str, str], TestCase], classname: str, name: str, kind: type, type_: str
) -> None:
    (entry,) = cases[classname, name].result
    assert type(entry) is kind
    assert entry.type == type_


def test_a_pass_has_no_result(cases: dict[tuple[str, str], TestCase]) -> None:
    assert cases["gradient", "completeness/delta[relu]"].result == []


def test_a_failure_carries_residual_replay_line_and_script(
    cases: dict[tuple[str, str], TestCase],
) -> None:
    (entry,) = cases["captum:DeepLift", "completeness/delta[product]"].result
    assert "Residual 0.333, tolerance 1e-10" in entry.message
    replay = "attribcheck replay attribcheck-report/witnesses/captum-DeepLift--completeness-delta--product.json"
    assert replay in entry.text
    assert "import torch" in entry.text
    (error,) = cases["mine:method", "dummy[relu]"].result
    assert "returned shape (2,)" in error.message


def test_hostile_text_survives_as_text(cases: dict[tuple[str, str], TestCase]) -> None:
    ((case,),) = [[case for (method, _), case in cases.items() if method.startswith("<script>")]]
    (entry,) = case.result
    assert "alert(5)</script> \ufffd[31m" in entry.message
    assert "</pre></details><script>alert(4)" in entry.text


def test_full_model_checks_gate_too(document: dict[str, Any]) -> None:
    document["results"] = []
    xml = JUnitXml.fromstring(junit.render(document).encode("utf-8"))
    cases = {(case.classname, case.name): case for suite in xml for case in suite}
    found = {key: [type(entry) for entry in case.result] for key, case in cases.items()}
    assert found == {
        ("guided-backprop", "parameter-randomization/cascade[vgg11:digits]"): [],
        ("gradient", "class-sensitivity[vgg11:digits]"): [Failure],
        ("mine:method", "class-sensitivity[vgg11:digits]"): [Error],
    }
    (entry,) = cases["gradient", "class-sensitivity[vgg11:digits]"].result
    assert entry.type == "refuted"
    assert "Spearman of |R| = 0.61; rule: below 0.5" in entry.message
    assert entry.text == "claim: holds  observed: violated\nsource: Khakzar 2020"
    assert cases["guided-backprop", "parameter-randomization/cascade[vgg11:digits]"].time == 1.5


def test_a_run_that_was_stopped_fails(document: dict[str, Any]) -> None:
    document["results"], document["sanity"] = [], document["sanity"][:1]
    document["incomplete"] = "interrupted after 1 of 20 parts"
    xml = JUnitXml.fromstring(junit.render(document).encode("utf-8"))
    assert (xml.tests, xml.failures) == (2, 1)
