"""The HTML report: well formed, alone, complete and safe."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from attribcheck.reports import html, validate_results

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """The elements of a page, with a check that each is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is given twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        """The attributes of the elements with this tag and class."""
        found = [attributes for name, attributes in self.elements if name == tag]
        return [each for each in found if class_ in (each.get("class") or "").split()] if class_ else found

    @property
    def text(self) -> str:
        """What a reader reads, on one line."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def page(document: dict[str, Any]) -> Page:
    return Page(html.render(document))


def test_nothing_is_loaded_from_outside(document: dict[str, Any], page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, value)
    assert not page.all("link")
    style = re.findall(r"<style>(.*?)</style>", html.render(document), re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "@import" not in style[0]
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_only_script_is_the_one_that_the_policy_names(document: dict[str, Any], page: Page) -> None:
    import base64
    import hashlib

    assert len(page.all("script")) == 1
    (script,) = re.findall(r"<script>(.*?)</script>", html.render(document), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert f"script-src 'sha256-{digest}'" in (policy or "")
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]


def test_every_cell_has_one_chip_and_one_panel(document: dict[str, Any], page: Page) -> None:
    panels = [panel["id"] for panel in page.all("article", "panel")]
    assert len(panels) == len(set(panels)) == len(document["results"]) + len(document["sanity"])
    chips = [chip for chip in page.all("a", "chip") if chip.get("title")]
    assert sorted(chip["href"] or "" for chip in chips) == sorted(f"#{panel}" for panel in panels)
    for result in document["results"]:
        start = f"{result['method']} {result['axiom']} [{result['family']}]: "
        assert len([chip for chip in chips if (chip["title"] or "").startswith(start)]) == 1, start
    for entry in document["sanity"]:
        subject = f"{entry['model']} on {entry['data']}" if entry["model"] else "model"
        start = f"{entry['method']} {entry['check']} [{subject}]: "
        assert len([chip for chip in chips if (chip["title"] or "").startswith(start)]) == 1, start


def test_ids_are_unique_and_every_anchor_has_its_target(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"] for link in page.all("a")} - {"#-"}
    assert targets <= {f"#{each}" for each in ids}


def test_methods_whose_anchors_would_clash_keep_their_own(document: dict[str, Any]) -> None:
    first = document["results"][0]
    document["results"] = [{**first, "method": "a:b"}, {**first, "method": "a-b"}]
    document["sanity"] = []
    assert [panel["id"] for panel in Page(html.render(document)).all("article")] == [
        "a-b--dummy--any",
        "a-b--dummy--any--2",
    ]


@pytest.mark.parametrize(
    ("anchor", "symbol", "label", "problem"),
    [
        ("gradient--dummy--any", "✓", "holds", False),
        ("gradient--completeness-delta--relu", "✗", "fails as claimed", False),
        ("gradient--sensitivity-n-N-1--relu", "(✗)", "violated, unclaimed", False),
        ("gradient--sensitivity-n-1--relu", "(–)", "not applicable", False),
        ("captum-DeepLift--dummy--relu", "(✓)", "holds, unclaimed", False),
        ("captum-DeepLift--dummy--attention", "(∅)", "unsupported", False),
        ("captum-DeepLift--completeness-delta--product", "✖", "refuted", True),
        ("lrp-epsilon--completeness-output--relu-nobias", "✖", "not shown", True),
        ("mine-method--dummy--relu", "!", "error", True),
        ("mine-method--symmetry--relu", "?", "inconclusive", True),
    ],
)
def test_outcomes_are_told_apart_without_colour(
    document: dict[str, Any], anchor: str, symbol: str, label: str, problem: bool
) -> None:
    text = html.render(document)
    (chip,) = re.findall(rf'<a class="chip [a-z]+" href="#{re.escape(anchor)}" title="[^"]*">(.*?)</a>', text)
    assert chip.split()[0] == symbol
    (title,) = re.findall(rf'href="#{re.escape(anchor)}" title="([^"]*)"', text)
    assert title.endswith(f": {label}")
    fell = text[text.index('id="fell"') : text.index('id="matrix"')]
    assert (f'href="#{anchor}"' in fell) is problem
    assert (f"<b>{label}</b>" in chip) is problem


def test_the_witness_of_an_error_shows_the_case_and_no_figures(document: dict[str, Any]) -> None:
    shown = next(result["witness"] for result in document["results"] if result["witness"])
    erred = next(result for result in document["results"] if result["verdict"] == "error")
    none = dict.fromkeys(("expected", "obtained", "residual", "tolerance"))
    figures = {"what": f"error: {erred['note']}", "error": erred["note"], **none}
    erred["witness"] = {**shown, "method": erred["method"], "figures": figures}
    document["results"] = [erred]
    validate_results(document)
    text = html.render(document)
    panel = text[text.index("<article") : text.index("</article>")]
    assert panel.count(f"<h5>error: {erred['note']}</h5>") == 1
    assert "<svg" in panel and "Script that shows it" in panel
    assert "no residual" not in panel


def test_what_fell_comes_first_with_residual_note_and_replay_line(document: dict[str, Any]) -> None:
    text = html.render(document, "my report")
    fell = text[text.index('id="fell"') : text.index('id="matrix"')]
    assert fell.count("<li") == 9 + 2, "the full-model checks that fell are the last"
    assert fell.index('href="#gradient--class-sensitivity--vgg11--digits"') > fell.index("captum-DeepLift")
    assert "0.61, rule: below 0.5" in fell
    assert "residual 0.333, tolerance 1e-10" in fell
    assert "residual not finite, tolerance 1e-10" in fell
    assert "no residual (tolerance 1e-10)" in fell
    assert "returned shape (2,) for an input of shape (2, 3)" in fell
    witness = "witnesses/captum-DeepLift--completeness-delta--product.json"
    assert f"attribcheck replay &#39;my report/{witness}&#39;" in fell


def test_the_heading_says_what_stands(document: dict[str, Any], page: Page) -> None:
    said = "9 of 12 claims do not stand: 7 refuted or not shown, 1 in error, 1 inconclusive."
    assert said in page.text
    assert "4 more observed without a claim." in page.text
    assert "2 of 3 claims on trained models do not stand: 1 refuted or not shown, 1 in error." in page.text
    assert "2 more observed without a claim." in page.text
    document["results"] = [result for result in document["results"] if result["verdict"] == "pass"]
    document["sanity"] = []
    good = Page(html.render(document))
    assert "✓ All 3 claims stand." in good.text
    assert "Nothing: no claim is refuted, in error or inconclusive." in good.text
    document["results"] = []
    assert "No claim was checked." in Page(html.render(document)).text


def test_axioms_are_grouped_and_variants_appear_only_where_present(page: Page) -> None:
    assert [(head["colspan"]) for head in page.all("th", "check")] == ["1", "1", "1"]
    groups = [(head["colspan"]) for head in page.all("th", "axiom")]
    assert groups == ["1", "1", "2", "2", "1", "1"]
    assert "/delta /output" in page.text
    assert "/n " not in page.text


def test_a_panel_holds_every_figure(document: dict[str, Any]) -> None:
    text = html.render(document)
    start = text.index('id="gradient--completeness-delta--relu"')
    panel = " ".join(re.sub(r"<[^>]*>", " ", text[start : text.index("</article>", start)]).split())
    for part in (
        "a gradient is not in units of the output",
        "Ancona 2018, section 3",
        "observed violated",
        "verdict pass",
        "0.3333 against a tolerance of 1e-10: 3.3e+09 times the tolerance",
        "100 (4 vacuous, 0 unsupported, 3 discarded)",
        "small 80, wide 20",
        "sum of R against f(x) - f(baseline)",
        "1.5 3 1.5",
        "x[0] 2 0 2",
        "import torch from torch import nn",
        "&#34;kind&#34;: &#34;mul&#34;",
        "attribcheck replay attribcheck-report/witnesses/gradient--completeness-delta--relu.json",
    ):
        assert part in panel, part


def test_hostile_text_stays_text(document: dict[str, Any], page: Page) -> None:
    text = html.render(document)
    assert "alert(1)" in page.text
    for each in range(1, 7):
        assert f"<script>alert({each})" not in text
        assert f"alert({each})" in text or each == 2, "the text is there, escaped"
    assert not [image for image in page.all("img") if not (image["src"] or "").startswith("data:image/png")]
    assert "\x1b" not in text


def test_no_json_of_python_leaks(page: Page) -> None:
    for leak in ("NaN", "None", "nan,", "{'", "Undefined", "<attribcheck"):
        assert leak not in page.text, leak


def test_large_inputs_are_images_not_tables(page: Page) -> None:
    images = page.all("img")
    assert [image["alt"] for image in images if image["width"] == "140"] == [
        "x, from 0 to 1",
        "attribution, from -0.947 to 0.801",
    ]
    assert "x[0, 0, 0]" not in page.text


def test_sanity_is_shown_only_where_there_is_some(document: dict[str, Any], page: Page) -> None:
    assert "Methods by checks on trained models" in page.text
    assert "vgg11 digits 98.1% 95.0% 16 small-vgg scenes 50.0% too few 80.0% 8" in page.text
    document["sanity"] = []
    assert "on trained models" not in Page(html.render(document)).text


def panel_of(text: str, anchor: str) -> str:
    """What a reader reads in a panel."""
    start = text.index(f'id="{anchor}"')
    return " ".join(re.sub(r"<[^>]*>", " ", text[start : text.index("</article>", start)]).split())


def test_the_panel_of_a_check_holds_every_figure(document: dict[str, Any]) -> None:
    panel = panel_of(html.render(document), "guided-backprop--parameter-randomization-cascade--vgg11--digits")
    for part in (
        "parameter-randomization/cascade [vgg11 on digits]",
        "✗ fails as claimed The claimed failure was shown",
        "claim fails",
        "reason the map reconstructs the input: &lt;b&gt;Nie et al.&lt;/b&gt; 2018",
        "source Khakzar 2020",
        "statistic Spearman of |R|, top two layers",
        "measured 0.73 [0.69, 0.77]",
        "holds where below 0.5",
        "paper 0.8 Khakzar 2020, Fig. 4",
        "time 1.5 s",
        "by class 0 0.7 1 0.74",
    ):
        assert part in panel, part


def test_curves_are_drawn_over_what_stands_beside_them(document: dict[str, Any]) -> None:
    text = html.render(document)
    start = text.index('id="guided-backprop--parameter-randomization-cascade--vgg11--digits"')
    drawings = re.findall(r"<svg class=\"curve\" viewBox=\"0 0 3.*?</svg>", text[start:].partition("</article>")[0])
    assert len(drawings) == 3
    mean, controls, removed = drawings
    assert mean.count("<polyline") == 2, "a missing value breaks the line"
    assert ">fc3</text>" in mean
    assert ">layers</text>" in mean
    assert 'class="c1"' in controls
    assert 'class="zero"' in controls
    assert ">per cent</text>" in removed
    assert 'aria-label="logit, from 0 to 9.5"' in removed
    # 10 of 100 per cent is a tenth of the way, 46 + 25 of 250; 4.0 of 9.5 is 8 + 64 of 110 from the top.
    assert 'points="46,8 71,72 171,106 296,118"' in removed
    assert "highest &lt;first&gt;" in text


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        ("below 0.5", {}),
        ("at most 0.5 on average", {}),
        ("below 0.5", {"limit": {"below": 0.5}}),
        ("above 0.3 as rounded", {"limit": {"above": 0.5}}),
        ("half of it", {"limit": {"below": 0.5}}),
    ],
    ids=["words", "other words", "both", "data before words", "data alone"],
)
def test_the_rows_of_one_check_share_the_axis_of_their_bars(
    document: dict[str, Any], rule: str, limit: dict[str, Any]
) -> None:
    for entry in document["sanity"]:
        if entry["check"] == "class-sensitivity":
            entry |= {"rule": rule} | limit
    validate_results(document)
    text = html.render(document)
    table = text[text.index('id="rows-class-sensitivity"') :].partition("</table>")[0]
    bars = re.findall(r'<svg class="interval".*?</svg>', table)
    assert len(bars) == 2, "a row without a value has none"
    # From 0.2, where an interval begins, to 0.61, the largest value: 4 to 146. The limit 0.5 is at 4 + 142 * 0.3 / 0.41.
    assert all('<path class="limit" d="M107.9 0V14"/>' in bar for bar in bars)
    assert 'cx="146.0"' in bars[0]
    assert 'class="range"' not in bars[0]
    assert 'd="M4.0 7H73.3"' in bars[1]
    assert 'aria-label="0.31 [0.2, 0.4], limit 0.5"' in bars[1]


@pytest.mark.parametrize(("rule", "limit"), [("below 0.5", {"limit": None}), ("no limit", {}), (None, {})])
def test_a_rule_without_a_limit_has_no_line(document: dict[str, Any], rule: str | None, limit: dict[str, Any]) -> None:
    for entry in document["sanity"]:
        entry |= {"rule": rule} | limit
    validate_results(document)
    text = html.render(document)
    assert '<svg class="interval"' in text
    assert '<path class="limit"' not in text
    assert 'aria-label="0.31 [0.2, 0.4]"' in text


@pytest.mark.parametrize(
    ("anchor", "symbol", "label", "problem"),
    [
        ("guided-backprop--parameter-randomization-cascade--vgg11--digits", "✗", "fails as claimed", False),
        ("gradient--class-sensitivity--vgg11--digits", "✖", "refuted", True),
        ("gradient--class-sensitivity--small-vgg--scenes", "(✓)", "holds, unclaimed", False),
        ("mine-method--class-sensitivity--vgg11--digits", "!", "error", True),
        ("gradcam--pointing-game", "(·)", "unclaimed", False),
    ],
)
def test_outcomes_of_checks_are_told_apart_without_colour(
    document: dict[str, Any], anchor: str, symbol: str, label: str, problem: bool
) -> None:
    text = html.render(document)
    (chip,) = re.findall(rf'<a class="chip [a-z]+" href="#{re.escape(anchor)}" title="[^"]*">(.*?)</a>', text)
    assert chip.split()[0] == symbol
    (title,) = re.findall(rf'href="#{re.escape(anchor)}" title="([^"]*)"', text)
    assert title.endswith(f": {label}")
    assert (f"<b>{label}</b>" in chip) is problem


def test_a_run_of_full_model_checks_alone_has_one_matrix(document: dict[str, Any]) -> None:
    document["results"], document["max_examples"] = [], None
    page = Page(html.render(document))
    assert len(page.all("table", "matrix")) == 1
    assert "✖ 2 of 3 claims on trained models do not stand: 1 refuted or not shown, 1 in error." in page.text


def test_a_run_that_was_stopped_says_so(document: dict[str, Any]) -> None:
    document["results"] = []
    document["sanity"] = document["sanity"][:1]
    document["incomplete"] = "interrupted after 1 of 20 parts; go on with --resume"
    page = Page(html.render(document))
    assert "✖ The run was stopped: interrupted after 1 of 20 parts; go on with --resume." in page.text
    assert "The one claim on trained models stands." in page.text
    assert "Nothing so far" in page.text


def test_optional_parts_may_be_missing(document: dict[str, Any]) -> None:
    for result in document["results"]:
        del result["drawn"], result["witness_file"]
        if result["witness"]:
            for key in ("options", "drawn", "data"):
                del result["witness"][key]
            del result["witness"]["figures"]["attribution"]
    for entry in document["sanity"]:
        for key in ("claim", "reason", "source", "seconds"):
            entry.pop(key, None)
    del document["subjects"]
    page = Page(html.render(document))
    assert "attribcheck replay" not in page.text
    assert len(page.all("article", "panel")) == len(document["results"]) + len(document["sanity"])
    assert "✓ stands" in page.text, "the claim is not recorded"


def test_two_renderings_are_the_same(document: dict[str, Any]) -> None:
    assert html.render(document) == html.render(document)
