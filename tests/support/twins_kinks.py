"""An independent slow twin of the search for pieces of a segment inside a kink: one segment after the other, unit by unit.

Nothing here is shared with the package but what a layer computes and which of its quantities decide (see `layers.kind.Kind`).
"""

from __future__ import annotations

import itertools

import torch
from attribcheck.axioms.networks.layers.kinds import kind_of
from attribcheck.axioms.networks.spec import Network
from torch import Tensor

SLIVER = 2.0**-20
STEEP = 2.0**-26


def deciders(network: Network, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What decides [P, K] in each layer that has kinks, in order, and how far each is from mattering."""
    known, found = {"x": x}, []
    for call in network.calls:
        layer = network.layers[call.layer]
        read = [known[name] for name in call.inputs]
        decide = kind_of(layer).deciders
        if decide is not None:
            found.append(decide(layer, *read))
        known[call.value] = kind_of(layer).apply(layer, *read)
    return found


def breakpoints(network: Network, start: Tensor, end: Tensor) -> list[float]:
    """Where on the way from start to end [*shape] a piece of the network ends, from 0 to 1, in order."""
    at = [0.0, 1.0]
    layers = sum(kind_of(network.layers[call.layer]).deciders is not None for call in network.calls)
    for k in range(layers):
        z = deciders(network, torch.stack([start + a * (end - start) for a in at]))[k][0].tolist()
        new = set(at)
        for left, right, low, high in zip(z, z[1:], at, at[1:]):
            for a, b in zip(left, right):
                if a * b < 0 and abs(a) < float("inf") and abs(b) < float("inf"):
                    new.add(low + a / (a - b) * (high - low))
        at = sorted(new)
    return at


def midpoints(network: Network, start: Tensor, end: Tensor) -> list[Tensor]:
    """The middle of each piece that is no sliver."""
    at = breakpoints(network, start, end)
    return [start + (a + b) / 2 * (end - start) for a, b in itertools.pairwise(at) if b - a > SLIVER]


def touches(network: Network, points: Tensor, share: float) -> bool:
    """Whether at any of the points [P, *shape] of one segment a decider near zero has a gradient."""
    for k, (decided, gap) in enumerate(deciders(network, points)):
        sizes = [abs(value) for row in decided.tolist() for value in row if abs(value) < float("inf")]
        near = share * max([1.0, *sizes])
        flagged = (decided.abs() <= near) & (gap <= near)
        for point, units in zip(points, flagged):
            if bool(units.any()) and not steepest(network, point, k, units) <= STEEP:
                return True
    return False


def steepest(network: Network, point: Tensor, k: int, units: Tensor) -> float:
    """The largest derivative of any of some deciders [K] of a layer at one point [*shape]: of each alone, not of a sum."""
    with torch.enable_grad():
        at = point.detach().clone().requires_grad_()
        quantities = deciders(network, at[None])[k][0][0][units]
        if not quantities.requires_grad:
            return 0.0
        (rows,) = torch.autograd.grad(
            quantities, at, torch.eye(len(quantities), dtype=at.dtype), allow_unused=True, is_grads_batched=True
        )
    return 0.0 if rows is None else float(rows.abs().nan_to_num().max())


def segment_in_kink(network: Network, start: Tensor, end: Tensor, share: float) -> list[bool]:
    """Of each segment start -> end [B, *shape]: whether a piece of it lies inside a kink."""
    return [
        not a.equal(b) and touches(network, torch.stack(midpoints(network, a, b)), share)
        for a, b in zip(start, end, strict=True)
    ]
