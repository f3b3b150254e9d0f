"""The private parts of Python's own library that are used here: an upgrade may take any of them away, so each has a test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def environment() -> dict[Any, Any]:
    """The environment variables as the process has them, undecoded: equal to what it was as long as none has changed.

    `dict(os.environ)` decodes each name and each value, which takes longer than all else that is asked before a call. Where
    somebody has put another mapping in its place, that one's.
    """
    return dict(getattr(os.environ, "_data", os.environ))


def put_environment(variables: Mapping[Any, Any]) -> None:
    """Put such variables in the place of those that there are."""
    os.environ.clear()
    os.environ.update({os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()})
