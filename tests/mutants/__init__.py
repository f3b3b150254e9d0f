"""Attribution methods with realistic mistakes: `figures` get the numbers wrong, `machinery` the passes through the model."""

from . import figures, machinery
from .right import MUTANTS, Mutant
from .ten import TEN

__all__ = ["MUTANTS", "TEN", "Mutant", "figures", "machinery"]
