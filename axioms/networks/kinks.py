"""Where a network is not differentiable: kink status at points and along segments, so that it is chosen, not met.

Automatic differentiation picks one of several slopes at a kink, and two implementations of one function may pick
different ones; a check of a gradient-like property there would accuse what is right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .build import values
from .kinds import kind_of
from .spec import Network

# A decider nearer to zero than this share of the largest value beside it counts as zero. Rounding moves a
# pre-activation of these networks by at most (number of operations, < 2**8) * 2**-53 of that value: 2**-45. The margin
# leaves a factor 2**19, and generic float64 draws fall into it once in 10**7 units.
MARGIN = 2.0**-26

# Deciders whose gradients are computed in one backward pass.
_AT_ONCE = 256

# Two units with one kink (a copy, a split unit) find it at breakpoints that differ by rounding. The sliver between them is no
# piece: its midpoint lies next to the kink, not in a stretch along which a decider vanishes. Stretches of that kind come
# from exact cancellations of small numbers and are of ordinary length.
SLIVER = 2.0**-20


def has_kinks(network: Network) -> bool:
    """Whether any layer of the network is piecewise."""
    return any(kind_of(layer).role == "kink" for layer in network.layers.values())


def _deciders(network: Network, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each piecewise call in order: its deciders [P, K], and how far [P, K] each is from mattering."""
    computed = values(network, x)
    found = []
    for call in network.calls:
        layer = network.layers[call.layer]
        decide = kind_of(layer).deciders
        if decide is not None:
            found.append(decide(layer, *(computed[name] for name in call.inputs)))
    return found


def on_kink(network: Network, x: Tensor) -> bool:
    """Whether any of the points x [P, *shape] lies on a kink that matters.

    A kink is harmless where the deciding quantity has a zero gradient (a ReLU behind inactive units only, a tie of two
    equal branches): every choice of slope gives the same derivative.
    """
    if not has_kinks(network):
        return False
    for k, (decided, gap) in enumerate(_deciders(network, x)):
        margin = MARGIN * max(1.0, float(decided[decided.isfinite()].abs().max()) if decided.numel() else 1.0)
        flagged = ((decided.abs() <= margin) & (gap <= margin)).nonzero()
        for some in flagged.split(_AT_ONCE) if len(flagged) else ():
            points, units = some.unbind(1)
            with torch.enable_grad():
                at = x[points].detach().clone().requires_grad_()
                quantities = _deciders(network, at)[k][0][torch.arange(len(units)), units]
                (gradient,) = torch.autograd.grad(quantities.sum(), at, allow_unused=True)
            if gradient is not None and float(gradient.abs().nan_to_num().max()) > MARGIN:
                return True
    return False


def segment_midpoints(network: Network, start: Tensor, end: Tensor) -> Tensor:
    """The midpoints [P, *shape] of the linear pieces of a network along the segment between two points [*shape].

    Between two neighbouring breakpoints every decider of the earlier layers keeps its sign, so the next layer's are
    affine there and their sign changes are found by interpolation. (Behind a product they are not affine: the pieces
    are then approximate, which suffices to notice a piece inside a kink.)
    """
    alphas = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def along(at: Tensor) -> Tensor:
        shape = (-1,) + (1,) * start.dim()
        return start + at.reshape(shape) * (end - start)

    for k in range(len(_deciders(network, start.unsqueeze(0)))):
        z = _deciders(network, along(alphas))[k][0]
        left, right = z[:-1], z[1:]
        crossing = (left * right < 0) & left.isfinite() & right.isfinite()
        share = (left / (left - right)).where(crossing, torch.zeros_like(left))
        roots = alphas[:-1, None] + share * (alphas[1:] - alphas[:-1])[:, None]
        alphas = torch.cat([alphas, roots[crossing]]).unique()
    middles, lengths = (alphas[:-1] + alphas[1:]) / 2, alphas[1:] - alphas[:-1]
    return along(middles[lengths > SLIVER])


def segment_in_kink(network: Network, start: Tensor, end: Tensor) -> bool:
    """Whether any of the segments start -> end [B, *shape] has a piece of positive length inside a kink."""
    if not has_kinks(network):
        return False
    return any(
        on_kink(network, segment_midpoints(network, a, b)) for a, b in zip(start, end, strict=True) if not a.equal(b)
    )
