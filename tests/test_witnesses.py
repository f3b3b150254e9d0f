"""A witness stands alone: it validates, round-trips, replays, and its script shows it with torch and the method only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attribcheck as ac
import pytest
from attribcheck.axioms import AXIOMS
from attribcheck.axioms.cases import Case
from attribcheck.axioms.networks.rewrites import CHAIN, REWRITES
from attribcheck.cli import cli
from attribcheck.claims import Method
from attribcheck.methods.registry import get_method
from attribcheck.reports import load_witness, validate_witness
from attribcheck.reports.document import to_json
from attribcheck.witnesses import read_case
from click.testing import CliRunner, Result

# Broken methods as a user without attribcheck would have them.
PLAIN = """
import torch


def gradient(model, x, target, baseline=None):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


def times_input(model, x, target, baseline=None):
    return x * gradient(model, x, target)


def forgetful(model, x, target, baseline):
    return gradient(model, x, target)


def halfway(model, x, target, baseline):
    return (x - baseline / 2) * gradient(model, x, target)


def sees_everything(model, x, target, baseline=None):
    weights = [p.detach().flatten().abs() for p in model.parameters()]
    seen = sum(float(torch.arange(1, 1 + len(w), dtype=w.dtype) @ w) for w in weights)
    return gradient(model, x, target) * (1 + seen + len(list(model.modules())) + len(weights))


def spreads(model, x, target, baseline=None):
    g = gradient(model, x, target)
    return g + g.flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))


def by_position(model, x, target, baseline=None):
    return gradient(model, x, target) * (1.0 + torch.arange(x[0].numel()).reshape(x.shape[1:]))


def noisy(model, x, target, baseline=None):
    return x * gradient(model, x, target) * (1 + torch.rand(x.shape, dtype=x.dtype))


def noisy_from(model, x, target, baseline):
    return (x - baseline) * gradient(model, x, target) * (1 + torch.rand(x.shape, dtype=x.dtype))


def twice_centred(model, x, target, baseline=None, *, data):
    return (x - 2 * data.mean(0)) * gradient(model, x, target)


def not_a_number(model, x, target, baseline=None):
    return x / 0
"""

# The same, with what attribcheck must know to call them.
DECLARED = """
import attribcheck as ac
import plain_methods as plain

times_input = plain.times_input
sees_everything = plain.sees_everything
spreads = plain.spreads
by_position = plain.by_position
not_a_number = plain.not_a_number
forgetful = ac.method(baseline="given")(plain.forgetful)
halfway_zeros = ac.method(baseline="zeros")(plain.halfway)
halfway_min = ac.method(baseline="min")(plain.halfway)
halfway_min_per_feature = ac.method(baseline="min-per-feature")(plain.halfway)
halfway_mean = ac.method(baseline="mean")(plain.halfway)
halfway_given = ac.method(baseline="given")(plain.halfway)
noisy = ac.method(stochastic=True)(plain.noisy)
noisy_from = ac.method(stochastic=True, baseline="given")(plain.noisy_from)
twice_centred = ac.method(data=True)(plain.twice_centred)
twice_centred_given = ac.method(data=True, baseline="given")(plain.twice_centred)
"""
KINDS = ("zeros", "min", "min-per-feature", "mean", "given")


class Refuted(NamedTuple):
    """A broken method, the axiom and family on which it falls, and a right method for the same cases."""

    axiom: str
    family: str
    method: str
    right: str


def rows() -> Iterator[Refuted]:
    """Every variant of every axiom, every kind of baseline, the families whose networks are written differently."""
    ig, occlusion = "integrated-gradients", "occlusion-1"
    yield from (Refuted("completeness/delta", f, "forgetful", ig) for f in ("relu", "conv", "maxpool", "maximum"))
    yield from (Refuted("completeness/delta", f, "times_input", ig) for f in ("smooth", "product"))
    yield Refuted("completeness/output", "relu", "times_input", "integrated-gradients-zero")
    yield from (Refuted(f"sensitivity-n/{v}", "linear", "forgetful", occlusion) for v in ("1", "n", "N-1", "N"))
    for rewrite in REWRITES:
        family = {"max-as-relus": "maxpool", "activation-change": "smooth", "fuse-linear": "conv"}.get(rewrite, "relu")
        yield Refuted(f"implementation-invariance/{rewrite}", family, "sees_everything", "gradient")
    yield Refuted("implementation-invariance/batchnorm-folding", "conv", "sees_everything", "gradient")
    yield Refuted(f"implementation-invariance/{CHAIN}", "relu", "sees_everything", "gradient")
    for kind in KINDS:
        name = f"halfway_{kind.replace('-', '_')}"
        yield Refuted("completeness/delta", "smooth", name, ig)
        yield Refuted("input-invariance/constant", "relu", name, ig)
        yield Refuted("input-invariance/arbitrary", "conv" if kind == "mean" else "linear", name, ig)
    yield Refuted("input-invariance/arbitrary", "maxpool", "times_input", "gradient")
    yield from (Refuted("dummy", family, "spreads", "gradient") for family in ("linear", "maxpool"))
    yield from (Refuted("symmetry", family, "by_position", "gradient") for family in ("product", "conv"))
    yield Refuted("completeness/delta", "linear", "noisy", ig)
    yield Refuted("sensitivity-n/N", "linear", "noisy_from", ig)
    yield Refuted("completeness/delta", "linear", "twice_centred", ig)
    yield Refuted("input-invariance/constant", "linear", "twice_centred_given", ig)


ROWS = list(dict.fromkeys(rows()))
Document = dict[str, Any]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the methods, importable in this process."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "plain_methods.py").write_text(PLAIN)
    (folder / "declared_methods.py").write_text(DECLARED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    for name in ("plain_methods", "declared_methods"):
        sys.modules.pop(name, None)


def method(name: str) -> Method:
    """A declared method whose scripts import the function as it is without attribcheck."""
    declared = get_method(f"declared_methods:{name}")
    function = re.sub(r"^(halfway|twice_centred)_.*", r"\1", name)
    return declared.but(imports=f"from plain_methods import {function}\n\nattribute = {function}")


def witness_of(under_test: Method, axiom: str, family: str) -> Document:
    """The witness that refutes the claim that an axiom holds."""
    (result,) = ac.check(under_test, claims=[ac.holds(axiom, on=family)], max_examples=50).results
    assert (result.observed, result.verdict) == ("violated", "fail"), result
    assert result.witness is not None
    return result.witness


def replay(*arguments: str) -> Result:
    """The command `replay`, in this process."""
    return CliRunner().invoke(cli, ["replay", *arguments], prog_name="attribcheck", catch_exceptions=False)


def printed(script: str, library: Path, tmp_path: Path) -> dict[str, str]:
    """What a script prints by its first word, run as a file by plain Python; the last entry: modules it must not need."""
    path = tmp_path / "counterexample.py"
    path.write_text(
        script + "\nimport sys\nprint('loaded', 'attribcheck' in sys.modules or 'hypothesis' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(library), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{script}"
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines()}


def test_the_rows_cover_everything() -> None:
    """Every variant of every axiom, and so every rewrite."""
    assert {row.axiom for row in ROWS} == {axiom.full(v) for axiom in AXIOMS.values() for v in axiom.variants}


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_a_witness_stands_alone(row: Refuted, library: Path, tmp_path: Path) -> None:
    witness = witness_of(method(row.method), row.axiom, row.family)
    validate_witness(witness)
    figures = witness["figures"]
    assert figures["residual"] > figures["tolerance"] == 1e-10

    # As a file, and as a case that is equal to the one that was written.
    path = tmp_path / "witness.json"
    path.write_text(to_json(witness))
    document = load_witness(path)
    assert document == witness
    axiom, variant, case = read_case(document)
    assert axiom.full(variant) == row.axiom
    assert case.to_json() == {name: witness[name] for name in case.to_json()}
    again = Case.from_json(json.loads(json.dumps(case.to_json())))
    assert again.to_json() == case.to_json()
    assert again.network == case.network

    # Replayed with the method that it names, and with one that is right.
    reproduced = replay(str(path))
    assert reproduced.exit_code == 1, reproduced.output
    assert f"reproduced: residual {figures['residual']:.6g} against 1e-10" in reproduced.output
    right = replay(str(path), row.right)
    assert right.exit_code == 0, right.output

    # As a script.
    assert "attribcheck" not in witness["script"]
    lines = printed(witness["script"], library, tmp_path)
    assert lines["loaded"] == "False"
    residual, _, tolerance = lines["residual"].partition(" tolerance ")
    assert float(residual) == pytest.approx(figures["residual"], rel=1e-6)
    assert float(tolerance) == figures["tolerance"]
    for name in ("expected", "obtained"):
        assert flat(json.loads(lines[name])) == pytest.approx(flat(figures[name]), rel=1e-6, abs=1e-9)
    if "outputs" in lines:
        # Two networks (or two points) that must agree: the script shows it.
        here, there = re.findall(r"\[[^\]]*\]", lines["outputs"])
        assert json.loads(here) == pytest.approx(json.loads(there), rel=1e-9, abs=1e-9)


def flat(value: Any) -> list[float]:
    """All numbers of nested lists, in order."""
    return [number for item in value for number in flat(item)] if isinstance(value, list) else [value]


def test_a_witness_that_is_not_finite(library: Path, tmp_path: Path) -> None:
    witness = witness_of(method("not_a_number"), "completeness/delta", "linear")
    validate_witness(witness)
    assert witness["figures"]["residual"] is None
    path = tmp_path / "witness.json"
    path.write_text(to_json(witness))
    reproduced = replay(str(path))
    assert (reproduced.exit_code, "reproduced: residual not finite" in reproduced.output) == (1, True)
    assert replay(str(path), "integrated-gradients").exit_code == 0
    assert printed(witness["script"], library, tmp_path)["residual"].split()[0] in ("nan", "inf")


def test_the_script_of_a_bare_target_as_the_command_line_writes_it(library: Path, tmp_path: Path) -> None:
    arguments = ["run", "plain_methods:times_input", "--axiom", "completeness/delta", "--family", "smooth", "-q"]
    done = CliRunner().invoke(cli, [*arguments, "--report", "json", "--report-dir", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output  # observed: nothing is claimed
    (path,) = (tmp_path / "out" / "witnesses").iterdir()
    witness = load_witness(path)
    assert witness["method"] == "plain_methods:times_input"
    assert replay(str(path)).exit_code == 1
    lines = printed(witness["script"], library, tmp_path)
    assert lines["loaded"] == "False"
    assert float(lines["residual"].split()[0]) == pytest.approx(witness["figures"]["residual"], rel=1e-6)


def test_the_script_of_a_built_in_method(library: Path, tmp_path: Path) -> None:
    """A built-in one is imported from where it is, and nothing else of attribcheck is used."""
    witness = witness_of(get_method("gradient-times-input"), "completeness/delta", "smooth")
    assert re.findall(".*attribcheck.*", witness["script"]) == [
        "import attribcheck",
        "attribute = attribcheck.get_method('gradient-times-input')",
    ]
    lines = printed(witness["script"], library, tmp_path)
    assert float(lines["residual"].split()[0]) == pytest.approx(witness["figures"]["residual"], rel=1e-6)


def test_a_witness_of_a_function_given_in_code_replays(library: Path, tmp_path: Path) -> None:
    """`ac.check(f)` knows where f can be imported from: its witness must not need a TARGET."""
    import plain_methods

    witness = witness_of(plain_methods.times_input, "completeness/delta", "smooth")
    path = tmp_path / "witness.json"
    path.write_text(to_json(witness))
    assert replay(str(path), "plain_methods:times_input").exit_code == 1
    assert replay(str(path)).exit_code == 1, replay(str(path)).output
