"""What an axiom returns: expected against obtained figures, with the scale that makes their gap dimensionless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """Rows of figures that an axiom says are equal.

    what       one line: which quantity is compared with which
    expected   [K] or [K, ...]; obtained: the same shape
    gap        [K]: how far each row is from what the axiom says
    scale      [K]: the size of the terms that were subtracted; gap / scale is the normalised residual
    empty      [K]: rows that say nothing (a zero map of a dead network), which every method would pass
    exact      the figures are counts, which do not round: any gap is a violation
    """

    what: str
    expected: Tensor
    obtained: Tensor
    gap: Tensor
    scale: Tensor
    empty: Tensor
    exact: bool = False


def _rows(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)


def compare_sums(what: str, obtained: Tensor, expected: Tensor, terms: Tensor, attribution: Tensor) -> Comparison:
    """Sums of attributions against differences of outputs, per sample.

    The gap |sum R - delta| is normalised by |f(x)| + |f(baseline)| + sum |R|: the terms whose rounding enters. Dividing
    by |delta| would blow up next to the baseline, dividing by sum |R| too.

    Args:
        obtained, expected: [B].
        terms: [B], the sum of the absolute outputs behind `expected`.
        attribution: [B, *shape], the map that was summed.
    """
    total = _rows(attribution.abs()).sum(1)
    # Next to the baseline a zero map scores |delta| / 2|f|: a row is empty where neither side is visible.
    visible = 1e-9 * (terms + total)
    empty = (expected.abs() <= visible) & (total <= visible)
    return Comparison(what, expected, obtained, (obtained - expected).abs(), terms + total, empty)


def compare_maps(what: str, obtained: Tensor, expected: Tensor, one_network: bool = False) -> Comparison:
    """Two maps [B, *shape] that must be equal: max |a - b| / (max |a| + max |b|) per sample.

    one_network: two calls on one network, of which zero maps say as much as others; of two networks they say nothing.
    """
    a, b = _rows(obtained), _rows(expected)
    scale = a.abs().amax(1) + b.abs().amax(1)
    empty = (scale == 0) & (not one_network)
    return Comparison(what, expected, obtained, (a - b).abs().amax(1), scale, empty)


def compare_terms(what: str, obtained: Tensor, terms: Sequence[Tensor]) -> Comparison:
    """A map [B, *shape] that must be the sum of others, against the largest entries of all of them."""
    expected = torch.stack(list(terms)).sum(0)
    scale = torch.stack([_rows(each).abs().amax(1) for each in (obtained, *terms)]).sum(0)
    return Comparison(what, expected, obtained, _rows(obtained - expected).abs().amax(1), scale, scale == 0)


def compare_entries(what: str, obtained: Tensor, expected: Tensor, attribution: Tensor) -> Comparison:
    """Single entries [B] of a map [B, *shape], against the largest entry of the map (twice, as in compare_maps)."""
    scale = 2 * _rows(attribution.abs()).amax(1)
    return Comparison(what, expected, obtained, (obtained - expected).abs(), scale, scale == 0)


def compare_counts(what: str, obtained: Sequence[int]) -> Comparison:
    """Counts [K] of what should not have happened."""
    counts = torch.tensor(list(obtained), dtype=torch.float64)
    nothing = torch.zeros_like(counts)
    return Comparison(what, nothing, counts, counts, torch.ones_like(counts), nothing.bool(), exact=True)


def all_finite(comparison: Comparison) -> bool:
    """Whether every figure is a number: NaN or infinity in an attribution of a finite network is a violation."""
    return bool(torch.isfinite(comparison.gap).all() and torch.isfinite(comparison.obtained).all())
