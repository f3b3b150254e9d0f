"""Settings for the suite's own tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .support.scripts import Interpreter

# Several workers that each start as many threads as there are cores wait for each other: tiny networks run ten times
# slower. This must be set before torch is imported; a subprocess of a test inherits it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """Runs scripts."""
    with Interpreter() as running:
        yield running


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The fake checks, under a name by which worker processes import them too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "support"))
    import fake_checks

    yield fake_checks
    sys.modules.pop("fake_checks", None)
