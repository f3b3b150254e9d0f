"""What a search uses of Hypothesis without a promise: each part is there, and does what it is used for."""

from __future__ import annotations

import random
from typing import Any

import hypothesis
import pytest
from attribcheck.axioms.search.streams import quiet
from attribcheck.compat.hypothesis_parts import choices_so_far, only_global_constants, starts_from
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.errors import NoSuchExample
from hypothesis.internal.conjecture import providers

ODD = 0x5EED_0DD


def drawn(seed: int, n: int = 300) -> list[int]:
    seen: list[int] = []
    with pytest.raises(NoSuchExample):
        hypothesis.find(st.integers(), seen.append, settings=quiet(n, Phase.generate), random=random.Random(seed))
    return seen


def test_constants_of_loaded_source_files_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Hypothesis asks for them under another name, or in another way, the first assertion fails."""
    local = providers.Constants(integers={ODD})
    monkeypatch.setattr(providers, "_get_local_constants", lambda: local)
    providers.CONSTANTS_CACHE.cache.clear()
    hook = providers._get_local_constants
    try:
        assert ODD in drawn(0)
        with only_global_constants():
            assert ODD not in drawn(0)
            assert providers._get_local_constants is not hook
        assert providers._get_local_constants is hook
        assert ODD in drawn(0)
    finally:
        providers.CONSTANTS_CACHE.cache.clear()


def test_the_hook_is_put_back_whatever_happens() -> None:
    before = providers._get_local_constants
    with pytest.raises(KeyError), only_global_constants():
        raise KeyError
    assert providers._get_local_constants is before


LISTS = st.lists(st.integers(0, 1000), min_size=2, max_size=5)


def found(seed: int) -> tuple[list[int], tuple[Any, ...]]:
    """A list that adds up to more than 1500, and the choices that made it."""
    kept: list[tuple[list[int], tuple[Any, ...]]] = []

    def collect(value: list[int]) -> bool:
        if sum(value) > 1500:
            kept.append((value, choices_so_far()))
        return False

    with pytest.raises(NoSuchExample):
        hypothesis.find(LISTS, collect, settings=quiet(100, Phase.generate), random=random.Random(seed))
    return kept[0]


def test_the_choices_of_an_example_make_it_again() -> None:
    """Under a seed, too: the settings stand above it, since it takes their database away where it stands above them."""
    value, choices = found(3)
    database, seen = InMemoryExampleDatabase(), []

    @quiet(100, Phase.reuse, database=database)
    @hypothesis.seed(0)
    @hypothesis.given(LISTS)
    def check(value: list[int]) -> None:
        seen.append(value)
        assert sum(value) <= 1500

    starts_from(check, database, choices)
    with pytest.raises(AssertionError):
        check()
    assert choices
    assert seen[0] == value
