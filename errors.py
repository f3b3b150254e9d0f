"""The exceptions that users of attribcheck meet."""

from __future__ import annotations


class UsageError(Exception):
    """Wrong usage or unreadable input: one clear line that says what to do. The command line exits with 2."""


class MethodError(Exception):
    """The method under test raised, or returned something that is not an attribution (shape, type, device)."""


class Unsupported(NotImplementedError):
    """Raised by a method that cannot treat a network, instead of answering wrongly."""


class Defect(AssertionError):
    """attribcheck itself is wrong, never a method: a rewrite changed the function, or a drawn number is not finite."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an exception of somebody else's, which may fail at that too
        return "(its message cannot be read)"
    return lines[0] if lines else "(no message)"
