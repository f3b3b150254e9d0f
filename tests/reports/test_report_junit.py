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
    found = {case.name: [type(entry) for entry in case.result] for suite in xml for case in suite}
    assert found == {"parameter-randomization[vgg11]": [], "class-sensitivity[vgg11]": [Failure]}
