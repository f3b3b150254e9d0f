"""The mean gradient on the segments from baselines to samples: exact on piecewise linear networks, by quadrature elsewhere.

What is evaluated for all samples together are rows of batches of at most ROWS: nodes of a rule, ends of pieces, samples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from .gradients import input_gradient
from .perturbation import ROWS, outputs_at
from .quadrature import accuracy, mean_gradient, noise
from .segments import Pieces, Segments, column, kinks_on, pieces_of

# Inside one linear piece the gradient is constant to rounding; two of its values that differ by more (weighted by the
# length of the piece, relative to the largest gradient) show that the network is not piecewise linear after all.
_CONSTANT = 1e-9

# Where two values are taken inside a linear piece.
_INSIDE = (0.3125, 0.6875)

# Rules for smooth pieces, one after the other until two agree: into how many parts each is cut, and the nodes of a
# Gauss-Legendre rule on each part. That two agree proves nothing by itself: the result must be complete, too.
_RULES = ((1, 24), (1, 48), (4, 48), (4, 96))

# Intervals of the grid on which kinks are looked for a second time, where no rule converges.
_FINE_GRID = 256


def integrate_gradients(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, steps: int = 0) -> Tensor:
    """(x - baseline) times the mean gradient of the target logit on the segment from the baseline to x.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B].
        baseline: [B, *shape].
        steps: nodes of a Gauss-Legendre rule; 0: exact, or to an error estimate.

    Returns:
        [B, *shape], in units of the output. With steps it costs forward and backward passes of B steps rows. Without, forward
        passes over the ends of the pieces, one for each piecewise operation, and gradients at two points of each piece; of
        smooth networks at a few dozen points. At most ROWS rows are passed at once.

    Raises:
        UsageError: fewer than 0 steps.
        Unsupported: the integral does not converge to the stated accuracy.
    """
    if steps < 0:
        raise UsageError(f"steps must be 0 (exact) or more, not {steps}")
    if not len(x):
        return torch.zeros_like(x)
    segments = Segments(baseline, x, target)
    mean = _by_nodes(model, segments, steps) if steps else _exact(model, segments)
    return (x - baseline) * mean.to(x)


def _exact(model: nn.Module, segments: Segments) -> Tensor:
    """The mean gradients [S, *shape] in float64; where the rules for all fail on a segment, it is integrated by itself."""
    pieces = pieces_of(model, segments)
    mean, found = (_over_linear_pieces if pieces.linear else _over_smooth_pieces)(model, segments, pieces)
    if not bool(found.all()):  # kinks have escaped the search
        left = (~found).nonzero()[:, 0]
        some = segments.some(left)
        again, found = _over_smooth_pieces(model, some, kinks_on(model, some, _FINE_GRID))
        mean[left] = again
        for number in left[~found]:
            mean[number] = mean_gradient(model, segments.some(number[None]))[0].double()
    return mean


def _over_linear_pieces(model: nn.Module, segments: Segments, pieces: Pieces) -> tuple[Tensor, Tensor]:
    """The mean gradients [S, *shape] in float64, and where [S] the gradient was constant on each piece, as it should.

    On a piece that lies inside a kink (a tie of two entries all along it) rounding picks the slope, at one point this one, at
    the next that one. Their derivatives along the path agree there, so either is as good, and complete.
    """
    mean, difference = (torch.zeros_like(segments.end, dtype=torch.float64) for _ in range(2))
    scale, along, size = mean.new_zeros(3, len(segments))
    way = (segments.end - segments.start).double()
    for own, begin, length in zip(*(part.split(ROWS // 2) for part in pieces.spans()), strict=True):
        both = own.repeat(len(_INSIDE))
        points = segments.at(both, torch.cat([begin + length * share for share in _INSIDE]))
        gradients = input_gradient(model, points, segments.target[both]).double()
        first, second = gradients.chunk(2)
        gap = column(length, first) * (first - second)
        mean.index_add_(0, own, column(length, first) * (first + second) / 2)
        difference.index_add_(0, own, gap.abs())
        for largest, of, values in (
            (scale, both, gradients.abs().flatten(1).amax(1)),
            (along, own, (gap * way[own]).flatten(1).sum(1).abs()),
            (size, both, (gradients * way[both]).abs().flatten(1).sum(1)),
        ):
            largest.scatter_reduce_(0, of, values, "amax")
    slack = _CONSTANT if segments.end.dtype == torch.float64 else 1e-4
    return mean, ~((difference.flatten(1).amax(1) > slack * scale) & (along > slack * size))


def _over_smooth_pieces(model: nn.Module, segments: Segments, pieces: Pieces) -> tuple[Tensor, Tensor]:
    """The mean gradients [S, *shape] in float64, and where [S] two rules agreed on one that is complete."""
    relative, complete = accuracy(segments.end.dtype)
    ends = outputs_at(model, torch.cat([segments.end, segments.start]), segments.target.repeat(2)).double()
    end, start = ends.chunk(2)
    way = (segments.end - segments.start).double()
    distance, outputs = way.abs().flatten(1).sum(1), end.abs() + start.abs()
    floor = noise(outputs, distance, segments.end.dtype)
    mean, found = torch.zeros_like(way), torch.zeros(len(segments), dtype=torch.bool, device=way.device)
    before: Tensor | None = None
    owner, begin, length = pieces.spans()
    for cuts, order in _RULES:
        nodes, weights = _rule(cuts, order, way.device)
        still = ~found[owner]
        alphas = begin[still, None] + length[still, None] * nodes
        shares = length[still, None] * weights
        own = owner[still].repeat_interleave(len(nodes))
        values, scale = _weighted(model, segments, own, alphas.flatten(), shares.flatten())
        if before is not None:
            missing = ((values * way).flatten(1).sum(1) - (end - start)).abs()
            agreed = (values - before).abs().flatten(1).amax(1) <= torch.maximum(relative * scale, floor)
            # Rounding enters through the gradients that were added, also where they cancel to zero.
            new = ~found & agreed & (missing <= complete * (outputs + scale * distance))
            mean[new], found = values[new], found | new
        if bool(found.all()):
            break
        before = values
    return mean, found


def _by_nodes(model: nn.Module, segments: Segments, steps: int) -> Tensor:
    """The mean gradients [S, *shape] by a fixed rule, in float64. Across a kink its error is of order 1 / steps."""
    nodes, weights = _rule(1, steps, segments.end.device)
    count = len(segments)
    owner = torch.arange(count, device=nodes.device).repeat_interleave(steps)
    return _weighted(model, segments, owner, nodes.repeat(count), weights.repeat(count))[0]


def _rule(cuts: int, order: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights, on [0, 1], of a Gauss-Legendre rule on each of its equal parts."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    nodes = (np.arange(cuts)[:, None] + (nodes + 1) / 2).ravel() / cuts
    return torch.from_numpy(nodes).to(device), torch.from_numpy(np.tile(weights / 2, cuts) / cuts).to(device)


def _weighted(
    model: nn.Module, segments: Segments, owner: Tensor, alphas: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The sums of weighted gradients at points of segments, in float64.

    Args:
        owner: [P], the segment of each point.
        alphas: [P], where it lies.
        weights: [P].

    Returns:
        The sum over the points of each segment [S, *shape], and the largest entry of their gradients [S].
    """
    total = torch.zeros_like(segments.end, dtype=torch.float64)
    scale = total.new_zeros(len(segments))
    for own, at, weight in zip(*(part.split(ROWS) for part in (owner, alphas, weights)), strict=True):
        gradients = input_gradient(model, segments.at(own, at), segments.target[own]).double()
        total.index_add_(0, own, column(weight, gradients) * gradients)
        scale.scatter_reduce_(0, own, gradients.abs().flatten(1).amax(1), "amax")
    return total, scale
