"""The catalogue as a whole: what every built-in method declares, and the witnesses that its claims of failure rest on."""

from __future__ import annotations

from pathlib import Path

import pytest
from attribcheck import methods as methods_package
from attribcheck.axioms.search.plan import Selection, plan
from attribcheck.cli.catalogue import explain
from attribcheck.methods import registry
from attribcheck.methods.builtin import BUILTIN, WRAPPERS
from attribcheck.methods.naming import WITNESSES, pinned_for
from attribcheck.reports.document import load_witness
from attribcheck.runner import Options, run_cell

FILES = sorted(Path(methods_package.__path__[0]).rglob("*.py"))


@pytest.mark.parametrize("name", BUILTIN)
def test_a_method_says_what_it_is(name: str) -> None:
    method = BUILTIN[name]
    for part in ("Source:", "What holds", "Args:", "Returns:"):
        assert part in method.doc, f"{name}: its docstring has no {part!r}"
    assert len(method.doc.partition("\n")[0]) <= 140
    assert method.claims


@pytest.mark.parametrize("name", BUILTIN)
def test_a_claim_says_where_it_comes_from(name: str) -> None:
    for claim in BUILTIN[name].claims:
        assert claim.source if claim.kind == "holds" else claim.reason, f"{name}: {claim}"


@pytest.mark.parametrize("name", BUILTIN)
def test_a_claim_is_made_once(name: str) -> None:
    made = [(claim.axiom, claim.on) for claim in BUILTIN[name].claims]
    assert sorted(set(made)) == sorted(made)


@pytest.mark.parametrize("name", BUILTIN)
def test_every_claimed_failure_is_shown_by_its_witness(name: str) -> None:
    cells = [
        cell for cell in plan([BUILTIN[name]], Selection()) if cell.claim is not None and cell.claim.kind == "fails"
    ]
    for cell in cells:
        assert cell.claim is not None and cell.claim.witness is not None, f"{cell.id} has no witness: make witnesses"
        result = run_cell(cell, Options())
        assert result.verdict == "pass", result.line()
        assert result.examples == 1


def test_no_witness_is_left_over() -> None:
    used = {Path(claim.witness) for method in BUILTIN.values() for claim in method.claims if claim.witness}
    assert set(WITNESSES.rglob("*.json")) == used


def test_witnesses_are_small() -> None:
    """Networks that a person reads: half of them with two layers with weights at most, four in five with three at most."""
    sizes = []
    for path in WITNESSES.rglob("*.json"):
        layers = load_witness(path)["network"]["layers"].values()
        sizes.append(sum("weight" in layer for layer in layers))
    assert sorted(sizes)[len(sizes) // 2] <= 2
    assert sum(size > 3 for size in sizes) <= len(sizes) / 5


def test_a_page_shows_the_witness() -> None:
    page = explain("lrp-alpha1-beta0")
    assert "Smallest witnesses known" in page
    claim = next(claim for claim in BUILTIN["lrp-alpha1-beta0"].claims if claim.witness)
    assert str(pinned_for("lrp-alpha1-beta0", claim)) in page


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_can_be_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 520


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_take_any_base(wrapper: str) -> None:
    made = registry.get_method(f"{wrapper}(occlusion-1)")
    assert made.name == f"{wrapper}(occlusion-1)"
    assert "occlusion-1" in made.doc
