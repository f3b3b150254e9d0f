"""The axiom that compares two methods, and the names under which the other one is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import attribcheck as ac
import pytest
import torch
from attribcheck import axioms
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.sources import Wide
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.plan import Selection, plan
from attribcheck.axioms.search.witnesses import evaluate, read_case
from attribcheck.claims import Method
from attribcheck.errors import MethodError, UsageError
from attribcheck.methods import naming
from attribcheck.methods.registry import as_method, resolve

EQUIVALENCE, _ = axioms.find("equivalence/gradient")


def checked(method: Any, other: str, family: str, kind: str = "holds", n: int = 60) -> ac.Result:
    claim = ac.holds(f"equivalence/{other}", on=family)
    if kind == "fails":
        claim = ac.fails(f"equivalence/{other}", on=family, reason="they differ")
    (result,) = ac.check(method, claims=[claim], max_examples=n).results
    return result


def drawn(method: Method, other: str, seed: int = 0) -> Case:
    case = EQUIVALENCE.draw(other, Bench(EQUIVALENCE, other, method, "relu").origin.setting(Wide(seed)))
    assert case is not None
    return case


# -- what is compared -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "other", "family"),
    [
        ("gradient", "gradient", "any"),
        ("deeplift", "gradient-times-input", "linear"),
        ("integrated-gradients", "occlusion-1", "linear"),
        ("lrp-0", "gradient-times-input", "maximum"),
        ("gradient-times-input", "lrp-epsilon(epsilon=1e-13)", "linear(magnitude=ordinary)"),
    ],
)
def test_equal_methods_pass(method: str, other: str, family: str) -> None:
    result = checked(method, other, family)
    assert (result.observed, result.verdict, result.axiom) == ("holds", "pass", f"equivalence/{other}")


@pytest.mark.parametrize(
    ("method", "other", "family"),
    [
        ("gradient", "saliency", "linear"),
        ("deeplift", "integrated-gradients", "relu"),
        ("lrp-0", "gradient-times-input", "smooth"),
        ("lrp-epsilon", "gradient-times-input", "relu"),
        ("guided-backprop", "gradient", "functional"),
    ],
)
def test_different_methods_are_told_apart(method: str, other: str, family: str) -> None:
    result = checked(method, other, family)
    assert (result.observed, result.verdict) == ("violated", "fail")
    assert result.witness is not None
    axiom, variant, case = read_case(result.witness)
    again, _, _ = evaluate(Bench(axiom, variant, ac.get_method(method), family), case)
    assert (variant, again.violated, again.residual) == (other, True, result.witness["figures"]["residual"])


def test_both_refer_to_zeros_where_either_does() -> None:
    drawing = ac.get_method("deeplift")
    assert drawn(drawing, "integrated-gradients").baseline is not None
    for other in ("gradient-times-input", "integrated-gradients-zero", "lrp-0"):
        assert drawn(drawing, other).baseline is None
    assert drawn(ac.get_method("lrp-0"), "deeplift").baseline is None


def test_data_are_drawn_where_the_other_method_needs_them() -> None:
    assert drawn(ac.get_method("gradient"), "integrated-gradients").data is None
    assert drawn(ac.get_method("gradient"), "integrated-gradients-mean").data is not None


def test_a_random_method_is_seeded_on_both_sides() -> None:
    assert checked("smoothgrad", "smoothgrad", "relu").observed == "holds"


def test_a_network_that_the_other_method_refuses_is_not_counted() -> None:
    result = checked("gradient-times-input", "lrp-0", "product")
    assert (result.observed, result.verdict, result.examples) == ("unsupported", "inconclusive", 0)


def test_nan_of_the_other_method_is_no_equality() -> None:
    result = checked(lambda model, x, target, baseline=None: torch.full_like(x, torch.nan), "gradient", "linear")
    assert result.observed == "violated"


def test_an_error_of_the_other_method_is_said_to_be_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("out of order")

    monkeypatch.setattr("attribcheck.axioms.equivalence.other_method", lambda name: as_method(broken, "broken"))
    gradient = ac.get_method("gradient")
    case = Case.from_json(drawn(gradient, "gradient").to_json())
    with pytest.raises(MethodError, match="the method it is compared with, broken: raised ValueError: out of order"):
        evaluate(Bench(EQUIVALENCE, "gradient", gradient, "relu"), case)


def test_the_script_shows_both_answers(tmp_path: Path) -> None:
    result = checked("guided-backprop", "gradient", "functional")
    assert result.witness is not None
    path = tmp_path / "both.py"
    path.write_text(result.witness["script"])
    lines = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True).stdout.splitlines()
    figures = dict(line.split(maxsplit=1) for line in lines if line.split()[0] in ("expected", "obtained"))
    assert set(figures) == {"expected", "obtained"}
    assert figures["expected"] != figures["obtained"]


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("equivalence", "write equivalence/<other method>"),
        ("equivalence/gradeint", "did you mean 'gradient'"),
        ("equivalence/builtin", "is a group"),
    ],
)
def test_the_other_method_must_be_one_method(claim: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ac.check("gradient", claims=[ac.holds(claim, on="linear")], max_examples=5)


def test_it_is_not_observed_without_a_claim() -> None:
    cells = plan([as_method(lambda model, x, target, baseline=None: x)], Selection())
    assert {cell.axiom.name for cell in cells} == axioms.AXIOMS.keys() - {"equivalence"}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("gradient", naming.Written("gradient")),
        ("lrp-epsilon(epsilon=0.1)", naming.Written("lrp-epsilon", None, {"epsilon": 0.1})),
        ("smoothgrad( deeplift , n_samples=3)", naming.Written("smoothgrad", "deeplift", {"n_samples": 3})),
        (
            "smoothgrad(lrp-epsilon(epsilon=1, x='a,)'), sigma=(1, 2))",
            naming.Written("smoothgrad", "lrp-epsilon(epsilon=1, x='a,)')", {"sigma": (1, 2)}),
        ),
        ("smoothgrad()", naming.Written("smoothgrad")),
    ],
)
def test_names_with_brackets_are_read(text: str, written: naming.Written) -> None:
    assert naming.read(text) == written


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("lrp-epsilon(epsilon=0.1", "the bracket is not closed"),
        ("lrp-epsilon(epsilon=[1)", "brackets or quotes do not match"),
        ("lrp-epsilon(epsilon=0.1)x)", "brackets or quotes do not match"),
        ("lrp-epsilon(epsilon=0.1, epsilon=0.2)", "stands twice"),
        ("lrp-epsilon(epsilon=much)", "'much' is no Python literal"),
        ("lrp-epsilon(eps=0.1)", "did you mean 'epsilon'"),
        ("lrp-epsilon(epsilon='a')", "epsilon must be like 1e-06, not 'a'"),
        ("lrp-epsilon(gradient)", "takes no other method"),
        ("gradient(epsilon=1)", "it takes none"),
        ("smoothgrad(deeplift, gradient)", "one base method at most"),
        ("smoothgrad(deeplfit)", "did you mean 'deeplift'"),
        ("smoothgrad(builtin)", "is a group"),
        ("smoothgrad(n_samples=0)", "n_samples must be a positive whole number"),
        ("smoothgrad(sigma=-1.0)", "sigma must be a positive number"),
    ],
)
def test_a_wrong_name_is_one_clear_line(target: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve(target)
    assert len(str(caught.value).splitlines()) == 1


def test_options_and_bases_reach_the_method() -> None:
    model, x, target = torch.nn.Linear(2, 1).double(), torch.ones(1, 2).double(), torch.tensor([0])
    plain, stabilised = (ac.get_method(f"lrp-epsilon(epsilon={e})")(model, x, target) for e in (0.0, 0.5))
    output = float(model(x))
    assert torch.allclose(stabilised, plain * abs(output) / (abs(output) + 0.5))
    made = ac.get_method("smoothgrad(integrated-gradients-zero, n_samples=2)")
    assert (made.baseline, made.stochastic, made.claims) == ("zeros", True, ())
    assert ac.get_method("smoothgrad(deeplift)").claims  # the defaults inherit


def test_an_epsilon_below_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="not negative"):
        ac.get_method("lrp-epsilon(epsilon=-0.5)")(torch.nn.Linear(1, 1), torch.ones(1, 1), torch.tensor([0]))
