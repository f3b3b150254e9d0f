"""attribcheck: property-based verification of neural-network attribution methods.

The public names are resolved on first use, so that importing the package (or loading its pytest plugin) imports
neither torch nor Hypothesis.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import check as check
    from .api import parametrize_with_axioms as parametrize_with_axioms
    from .claims import fails as fails
    from .claims import holds as holds
    from .claims import method as method
    from .errors import Unsupported as Unsupported
    from .methods.registry import get_method as get_method
    from .results import Report as Report
    from .results import Result as Result

_HOME = {
    "Report": "results",
    "Result": "results",
    "Unsupported": "errors",
    "check": "api",
    "fails": "claims",
    "get_method": "methods.registry",
    "holds": "claims",
    "method": "claims",
    "parametrize_with_axioms": "api",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("attribcheck")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
