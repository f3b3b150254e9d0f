"""Wrong usage and unreadable input on the command line: exit code 2 and one line that says what is wrong, no traceback."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from attribcheck.cli.commands import cli
from click.testing import CliRunner, Result

FILES = {
    "good_module.py": """
import attribcheck as ac
import torch
from torch import nn


@ac.method(baseline="given", claims=[ac.holds("completeness", on="relu")])
def forgetful(model, x, target, baseline):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


@ac.method(claims=[ac.holds("no-such-axiom")])
def claims_nonsense(model, x, target, baseline):
    return x


not_callable = 3
batch = torch.arange(12.0).reshape(4, 3)
too_wide = torch.zeros(4, 5)
scalar = torch.tensor(1.0)
no_rows = torch.zeros(0, 3)
not_finite = torch.full((4, 3), float("nan"))
words = ["a", "b"]


def network():
    return nn.Linear(3, 2)


def image_network():
    return nn.Unflatten(1, (3, 1))


def raises():
    raise RuntimeError("the weights are gone")


def raises_at_length():
    raise RuntimeError("the weights are gone\\nand this is the second line")


def returns_text():
    return "a network"
""",
    "broken_on_import.py": 'raise ValueError("broken on import")\n',
    "no_python.py": "def attribute(:\n",
    "imports_nothing_good.py": "import a_module_that_nobody_has\n",
}
MODEL = ("--model", "good_module:network")
DATA = ("--data", "good_module:batch")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of modules, good and bad."""
    folder = tmp_path_factory.mktemp("library")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def here(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, from which the modules are importable."""
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def run(*arguments: str) -> Result:
    """One command in this process; its exceptions, if any, are the test's."""
    return CliRunner().invoke(cli, list(arguments), prog_name="attribcheck", catch_exceptions=False)


def refused(*arguments: str) -> str:
    """The one line with which a command is refused."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("attribcheck: ")
    assert result.stderr.count("\n") == 1, f"more than one line: {result.stderr!r}"
    assert result.stderr.endswith("\n")
    return result.stderr


# -- run ------------------------------------------------------------------------------------------------------------

REFUSED = {
    "unknown target": ("run nope", "unknown target 'nope'; known: gradient, "),
    "nearly a target": ("run integrated-gradient", "did you mean 'integrated-gradients'"),
    "unknown axiom": ("run gradient --axiom foo", "unknown axiom 'foo'; known: completeness, "),
    "unknown excluded axiom": ("run gradient --exclude-axiom foo", "unknown axiom 'foo'"),
    "unknown variant": (
        "run gradient --axiom completeness/foo",
        "unknown variant 'completeness/foo'; did you mean 'completeness/output'",
    ),
    "no variants": ("run gradient --axiom dummy/foo", "unknown variant 'dummy/foo'; it has no variants"),
    "unknown family": ("run gradient --family reluu", "unknown family 'reluu'; did you mean 'relu'?"),
    "no format": ("run gradient --report ,", "--report names no format; known: html, json, junit, md"),
    "unknown format": ("run gradient --report html,pdf", "unknown report format 'pdf'; known: html, json, junit, md"),
    "not callable": ("run good_module:not_callable", "'good_module:not_callable' is not callable: a method is "),
    "no module": ("run nowhere:thing", "target 'nowhere:thing': there is no module 'nowhere' here or installed"),
    "no submodule": ("run good_module.deeper:thing", "there is no module 'good_module.deeper'"),
    "no object": ("run good_module:absent", "good_module has no 'absent'"),
    "no name": ("run good_module:", "target 'good_module:': write it as package.module:object"),
    "raises on import": (
        "run broken_on_import:f",
        "importing broken_on_import failed: ValueError: broken on import",
    ),
    "no Python": ("run no_python:f", "importing no_python failed: SyntaxError: "),
    "imports what is missing": (
        "run imports_nothing_good:f",
        "importing imports_nothing_good failed: No module named 'a_module_that_nobody_has'",
    ),
    "a claim on no axiom": (
        "run good_module:claims_nonsense",
        "good_module:claims_nonsense claims holds('no-such-axiom', on='any'): unknown axiom 'no-such-axiom'",
    ),
    "nothing selected": (
        "run gradient --axiom completeness",
        "the selection matches nothing for gradient: no claim fits (add --observe to check unclaimed cells)",
    ),
    "nothing selected in a family": ("run occlusion-1 --axiom dummy --family relu", "the selection matches nothing"),
    "the model is not given": ("run gradient --family model", "the family 'model' needs your network: give --model"),
    "data without a model": ("run gradient --data good_module:batch", "--data needs --model"),
    "a model without data": ("run gradient --model good_module:network", "--model needs --data"),
    "an unknown page": ("explain nope", "nothing is called 'nope'; known: completeness, "),
    "an unknown variant's page": ("explain completeness/nope", "unknown variant 'completeness/nope'"),
    "an unknown check": ("sanity gradient --check foo", "unknown check 'foo'; known: parameter-randomization, "),
    "nearly a check": ("sanity gradient --check pointing", "did you mean 'pointing-game'?"),
    "an unknown variant of a check": (
        "sanity gradient --check input-invariance/arbitrary",
        "unknown variant 'input-invariance/arbitrary'; did you mean",
    ),
    "an axiom is no check": ("sanity gradient --check dummy", "unknown check 'dummy'"),
    "a check is no axiom": ("run gradient --axiom pointing-game", "unknown axiom 'pointing-game'"),
    "sanity of an unknown target": ("sanity nope --check continuity", "unknown target 'nope'"),
    "weights of no model": ("sanity gradient --weights w.pt", "--weights needs --model"),
    "sanity in no format": ("sanity gradient --report pdf", "unknown report format 'pdf'"),
    "no witness": ("replay missing.json", "missing.json: no such file; name the file that `attribcheck run` wrote"),
    "no results": ("report missing.json", "missing.json: no such file"),
    "results in a folder": ("report .", ".: is a folder; name the JSON file inside it"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_one_line_says_what_is_wrong(what: str, here: Path) -> None:
    command, said = REFUSED[what]
    assert said in refused(*command.split())
    assert list(here.iterdir()) == [], "something was written all the same"


MODELS = {
    "raises": ((("--model", "good_module:raises"), DATA), "raised RuntimeError: the weights are gone"),
    "raises at length": ((("--model", "good_module:raises_at_length"), DATA), "RuntimeError: the weights are gone"),
    "returns text": (
        (("--model", "good_module:returns_text"), DATA),
        "good_module:returns_text returned str, expected an nn.Module",
    ),
    "no factory": ((("--model", "good_module:not_callable"), DATA), "is neither an nn.Module nor a factory of one"),
    "no module": ((("--model", "nowhere:thing"), DATA), "--model 'nowhere:thing': there is no module 'nowhere'"),
    "no logits": ((("--model", "good_module:image_network"), DATA), "to (2, 3, 1), expected logits [B, C]"),
    "does not fit": (
        (MODEL, ("--data", "good_module:too_wide")),
        "--model good_module:network does not take the inputs of --data good_module:too_wide: ",
    ),
    "data absent": ((MODEL, ("--data", "good_module:absent")), "--data 'good_module:absent': good_module has no"),
    "data raises": ((MODEL, ("--data", "good_module:raises_at_length")), "raised RuntimeError: the weights are gone"),
    "data a scalar": ((MODEL, ("--data", "good_module:scalar")), "has shape (), expected inputs [M, *shape]"),
    "data empty": ((MODEL, ("--data", "good_module:no_rows")), "has shape (0, 3), expected inputs [M, *shape]"),
    "data words": ((MODEL, ("--data", "good_module:words")), "is not a tensor or array of inputs [M, *shape]"),
    "data not finite": ((MODEL, ("--data", "good_module:not_finite")), "holds values that are not finite"),
}


@pytest.mark.parametrize("what", MODELS)
def test_a_model_or_data_that_cannot_be_used(what: str) -> None:
    options, said = MODELS[what]
    assert said in refused("run", "gradient", *options[0], *options[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    "command", [("run", "gradient"), ("replay", "."), ("sanity", "gradient", "--check", "continuity")]
)
def test_no_cuda_device(command: tuple[str, ...]) -> None:
    said = "attribcheck: --device cuda: torch sees no CUDA device here; use --device cpu\n"
    assert refused(*command, "--device", "cuda") == said


# -- options, in the words of click ---------------------------------------------------------------------------------

OPTIONS = {
    "run gradient -n 0": "Invalid value for '-n' / '--max-examples': 0 is not at least 1",
    "run gradient -n -3": "Invalid value for '-n' / '--max-examples': -3 is not at least 1",
    "run gradient -n x": "Invalid value for '-n' / '--max-examples': 'x' is not a whole number",
    "run gradient -n 1.5": "Invalid value for '-n' / '--max-examples': '1.5' is not a whole number",
    "run gradient --seed -1": "Invalid value for '--seed': -1 is not at least 0",
    "run gradient --max-time 0": "Invalid value for '--max-time': 0 is not a positive number",
    "run gradient --max-time nan": "Invalid value for '--max-time': nan is not a positive number",
    "run gradient --max-time inf": "Invalid value for '--max-time': inf is not a positive number",
    "run gradient --max-time soon": "Invalid value for '--max-time': 'soon' is not a number",
    "run gradient -j -1": "Invalid value for '-j' / '--jobs': -1 is not at least 0",
    "run gradient --device tpu": "Invalid value for '--device': 'tpu' is not one of 'cpu', 'cuda'.",
    "run gradient --no-such-option": "No such option",
    "list things": (
        "'things' is not one of 'methods', 'axioms', 'families', 'options', 'targets', 'checks', 'models', 'data'."
    ),
    "list": "Missing argument",
    "sanity gradient --images 0": "Invalid value for '--images': 0 is not at least 1",
    "sanity gradient --scale huge": "Invalid value for '--scale': 'huge' is not one of 'tiny', 'default', 'full'.",
    "sanity gradient --seed -1": "Invalid value for '--seed': -1 is not at least 0",
    "sanity gradient -j -1": "Invalid value for '-j' / '--jobs': -1 is not at least 0",
    "sanity gradient --axiom dummy": "No such option",
    "explain": "Missing argument 'NAME'.",
    "replay": "Missing argument 'WITNESS.json|DIR'.",
    "report": "Missing argument 'RESULTS.json'.",
    "fly": "No such command 'fly'.",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_a_wrong_option_shows_the_usage(command: str) -> None:
    result = run(*command.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    usage, _, error = result.stderr.partition("\n\nError: ")
    assert usage.startswith("Usage: attribcheck ")
    assert OPTIONS[command] in error
    assert error.count("\n") == 1 or command == "list", "click lists the choices there, one a line"


# -- witnesses and results ------------------------------------------------------------------------------------------

Document = dict[str, Any]


@pytest.fixture(scope="module")
def results(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The results of a run that refutes a claim."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(library))
        result = run("run", "good_module:forgetful", "-n", "10", "-q", "--report-dir", str(folder))
    assert result.exit_code == 1
    loaded: Document = json.loads((folder / "results.json").read_text())
    return loaded


def but(**changes: Any) -> Callable[[Document], Document]:
    """The document with some fields changed."""
    return lambda witness: {**witness, **changes}


def drawn(axiom: str, **values: Any) -> Callable[[Document], Document]:
    """The case as one of another axiom."""
    return but(axiom=axiom, drawn=values)


def with_layer(**changes: Any) -> Callable[[Document], Document]:
    """The first layer of the network changed; None removes a setting."""

    def change(witness: Document) -> Document:
        layer = next(iter(witness["network"]["layers"].values()))
        layer.update(changes)
        for name in [name for name, value in layer.items() if value is None]:
            del layer[name]
        return witness

    return change


def without_tolerance(witness: Document) -> Document:
    """The schema allows null there."""
    witness["figures"]["tolerance"] = None
    return witness


WITNESSES: dict[str, tuple[Callable[[Document], Any] | str, str]] = {
    "no JSON": ("hello", "is not strict JSON"),
    "no object": ("[]", "holds no JSON object"),
    "NaN": (but(x=[[float("nan")]]), "is not strict JSON (NaN is no JSON number)"),
    "beyond floats": ('{"x": 1e999}', "is not strict JSON (1e999 is beyond every float)"),
    "another schema": (but(schema_version=7), "has schema_version 7, and this attribcheck reads 1"),
    "no schema": (lambda w: {k: v for k, v in w.items() if k != "schema_version"}, "has no schema_version"),
    "an unknown field": (but(colour="red"), "('colour' was unexpected)"),
    "no network": (lambda w: {k: v for k, v in w.items() if k != "network"}, "'network' is a required property"),
    "unknown axiom": (but(axiom="nonsense"), "unknown axiom 'nonsense'"),
    "unknown variant": (but(axiom="completeness/foo"), "unknown variant 'completeness/foo'"),
    "no variant": (but(axiom="completeness"), "'completeness' names no variant"),
    "drawn is missing": (drawn("dummy"), "a case of dummy needs drawn.feature"),
    "x of the wrong shape": (but(x=[[1.0] * 7], baseline=[[1.0] * 7]), "x: samples of shape [7] for a network of"),
    "ragged x": (but(x=[[1.0], [1.0, 2.0]]), "x: rows of different lengths"),
    "too many targets": (but(target=[0, 0, 0, 0]), "target: 4 targets for 1 samples"),
    "a baseline of another shape": (but(baseline=[[1.0] * 7]), "baseline: shape [1, 7] where x has [1, 1]"),
    "unknown layer kind": (with_layer(kind="spline"), "unknown kind of layer 'spline'; known: abs, "),
    "weights of words": (with_layer(weight="abc"), "the data does not describe a network"),
    "no weights": (with_layer(weight=None), "witness"),
    "an unknown method": (but(method="nope"), "unknown target 'nope'"),
    "a method that is gone": (but(method="good_module:absent"), "good_module has no 'absent'"),
    "half precision": (but(dtype="float16"), "dtype must be one of float64, float32, not 'float16'"),
    "no tolerance": (without_tolerance, "witness"),
    "a feature beyond": (drawn("dummy", feature=99), "the case cannot be evaluated: index 99 is out of bounds"),
    "a subset of words": (drawn("sensitivity-n/1", subset="ab"), "witness"),
    "one mirrored feature": (drawn("symmetry", features=[0]), "the case cannot be evaluated: "),
    "no second network": (drawn("implementation-invariance/split", chain=["split"], rewritten=5), "witness"),
    "a model that is gone": (but(network={"factory": "nowhere:f", "sha256": "a" * 64}), "no module 'nowhere'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WITNESSES)
def test_a_malformed_witness(what: str, results: Document, here: Path) -> None:
    change, said = WITNESSES[what]
    (witness,) = [result["witness"] for result in results["results"]]
    assert (len(witness["x"]), len(witness["x"][0])) == (1, 1)
    text = change if isinstance(change, str) else json.dumps(change(copy.deepcopy(witness)))
    (here / "witness.json").write_text(text)
    assert said in refused("replay", "witness.json")


OTHERS: dict[str, tuple[Callable[[Document], Document], str]] = {
    "target": (but(target=[99]), "99"),
    "weights": (with_layer(weight=[[1.0] * 9]), "shape"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_case_that_cannot_be_evaluated(what: str, results: Document, here: Path) -> None:
    """What is wrong only shows when the network is called: exit code 2 and one line, on whichever stream."""
    change, said = OTHERS[what]
    (witness,) = [result["witness"] for result in results["results"]]
    (here / "witness.json").write_text(json.dumps(change(copy.deepcopy(witness))))
    result = run("replay", "witness.json")
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert said in result.output


def test_an_empty_folder_of_witnesses(here: Path) -> None:
    (here / "empty").mkdir()
    (here / "report" / "witnesses").mkdir(parents=True)
    assert "empty: no witnesses (*.json) in this folder" in refused("replay", "empty")
    assert "report: no witnesses (*.json) in this folder" in refused("replay", "report")


RESULTS: dict[str, tuple[Callable[[Document], Document], str]] = {
    "no seed": (lambda d: {k: v for k, v in d.items() if k != "seed"}, "'seed' is a required property"),
    "another schema": (but(schema_version=0), "has schema_version 0, and this attribcheck reads 1"),
    "an unknown verdict": (
        lambda d: {**d, "results": [{**d["results"][0], "verdict": "maybe"}]},
        "results[0].verdict: 'maybe' is not one of",
    ),
    "a cell twice": (
        lambda d: {**d, "results": d["results"] * 2},
        "results[1]: the same method, axiom and family as results[0]",
    ),
}


@pytest.mark.parametrize("what", RESULTS)
def test_malformed_results(what: str, results: Document, here: Path) -> None:
    change, said = RESULTS[what]
    (here / "results.json").write_text(json.dumps(change(copy.deepcopy(results))))
    assert said in refused("report", "results.json")
    assert [path.name for path in here.iterdir()] == ["results.json"]


def test_an_unknown_format_of_a_report(results: Document, here: Path) -> None:
    (here / "results.json").write_text(json.dumps(results))
    assert "unknown report format 'pdf'" in refused("report", "results.json", "--report", "pdf")
