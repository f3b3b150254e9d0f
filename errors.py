"""The exceptions that users of attribcheck meet."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UsageError(Exception):
    """Wrong usage or unreadable input: one clear line that says what to do. The command line exits with 2."""


class MethodError(Exception):
    """The method under test raised, or returned something that is not an attribution (shape, type, device)."""


class Unsupported(NotImplementedError):
    """Raised by a method that cannot treat a network, instead of answering wrongly."""


class Defect(AssertionError):
    """attribcheck itself is wrong, never a method: a rewrite changed the function, or a drawn number is not finite."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is answered as Ctrl-C is."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # an exception of somebody else's, which may fail at that too
        return "(its message cannot be read)"
    return lines[0] if lines else "(no message)"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error line about an unknown name: the nearest known ones, or all."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names)}"


def defect(error: BaseException) -> str:
    """A mistake of attribcheck's own, in one line: what it is and where."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
    return f"a defect of attribcheck, please report it: {type(error).__name__}: {first_line(error)}{place}"
