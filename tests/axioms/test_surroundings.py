"""What a method does outside of its arguments: purity tells it, nothing of it reaches the next case, and noise is seeded."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attribcheck as ac
import numpy as np
import pytest
import torch
from attribcheck.axioms.case import Case
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.falsify import Tally, _outcome
from attribcheck.calling import Originals, kept_random_numbers, kept_settings, seed_all, settings
from attribcheck.errors import MethodError, UsageError
from attribcheck.methods.registry import as_method
from attribcheck.sanity.study import SCALES, Study
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook


def gradient(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0].to(x)


def results(method: Callable[..., Any], *names: str, on: str = "relu", n: int = 20, **declared: Any) -> dict[str, Any]:
    claims = [ac.holds(name, on=on) for name in names]
    report = ac.check(ac.method(claims=claims, **declared)(method), max_examples=n)
    return {result.axiom.partition("/")[0]: result for result in report.results}


def _swap(model: nn.Module) -> None:
    for name, child in list(model.named_children()):
        setattr(model, name, type(child)() if isinstance(child, nn.ReLU) else child)


def _replace(model: nn.Module) -> None:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            new = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
            new.grad = parameter.grad
            setattr(module, name, new)


def _unhook(model: nn.Module) -> None:
    for module in model.modules():
        module._forward_hooks.clear()


IMPURE: dict[str, Callable[[nn.Module], Any]] = {
    "default dtype": lambda model: torch.set_default_dtype(torch.float16),
    "grad mode": lambda model: torch.set_grad_enabled(False),
    "number of threads": lambda model: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda model: torch.use_deterministic_algorithms(True, warn_only=True),
    "hooks of all modules": lambda model: register_module_forward_hook(lambda *given: None),
    "numpy's error handling": lambda model: np.seterr(all="raise"),
    "default device": lambda model: torch.set_default_device("meta"),
    "standard streams": lambda model: setattr(sys, "stdout", io.StringIO()),
    "working directory": lambda model: os.chdir("/"),
    "environment variables": lambda model: os.environ.update(LEFT_BEHIND="1"),
    "identity of": _swap,
    "identity of l": _replace,
    "forward_hooks of the model": _unhook,
}


@pytest.mark.parametrize("what", IMPURE)
def test_purity_names_what_a_call_leaves_behind_and_the_rest_never_sees_it(what: str) -> None:
    def method(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        result = gradient(model, x, target)
        IMPURE[what](model)
        return result

    before = settings()
    found = results(method, "dummy", "purity", "repeat-determinism")
    assert found["purity"].observed == "violated"
    assert what in found["purity"].witness["figures"]["what"].partition("random numbers: ")[2]
    assert (found["dummy"].verdict, found["repeat-determinism"].verdict) == ("pass", "pass")
    assert settings() == before


def test_purity_names_functions_of_torch_that_are_replaced() -> None:
    untouched, original = Originals(), torch.nn.functional.softplus

    def method(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        torch.nn.functional.softplus = lambda *given, **options: original(*given, **options)
        return gradient(model, x, target)

    found = results(method, "purity")
    assert found["purity"].observed == "violated"
    assert "torch.nn.functional.softplus" in found["purity"].witness["figures"]["what"]
    assert untouched.replaced() == ["torch.nn.functional.softplus"]
    untouched.put_back()
    assert torch.nn.functional.softplus is original
    assert untouched.replaced() == []


def test_a_careful_method_is_pure() -> None:
    assert results(gradient, "purity", n=30)["purity"].verdict == "pass"


NOISE: dict[str, Callable[[Tensor], Any]] = {
    "torch": lambda x: torch.randn(x.shape),
    "numpy": lambda x: np.random.standard_normal(x.shape),
    "random": lambda x: [random.gauss(0, 1) for _ in range(x.numel())],
}


@pytest.mark.parametrize("source", NOISE)
def test_noise_of_any_source_is_seeded(source: str) -> None:
    def smooth(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        noise = torch.as_tensor(NOISE[source](x), dtype=x.dtype).reshape(x.shape)
        return gradient(model, x + noise, target)

    names = ("repeat-determinism", "purity", "implementation-invariance/permute", "class-sensitivity/other-logits")
    found = results(smooth, *names, stochastic=True)
    assert {name: result.verdict for name, result in found.items()} == dict.fromkeys(found, "pass")
    assert len(found) == 4
    undeclared = results(smooth, "repeat-determinism")["repeat-determinism"]
    assert undeclared.verdict != "pass"


def test_random_numbers_and_settings_go_on_as_if_nothing_had_been() -> None:
    def drawn() -> list[float]:
        return [float(torch.rand(())), float(np.random.random()), random.random()]

    seed_all(5)
    expected = [drawn(), drawn()]
    seed_all(5)
    first = drawn()

    def interrupted() -> None:
        with kept_random_numbers(), kept_settings():
            seed_all(7)
            drawn()
            torch.set_grad_enabled(False)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert [first, drawn()] == expected
    assert torch.is_grad_enabled()


def test_a_full_model_check_undoes_it_too(fakes: Any) -> None:
    def method(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return torch.as_tensor(np.random.standard_normal(x.shape)).to(x)

    subject, before = fakes.load("small", "points"), settings()
    study = Study(subject, ac.method(stochastic=True)(method).__attribcheck__, SCALES["tiny"])
    assert torch.equal(study.maps(subject.labels), study.maps(subject.labels))
    assert settings() == before


# -- answers that are none -------------------------------------------------------------------------------------------


class Mute(Exception):
    """An exception that fails at its own message."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _exits(x: Tensor) -> Tensor:
    sys.exit(0)


def _mute(x: Tensor) -> Tensor:
    raise Mute


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_exits, "raised SystemExit: 0"),
        (_mute, "raised Mute: (its message cannot be read)"),
        (Tensor.to_sparse, "returned a tensor of layout sparse_coo, expected a dense one"),
    ],
)
def test_an_answer_that_is_none(answer: Callable[[Tensor], Tensor], said: str, fakes: Any) -> None:
    def method(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return answer(gradient(model, x, target))

    result = results(method, "dummy")["dummy"]
    assert result.verdict == "error"
    assert result.note.startswith(said)
    subject = fakes.load("small", "points")
    with pytest.raises(MethodError):
        Study(subject, ac.claims.Method("m", method), SCALES["tiny"]).maps(subject.labels)


def test_an_exit_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "exiting.py").write_text(
        "import sys\n\n\ndef method(model, x, target, baseline=None):\n    sys.exit(0)\n"
    )
    (tmp_path / "leaving.py").write_text("import sys\n\nsys.exit(0)\n")
    for target, said in (("exiting:method", "raised SystemExit: 0"), ("leaving:method", "failed: SystemExit: 0")):
        command = [
            sys.executable,
            "-m",
            "attribcheck",
            "run",
            target,
            "-n",
            "3",
            "--family",
            "linear",
            "--axiom",
            "dummy",
        ]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert said in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("make", "given", "said"),
    [
        (ac.holds, {"axiom": 3}, "holds(3): an axiom is a name"),
        (ac.holds, {"axiom": "dummy", "on": ["relu", "linear"]}, "a family is one name, such as 'relu'"),
        (ac.fails, {"axiom": "dummy", "on": None, "reason": "?"}, "a family is one name, such as 'relu'"),
        (ac.holds, {"axiom": "dummy", "tol": "much"}, "tol must be a positive finite number"),
    ],
)
def test_a_claim_of_wrong_types(make: Callable[..., Any], given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        make(**given)
    assert said in str(raised.value)


# -- where an axiom says nothing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["implementation-invariance/never-active", "symmetry"])
def test_a_method_that_looks_far_away_is_not_accused(name: str) -> None:
    """Occlusion by the value 1e4, where a unit that is never active near the case is active."""

    def far(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            out, full = torch.zeros_like(x), model(x).gather(1, target[:, None])[:, 0]
            for i in range(x[0].numel()):
                moved = x.clone()
                moved.flatten(1)[:, i] = 1e4
                out.flatten(1)[:, i] = full - model(moved).gather(1, target[:, None])[:, 0]
        return out

    (result,) = results(far, name, on="relu(dtype=float64)", n=40).values()
    assert result.observed != "violated"


def test_a_violation_inside_the_box_still_counts() -> None:
    def by_size(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return gradient(model, x, target) * sum(parameter.numel() for parameter in model.parameters())

    (result,) = results(by_size, "implementation-invariance/never-active").values()
    assert result.observed == "violated"


def normalised(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    size = gradient(model, x, target).abs()
    top = size.flatten(1).amax(1).reshape(-1, *[1] * (x.dim() - 1))
    return torch.where(top > 0, size / top, torch.zeros_like(size))


def magnified(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    return 1e6 * gradient(model, x, target)


def by_depth(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    return gradient(model, x, target) + len(list(model.modules()))


@pytest.mark.parametrize(
    ("method", "outcome"),
    [(gradient, "holds"), (normalised, "elsewhere"), (magnified, "elsewhere"), (by_depth, "violated")],
)
def test_rounding_of_a_constant_function_accuses_nobody(method: Callable[..., Tensor], outcome: str) -> None:
    """w p + w (1 - p), with the softmax p: the gradient is rounding, another one where the last layer is split into two."""
    body = {"a": Layer("linear", weight=[[0.31, -0.73, 0.27], [1.13, 0.41, -0.69]]), "b": Layer("softmax")}
    calls = (Call("h", "a", ("x",)), Call("p", "b", ("h",)))
    one = Network((3,), {**body, "c": Layer("linear", weight=[[1000.1] * 2])}, (*calls, Call("y", "c", ("p",))))
    parts = {"c": Layer("linear", weight=[[123.4, 500.05], [876.7, 500.05]]), "d": Layer("linear", weight=[[1.0] * 2])}
    two = Network((3,), {**body, **parts}, (*calls, Call("q", "c", ("p",)), Call("y", "d", ("q",))))
    x = np.array([[0.3, 0.9, -1.2]])
    drawn = {"chain": ["split-linear"], "rewritten": two}
    case = Case(one, x, (0,), np.zeros_like(x), None, dtype="float32", drawn=drawn)
    axiom, variant = ac.axioms.find("implementation-invariance/split-linear")
    bench = Bench(axiom, variant or "", as_method(method, "mine"), "any")
    assert _outcome(bench, case, Tally(), shrinking=False)[0] == outcome


# -- cases that say nothing ------------------------------------------------------------------------------------------


def test_calls_on_one_network_agree_also_where_the_maps_are_zero() -> None:
    found = results(
        lambda model, x, target, baseline=None: torch.zeros_like(x), "repeat-determinism", "batch-independence"
    )
    assert {(result.verdict, result.vacuous) for result in found.values()} == {("pass", 0)}


def test_more_cases_are_tried_where_most_say_nothing() -> None:
    def seldom(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        """Zero unless the first feature is above 2, which two cases of three are not."""
        return gradient(model, x, target) * (x.flatten(1)[:, :1] > 2).to(x)

    (result,) = results(seldom, "class-sensitivity/other-logits", n=30).values()
    assert result.verdict == "pass"
    assert result.examples > 30
    assert result.examples - result.vacuous >= 15


def test_a_method_that_never_looks_where_it_should_ends_inconclusive() -> None:
    def outside(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            model(x * 1e6 + 1e6)
        return gradient(model, x, target) + sum(parameter.numel() for parameter in model.parameters())

    (result,) = results(outside, "implementation-invariance/never-active", on="relu(dtype=float64)", n=5).values()
    assert result.observed == "inconclusive"
    assert result.discarded > 5
