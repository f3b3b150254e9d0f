"""The pytest plugin, as a user's package meets it."""

from __future__ import annotations

import json

import pytest
from attribcheck.runner.lock import locked

BROKEN = '''
import torch
import attribcheck as ac

@ac.method(baseline="given", claims=[
    ac.holds("completeness", on="relu"),
    ac.holds("input-invariance/constant", on="linear"),
    ac.fails("sensitivity-n/n", on="relu", reason="interactions"),
])
def my_method(model, x, target, baseline):
    """Integrated gradients that forget (x - baseline)."""
    total = torch.zeros_like(x)
    for k in range(20):
        point = (baseline + (k + 0.5) / 20 * (x - baseline)).requires_grad_()
        total += torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0] / 20
    return total

def raises(model, x, target, baseline=None):
    raise ValueError("no")
'''


@pytest.fixture
def package(pytester: pytest.Pytester) -> pytest.Pytester:
    """A user's project whose own package is called models, like a folder of attribcheck."""
    models = pytester.mkpydir("models")
    (models / "mine.py").write_text(BROKEN)
    pytester.makeini("[pytest]\naxioms_methods = models.mine:my_method\naxioms_max_examples = 20\n")
    return pytester


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_broken_method_fails_with_its_witness(package: pytest.Pytester, workers: tuple[str, ...]) -> None:
    result = package.runpytest_subprocess("-m", "axioms", *workers)
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines([
        "*completeness/delta?my_method-relu?*",
        "*residual * against tolerance 1e-10*",
        "attribcheck replay attribcheck-report/witnesses/models.mine-my_method--completeness-delta--relu.json",
    ])  # fmt: skip
    document = json.loads((package.path / "attribcheck-report" / "results.json").read_text())
    assert [r["verdict"] for r in document["results"]] == ["fail", "pass", "pass"]  # one merged report


def test_a_name_chooses_claims(package: pytest.Pytester) -> None:
    result = package.runpytest_subprocess("-m", "axioms", "-k", "invariance", "-v")
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["*input-invariance/constant?my_method-linear?*PASSED*"])


def test_options_win_over_the_ini_file(package: pytest.Pytester) -> None:
    result = package.runpytest_subprocess(
        "-m", "axioms", "--axioms-methods", "gradient-times-input", "--axioms-max-examples", "4",
        "--axioms-seed", "3", "--axioms-report-dir", "elsewhere", "-k", "completeness",
    )  # fmt: skip
    assert result.ret == 0
    document = json.loads((package.path / "elsewhere" / "results.json").read_text())
    assert (document["max_examples"], document["seed"]) == (4, 3)
    assert {r["method"] for r in document["results"]} == {"gradient-times-input"}


def test_a_second_run_into_the_same_folder_is_refused(package: pytest.Pytester) -> None:
    """The first one's workers are one run with it; see above."""
    with locked(package.path / "attribcheck-report"):
        for workers in ((), ("-n", "2")):
            result = package.runpytest_subprocess("-m", "axioms", *workers)
            assert result.ret == pytest.ExitCode.USAGE_ERROR
            result.stderr.fnmatch_lines(
                ["*another run writes into *attribcheck-report; wait for it, or choose another*"]
            )
    assert not (package.path / "attribcheck-report" / "results.json").exists()


def test_without_settings_the_plugin_is_silent_and_loads_no_torch(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import sys\ndef test_nothing_heavy():\n    assert not {'torch', 'attribcheck.runner'} & set(sys.modules)\n"
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_named_file_does_not_bring_the_claims_along(package: pytest.Pytester) -> None:
    package.makepyfile(test_other="def test_other(): pass\n")
    package.runpytest_subprocess("test_other.py").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("axioms_methods = gradeint", "*unknown target 'gradeint'; did you mean 'gradient'*"),
        ("axioms_methods = gradient\naxioms_max_examples = none", "*axioms_max_examples must be a whole number*"),
        ("axioms_methods = models.nowhere:f", "*there is no module 'models.nowhere'*"),
    ],
)
def test_wrong_settings_are_one_clear_line(package: pytest.Pytester, ini: str, message: str) -> None:
    package.makeini(f"[pytest]\n{ini}\n")
    result = package.runpytest_subprocess("-m", "axioms")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str()


def test_parametrize_with_axioms(package: pytest.Pytester) -> None:
    package.makepyfile(
        test_mine="""
        import attribcheck as ac
        from models.mine import my_method

        @ac.parametrize_with_axioms([my_method], max_examples=20)
        def test_claims(axiom_check):
            axiom_check()
        """
    )
    result = package.runpytest_subprocess("test_mine.py", "-v")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*test_claims?completeness/delta?my_method-relu??*FAILED*", "*a script that shows it*"]
    )
