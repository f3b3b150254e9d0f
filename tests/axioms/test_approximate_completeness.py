"""Approximate completeness: how biases are counted, and which networks lie on their kinks exactly."""

from __future__ import annotations

from collections import Counter

import torch
from attribcheck import axioms
from attribcheck.axioms.approximate_completeness import bias_relevance
from attribcheck.axioms.search.streams import Origin, Stream
from attribcheck.methods.registry import get_method
from torch import Tensor, nn


def test_biases_are_counted_on_the_slopes_of_the_whole_batch() -> None:
    """A unit that is zero but for rounding, which falls otherwise in a batch of one, as it does in convolutions."""

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(1, 1), nn.Linear(1, 1, bias=False)
            self.first.weight.data, self.first.bias.data = torch.ones(1, 1), -torch.ones(1)
            self.last.weight.data = torch.ones(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.first(x) + (1e-9 if len(x) == 1 else -1e-9)))

    model, target = Rounded().double(), torch.tensor([0, 0])
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    assert bias_relevance(model, x, target).tolist() == [0.0, -1.0]
    assert bias_relevance(model, x[:1], target[:1]).tolist() == [-1.0]


def test_no_weights_that_round_on_kinks() -> None:
    """Thirds round, and what is zero but for rounding has one sign in the output and another in its gradient."""
    axiom, variant = axioms.find("approximate-completeness")
    origin = Origin.of(axiom, variant or "", "relu", get_method("gradient-times-input"))
    drawn = [sample.case.options for sample in Stream(origin, 0).chunk(False, 100, 0).samples]
    counted = Counter((options["kinks"], options["weights"]) for options in drawn)
    assert set(counted) == {("off", "whole"), ("off", "thirds"), ("on", "whole")}
    assert min(counted.values()) > 5
