"""What a run tells while it goes on. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..results import Row


class Watch:
    """This one listens to nothing.

    training  whether a bar is shown while a model is trained
    """

    training = False

    def preparing(self, what: str) -> None:
        """Something is loaded, or trained."""

    def said(self, line: str) -> None:
        """There is something that a user should know."""

    def begin(self, done: int, total: int, noun: str) -> None:
        """All is prepared; so many of the units, which are called so, are finished already."""

    def done(self, done: int, total: int, rows: Sequence[Row]) -> None:
        """A unit is finished."""


class Called(Watch):
    """Calls a function after each unit, with (done, total, row)."""

    def __init__(self, function: Callable[[int, int, Any], None]) -> None:
        self.function = function

    def done(self, done: int, total: int, rows: Sequence[Row]) -> None:
        """A unit is finished."""
        for row in rows:
            self.function(done, total, row)
