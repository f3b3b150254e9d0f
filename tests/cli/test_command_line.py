"""The command line: what each command prints, writes and returns, as snapshots; and real processes for each exit code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attribcheck.axioms import AXIOMS
from attribcheck.claims import Claim
from attribcheck.cli.commands import cli
from attribcheck.methods.registry import BUILTIN
from attribcheck.sanity.checks import MODULES
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

METHODS = '''
import attribcheck as ac
import torch


def gradient(model, x, target):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


@ac.method(
    baseline="given",
    claims=[
        ac.holds("dummy", on="linear", source="by the chain rule"),
        ac.fails("completeness/delta", on="linear", reason="the difference is forgotten"),
    ],
)
def sound(model, x, target, baseline):
    """The gradient, with claims that stand.

    Source: this very file.
    """
    return gradient(model, x, target)


@ac.method(baseline="given", claims=[ac.holds("completeness", on="linear", tol=0.01), ac.holds("dummy", on="linear")])
def forgetful(model, x, target, baseline):
    """Integrated gradients that forget the difference."""
    return gradient(model, x, target)


@ac.method(claims=[ac.fails("dummy", on="linear", reason="wishful thinking")])
def modest(model, x, target, baseline):
    """Claims a failure that there is not."""
    return gradient(model, x, target)


@ac.method(claims=[ac.holds("dummy", on="linear"), ac.holds("completeness", on="linear")])
def misshapen(model, x, target, baseline):
    """Returns one feature too many."""
    return torch.cat([x, x[:, :1]], 1)


def bare(model, x, target, baseline=None):
    """Without a declaration, so nothing is claimed."""
    return x * gradient(model, x, target)
'''
MODULE = "methods_on_the_command_line"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of methods."""
    folder = tmp_path_factory.mktemp("library")
    (folder / f"{MODULE}.py").write_text(METHODS, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def here(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, from which the module is importable; wide enough that no text depends on wrapping."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop(MODULE, None)


def run(*arguments: str) -> Result:
    """One command in this process."""
    result = CliRunner().invoke(cli, list(arguments), prog_name="attribcheck")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(result: Result) -> str:
    """The exit code and both streams, without the figures that depend on the case that was drawn."""
    text = f"exit code {result.exit_code}\n{result.stdout}"
    if result.stderr:
        text += f"-- standard error --\n{result.stderr}"
    text = re.sub(r"residual [-+.\de]+ against", "residual # against", text)
    text = re.sub(r"(expected|obtained) \[[^\]]*\]", r"\1 [#]", text)
    return re.sub(r"shape \([\d, ]+\)", "shape (#)", text)


# -- help and lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", "run", "sanity", "list", "explain", "replay", "report"])
def test_help(command: str, snapshot: SnapshotAssertion) -> None:
    result = run(*command.split(), "--help")
    assert told(result) == snapshot
    assert run(*command.split(), "-h").stdout == result.stdout


@pytest.mark.parametrize("what", ["methods", "axioms", "families", "targets", "checks", "models", "data"])
def test_list_names(what: str, snapshot: SnapshotAssertion) -> None:
    result = run("list", what)
    assert result.exit_code == 0
    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert all(len(row) == 2 for row in rows), "a name without its line"
    assert "\n".join(name for name, _ in rows) == snapshot


def test_version() -> None:
    assert re.fullmatch(r"attribcheck, version \d+\.\d+\.\d+\S*\n", run("--version").stdout)


# -- explain --------------------------------------------------------------------------------------------------------


def test_explain_a_method(snapshot: SnapshotAssertion) -> None:
    assert told(run("explain", f"{MODULE}:sound")) == snapshot


def test_explain_an_undeclared_method(snapshot: SnapshotAssertion) -> None:
    assert told(run("explain", f"{MODULE}:bare")) == snapshot


@pytest.mark.parametrize("name", AXIOMS)
def test_explain_an_axiom(name: str) -> None:
    result = run("explain", name)
    assert result.exit_code == 0
    head, line, *_ = result.stdout.splitlines()
    assert (head, line) == (name, "=" * len(name))
    for part in ("Source:", "Preconditions:", "Holds", "Fails"):
        assert part in result.stdout
    for variant in AXIOMS[name].variants:
        assert not variant or f"  {name}/{variant}: {AXIOMS[name].variants[variant]}\n" in result.stdout
    page = result.stdout.partition(f"\n{name} (on trained models)\n")[0]  # the check of that name stands below
    listed = entries(page.partition("Claims of the built-in methods:")[2])
    for method in BUILTIN.values():
        for claim in method.claims:
            if claim.name == name:
                own = [entry for entry in listed if entry.startswith(f"{method.name}: {claim.kind} ")]
                assert tells(own, claim), claim
    methods = {entry.partition(": ")[0] for entry in listed if entry}
    assert methods == {m.name for m in BUILTIN.values() if any(claim.name == name for claim in m.claims)}


@pytest.mark.parametrize("name", MODULES)
def test_explain_a_check(name: str) -> None:
    page = run("explain", name).stdout
    title = f"{name} (on trained models)"
    assert (name in AXIOMS) == page.startswith(f"{name}\n"), "an axiom of the same name stands first"
    page = page[page.index(f"{title}\n{'=' * len(title)}\n") :]
    for part in ("Source:", "Preconditions:", "Claims of the built-in methods:"):
        assert part in page, part
    listed = entries(page.partition("Claims of the built-in methods:")[2])
    for method in BUILTIN.values():
        for claim in method.claims:
            if (claim.check or "").partition("/")[0] == name:
                own = [entry for entry in listed if entry.startswith(f"{method.name}: {claim.kind} ")]
                assert tells(own, claim), claim


def test_explain_a_variant_of_a_check_or_of_an_axiom_alone() -> None:
    assert run("explain", "input-invariance/planted").stdout.startswith(
        "input-invariance/planted (on trained models)\n"
    )
    assert "on trained models" not in run("explain", "input-invariance/arbitrary").stdout
    assert "(on trained models)" in run("explain", "input-invariance/constant").stdout


def test_explain_a_model_and_data() -> None:
    assert run("explain", "mnist-cnn").stdout.startswith("mnist-cnn (model): two convolutions")
    assert run("explain", "digits").stdout.startswith("digits (data): ")


def entries(section: str) -> list[str]:
    """The indented entries of a page, each in one line."""
    return [" ".join(entry.split()) for entry in re.split(r"\n  (?! )", section)]


def tells(listed: list[str], claim: Claim) -> bool:
    """Whether an entry tells all of a claim."""
    words = [claim.name, claim.on, claim.variant or "", claim.reason or "", claim.source or ""]
    return any(all(word in entry for word in words) for entry in listed)


def test_explain_a_variant_and_a_rewrite_alike() -> None:
    page = run("explain", "implementation-invariance/split").stdout
    assert page == run("explain", "split").stdout
    assert "implementation-invariance/split: " in page
    assert "implementation-invariance/dead: " not in page


@pytest.mark.parametrize("name", BUILTIN)
def test_explain_a_built_in_method(name: str) -> None:
    text = run("explain", name).stdout
    assert text.startswith(f"{name}\n{'=' * len(name)}\n\n")
    assert "Source:" in text
    before, _, failing = text.partition("What fails, and why:")
    listed = {"holds": entries(before.partition("What holds:")[2]), "fails": entries(failing)}
    for claim in BUILTIN[name].claims:
        assert tells(listed[claim.kind], claim), claim


def test_explain_a_family() -> None:
    assert run("explain", "maxpool").stdout.startswith("maxpool: max-pooling")


# -- run, replay, report --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sound", "forgetful", "modest", "misshapen"])
def test_run(method: str, snapshot: SnapshotAssertion) -> None:
    assert told(run("run", f"{MODULE}:{method}", "-n", "20")) == snapshot


def test_a_log_gets_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal for a bar, once a minute."""
    monkeypatch.setattr("attribcheck.cli.terminal.PULSE", 0.0)
    given = ("run", f"{MODULE}:sound", f"{MODULE}:modest", "-n", "5")
    first, second, fell = run(*given).stderr.splitlines()
    assert (first, second) == ("1 of 3 claims after 0 min", "2 of 3 claims after 0 min")
    assert run(*given, "-q").stderr == ""
    monkeypatch.setattr("attribcheck.cli.terminal.PULSE", 60.0)
    assert run(*given).stderr.splitlines() == [fell]
    assert fell.startswith("NOT SHOWN    dummy[")


def test_an_error_wins_over_a_refutation(snapshot: SnapshotAssertion) -> None:
    options = ("-n", "10", "--axiom", "completeness", "-q", "--report", "json")
    assert told(run("run", f"{MODULE}:forgetful", f"{MODULE}:misshapen", *options)) == snapshot


def test_verbose_has_a_line_for_each_cell(snapshot: SnapshotAssertion) -> None:
    assert told(run("run", f"{MODULE}:sound", "-n", "10", "-v", "--no-color")) == snapshot


def test_a_method_without_claims_is_observed(snapshot: SnapshotAssertion) -> None:
    options = ("-n", "10", "--family", "linear", "--axiom", "completeness", "-v")
    assert told(run("run", f"{MODULE}:bare", *options)) == snapshot


def test_observe_adds_unclaimed_cells(snapshot: SnapshotAssertion) -> None:
    options = ("-n", "10", "--family", "linear", "--axiom", "completeness", "--axiom", "dummy", "-v", "--observe")
    assert told(run("run", f"{MODULE}:modest", *options)) == snapshot


def test_exclude_axiom_leaves_the_rest(snapshot: SnapshotAssertion) -> None:
    assert told(run("run", f"{MODULE}:forgetful", "-n", "10", "--exclude-axiom", "completeness/delta")) == snapshot


def test_max_time_cuts_off(snapshot: SnapshotAssertion) -> None:
    assert told(run("run", f"{MODULE}:sound", "--max-time", "1e-9")) == snapshot


def test_what_a_run_writes(here: Path) -> None:
    run("run", f"{MODULE}:forgetful", "-n", "10", "--report", "html,json,junit,md", "--report-dir", "out")
    witness = f"witnesses/{MODULE}-forgetful--completeness-delta--linear.json"
    files = {path.relative_to(here / "out").as_posix() for path in (here / "out").rglob("*") if path.is_file()}
    assert files == {"report.html", "results.json", "junit.xml", "report.md", "progress.jsonl", witness}
    # A run that refutes nothing leaves no witness of an earlier one behind.
    run("run", f"{MODULE}:forgetful", "-n", "10", "--axiom", "dummy", "--report", "json", "--report-dir", "out")
    assert not (here / "out" / witness).exists()


def test_replay_and_report(here: Path, snapshot: SnapshotAssertion) -> None:
    run("run", f"{MODULE}:forgetful", "-n", "20")
    witness = f"attribcheck-report/witnesses/{MODULE}-forgetful--completeness-delta--linear.json"
    commands = [
        ("replay", witness),
        ("replay", "attribcheck-report"),
        ("replay", "attribcheck-report/witnesses", "integrated-gradients"),
        ("replay", witness, f"{MODULE}:misshapen"),
        ("report", "attribcheck-report/results.json"),
        ("report", "attribcheck-report/results.json", "--report", "md,junit", "--report-dir", "again"),
    ]
    assert "\n".join(f"$ {' '.join(command)}\n{told(run(*command))}" for command in commands) == snapshot
    assert {path.name for path in (here / "again").iterdir()} == {"report.md", "junit.xml", "witnesses"}


def test_an_error_that_is_shown_again_is_reproduced(here: Path) -> None:
    assert run("run", f"{MODULE}:misshapen", "-n", "5", "--axiom", "dummy", "--report", "json").exit_code == 2
    assert run("replay", "attribcheck-report").exit_code == 1
    assert run("replay", "attribcheck-report", "gradient").exit_code == 0


def test_report_renders_the_same_again(here: Path) -> None:
    run("run", f"{MODULE}:forgetful", "-n", "10", "--report", "html,json,md,junit")
    first = {path.name: path.read_text() for path in (here / "attribcheck-report").glob("*.*")}
    assert run("report", "attribcheck-report/results.json", "--report", "html,json,md,junit").exit_code == 0
    assert {path.name: path.read_text() for path in (here / "attribcheck-report").glob("*.*")} == first


# -- real processes -------------------------------------------------------------------------------------------------

PYTHON_M = [sys.executable, "-m", "attribcheck"]
SCRIPT = [str(Path(sys.executable).with_name("attribcheck"))]


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        (SCRIPT, ("run", f"{MODULE}:sound", "-n", "5", "-q", "--axiom", "dummy"), 0),
        (PYTHON_M, ("run", f"{MODULE}:forgetful", "-n", "5", "-q"), 1),
        (SCRIPT, ("run", f"{MODULE}:misshapen", "-n", "5", "-q"), 2),
        (PYTHON_M, ("run", "nothing:here"), 2),
    ],
    ids=["script-0", "python-m-1", "script-2", "python-m-2"],
)
def test_a_process_exits_with_the_code(
    library: Path, command: list[str], arguments: tuple[str, ...], code: int
) -> None:
    """The working directory is importable, with the script too, which Python itself does not arrange."""
    done = subprocess.run([*command, *arguments], cwd=library, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if arguments[1] == "nothing:here":
        assert re.fullmatch(r"attribcheck: .*\n", done.stderr)
        assert done.stdout == ""
    else:
        assert re.fullmatch(r"\d checked: .*\n", done.stdout)
        assert done.stderr == ""


LIGHT = {
    "import": "import attribcheck; dir(attribcheck)",
    "claims": "import attribcheck as ac; ac.method(claims=[ac.holds('dummy')])(print); ac.Unsupported",
    "plugin": "import attribcheck.pytest_plugin",
    "help": "from attribcheck.cli import cli; cli(['--help'], standalone_mode=False)",
    "help of run": "from attribcheck.cli import cli; cli(['run', '--help'], standalone_mode=False)",
    "help of sanity": "from attribcheck.cli import cli; cli(['sanity', '--help'], standalone_mode=False)",
    "claims on checks": "import attribcheck as ac; ac.method(claims=[ac.holds('sanity/continuity')])(print)",
}


@pytest.mark.parametrize("what", LIGHT)
def test_neither_torch_nor_hypothesis_is_imported(what: str) -> None:
    code = f"{LIGHT[what]}\nimport sys\nprint(sorted({{'torch', 'hypothesis'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_pytest_with_the_plugin_imports_neither(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n\ndef test_light(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('attribcheck')\n"
        "    assert not {'torch', 'hypothesis'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_light.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
