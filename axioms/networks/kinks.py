"""Where a network is not differentiable: kink status at points and along segments, so that it is chosen, not met.

Automatic differentiation picks one of several slopes at a kink, and two implementations of one function may pick
different ones; a check of a gradient-like property there would accuse what is right.
"""

from __future__ import annotations

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


def _deciders(
    network: Network, x: Tensor, only: int | None = None, inside: list[Tensor] | None = None
) -> list[tuple[Tensor, Tensor]]:
    """For each piecewise call in order (or only one): its deciders [P, K], and how far [P, K] each is from mattering.

    inside: where the values of the activations on the way are put.
    """
    computed = {"x": x}
    found: list[tuple[Tensor, Tensor]] = []
    k = 0
    for call in network.calls:
        layer = network.layers[call.layer]
        inputs = [computed[name] for name in call.inputs]
        decide = kind_of(layer).deciders
        if decide is not None:
            if only is None or k == only:
                found.append(decide(layer, *inputs))
            if k == only:
                break
            k += 1
        computed[call.value] = kind_of(layer).apply(layer, *inputs)
        if inside is not None and kind_of(layer).role in ("kink", "smooth"):
            inside.append(computed[call.value])
    return found


def _piecewise_calls(network: Network) -> int:
    return sum(kind_of(network.layers[call.layer]).deciders is not None for call in network.calls)


def on_kink(network: Network, x: Tensor, share: float = MARGIN, inside: bool = False) -> bool:
    """Whether any of the points x [P, *shape] lies on a kink that matters, or within that share of the values around it.

    A kink is harmless where the deciding quantity has a zero gradient (a ReLU behind inactive units only, a tie of two
    equal branches, the zeros of inactive ReLUs in a pooling window): every choice of slope gives the same derivative.

    inside: whether it must be harmless for methods that look inside too. They multiply activations with gradients there, so
    the gradient by an activation must be zero, or the activation.
    """
    if not has_kinks(network):
        return False
    near = []
    for decided, gap in _deciders(network, x):
        sizes = decided[decided.isfinite()].abs()  # what competes with padding is decided
        margin = share * max(1.0, float(sizes.max()) if sizes.numel() else 1.0)
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
                quantities = _deciders(network, at, k, values)[0][0][torch.arange(len(units)), units]
                moves = _moves(quantities.sum(), at, values if inside else [])
            if not moves <= MARGIN:
                return True
    return False


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
        for (decided, _), flags in zip(_deciders(network, at, None, values), near, strict=True):
            chosen = decided[flags]
            total = total + chosen @ torch.randn(len(chosen), dtype=x.dtype, generator=generator)
        return not _moves(total, at, values if inside else []) <= MARGIN * 2.0**-10


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

    for k in range(_piecewise_calls(network)):
        z = _deciders(network, along(alphas), k)[0][0]
        left, right = z[:-1], z[1:]
        crossing = (left * right < 0) & left.isfinite() & right.isfinite()
        share = (left / (left - right)).where(crossing, torch.zeros_like(left))
        roots = alphas[:-1, None] + share * (alphas[1:] - alphas[:-1])[:, None]
        alphas = torch.cat([alphas, roots[crossing]]).unique()
    middles, lengths = (alphas[:-1] + alphas[1:]) / 2, alphas[1:] - alphas[:-1]
    return along(middles[lengths > SLIVER])


def segment_in_kink(network: Network, start: Tensor, end: Tensor, share: float = MARGIN) -> bool:
    """Whether any of the segments start -> end [B, *shape] has a piece of positive length inside a kink."""
    if not has_kinks(network):
        return False
    return any(
        on_kink(network, segment_midpoints(network, a, b), share)
        for a, b in zip(start, end, strict=True)
        if not a.equal(b)
    )
