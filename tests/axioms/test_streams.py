"""Cases are drawn once for all methods that take the same ones, and shrink from the choices that made them."""

from __future__ import annotations

from attribcheck import axioms
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.falsify import search
from attribcheck.axioms.search.streams import Origin, Stream, stream
from attribcheck.methods.registry import get_method
from torch import Tensor, nn


def _origin(method: str, axiom: str = "completeness/delta", family: str = "relu") -> Origin:
    found, variant = axioms.find(axiom)
    return Origin.of(found, variant or "", family, get_method(method))


def test_methods_with_one_kind_of_baseline_share_their_cases() -> None:
    assert stream(_origin("occlusion-1"), 0) is stream(_origin("deeplift"), 0)
    assert stream(_origin("gradient"), 0) is not stream(_origin("deeplift"), 0)
    assert stream(_origin("gradient"), 0) is not stream(_origin("gradient"), 1)


def test_a_stream_is_the_same_whoever_asks_first() -> None:
    first, second = (Stream(_origin("gradient"), 5) for _ in range(2))
    second.chunk(True, 4, 1)
    for is_wide in (False, True):
        a, b = (each.chunk(is_wide, 8, 0) for each in (first, second))
        assert [s.case.to_json() for s in a.samples] == [s.case.to_json() for s in b.samples]
        assert len(a.samples) == 8


def test_chunks_differ() -> None:
    cases = Stream(_origin("gradient", family="any"), 0)
    first, second = ([s.case.to_json() for s in cases.chunk(False, 20, k).samples] for k in (0, 1))
    assert sum(case not in first for case in second) > 10


def test_a_case_shrinks_from_its_choices() -> None:
    axiom, variant = axioms.find("completeness/delta")
    tally = search(Bench(axiom, variant or "", get_method("gradient-times-input"), "relu"), 100, seed=3)
    assert tally.violated is not None and not tally.flaky
    assert tally.violated.x.shape == (1, 1)
    assert abs(tally.violated.x).max() <= 2


def test_a_method_that_refuses_networks_gets_more() -> None:
    """Of "any", LRP-0 refuses products; the examples are as many as were asked for all the same."""
    axiom, variant = axioms.find("linearity")
    tally = search(Bench(axiom, variant or "", get_method("lrp-0"), "any"), 40, seed=0)
    assert tally.examples == 40
    assert tally.unsupported > 0


def test_a_defect_that_only_wide_networks_show_is_looked_for_in_small_ones() -> None:
    def large_only(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        result: Tensor = get_method("gradient-times-input")(model, x, target)
        return result * 2 if x[0].numel() >= 8 else result

    axiom, variant = axioms.find("completeness/output")
    method = get_method("gradient-times-input").but(function=large_only)
    tally = search(Bench(axiom, variant or "", method, "relu-nobias"), 50, seed=0)
    assert tally.violated is not None
    assert tally.violated.x[0].size >= 8
