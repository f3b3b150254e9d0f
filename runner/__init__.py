"""One run of any job: units, groups, a journal, and where they are computed.

Names that scripts import from here are resolved on first use: a worker imports no more than it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..axioms.search.cell import run_cell as run_cell
    from ..axioms.search.plan import Options as Options
    from .axioms import run as run

_PUBLIC = {"Options": "axioms.search.plan", "run": "runner.axioms", "run_cell": "axioms.search.cell"}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"...{_PUBLIC[name]}", __name__ + ".x"), name)
