"""What a run of the full-model checks tells while it goes on. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import Finding


class Watch:
    """This one listens to nothing.

    training  whether a bar is shown while a model is trained
    """

    training = False

    def preparing(self, subject: str) -> None:
        """A subject is loaded, or trained."""

    def said(self, line: str) -> None:
        """There is something that a user should know."""

    def begin(self, done: int, total: int) -> None:
        """All is prepared; so many of the parts are finished already."""

    def done(self, done: int, total: int, findings: Sequence[Finding]) -> None:
        """A part is finished: a check of one method on one model."""
