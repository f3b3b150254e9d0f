"""Prechecks: outputs that an axiom takes to be equal are equal. Where they are not, no method is at fault."""

from __future__ import annotations

from torch import Tensor

from ..errors import Defect
from .networks.spec import Network
from .tolerances import PRESERVED


def must_agree(first: Tensor, second: Tensor, what: str, *networks: Network) -> None:
    """Raise Defect where outputs of what should be one function differ by more than rounding.

    Args:
        first, second: of one shape; the difference is taken relative to the largest entry of the first.
        what: the function that is not what it should be, for the message.
        networks: shown in the message.
    """
    difference, scale = float((first - second).abs().max()), max(1.0, float(first.abs().max()))
    if difference > PRESERVED * scale:
        shown = "".join(f" {network!r}" for network in networks)
        raise Defect(
            f"{what}: {first.tolist()} against {second.tolist()}, which differ by {difference:g}"
            f" (outputs up to {scale:g}){shown}"
        )
