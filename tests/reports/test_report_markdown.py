"""The Markdown report, as a comment on a pull request would show it."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from attribcheck.reports import markdown


def _cells(row: str) -> list[str]:
    return re.split(r"(?<!\\)\|", row.strip().strip("|"))


def test_the_summary_counts_each_method(document: dict[str, Any]) -> None:
    text = markdown.render(document)
    assert "| `gradient` | 3 |  |  |  | 2 |" in text
    assert "| `captum:DeepLift` |  | 4 |  |  | 2 |" in text
    assert "| `mine:method` |  |  | 1 | 1 |  |" in text


def test_every_row_of_a_table_has_the_columns_of_its_head(document: dict[str, Any]) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", markdown.render(document), re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        assert len({len(_cells(row)) for row in table.splitlines()}) == 1, table


def test_every_problem_has_its_residual_replay_line_and_script(document: dict[str, Any]) -> None:
    text = markdown.render(document, "out")
    assert text.count("\n### ") == 9
    start = text.index("### ✖ `captum:DeepLift` `completeness/delta[product]`: refuted")
    section = text[start : text.index("### ", start + 4)]
    assert "- residual 0.333, tolerance 1e-10" in section
    assert "```sh\nattribcheck replay out/witnesses/captum-DeepLift--completeness-delta--product.json\n```" in section
    assert "```python\nimport torch\n" in section
    assert "- residual not finite, tolerance 1e-10" in text


def test_what_passes_is_not_listed(document: dict[str, Any]) -> None:
    document["results"] = document["results"][:3]
    text = markdown.render(document)
    assert "All 3 claims stand." in text
    assert "What fell" not in text


def test_hostile_text_stays_text(document: dict[str, Any]) -> None:
    text = markdown.render(document)
    assert r"``<script>alert(1)</script>`\|&\"'``".replace(r"\"", '"') in text
    assert r"a \| b \`c\` &lt;/p&gt;&lt;script&gt;alert(5)" in text
    script = "````python\n# ``` </pre></details><script>alert(4)</script>\nimport torch\n````"
    assert script in text
    # Outside code nothing is left that HTML would read, but our own folds.
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)
    assert set(re.findall(r"<[^>]*>", outside)) == {"<details>", "<summary>", "</summary>", "</details>"}


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a", "`a`"),
        ("a`b", "``a`b``"),
        ("`a`", "`` `a` ``"),
        ("a|b", r"`a\|b`"),
        ("a\nb", "`a b`"),
        ("", "` `"),
    ],
)
def test_a_code_span_holds_any_text(text: str, span: str) -> None:
    assert markdown.code(text) == span


def test_many_problems_still_fit_into_a_comment(document: dict[str, Any]) -> None:
    failed = document["results"][5]
    for index in range(400):
        again = copy.deepcopy(failed)
        again["method"] = f"method-{index}"
        document["results"].append(again)
    text = markdown.render(document)
    assert len(text) < 65_536
    assert re.search(r"\.\.\. and \d+ more problems, in full in report\.html\.", text)


def test_checks_on_trained_models_are_counted_and_few_are_listed(document: dict[str, Any]) -> None:
    text = markdown.render(document)
    assert "| vgg11 | digits | 98.1% | 95.0% | 16 |" in text
    assert "| class-sensitivity |  | 1 | 1 |  | 1 |" in text
    assert (
        "| class-sensitivity | `gradient` | vgg11 on digits | Spearman of \\|R\\| = 0.61 | below 0.5 |  | ✖ refuted |  |"
    ) in text
    assert "more row" not in text


def test_of_many_rows_those_that_gate_are_listed(document: dict[str, Any]) -> None:
    fine, fell = document["sanity"][0], document["sanity"][1]
    document["sanity"] = [{**fine, "method": f"method-{index}"} for index in range(1500)] + [fell]
    text = markdown.render(document)
    assert "method-7" not in text
    assert "| class-sensitivity | `gradient` |" in text
    assert "... and 1500 more rows, in full in report.html." in text
    document["sanity"] = [{**fell, "method": f"method-{index}"} for index in range(1500)]
    text = markdown.render(document)
    assert "... and 1440 more rows, in full in report.html." in text
    assert len(text) < 65_536
