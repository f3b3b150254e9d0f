"""The head of every report says what the run was asked for, and a claim's panel what its method printed."""

from __future__ import annotations

from typing import Any

from attribcheck.reports import html, junit, markdown, validate_results

ASKED = {
    "command": "attribcheck run mine:f --axiom dummy --family 'relu(form=module)'",
    "targets": ["mine:f"],
    "selection": {"axioms": ["dummy"], "excluded": [], "families": ["relu(form=module)"], "observe": False},
    "limits": {"max_time": 60.0, "timeout": None},
}


def test_a_part_is_not_taken_for_the_whole(document: dict[str, Any]) -> None:
    whole = {**document, **ASKED}
    validate_results(whole)
    page = html.render(whole)
    head = page[: page.index("</header>")]
    for text in (
        "<code>attribcheck run mine:f --axiom dummy",
        "only these axioms",
        "relu(form=module)",
        "max time",
        "60.0",
    ):
        assert text in head
    assert "not these axioms" not in head
    assert "only these" not in html.render(document)
    told = markdown.render(whole)
    assert "only these families: `relu(form=module)`" in told
    assert "only these axioms: `dummy`" in told
    assert '<property name="only these axioms" value="dummy"' in junit.render(whole)


def test_what_a_method_printed_is_shown_escaped(document: dict[str, Any]) -> None:
    document["results"][0]["output"] = "loading <weights>"
    page = html.render(document)
    assert "<summary>What the method printed</summary>" in page
    assert "loading &lt;weights&gt;" in page
