"""What a method is given, and what becomes of an answer that is no attribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import attribcheck as ac
import numpy as np
import pytest
import torch
from attribcheck.axioms.search.failures import failure_text
from attribcheck.claims import BASELINES
from attribcheck.errors import UsageError
from attribcheck.reports import validate_witness
from torch import Tensor, nn


def gradient(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The gradient of the target logits: right for the axiom `dummy`."""
    point = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


def result_of(
    method: Callable[..., Any], axiom: str = "dummy", on: str = "linear", n: int = 20, seed: int = 0
) -> ac.Result:
    """The one result of the claim that an axiom holds."""
    (result,) = ac.check(method, claims=[ac.holds(axiom, on=on)], max_examples=n, seed=seed).results
    return result


# -- what a method is given -----------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """One call of the method."""

    model: nn.Module
    x: Tensor
    target: Tensor
    baseline: Tensor | None
    data: Tensor | None
    kind: str | None
    trained: bool
    logits: Tensor


def calls(
    kind: Any = None, *, data: bool = False, axiom: str = "completeness/delta", on: str = "linear", n: int = 40
) -> list[Seen]:
    """The calls that a method of the declared kind gets in a check that it passes."""
    seen: list[Seen] = []

    def record(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None, **options: Any) -> Tensor:
        assert set(options) == ({"data"} if data else set())
        with torch.no_grad():
            logits = model(x)
        training = any(module.training for module in model.modules())
        seen.append(Seen(model, x, target, baseline, options.get("data"), kind, training, logits))
        difference = x if baseline is None else x - baseline
        return difference * gradient(model, x, target)

    result = result_of(ac.method(baseline=kind, data=data)(record), axiom, on, n)
    assert (result.observed, result.examples) == ("holds", n), result
    return seen


def test_the_arguments_are_what_the_interface_says() -> None:
    for call in calls("given"):
        assert isinstance(call.model, nn.Module)
        assert not call.trained, "a module in training mode"
        assert call.x.is_floating_point()
        assert not call.x.requires_grad
        assert call.target.dtype == torch.int64
        assert call.target.shape == call.x.shape[:1]
        assert call.logits.dim() == 2
        assert len(call.logits) == len(call.x)
        assert 0 <= call.target.min() <= call.target.max() < call.logits.shape[1]
        assert call.baseline is not None
        assert not call.baseline.requires_grad
        assert (call.baseline.shape, call.baseline.dtype) == (call.x.shape, call.x.dtype)


def test_both_arithmetics_occur() -> None:
    assert {call.x.dtype for call in calls("given")} == {torch.float64, torch.float32}


def test_several_samples_with_different_targets_and_baselines_occur() -> None:
    seen = calls("given")
    assert {len(call.x) for call in seen} == {1, 2, 3, 4, 5}
    assert any(len(set(call.target.tolist())) > 1 for call in seen)
    assert any(len(call.baseline.unique(dim=0)) > 1 for call in seen if call.baseline is not None)
    assert any(len(call.x.unique(dim=0)) > 1 for call in seen)
    # Whole-number inputs occur, and one logit alone, to which class axioms would not apply.
    assert any(bool((call.x == call.x.round()).all()) for call in seen)
    assert any(call.logits.shape[1] == 1 for call in seen)
    assert any(call.logits.shape[1] > 1 for call in seen)


def test_images_are_not_flattened() -> None:
    """Convolutions on signals [C, L], images [C, H, W] and volumes, with a gradient that satisfies `dummy` on them."""
    shapes = []

    def record(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        shapes.append(x.dim())
        return gradient(model, x, target)

    assert result_of(record, on="conv").observed == "holds"
    assert set(shapes) == {3, 4, 5}


def test_without_a_declared_baseline_none_is_passed() -> None:
    # Without a baseline, the sum of x * gradient refers to zeros: complete on linear graphs.
    assert {call.baseline for call in calls(None)} == {None}


@pytest.mark.parametrize("kind", BASELINES)
def test_the_baseline_is_of_the_declared_kind(kind: str) -> None:
    seen = calls(kind)
    for call in seen:
        assert call.baseline is not None
        assert call.baseline.shape == call.x.shape
        if kind == "zeros":
            assert not call.baseline.any()
        if kind == "min":
            per_sample = call.x.flatten(1).min(1).values
            assert torch.equal(call.baseline, per_sample[:, None].expand_as(call.x))
        if kind in ("mean", "min-per-feature"):
            assert torch.equal(call.baseline, call.baseline[:1].expand_as(call.x)), "not one for the whole batch"
    baselines = [call.baseline for call in seen if call.baseline is not None]
    assert any(bool(baseline.any()) for baseline in baselines) == (kind != "zeros"), "only ever zeros"
    if kind in ("min", "given"):
        assert any(len(baseline.unique(dim=0)) > 1 for baseline in baselines), "never one for each sample"


@pytest.mark.parametrize(("kind", "over"), [("mean", lambda d: d.mean(0)), ("min-per-feature", lambda d: d.amin(0))])
def test_baselines_over_the_data(kind: str, over: Callable[[Tensor], Tensor]) -> None:
    """With data=True too, the method sees the very data over which its baseline is taken."""
    seen = calls(kind, data=True)
    for call in seen:
        assert call.data is not None
        assert call.baseline is not None
        assert torch.equal(call.baseline, over(call.data).expand_as(call.x))
    assert any(len(call.data) != len(call.x) for call in seen if call.data is not None), "the data is only ever x"


def test_a_method_that_takes_data_gets_a_batch() -> None:
    seen = calls("given", data=True)
    for call in seen:
        assert call.data is not None
        assert call.data.shape[1:] == call.x.shape[1:]
        assert call.data.dtype == call.x.dtype
        assert not call.data.requires_grad
        assert len(call.data) >= 2
    assert len({str(call.data) for call in seen}) > 1


def test_data_moves_with_a_shifted_input() -> None:
    """Centring by the data's mean is input invariant only where the data is shifted as the input is."""

    @ac.method(data=True)
    def centred(model: nn.Module, x: Tensor, target: Tensor, baseline: None, *, data: Tensor) -> Tensor:
        return (x - data.mean(0)) * gradient(model, x, target)

    assert result_of(centred, "input-invariance/arbitrary").observed == "holds"


# -- randomness -----------------------------------------------------------------------------------------------------


@ac.method(stochastic=True)
def noisy(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None) -> Tensor:
    """A stochastic method that is right whatever it draws."""
    DRAWS.append(float(torch.rand(())))
    return gradient(model, x, target) * (1 + DRAWS[-1])


DRAWS: list[float] = []


def test_a_stochastic_method_is_reseeded_and_the_global_state_untouched() -> None:
    torch.manual_seed(1234)
    before = torch.random.get_rng_state()
    DRAWS.clear()
    assert result_of(noisy).observed == "holds"
    assert torch.equal(torch.random.get_rng_state(), before)
    drawn = list(DRAWS)
    # Whatever the state of the caller's generator, the same numbers come; and from more than one seed.
    torch.manual_seed(99)
    DRAWS.clear()
    assert result_of(noisy).observed == "holds"
    assert drawn == DRAWS
    assert 1 < len(set(drawn)) < len(drawn)


def test_both_networks_of_a_comparison_get_the_same_noise() -> None:
    assert result_of(noisy, "implementation-invariance/split").observed == "holds"


def test_a_check_draws_nothing_from_the_callers_generators() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    assert result_of(gradient).observed == "holds"
    assert torch.equal(torch.random.get_rng_state(), before)


def test_undeclared_randomness_is_named() -> None:
    """A method that is wrong once and never again: its counterexample cannot be shown, and no claim stands."""
    times = iter([2.0])

    def careless(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return x * gradient(model, x, target) * next(times, 1.0)

    result = result_of(careless, "completeness", n=40)
    assert (result.observed, result.verdict) == ("inconclusive", "inconclusive")
    assert "declare stochastic=True" in str(result.note)
    assert result.witness is None


@pytest.mark.parametrize("seed", range(6))
def test_a_witness_of_undeclared_randomness_shows_what_it_says(seed: int) -> None:
    """Right or wrong at the toss of a coin: whatever the verdict, a witness in hand has a residual that violates."""

    def coin(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return gradient(model, x, target) * torch.randint(2, ())

    torch.manual_seed(seed)
    result = result_of(coin, "implementation-invariance/split", n=40, seed=seed)
    assert result.verdict in ("fail", "inconclusive")
    if result.witness is not None:
        assert result.witness["figures"]["residual"] > result.witness["figures"]["tolerance"]


# -- answers that are no attribution --------------------------------------------------------------------------------


class OddError(Exception):
    """An error with a message of several lines."""


def raising(error: Exception) -> Any:
    """Raise as an expression."""
    raise error


ERRORS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "wrong shape": (lambda x: torch.cat([x, x], 1), "returned shape ("),
    "no batch": (lambda x: x[0], "returned shape ("),
    "a scalar": (lambda x: x.sum(), "returned shape () for an input of shape ("),
    "numpy": (lambda x: x.numpy(), "ndarray, expected a torch.Tensor of the shape of x"),
    "None": (lambda x: None, "returned a NoneType, expected a torch.Tensor"),
    "a tuple": (lambda x: (x, x), "returned a tuple, expected a torch.Tensor"),
    "single precision": (lambda x: x.float(), "returned dtype float32 for an input of dtype float64"),
    "integers": (lambda x: x.long(), "returned dtype int64 for an input of dtype float64"),
    "another device": (lambda x: x.to("meta"), "returned a tensor on meta for an input on cpu"),
    "raises": (lambda x: raising(OddError("one\ntwo")), "raised OddError: one"),
    "raises without a word": (lambda x: raising(OddError()), "raised OddError: (no message)"),
    "assertion": (lambda x: raising(AssertionError("not me")), "raised AssertionError: not me"),
    "not implemented": (lambda x: raising(NotImplementedError("later")), "raised NotImplementedError: later"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_an_error(what: str) -> None:
    answer, said = ERRORS[what]
    report = ac.check(lambda model, x, target, baseline=None: answer(x), claims=[ac.holds("dummy", on="linear")])
    (result,) = report.results
    assert (result.observed, result.verdict) == ("error", "error")
    assert said in str(result.note)
    assert "\n" not in str(result.note)
    assert (report.exit_code, report.ok) == (2, False)
    assert result.witness is not None and result.witness["figures"]["error"] == result.note
    assert np.shape(result.witness["x"]) == (1, 2)  # one sample; one feature beside the dummy
    validate_witness(result.witness)


def test_an_error_is_told_with_its_network_and_a_script() -> None:
    result = result_of(lambda *a: raising(OddError("no")))
    said = failure_text(result, None)
    assert "Layer('linear', " in said and "x = [[" in said
    assert "\nerror: raised OddError: no\n" in said
    assert "\nanswer = unchecked(" in said.replace("    ", "") and "expected" not in said.partition("a script that")[0]
    assert failure_text(result, "out").endswith("attribcheck replay " + f"out/{result.witness_file}")


def test_an_error_where_a_failure_is_claimed_is_no_failure_shown() -> None:
    claims = [ac.fails("dummy", on="linear", reason="it raises")]
    (result,) = ac.check(lambda *a: raising(OddError("no")), claims=claims, max_examples=5).results
    assert (result.observed, result.verdict) == ("error", "error")


def test_an_unclaimed_error_gates_too() -> None:
    report = ac.check(lambda *a: raising(OddError("no")), axioms=["dummy"], families=["linear"], max_examples=5)
    assert [result.verdict for result in report.results] == ["error"]
    assert (report.exit_code, report.ok) == (2, False)


def test_an_error_on_some_networks_is_an_error() -> None:
    def fussy(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return raising(OddError("three")) if x[0].numel() == 3 else gradient(model, x, target)

    result = result_of(fussy)
    assert result.observed == "error"
    assert result.witness is not None and result.witness["network"]["input_shape"] == [3]


def test_an_error_that_is_not_met_again_has_no_witness() -> None:
    left = 3

    def moody(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        nonlocal left
        left -= 1
        return raising(OddError("moody")) if left == 0 else gradient(model, x, target)

    result = result_of(moody)
    assert (result.observed, result.witness) == ("error", None)
    assert result.note == "raised OddError: moody; not when it was called again on the same case"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_a_violation(value: float) -> None:
    report = ac.check(
        lambda model, x, target, baseline=None: torch.full_like(x, value), claims=[ac.holds("dummy", on="linear")]
    )
    (result,) = report.results
    assert (result.observed, result.verdict, report.exit_code) == ("violated", "fail", 1)
    assert result.worst == {"residual": None, "tolerance": 1e-10, "nonfinite": True}
    assert result.witness is not None
    assert result.witness["figures"]["residual"] is None
    assert result.witness["figures"]["obtained"] == [None]


def test_nan_in_an_entry_that_the_axiom_does_not_read_is_a_violation() -> None:
    """NaN or infinity in an attribution of a finite network is a violation, wherever it stands."""

    def nan_elsewhere(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x).masked_fill(gradient(model, x, target) != 0, torch.nan)

    assert result_of(nan_elsewhere, "dummy").observed == "violated"


# -- refusals -------------------------------------------------------------------------------------------------------


def test_a_method_that_refuses_every_network() -> None:
    report = ac.check(
        lambda *a: raising(ac.Unsupported("no")), claims=[ac.holds("dummy", on="linear")], max_examples=10
    )
    (result,) = report.results
    assert (result.observed, result.verdict, report.exit_code) == ("unsupported", "inconclusive", 1)
    assert result.examples == 0
    assert result.unsupported > 0
    assert result.note == "the method refused every network that was drawn"


def test_refused_networks_are_counted_and_the_rest_decides() -> None:
    def choosy(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return raising(ac.Unsupported("no")) if x[0].numel() == 4 else gradient(model, x, target)

    def broken(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return choosy(model, x, target) + 1

    result = result_of(choosy, n=40)
    assert (result.observed, result.verdict) == ("holds", "pass")
    assert result.unsupported > 0
    assert 20 <= result.examples <= 40
    assert result_of(broken).observed == "violated"


def test_too_few_supported_networks_are_inconclusive() -> None:
    def very_choosy(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        return gradient(model, x, target) if x.shape[1] == 4 else raising(ac.Unsupported("no"))

    result = result_of(very_choosy, n=40)
    assert (result.observed, result.verdict) == ("inconclusive", "inconclusive")
    assert 0 < result.examples < 20
    assert f"only {result.examples - result.vacuous} of 40 cases were valid and said something" in str(result.note)
    assert f"{result.unsupported} refused" in str(result.note)


def test_vacuous_cases_are_not_enough() -> None:
    """A map that is zero everywhere has no attribution of a dummy feature, and nothing else either."""
    result = result_of(lambda model, x, target, baseline=None: torch.zeros_like(x), n=20)
    # 20, and twice as many more in the hope of some that say something.
    assert (result.examples, result.vacuous) == (60, 60)
    assert (result.observed, result.verdict) == ("inconclusive", "inconclusive")


def test_a_usage_error_of_a_method_is_an_error_in_its_words() -> None:
    result = result_of(lambda *a: raising(UsageError("the digits need scikit-learn")))
    assert (result.observed, result.verdict, result.note) == ("error", "error", "the digits need scikit-learn")
