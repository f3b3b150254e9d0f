"""What the package uses of Python's library without a promise: it is there, and does what it is used for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from attribcheck.compat.python_parts import environment, put_environment


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    """The tests' own variables, whatever a test does."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_environment_is_read_without_decoding_it() -> None:
    assert os.environ._data is not None  # what makes it cheap
    assert {os.fsdecode(name): os.fsdecode(value) for name, value in environment().items()} == dict(os.environ)


def test_every_change_of_the_environment_is_seen_and_undone() -> None:
    os.environ.update(CHANGED="before", REMOVED="before", STRANGE="\udcff=\u00e4")
    before, decoded = environment(), dict(os.environ)
    assert environment() == before
    os.environ["CHANGED"] = "before"  # which changes nothing
    assert environment() == before
    for change in (
        lambda: os.environ.update(CHANGED="after"),
        lambda: os.environ.update(ADDED=""),
        lambda: os.environ.pop("REMOVED"),
        os.environ.clear,
    ):
        change()
        assert environment() != before
        put_environment(before)
        assert (environment(), dict(os.environ)) == (before, decoded)
    assert os.popen("printf %s $CHANGED").read() == "before"  # a child of the process sees it too


def test_a_snapshot_does_not_change_with_the_environment() -> None:
    before = environment()
    os.environ["ADDED"] = "after"
    assert "ADDED" not in {os.fsdecode(name) for name in before}


def test_another_mapping_in_its_place_is_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"A": "1"})
    before = environment()
    os.environ["B"] = "2"
    assert environment() != before
    put_environment(before)
    assert environment() == before == {"A": "1"}
