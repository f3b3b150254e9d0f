"""One run of any job: units, groups, a journal, and where they are computed.

Names that scripts import from here are resolved on first use: a worker imports no more than it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..axioms.search.cell import Options as Options
    from ..axioms.search.cell import run as run
    from ..axioms.search.cell import run_cell as run_cell

_PUBLIC = ("Options", "run", "run_cell")


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..axioms.search import cell

    return getattr(cell, name)
