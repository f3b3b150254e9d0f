"""A user's own trained network: its witnesses name it, notice other weights, and their scripts import it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attribcheck.cli.commands import cli
from attribcheck.reports import load_results, load_witness
from attribcheck.runner.here import Here
from click.testing import CliRunner, Result

from ..support.scripts import Interpreter

NETWORKS = '''
import numpy as np
import torch
from torch import nn


def network():
    """Three inputs, two logits; trained, so to speak."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


class Tuple(nn.Module):
    """Returns the logits and something else."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x), x


class OneLogit(nn.Module):
    """Returns [B]."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x)[:, 0]


class Image(nn.Module):
    """A convolution in training mode, with a batch normalisation that would notice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


trained = network()
batch = torch.linspace(-1, 1, 12).reshape(4, 3)
array = batch.numpy().astype(np.float32)
with_labels = (batch, torch.zeros(4))
images = torch.linspace(-1, 1, 18).reshape(2, 1, 3, 3)


def made():
    return batch
'''

METHODS = """
import torch


def times_input(model, x, target, baseline=None):
    point = x.clone().requires_grad_()
    return x * torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with networks, data and a broken method."""
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    (tmp_path / "own_methods.py").write_text(METHODS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_networks", "own_methods"):
        sys.modules.pop(name, None)


def command(*arguments: str) -> Result:
    """One command in this process."""
    return CliRunner().invoke(cli, list(arguments), prog_name="attribcheck", catch_exceptions=False)


def observed(model: str, data: str, axiom: str) -> dict[str, Any]:
    """The one result of observing the broken method on a model."""
    options = ("--model", f"own_networks:{model}", "--data", f"own_networks:{data}", "--family", "model")
    done = command("run", "own_methods:times_input", *options, "--axiom", axiom, "-n", "20", "--report", "json", "-q")
    assert done.exit_code == 0, done.output
    (result,) = load_results("attribcheck-report/results.json")["results"]
    assert isinstance(result, dict)
    return result


def script_lines(witness: dict[str, Any], interpreter: Interpreter, library: Path) -> dict[str, str]:
    """What the script of a witness prints, by its first word."""
    done = interpreter.run(witness["script"] + "\nimport sys\nassert 'attribcheck' not in sys.modules\n", library)
    assert done.returncode == 0, f"{done.stderr}\n{witness['script']}"
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("model", "data", "axiom"),
    [
        ("network", "batch", "completeness/delta"),
        ("network", "array", "sensitivity-n/n"),
        ("network", "with_labels", "input-invariance/arbitrary"),
        ("Image", "images", "input-invariance/constant"),
        ("Image", "images", "completeness/delta"),
        ("Tuple", "made", "completeness/delta"),
        ("OneLogit", "batch", "completeness/delta"),
        ("OneLogit", "batch", "input-invariance/constant"),
        ("trained", "batch", "completeness/delta"),
    ],
)
def test_a_witness_names_the_model(model: str, data: str, axiom: str, interpreter: Interpreter, library: Path) -> None:
    result = observed(model, data, axiom)
    assert (result["observed"], result["family"]) == ("violated", "model")
    path = Path("attribcheck-report") / result["witness_file"]
    witness = load_witness(path)
    assert witness == result["witness"]
    assert witness["network"]["factory"] == f"own_networks:{model}"
    assert re.fullmatch("[0-9a-f]{64}", witness["network"]["sha256"])
    assert "weight" not in json.dumps(witness["network"])
    # Its samples are rows of the batch.
    import own_networks

    rows = [row.tolist() for row in (own_networks.images if model == "Image" else own_networks.batch).double()]
    assert all(sample in rows for sample in witness["x"])

    reproduced = command("replay", str(path))
    assert reproduced.exit_code == 1, reproduced.output
    assert f"reproduced: residual {witness['figures']['residual']:.6g} against" in reproduced.output

    residual = script_lines(witness, interpreter, library)["residual"].split()[0]
    assert float(residual) == pytest.approx(witness["figures"]["residual"], rel=1e-6)


def test_a_right_method_does_not_reproduce(library: Path) -> None:
    result = observed("network", "batch", "completeness/delta")
    replayed = command("replay", "attribcheck-report", "integrated-gradients-zero")
    assert (replayed.exit_code, "not reproduced" in replayed.output) == (0, True)
    assert result["witness"] is not None


def test_other_weights_are_noticed(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observed("network", "batch", "completeness/delta")
    import own_networks

    monkeypatch.setattr(own_networks, "network", lambda: own_networks.nn.Linear(3, 2))
    monkeypatch.setattr("attribcheck.runner.running.executor", lambda *given: Here())  # (changed in this process alone)
    refused = command("replay", "attribcheck-report")
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert re.match(
        r"attribcheck: own_networks:network has other weights now \(sha256 [0-9a-f]{12}\) than the witness \([0-9a-f]{12}\)",
        refused.stderr,
    )


def test_claims_on_any_extend_to_the_model(library: Path) -> None:
    """And claims on the model itself need it; what holds on every network holds on this one."""
    options = ("--model", "own_networks:network", "--data", "own_networks:batch", "-n", "20", "-q", "--report", "json")
    done = command("run", "integrated-gradients", *options, "--family", "model", "--axiom", "completeness")
    assert done.exit_code == 0, done.output
    (result,) = load_results("attribcheck-report/results.json")["results"]
    assert (result["axiom"], result["family"], result["claim"], result["verdict"]) == (
        "completeness/delta", "model", "holds", "pass",
    )  # fmt: skip
    assert result["examples"] == 20


def test_the_users_model_is_not_touched(library: Path) -> None:
    """Checks run on a copy: the module stays in its mode, dtype and weights."""
    import own_networks
    import torch

    before = {name: value.clone() for name, value in own_networks.trained.state_dict().items()}
    observed("trained", "batch", "completeness/delta")
    assert own_networks.trained.training
    after = own_networks.trained.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())
    assert all(p.requires_grad and p.grad is None for p in own_networks.trained.parameters())
