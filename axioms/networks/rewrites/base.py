"""What a function-preserving rewrite is, and how one is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..families import Has
from ..sources import Array, Source
from ..spec import Network


@dataclass(frozen=True)
class Context:
    """What a rewrite may look at while it is drawn: where numbers come from, and the samples [B, *shape]."""

    source: Source
    x: Array
    bound: float
    """Rewrites that preserve the function only on a box preserve it for |x_i| <= bound."""


Step = Callable[[Network, Context], Network | None]


def _as_is(network: Network, context: Context) -> Network | None:
    return network


@dataclass(frozen=True)
class Rewrite:
    """A function-preserving rewrite.

    apply     the rewritten network, or None where the network has no site for it
    prepare   makes a site first (the prepared network is the one under test), or None where it cannot
    needs     the family has at least one of these (see families.Has)
    proof     one line that says why the function is preserved
    """

    name: str
    proof: str
    apply: Step
    needs: frozenset[Has]
    prepare: Step = _as_is
