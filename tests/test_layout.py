"""The house keeps its shape: which folder may import which, no circles, few modules at the root, every folder packaged."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attribcheck
import pytest

ROOT = Path(attribcheck.__path__[0]).resolve()
AT_THE_ROOT = {"api", "calling", "claims", "errors", "loading", "pytest_plugin", "results", "verdict"}

# What a folder or a module of the root imports of the others: arrows go down only.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "claims": {"errors"},
    "compat": set(),
    "results": {"claims", "reports"},  # (a Report writes itself)
    "verdict": {"claims", "results"},
    "calling": {"claims", "errors", "compat"},
    "loading": {"errors"},
    "reports": {"errors", "results"},
    "methods": {"claims", "errors", "loading", "compat"},
    "models": {"errors", "loading", "calling"},
    "axioms": {
        "claims", "errors", "loading", "calling", "compat", "results", "verdict", "methods", "reports",
    },
    "sanity": {
        "claims", "errors", "calling", "results", "verdict", "methods", "models", "axioms",
    },
    "runner": {
        "claims", "errors", "calling", "results", "methods", "models", "axioms", "sanity", "cli",
    },
    "cli": {
        "claims", "errors", "results", "methods", "models", "axioms", "sanity", "runner", "reports",
    },
    "api": {"claims", "results", "methods", "axioms", "runner"},
    "pytest_plugin": {"errors", "results", "axioms", "runner", "reports", "calling"},
    "tools": {"claims", "errors", "results", "methods", "axioms", "runner", "cli", "reports"},
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package by its name without `attribcheck`; a package's __init__ by the package's."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] not in ("tests", "build", ".venv") and not parts[0].startswith("."):
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The modules of the package that one imports, anywhere in it; those that only a type checker reads left out."""
    path = MODULES[name]
    tree = ast.parse(path.read_text())
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in for_types:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            start = ".".join(part for part in base if part)
            for alias in node.names:
                full = f"{start}.{alias.name}".lstrip(".")
                yield full if full in MODULES else start


GRAPH = {name: {other for other in imports(name) if other in MODULES and other != name} for name in MODULES}


def test_the_root_holds_few_modules() -> None:
    at_the_root = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert at_the_root == AT_THE_ROOT


@pytest.mark.parametrize("folder", sorted({name.partition(".")[0] for name in MODULES} - {"", "__main__"}))
def test_arrows_go_down(folder: str) -> None:
    """Exactly these: an arrow that nobody needs any more is taken out of the table."""
    own = [name for name in MODULES if name.partition(".")[0] == folder]
    assert {other.partition(".")[0] for name in own for other in GRAPH[name]} - {folder} == BELOW[folder]


def test_no_circle_of_imports() -> None:
    """Also none that is hidden in a function; a package does not count as the modules that it holds."""
    left = {name: set(others) for name, others in GRAPH.items() if name}
    while True:
        free = [name for name, others in left.items() if not others & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    assert not left, f"these import each other: {sorted(left)}"


def test_every_folder_with_code_is_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    assert listed == {
        ".".join(["attribcheck", *name.split(".")]) if name else "attribcheck"
        for name, path in MODULES.items()
        if path.name == "__init__.py"
    }
    assert all((path.parent / "__init__.py").exists() for path in MODULES.values())


def test_the_public_paths_of_scripts() -> None:
    from attribcheck.cli import cli, main
    from attribcheck.runner import Options, run, run_cell

    assert all(map(callable, (attribcheck.check, attribcheck.get_method, Options, run, run_cell, main, cli)))
    assert attribcheck.__version__.count(".") == 2
