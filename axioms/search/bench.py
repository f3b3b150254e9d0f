"""What one method is tried on, and how: it does not change from case to case."""

from __future__ import annotations

from dataclasses import dataclass

from ...claims import Method
from ..axiom import Axiom
from ..case import Case, GivenModel
from ..trial import Trial
from .streams import Origin


@dataclass(frozen=True)
class Bench:
    """A method under test, the axiom's variant and the family that it is tried on, and under which conditions.

    tol        the tolerance that a claim states; None: rounding only
    device     where the method runs
    given      the user's model, for the family "model" and for witnesses of it
    deadline   when a search ends, on time.monotonic's clock of this machine, or None
    """

    axiom: Axiom
    variant: str
    method: Method
    family: str
    tol: float | None = None
    device: str = "cpu"
    given: GivenModel | None = None
    deadline: float | None = None

    @property
    def origin(self) -> Origin:
        """Where the cases come from."""
        return Origin.of(self.axiom, self.variant, self.family, self.method, self.given)

    def trial(self, case: Case) -> Trial:
        """The method on one case, with modules of its own."""
        return Trial(self.method, case, self.device, self.given)
