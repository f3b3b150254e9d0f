"""Attribution methods with realistic mistakes, a file for each part of a method that goes wrong."""

from . import batches, hooks, maps, numbers, operations, state
from .right import MUTANTS, Mutant
from .ten import TEN

__all__ = ["MUTANTS", "TEN", "Mutant", "batches", "hooks", "maps", "numbers", "operations", "state"]
