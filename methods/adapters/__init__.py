"""Methods of other libraries as methods under test: one file for each library, found through a table.

A new library is one file that adapts its methods, and one entry of ADAPTERS; the library is imported when a method of it is
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...claims import Method
from . import captum


@dataclass(frozen=True)
class Adapter:
    """A library.

    summary          one line for `attribcheck list targets`
    adapt            a method from what stands behind the colon of a TARGET; raises UsageError where there is none
    claimed_methods  those that come with claims
    """

    summary: str
    adapt: Callable[[str], Method]
    claimed_methods: Callable[[], list[Method]]


ADAPTERS = {
    "captum": Adapter(
        "the methods of Captum with claims (needs the extra: pip install 'attribcheck[captum]')",
        captum.adapt,
        captum.claimed_methods,
    ),
}
"""By the name before the colon of a TARGET."""
