"""The main job fails where a built-in claim falls or something errs, and nowhere else; its network is the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from attribcheck.results import Report, Result
from attribcheck.tools.report import main
from click.testing import CliRunner


def result(method: str, verdict: str, family: str = "relu", observed: str = "inconclusive") -> Result:
    return Result(
        method, "dummy", family, claim=None if verdict == "unclaimed" else "holds", verdict=verdict, observed=observed
    )


STANDS = result("gradient", "pass", observed="holds")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (Report([STANDS]), 0),
        (Report([STANDS, result("captum:LRP", "fail", observed="violated")]), 0),
        (Report([STANDS, result("captum:LRP", "inconclusive")]), 0),
        (Report([STANDS, result("shapley", "unclaimed", "model", "unsupported")]), 0),
        (Report([STANDS, result("gradient", "fail", observed="violated")]), 1),
        (Report([STANDS, result("gradient", "inconclusive")]), 1),
        (Report([STANDS, result("gradient", "inconclusive", "model")]), 1),
        (Report([STANDS, result("shapley", "inconclusive", "relu", "unsupported")]), 1),
        (Report([STANDS], incomplete="interrupted after 1 of 2 claims"), 1),
        (Report([STANDS, result("captum:LRP", "error", observed="error")]), 2),
    ],
)
def test_what_it_fails_on(found: Report, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attribcheck.tools.report.run", lambda *given, **options: found)
    told = CliRunner().invoke(main, ["--report-dir", str(tmp_path)])
    assert told.exit_code == code
    assert told.stdout.endswith(f"open {(tmp_path / 'report.html').as_uri()}\n")


HASHED = """
import torch
from attribcheck.axioms.case import weights_hash
from attribcheck.models.digits import network

before = torch.get_num_threads()
print(weights_hash(network()), before == torch.get_num_threads())
"""


def test_its_network_does_not_depend_on_the_number_of_threads() -> None:
    """A witness of a worker, which has one thread, is replayed where there are more."""
    told = {
        subprocess.run(
            [sys.executable, "-c", HASHED], env={**os.environ, "OMP_NUM_THREADS": n}, capture_output=True, text=True,
            check=True,
        ).stdout
        for n in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1
    assert told.pop().endswith(" True\n")
