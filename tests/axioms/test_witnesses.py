"""Witnesses stand alone: they validate, round-trip, replay, and their scripts show the same in plain Python."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attribcheck as ac
import pytest
from attribcheck import axioms
from attribcheck.axioms.case import Case
from attribcheck.axioms.search import replay as replaying
from attribcheck.axioms.search.plan import Cell
from attribcheck.claims import Method
from attribcheck.errors import UsageError
from attribcheck.methods.registry import resolve
from attribcheck.reports import validate_witness
from attribcheck.runner import Options, run_cell

from ..support.scripts import Interpreter

MODULE = '''
import torch
import attribcheck as ac

def grad(model, x, target):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)[0]

def peeks(model, x, target, baseline=None):
    """Depends on how the network is written: on its modules and the places of its parameters."""
    places = [(p.detach().flatten() * torch.arange(1, p.numel() + 1)).sum() for p in model.parameters()]
    kinds = sum(len(type(m).__name__) + 1 for m in list(model.modules())[1:])
    return x * 0 + kinds + sum(places)

@ac.method(baseline="given")
def forgets(model, x, target, baseline):
    """The mean gradient along the path, without the factor (x - baseline)."""
    return grad(model, (x + baseline) / 2, target)

@ac.method(baseline="min")
def from_min(model, x, target, baseline):
    return grad(model, x, target) * (x - baseline)

@ac.method(baseline="mean")
def from_mean(model, x, target, baseline):
    return grad(model, x, target) * (x - baseline)

@ac.method(baseline="zeros")
def positional(model, x, target, baseline):
    return x * grad(model, x, target) + torch.arange(x[0].numel()).reshape(x[0].shape).to(x)

@ac.method(stochastic=True, baseline="given")
def noisy(model, x, target, baseline):
    return grad(model, x, target) * (x - baseline) + torch.rand_like(x)

@ac.method(baseline="given")
def squared(model, x, target, baseline):
    return grad(model, x, target) ** 2 * (x - baseline)

@ac.method(baseline="given")
def swayed(model, x, target, baseline):
    """Depends on all logits, their order, and the place of a feature."""
    ranks = torch.arange(1.0, 1 + model(x).shape[1]).to(x)
    return grad(model, x, target) * (model(x) @ ranks)[:, None].reshape(-1, *[1] * (x.dim() - 1))

def guided(model, x, target, baseline=None):
    hooks = [
        module.register_full_backward_hook(lambda m, given, coming: (given[0].clamp(min=0),))
        for module in model.modules()
        if isinstance(module, torch.nn.ReLU)
    ]
    try:
        return grad(model, x, target)
    finally:
        for hook in hooks:
            hook.remove()

@ac.method(stochastic=True, baseline="given")
def noisy_slope(model, x, target, baseline):
    return grad(model, x + 0.1 * torch.rand_like(x), target) * (x - baseline)

@ac.method(data=True)
def from_data(model, x, target, baseline=None, *, data):
    return grad(model, x, target) * (x + data.mean(0))

def raises(model, x, target, baseline=None):
    if x[0].numel() > 1:
        raise ValueError("one feature only")
    return grad(model, x, target)

@ac.method(data=True, stochastic=True)
def single(model, x, target, baseline=None, *, data):
    return grad(model, x, target).float()
'''

IMPORTS_ONLY = MODULE.replace("import attribcheck as ac\n", "").replace("@ac.method", "# @ac.method")

CASES = [
    ("forgets", "completeness/delta", "relu"),
    ("forgets", "completeness/delta", "maxpool"),
    ("forgets", "sensitivity-n/n", "smooth"),
    ("from_min", "completeness/delta", "conv"),
    ("from_min", "input-invariance/arbitrary", "linear"),
    ("from_mean", "completeness/delta", "product"),
    ("from_mean", "sensitivity-n/1", "maximum"),
    ("positional", "dummy", "relu"),
    ("positional", "symmetry", "conv"),
    ("positional", "input-invariance/constant", "maxpool"),
    ("noisy", "completeness/delta", "relu"),
    ("from_data", "completeness/output", "linear"),
    ("from_data", "input-invariance/constant", "relu"),
    ("positional", "feature-permutation", "conv"),
    ("from_min", "continuity", "relu"),
    ("from_mean", "continuity", "maxpool"),
    ("noisy_slope", "continuity", "relu"),
    ("squared", "class-sensitivity/parity", "smooth"),
    ("swayed", "class-sensitivity/other-logits", "conv"),
    ("swayed", "class-sensitivity/logit-permutation", "relu"),
    ("guided", "class-sensitivity/collapse", "relu"),
    ("guided", "class-sensitivity/collapse", "conv"),
    ("squared", "linearity", "linear"),
    ("noisy", "linearity", "maximum"),
    ("squared", "scale-equivariance", "product"),
    *[("peeks", f"implementation-invariance/{v}", "any") for v in axioms.AXIOMS["implementation-invariance"].variants],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the methods in two forms: declared, and without any import of attribcheck (for scripts)."""
    path = tmp_path_factory.mktemp("methods")
    (path / "subjects_under_test.py").write_text(MODULE)
    (path / "plain").mkdir()
    (path / "plain" / "subjects_under_test.py").write_text(IMPORTS_ONLY)
    return path


@pytest.fixture
def method_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Method]:
    monkeypatch.syspath_prepend(str(folder))
    return lambda name: resolve(f"subjects_under_test:{name}")[0]


def witness_of(method: Method, axiom: str, family: str, observed: str) -> dict[str, Any]:
    """The witness of a cell in which that must be observed."""
    found, variant = axioms.find(axiom)
    result = run_cell(Cell(method, found, (variant or "",), family), Options(max_examples=60))
    assert result.observed == observed, result.line()
    assert result.witness is not None
    return result.witness


def refuted(method: Method, axiom: str, family: str) -> dict[str, Any]:
    """The witness of a cell that must be refuted."""
    return witness_of(method, axiom, family, "violated")


@pytest.mark.parametrize(("name", "axiom", "family"), CASES)
def test_a_witness_stands_alone(
    name: str,
    axiom: str,
    family: str,
    method_of: Callable[[str], Method],
    interpreter: Interpreter,
    folder: Path,
    tmp_path: Path,
) -> None:
    witness = refuted(method_of(name), axiom, family)
    validate_witness(witness)
    case = Case.from_json(json.loads(json.dumps(witness)))
    assert {k: witness[k] for k in case.to_json()} == case.to_json()

    path = tmp_path / "witness.json"
    path.write_text(json.dumps(witness))
    (outcome,) = replaying.replay(path)
    assert outcome.reproduced
    assert outcome.residual == pytest.approx(witness["figures"]["residual"], rel=1e-9)

    script = witness["script"] + "\nimport sys\nassert 'attribcheck' not in sys.modules\n"
    done = interpreter.run(script, folder / "plain")
    assert done.returncode == 0, done.stderr
    shown = re.search(r"residual\s+(\S+)", done.stdout)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(witness["figures"]["residual"], rel=1e-6)
    assert float(shown[1]) > witness["figures"]["tolerance"]


ERRORS = {
    "raises": ("dummy", "raised ValueError: one feature only", "ValueError: one feature only"),
    "single": (
        "implementation-invariance/permute",
        "returned dtype float32 for an input of dtype float64",
        "AssertionError: dtype torch.float32 for torch.float64 of x",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_witness_of_an_error_stands_alone(
    name: str, method_of: Callable[[str], Method], interpreter: Interpreter, folder: Path, tmp_path: Path
) -> None:
    axiom, said, shown = ERRORS[name]
    witness = witness_of(method_of(name), axiom, "relu", "error")
    validate_witness(witness)
    assert witness["figures"]["error"] == said

    path = tmp_path / "witness.json"
    path.write_text(json.dumps(witness))
    (outcome,) = replaying.replay(path)
    assert outcome.reproduced
    assert outcome.line().endswith(f": reproduced: {said}")
    (outcome,) = replaying.replay(path, "gradient")
    assert not outcome.reproduced
    assert outcome.line().endswith(": not reproduced: the method answers")

    done = interpreter.run(witness["script"], folder / "plain")
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (1, shown)
    assert "no error" not in done.stdout
    mended = (folder / "plain" / "subjects_under_test.py").read_text().replace(".float()", "").replace("> 1", "> 99")
    (tmp_path / "subjects_under_test.py").write_text(mended)
    done = interpreter.run(witness["script"], tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no error: every call was answered")


def test_a_right_method_does_not_reproduce_the_witness_of_a_wrong_one(
    method_of: Callable[[str], Method], tmp_path: Path
) -> None:
    path = tmp_path / "witness.json"
    path.write_text(json.dumps(refuted(method_of("forgets"), "completeness/delta", "relu")))
    (outcome,) = replaying.replay(path, "integrated-gradients")
    assert not outcome.reproduced
    assert "not reproduced" in outcome.line()


def test_a_witness_on_a_users_model_names_it_and_notices_other_weights(tmp_path: Path) -> None:
    report = ac.check("gradient-times-input", claims=[ac.holds("completeness/delta", on="relu")], max_examples=20)
    witness = report.results[0].witness
    assert witness is not None
    witness = {
        **witness,
        "network": {"factory": "attribcheck.models.digits:network", "sha256": "0" * 64},
        "x": [[0.5] * 64], "baseline": [[0.0] * 64], "target": [3], "family": "model",
    }  # fmt: skip
    path = tmp_path / "witness.json"
    path.write_text(json.dumps(witness))
    pytest.importorskip("sklearn")
    with pytest.raises(UsageError, match="other weights now"):
        replaying.replay(path)
