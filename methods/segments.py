"""The segments from baselines to samples, and where on them a network changes its piece, for all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize.elementwise import find_root
from torch import Tensor, nn

from .backprop.kinks import KinkTrace
from .perturbation import ROWS

# Intervals of the grid on which the kinks of a network with curved pieces are looked for.
_GRID = 32


def column(values: Tensor, like: Tensor) -> Tensor:
    """One number [P] for each row of something like [P, *shape], to be multiplied with it."""
    return values.to(like).reshape(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class Segments:
    """A segment for each sample, and the logit that is looked at along it.

    start, end  [S, *shape]; target [S]
    """

    start: Tensor
    end: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.end)

    def some(self, numbers: Tensor) -> Segments:
        """Those with the given numbers."""
        return Segments(self.start[numbers], self.end[numbers], self.target[numbers])

    def at(self, owner: Tensor, alphas: Tensor) -> Tensor:
        """The points [P, *shape] at the shares alphas [P] of the way of the segments owner [P]."""
        return self.start[owner] + column(alphas, self.end) * (self.end - self.start)[owner]


class Pieces(NamedTuple):
    """Points on segments, in order along each of them, from its start to its end.

    owner   [P], the number of the segment that a point lies on
    alphas  [P] in float64, from 0 to 1
    linear  whether the network is affine between neighbours; else it is smooth there, if no kink escaped the search
    """

    owner: Tensor
    alphas: Tensor
    linear: bool

    def spans(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each piece [Q]: its segment, where it begins, and how long it is."""
        within = self.owner[1:] == self.owner[:-1]
        return self.owner[:-1][within], self.alphas[:-1][within], (self.alphas[1:] - self.alphas[:-1])[within]


def pieces_of(model: nn.Module, segments: Segments) -> Pieces:
    """Where the network changes its piece.

    A piecewise linear network is taken apart exactly: between neighbouring points of the list, what decides in the first k
    operations keeps its sign, so what decides in operation k + 1 is affine there, and its sign changes are found by
    interpolation. One forward pass over all points for each piecewise operation, of at most ROWS rows at a time. In any other
    network the kinks are looked for on a grid.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        segments: at least one.
    """
    owner, alphas = _grid(segments, 1)
    operations, k = 1, 0
    while k < operations:
        found_owner, found_alphas = [owner], [alphas]
        for rows, trace in _traced(model, segments, owner, alphas):
            operations = len(trace.deciders)
            if not trace.linear:
                return kinks_on(model, segments, _GRID) if operations else Pieces(*_grid(segments, 1), False)
            if k >= operations:
                break
            own, here, z = owner[rows], alphas[rows], trace.deciders[k].to(torch.float64)
            interval, unit = _crossings(z, own)
            left, right = z[interval, unit], z[interval + 1, unit]
            found_owner.append(own[interval])
            found_alphas.append(here[interval] + left / (left - right) * (here[interval + 1] - here[interval]))
        owner, alphas = _in_order(torch.cat(found_owner), torch.cat(found_alphas))
        k += 1
    return Pieces(owner, alphas, True)


def kinks_on(model: nn.Module, segments: Segments, intervals: int) -> Pieces:
    """Pieces between the kinks that a grid shows: sign changes of what decides, refined by root finding."""
    owner, alphas = _grid(segments, intervals)
    found: list[tuple[Tensor, ...]] = []
    for rows, trace in _traced(model, segments, owner, alphas):
        if not trace.deciders:
            break
        interval, unit = _crossings(_joined(trace), owner[rows])
        here = alphas[rows]
        found.append((owner[rows][interval], unit, here[interval], here[interval + 1]))
    ends = _grid(segments, 1)
    if not any(len(own) for own, *_ in found):
        return Pieces(*ends, False)
    own, unit, low, high = (torch.cat(parts) for parts in zip(*found, strict=True))

    def decided(where: np.ndarray, *which: np.ndarray) -> np.ndarray:
        on, of = (torch.from_numpy(np.ravel(numbers).astype(np.int64)).to(own.device) for numbers in which)
        at = torch.from_numpy(np.ravel(where)).to(own.device)
        values = [
            _joined(trace).gather(1, of[rows][:, None])[:, 0]
            for rows, trace in _traced(model, segments, on, at, overlap=0)
        ]
        return torch.cat(values).cpu().numpy().reshape(np.shape(where))

    root = find_root(decided, (low.cpu().numpy(), high.cpu().numpy()), args=(own.cpu().numpy(), unit.cpu().numpy()))
    kinks = torch.from_numpy(np.asarray(root.x)).to(alphas)
    return Pieces(*_in_order(torch.cat([ends[0], own]), torch.cat([ends[1], kinks])), False)


def inside_a_kink(model: nn.Module, segment: Segments) -> bool:
    """Whether something that decides on a piece is zero, but for rounding, all along one segment.

    Where nothing else decides, only the input tells how large the terms of such a zero are.
    """
    ((_, trace),) = _traced(model, segment, *_grid(segment, 8))
    if not trace.deciders:
        return False
    z = _joined(trace).abs()
    if not z.numel():
        return False
    size = max(float(z.max()), float(segment.end.abs().max()), float(segment.start.abs().max()))
    return bool((z <= 64 * torch.finfo(segment.end.dtype).eps * size).all(0).any())


def _grid(segments: Segments, intervals: int) -> tuple[Tensor, Tensor]:
    """The ends of equal intervals on each segment."""
    device, points = segments.end.device, intervals + 1
    alphas = torch.arange(points, dtype=torch.float64, device=device) / intervals
    return torch.arange(len(segments), device=device).repeat_interleave(points), alphas.repeat(len(segments))


def _traced(
    model: nn.Module, segments: Segments, owner: Tensor, alphas: Tensor, overlap: int = 1
) -> Iterator[tuple[slice, KinkTrace]]:
    """Forward passes over points, of at most ROWS rows; neighbouring ones share a point, so that no interval is left out."""
    for start in range(0, max(1, len(alphas) - overlap), ROWS - overlap):
        rows = slice(start, start + ROWS)
        with torch.no_grad(), KinkTrace() as trace:
            model(trace.watch(segments.at(owner[rows], alphas[rows])))
        yield rows, trace


def _joined(trace: KinkTrace) -> Tensor:
    """What decides in all operations [P, K], in float64."""
    return torch.cat([z.to(torch.float64) for z in trace.deciders], 1)


def _crossings(z: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """The intervals of one segment on which an entry of z [P, K] changes its sign [R], and which entry [R]."""
    left, right = z[:-1], z[1:]
    crossing = (left * right < 0) & left.isfinite() & right.isfinite() & (owner[:-1] == owner[1:])[:, None]
    interval, unit = crossing.nonzero(as_tuple=True)
    return interval, unit


def _in_order(owner: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Points in order along their segments, each once."""
    order = alphas.argsort(stable=True)
    order = order[owner[order].argsort(stable=True)]
    owner, alphas = owner[order], alphas[order]
    first = torch.ones_like(owner, dtype=torch.bool)
    first[1:] = (owner[1:] != owner[:-1]) | (alphas[1:] != alphas[:-1])
    return owner[first], alphas[first]
