"""Where a network is not differentiable: kink status at points and along segments, so that it is chosen, not met.

Automatic differentiation picks one of several slopes at a kink, and two implementations of one function may pick
different ones; a check of a gradient-like property there would accuse what is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .layers.kinds import kind_of
from .spec import Network

# A decider nearer to zero than this share of the largest value beside it counts as zero. Rounding moves a
# pre-activation of these networks by at most (number of operations, < 2**8) * 2**-53 of that value: 2**-45. The margin
# leaves a factor 2**19, and generic float64 draws fall into it once in 10**7 units.
MARGIN = 2.0**-26
# In single precision rounding moves it by at most 2**8 * 2**-24 = 2**-16 of that value.
SINGLE_MARGIN = 2.0**-13

# Deciders whose gradients are computed in one backward pass.
_AT_ONCE = 256

# Two units with one kink (a copy, a split unit) find it at breakpoints that differ by rounding. The sliver between them is no
# piece: its midpoint lies next to the kink, not in a stretch along which a decider vanishes. Stretches of that kind come
# from exact cancellations of small numbers and are of ordinary length.
SLIVER = 2.0**-20


def has_kinks(network: Network) -> bool:
    """Whether any layer of the network is piecewise."""
    return any(kind_of(layer).role == "kink" for layer in network.layers.values())


def _deciders(network: Network, x: Tensor, inside: list[Tensor] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """For each piecewise call in order: its deciders [P, K], and how far [P, K] each is from mattering.

    A layer is computed when somebody asks for what comes after it.

    inside: where the values of the activations on the way are put.
    """
    computed, left = {"x": x}, _piecewise_calls(network)
    for call in network.calls:
        layer = network.layers[call.layer]
        kind, inputs = kind_of(layer), [computed[name] for name in call.inputs]
        if kind.deciders is not None:
            yield kind.deciders(layer, *inputs)
            left -= 1
        if not left:
            return
        computed[call.value] = kind.apply(layer, *inputs)
        if inside is not None and kind.role in ("kink", "smooth"):
            inside.append(computed[call.value])


def _piecewise_calls(network: Network) -> int:
    return sum(kind_of(network.layers[call.layer]).deciders is not None for call in network.calls)


def on_kink(
    network: Network, x: Tensor, share: float = MARGIN, inside: bool = False, owner: Tensor | None = None
) -> bool:
    """Whether any of the points x [P, *shape] lies on a kink that matters, or within that share of the values around it.

    A kink is harmless where the deciding quantity has a zero gradient (a ReLU behind inactive units only, a tie of two
    equal branches, the zeros of inactive ReLUs in a pooling window): every choice of slope gives the same derivative.

    inside: whether it must be harmless for methods that look inside too. They multiply activations with gradients there, so
    the gradient by an activation must be zero, or the activation.
    owner: whose each point is [P], numbers from zero, where they are not all of one. "Around it" are the values at the points
    of one owner then: the answer is that of each owner's points alone, in one pass for all of them.
    """
    if not has_kinks(network):
        return False
    near = []
    for decided, gap in _deciders(network, x):
        margin = _margins(decided, share, owner)
        near.append((decided.abs() <= margin) & (gap <= margin))
    if not any(bool(flags.any()) for flags in near) or not _some_move(network, x, near, inside):
        return False
    for k, flags in enumerate(near):
        flagged = flags.nonzero()
        for some in flagged.split(_AT_ONCE) if len(flagged) else ():
            points, units = some.unbind(1)
            with torch.enable_grad():
                at = x[points].detach().clone().requires_grad_()
                values: list[Tensor] = []
                decided, _ = next(itertools.islice(_deciders(network, at, values), k, None))
                quantities = decided[torch.arange(len(units)), units]
                moves = _moves(quantities.sum(), at, values if inside else [])
            if not moves <= MARGIN:
                return True
    return False


def _margins(decided: Tensor, share: float, owner: Tensor | None) -> float | Tensor:
    """That share of the largest decider [P, K] that is finite (of those of each owner: [P, 1]), of at least one."""
    sizes = decided.abs().where(decided.isfinite(), 0.0)  # what competes with padding is decided
    if owner is None or not sizes.numel():
        return share * max(1.0, float(sizes.max()) if sizes.numel() else 1.0)
    largest = torch.ones(int(owner.max()) + 1, dtype=sizes.dtype).scatter_reduce(0, owner, sizes.amax(1), "amax")
    return share * largest[owner, None]


def _moves(total: Tensor, at: Tensor, inside: list[Tensor]) -> float:
    """The largest gradient by the input, and of activation times gradient inside."""
    if not total.requires_grad:
        return 0.0
    reached = [value for value in inside if value.requires_grad]
    gradients = torch.autograd.grad(total, [at, *reached], allow_unused=True)
    sizes = [g if k == 0 else g * reached[k - 1].detach() for k, g in enumerate(gradients) if g is not None]
    return max((float(size.abs().nan_to_num().max()) for size in sizes if size.numel()), default=0.0)


def _some_move(network: Network, x: Tensor, near: list[Tensor], inside: bool) -> bool:
    """Whether any of the deciders that are near zero [P, K] can have a gradient beyond the margin, at a glance.

    One backward pass for the sum of all of them, with weights that no network knows: behind a ReLU most ties of a pooling are
    ties of zeros, thousands of them, whose gradients are all zero, and so is that of the sum. Where it is not, they are
    looked at one by one.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        total, values = torch.zeros((), dtype=x.dtype), list[Tensor]()
        for (decided, _), flags in zip(_deciders(network, at, values), near, strict=True):
            chosen = decided[flags]
            total = total + chosen @ torch.randn(len(chosen), dtype=x.dtype, generator=generator)
        return not _moves(total, at, values if inside else []) <= MARGIN * 2.0**-10


def segment_midpoints(network: Network, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The midpoints [P, *shape] of the linear pieces of a network along segments [S, *shape], and of which each is [P].

    Between two neighbouring breakpoints every decider of the earlier layers keeps its sign, so the next layer's are
    affine there and their sign changes are found by interpolation. (Behind a product they are not affine: the pieces
    are then approximate, which suffices to notice a piece inside a kink.)
    """
    n, way, wide = len(start), end - start, (-1,) + (1,) * (start.dim() - 1)
    owner, alphas = torch.arange(n).repeat_interleave(2), torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(n)

    def along(whose: Tensor, at: Tensor) -> Tensor:
        return start[whose] + at.reshape(wide) * way[whose]

    ahead = _deciders(network, along(owner, alphas))
    for k in range(_piecewise_calls(network)):
        z, _ = next(ahead)
        left, right = z[:-1], z[1:]
        one = (owner[:-1] == owner[1:])[:, None]  # no piece reaches from one segment to the next
        crossing = (left * right < 0) & left.isfinite() & right.isfinite() & one
        piece, unit = crossing.nonzero(as_tuple=True)
        if not len(piece):
            continue
        before, after = left[piece, unit], right[piece, unit]
        roots = alphas[piece] + before / (before - after) * (alphas[piece + 1] - alphas[piece])
        owner, alphas = _in_order(torch.cat([owner, owner[piece]]), torch.cat([alphas, roots]))
        ahead = itertools.islice(_deciders(network, along(owner, alphas)), k + 1, None)
    lengths = alphas[1:] - alphas[:-1]
    pieces = ((owner[1:] == owner[:-1]) & (lengths > SLIVER)).nonzero()[:, 0]
    return along(owner[pieces], ((alphas[:-1] + alphas[1:]) / 2)[pieces]), owner[pieces]


def _in_order(owner: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """The breakpoints [P], each once, in order on each segment, one segment after the other."""
    order = torch.from_numpy(np.lexsort((alphas.numpy(), owner.numpy())))
    owner, alphas = owner[order], alphas[order]
    first = torch.ones(len(owner), dtype=torch.bool)
    first[1:] = (owner[1:] != owner[:-1]) | (alphas[1:] != alphas[:-1])
    return owner[first], alphas[first]


def segment_in_kink(network: Network, start: Tensor, end: Tensor, share: float = MARGIN) -> bool:
    """Whether any of the segments start -> end [B, *shape] has a piece of positive length inside a kink."""
    if not has_kinks(network):
        return False
    apart = (start != end).flatten(1).any(1)
    if not bool(apart.any()):
        return False
    points, owner = segment_midpoints(network, start[apart], end[apart])
    return on_kink(network, points, share, owner=owner)
