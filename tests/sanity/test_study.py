"""A method on a subject: what it is given, and what it costs; checks of full-model runs see methods only through it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from attribcheck import get_method
from attribcheck.claims import Method
from attribcheck.sanity.outcome import NotApplicable
from attribcheck.sanity.study import SCALES, Study
from torch import Tensor, nn

SCALE = SCALES["tiny"]


def gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


class Steps:
    """A method with an option `steps`, which keeps what it is given."""

    def __init__(self, default: int) -> None:
        def attribute(
            model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, steps: int = default
        ) -> Tensor:
            self.given.append(steps)
            return torch.zeros_like(x)

        self.given: list[int] = []
        self.method = Method("steps", attribute)

    def on(self, fakes: Any) -> list[int]:
        """What it is given when its maps are taken, and when exact ones are."""
        subject = fakes.load("small", "points")
        study = Study(subject, self.method, SCALE)
        study.maps(subject.labels[:2])
        study.exact().maps(subject.labels[:2])
        return self.given


def test_a_method_that_integrates_gets_the_nodes_of_the_scale(fakes: Any) -> None:
    assert Steps(0).on(fakes) == [SCALE.path, 0]


def test_a_number_of_steps_that_somebody_set_stays(fakes: Any) -> None:
    assert Steps(32).on(fakes) == [32, 32]


def test_built_in_integrated_gradients_are_sums_unless_exact_ones_are_asked_for(fakes: Any) -> None:
    subject = fakes.load("small", "points")
    target = subject.labels[:3]

    def maps(name: str, exact: bool = False) -> Tensor:
        study = Study(subject, get_method(name), SCALE)
        return (study.exact() if exact else study).maps(target)

    zero = torch.zeros_like(subject.x[:3])
    for name, steps in (("integrated-gradients", SCALE.path), ("integrated-gradients(steps=3)", 3)):
        by_nodes = get_method("integrated-gradients").function(subject.model, subject.x[:3], target, zero, steps=steps)
        torch.testing.assert_close(maps(name), by_nodes, rtol=0, atol=0)
    exact = get_method("integrated-gradients")(subject.model, subject.x[:3], target, zero)
    torch.testing.assert_close(maps("integrated-gradients", exact=True), exact, rtol=0, atol=0)
    assert not torch.equal(maps("integrated-gradients"), exact)


def learns(rows_of_data: int, passes: int) -> Method:
    """A method that looks at the data once in each call, and runs the model so often on each sample."""

    def attribute(
        model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, data: Tensor | None = None
    ) -> Tensor:
        assert data is not None
        with torch.no_grad():
            if rows_of_data:
                model(data[:rows_of_data])
            for _ in range(passes):
                model(x)
        return torch.zeros_like(x)

    return Method("learns", attribute, data=True)


@pytest.mark.parametrize(("rows", "passes"), [(0, 1), (0, 3), (8, 1), (8, 3)])
def test_what_is_paid_once_is_told_from_what_each_sample_costs(fakes: Any, rows: int, passes: int) -> None:
    assert Study(fakes.load("small", "points"), learns(rows, passes), SCALE).cost() == (rows, passes)


def test_fewer_images_where_the_rows_do_not_suffice(fakes: Any) -> None:
    scale = replace(SCALE, images=10, rows=100)
    study = Study(fakes.load("small", "points"), learns(8, 3), scale)
    assert study.images(2) == 10
    assert study.images(3) == 8  # 100 rows for 3 maps: 33, of which 8 are paid once, and 3 go to each sample
    assert study.images(5) == 4
    with pytest.raises(
        NotApplicable, match="one map takes 11 rows of forward passes; 6 maps of 4 samples are more than"
    ):
        study.images(6)
