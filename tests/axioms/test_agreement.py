"""Where what an axiom drew is not what it should be, attribcheck is at fault, and no method."""

from __future__ import annotations

import pytest
import torch
from attribcheck import axioms
from attribcheck.axioms.agreement import must_agree
from attribcheck.axioms.case import Case
from attribcheck.axioms.implementation_invariance import rewritten
from attribcheck.axioms.networks.compose import scaled
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.rewrites import Rewrite
from attribcheck.axioms.networks.sources import Wide
from attribcheck.axioms.networks.spec import Network
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.witnesses import evaluate
from attribcheck.axioms.setting import Setting
from attribcheck.errors import Defect
from attribcheck.methods.registry import get_method


def test_rounding_is_no_disagreement() -> None:
    outputs = torch.tensor([[1e6, -2.0]], dtype=torch.float64)
    must_agree(outputs, outputs + 1e-4, "another function")
    must_agree(outputs / 1e9, outputs / 1e9 + 1e-10, "another function")


def test_a_disagreement_is_a_defect_that_shows_both_sides() -> None:
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])
    with pytest.raises(Defect, match=r"^another function: \[1\.0, 2\.0\] against \[1\.0, 3\.0\], which differ by 1 "):
        must_agree(first, second, "another function")


def drawn(bench: Bench) -> Case:
    cases = (bench.axiom.draw(bench.variant, bench.origin.setting(Wide(seed))) for seed in range(20))
    return next(case for case in cases if case is not None)


@pytest.mark.parametrize(
    ("name", "companion"),
    [
        ("input-invariance/arbitrary", "moved"),
        ("feature-permutation", "permuted"),
        ("scale-equivariance", "scaled"),
        ("class-sensitivity/parity", "other"),
        ("class-sensitivity/other-logits", "other"),
        ("linearity", "f_network"),
    ],
)
def test_a_wrong_companion_is_a_defect(name: str, companion: str) -> None:
    axiom, variant = axioms.find(name)
    bench = Bench(axiom, variant or "", get_method("gradient"), "relu")
    case = drawn(bench)
    evaluate(bench, case)
    other = case.drawn[companion]
    assert isinstance(other, Network)
    with pytest.raises(Defect, match=" against "):
        evaluate(bench, case.with_drawn(**{companion: scaled(other, 1.5, "affine")}))


def test_a_wrong_rewrite_is_a_defect() -> None:
    setting = Setting(Wide(0), FAMILIES["relu"])
    case = setting.base()
    assert isinstance(case.network, Network)
    wrong = Rewrite("wrong", "none", lambda network, context: scaled(network, 1.5, "affine"), frozenset())
    with pytest.raises(Defect, match=r"^the rewrite wrong changed the function: "):
        rewritten(case.network, wrong, case, setting)
