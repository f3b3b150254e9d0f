"""The private parts of Hypothesis that a search needs: an upgrade may take any of them away, and what is here has a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from hypothesis.control import current_build_context
from hypothesis.database import ExampleDatabase, choices_to_bytes
from hypothesis.internal.conjecture import providers

_KEY = b"found"


def choices_so_far() -> tuple[Any, ...]:
    """The choices that the example in progress has made: `starts_from` makes the same example of them."""
    return tuple(current_build_context().data.choices)


def starts_from(test: Any, database: ExampleDatabase, choices: tuple[Any, ...]) -> None:
    """Let a test (under `given`, with that database) reuse these choices as its first example.

    Without a key of ours the test looks for its examples under a hash of its own source.
    """
    database.save(_KEY, choices_to_bytes(choices))
    test._hypothesis_internal_database_key = _KEY


@contextlib.contextmanager
def only_global_constants() -> Iterator[None]:
    """Let Hypothesis draw no constants from the source of whatever modules happen to be loaded.

    It mixes integers it found in local source files into its draws, so the cases would depend on the working directory,
    on which modules were imported before, and on the number of workers. Hypothesis has no setting for this; where the
    hook is not there, nothing is changed.
    """
    original = getattr(providers, "_get_local_constants", None)
    if original is None:
        yield
        return
    empty = providers.Constants()
    providers._get_local_constants = lambda: empty
    providers.CONSTANTS_CACHE.cache.clear()
    try:
        yield
    finally:
        providers._get_local_constants = original
        providers.CONSTANTS_CACHE.cache.clear()
