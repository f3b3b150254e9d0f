"""Kinks: all segments of a case at once are judged as one after the other is, unit by unit, by a twin of its own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.kinks import (
    MARGIN,
    SINGLE_MARGIN,
    has_kinks,
    on_kink,
    segment_in_kink,
    segment_midpoints,
)
from attribcheck.axioms.networks.sources import Small, Wide
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.axioms.setting import Setting
from attribcheck.axioms.trial import in_dtype_of
from attribcheck.calling import one_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ..support import twins_kinks as twin

DRAWING = settings(
    max_examples=16, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
SLOW = {"vgg"}  # unit by unit, a wide one takes a minute


def segments(case: Case) -> list[tuple[Tensor, Tensor]]:
    """Segments [B, *shape] to the samples: from the baselines, from zero, from other samples, of which one is a point."""
    x, baseline = (in_dtype_of(case, array).double() for array in (case.x, case.baseline))
    others = x.flip(0)
    others[0] = x[0]
    return [(baseline, x), (torch.zeros_like(x), x), (others, x)]


def compared(case: Case) -> Counter[str]:
    """What the twin says of the segments of a case, after a comparison of each."""
    network, margin = case.network, SINGLE_MARGIN if case.dtype == "float32" else MARGIN
    assert isinstance(network, Network)
    seen: Counter[str] = Counter()
    if not has_kinks(network):
        return seen
    for start, end in segments(case):
        inside = twin.segment_in_kink(network, start, end, margin)
        assert segment_in_kink(network, start, end, margin) == any(inside)
        assert [segment_in_kink(network, a[None], b[None], margin) for a, b in zip(start, end)] == inside
        points, owner = segment_midpoints(network, start, end)
        middles = [twin.midpoints(network, a, b) for a, b in zip(start, end)]
        assert owner.tolist() == [k for k, some in enumerate(middles) for _ in some]
        assert torch.allclose(points, torch.stack([point for some in middles for point in some]), rtol=0, atol=1e-9)
        seen["some" if len(set(inside)) == 2 else "all" if all(inside) else "none"] += 1
        seen[case.dtype] += any(inside)
    return seen


def compared_in(name: str) -> Counter[str]:
    """What the twin says of cases of a family."""
    seen: Counter[str] = Counter()

    @DRAWING
    @given(data=st.data())
    def drawn(data: Any) -> None:
        wide = name not in SLOW and data.draw(st.integers(0, 5)) == 5
        source = Wide(data.draw(st.integers(0, 999))) if wide else Small(data.draw)
        setting = Setting(source, FAMILIES[name])
        case = setting.base(kinks=source.pick("off", "on"), samples=source.pick(2, 3))
        seen.update(compared(setting.written(case, own_form=False, single=True)))

    drawn()
    return seen


def test_all_segments_at_once_are_judged_as_one_after_the_other() -> None:
    seen = Counter[str]()
    with one_thread():  # (a twin of tiny operations waits for its threads)
        for name in FAMILIES:
            seen += compared_in(name)
    assert min(seen[what] for what in ("none", "some", "all", "float32", "float64")) >= 5


def network_of(input_shape: tuple[int, ...], *layers: Layer) -> Network:
    """A network of layers in a row."""
    names = [f"l{k}" for k in range(len(layers))]
    calls = [Call(f"h{k}", name, (f"h{k - 1}" if k else "x",)) for k, name in enumerate(names)]
    return Network(input_shape, dict(zip(names, layers, strict=True)), tuple(calls))


DIFFERENCE = network_of((2,), Layer("linear", weight=[[1.0, -1.0], [-1.0, 1.0]]), Layer("relu"))


@pytest.mark.parametrize("place", range(3))
def test_one_segment_inside_a_kink_is_found_among_others(place: int) -> None:
    end = torch.tensor([[3.0, 1.0], [1.0, 2.0], [2.0, -1.0]], dtype=torch.float64)
    start = torch.zeros_like(end)
    assert not segment_in_kink(DIFFERENCE, start, end)
    end[place] = 2.0  # x1 = x2 all the way
    assert segment_in_kink(DIFFERENCE, start, end)
    assert not segment_in_kink(DIFFERENCE, end, end)  # a point is no piece


def test_a_margin_is_a_share_of_the_values_of_one_owner() -> None:
    x = torch.tensor([[1.0, 1.0 - 1e-6], [1e3, 0.0]], dtype=torch.float64)
    assert on_kink(DIFFERENCE, x)  # 1e-6 is nothing beside 1e3
    assert not on_kink(DIFFERENCE, x, owner=torch.tensor([0, 1]))
    assert on_kink(DIFFERENCE, x, owner=torch.tensor([0, 0]))
    assert not on_kink(DIFFERENCE, x[:0], owner=torch.tensor([], dtype=torch.int64))


def test_a_breakpoint_of_one_segment_is_none_of_another() -> None:
    steps = network_of((1,), Layer("linear", weight=[[1.0], [1.0]], bias=[-1.0, -2.0]), Layer("relu"))
    start, end = torch.tensor([[0.0], [4.0], [-2.0]]).double(), torch.tensor([[4.0], [0.0], [0.0]]).double()
    points, owner = segment_midpoints(steps, start, end)
    assert owner.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert points[:, 0].tolist() == [0.5, 1.5, 3.0, 3.0, 1.5, 0.5, -1.0]
