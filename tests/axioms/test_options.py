"""The named options of a case: each is drawn in every family, can be claimed on, and says what it means."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attribcheck as ac
import numpy as np
import pytest
import torch
from attribcheck import axioms
from attribcheck.axioms.networks.build import build, evaluate
from attribcheck.axioms.networks.families import FAMILIES, Has
from attribcheck.axioms.networks.forms import FORMS, takes, written
from attribcheck.axioms.networks.kinks import SINGLE_MARGIN, on_kink
from attribcheck.axioms.networks.sources import Wide
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.axioms.options import OPTIONS, read_family
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.plan import Selection, plan
from attribcheck.axioms.search.streams import Origin, stream
from attribcheck.axioms.search.witnesses import to_document
from attribcheck.axioms.setting import Setting
from attribcheck.errors import UsageError
from attribcheck.methods.registry import get_method

COMPLETENESS = axioms.AXIOMS["completeness"]


def drawn(family: str, n: int = 200, axiom: axioms.Axiom = COMPLETENESS, variant: str = "delta") -> list[Any]:
    """The small cases of a family, as a run draws them."""
    origin = Origin.of(axiom, variant, family, get_method("occlusion-1"))
    return [sample.case for sample in stream(origin, 5).chunk(False, n, 0).samples]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_value_of_every_option_is_drawn_in_every_family(family: str) -> None:
    cases = drawn(family)
    seen = Counter(f"{name}={case.options[name]}" for case in cases for name in OPTIONS)
    fixed = set() if FAMILIES[family].scales else {"magnitude=large", "magnitude=tiny", "margin=narrow"}
    expected = {f"{name}={value}" for name, option in OPTIONS.items() for value in option.values} - fixed
    if Has.ACTIVATED not in FAMILIES[family].has:
        expected -= {f"form={way}" for way in ("method", "in-place", "in-place-method")}
    if family == "attention":  # GELU has no form that overwrites
        expected -= {"form=in-place", "form=in-place-method"}
    assert expected <= seen.keys()
    # The default mix: modules and functions, and weights that no floating point number is.
    forms = {layer.get("form", "module") for case in cases for layer in case.network.layers.values()}
    assert {"module", "functional", "bare"} <= forms
    weights = [layer["weight"] for case in cases for layer in case.network.layers.values() if layer.kind == "linear"]
    assert any((weight * 2.0**20 % 1 != 0).any() for weight in weights)
    assert {len(case.x) for case in cases} == {1, 2, 3, 4, 5}
    assert {case.dtype for case in cases} == {"float64", "float32"}


def test_an_option_in_brackets_is_fixed_in_every_case() -> None:
    cases = drawn("conv(form=bare, dtype=float32, magnitude='large', start=close, returns=tuple)", 20)
    assert len(cases) == 20
    for case in cases:
        assert case.dtype == "float32"
        assert case.network.returns == "tuple"
        assert (case.options["magnitude"], case.options["start"]) == ("large", "close")
        assert np.abs(case.x - case.baseline).max() <= 2.0**-10 * 64 * 8
        assert all(layer.get("form") == "bare" for layer in case.network.layers.values() if "weight" in layer.settings)


def test_a_narrow_margin_is_next_to_a_kink_and_outside_of_rounding() -> None:
    near = 0
    invariance = axioms.AXIOMS["implementation-invariance"]  # which allows no kinks
    for case in drawn("relu(margin=narrow, dtype=float32)", 20, invariance, "dead"):
        x = torch.tensor(case.x)
        assert not on_kink(case.network, x, SINGLE_MARGIN)
        near += on_kink(case.network, x, 2.0**-11)
    assert near >= 10


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("relu(form=modul)", "form is one of module, functional"),
        ("relu(colour=red)", "unknown option 'colour'"),
        ("relu(form=module", "not closed"),
        ("rule(form=module)", "unknown family"),
        ("model(form=module)", "only drawn families take options"),
    ],
)
def test_what_is_no_option_is_one_line(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        axioms.check_family(name)


def test_a_claim_on_an_option_is_a_cell_of_its_own() -> None:
    def hooked(model: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, baseline: Any = None) -> torch.Tensor:
        """The gradient, doubled where the network has no ReLU module: what hooks on modules see."""
        with torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            gradient = torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]
        return gradient * (1 if any(isinstance(m, torch.nn.ReLU) for m in model.modules()) else 2)

    claims = [
        ac.holds("equivalence/gradient", on="relu(form=module)"),
        ac.fails("equivalence/gradient", on="relu(form=functional)", reason="there is no module to hook"),
        ac.fails("equivalence/gradient", on="relu", reason="the default mix has functions too"),
    ]
    report = ac.check(hooked, claims=claims, max_examples=40)
    assert report.ok
    assert {result.family for result in report.results} == {claim.on for claim in claims}
    for result in report.results:
        forms = {name for name in result.drawn if name.startswith("form=")}
        assert result.family == "relu" or forms == {f"form={read_family(result.family)[1]['form']}"}
    method = get_method("gradient").but(claims=tuple(claims))
    assert len(plan([method], Selection(families=("relu",)))) == 3
    assert len(plan([method], Selection(families=("relu(form=module)",)))) == 1


# -- forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_computes_and_differentiates_the_same(family: str) -> None:
    for seed in range(6):
        case = Setting(Wide(seed), FAMILIES[family]).base()
        assert isinstance(case.network, Network)
        x = torch.tensor(case.x).requires_grad_()
        expected = evaluate(case.network, x)
        (slope,) = torch.autograd.grad(expected.sum(), x)
        for way in FORMS:
            other = written(case.network, way)
            if other is None:
                continue
            assert Network.from_json(other.to_json()) == other
            output = build(other)(x)
            torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(torch.autograd.grad(output.sum(), x)[0], slope, rtol=1e-10, atol=1e-10)


def test_nothing_is_overwritten_that_is_read_again() -> None:
    layers = {"a": Layer("linear", weight=[[1.0]]), "r": Layer("relu"), "t": Layer("tanh"), "s": Layer("add")}
    skip = Network((1,), layers, (Call("h", "a", ("x",)), Call("z", "r", ("h",)), Call("y", "s", ("h", "z"))))
    assert not takes(skip, "r", "in-place")  # h is read again
    row = Network((1,), layers, (Call("h", "a", ("x",)), Call("z", "t", ("h",)), Call("y", "r", ("z",))))
    assert takes(row, "t", "in-place method")
    assert not takes(row, "r", "in-place")  # the derivative of tanh needs its result
    assert not takes(Network((1,), layers, (Call("z", "r", ("x",)),)), "r", "in-place")  # the caller's own tensor
    assert written(row, "method") == row.with_layers(t=Layer("tanh", form="method"), r=Layer("relu", form="method"))


@pytest.mark.parametrize("family", ["activations", "normalised", "avgpool", "ratios", "shared", "conv"])
@pytest.mark.parametrize("options", ["form=bare", "form=functional", "form=in-place", "returns=tuple", "form=method"])
def test_the_script_of_a_case_runs_with_torch_alone(family: str, options: str) -> None:
    method = get_method("gradient-times-input")
    for case in drawn(f"{family}({options}, dtype=float64)", 4):
        document = to_document(Bench(COMPLETENESS, "output", method, family), case)
        space: dict[str, Any] = {}
        kept = torch.get_default_dtype()
        try:
            exec(document["script"].replace(method.imports or "", DEFINED), space)
        finally:
            torch.set_default_dtype(kept)
        assert "attribcheck" not in document["script"].replace(method.imports or "", "")
        assert np.allclose(space["obtained"].tolist(), document["figures"]["obtained"], rtol=1e-9, atol=1e-12)


DEFINED = """
def attribute(model, x, target, baseline=None):
    x = x.clone().requires_grad_()
    return (x * torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)[0]).detach()
"""
