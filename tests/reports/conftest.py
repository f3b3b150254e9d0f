"""A results document that holds every kind of cell, witness and hostile text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def results_file() -> Path:
    """The document as a file."""
    return Path(__file__).parent / "results.json"


@pytest.fixture
def document(results_file: Path) -> dict[str, Any]:
    """The document, fresh for each test, so that a test may change it."""
    loaded: dict[str, Any] = json.loads(results_file.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def witnesses(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The witnesses by the family of their cell; the first of each."""
    found: dict[str, dict[str, Any]] = {}
    for result in document["results"]:
        if result["witness"]:
            found.setdefault(result["family"], result["witness"])
    return found
