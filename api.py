"""The library interface: check a method in code, or as parametrized tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .axioms.search.cell import run_cell
from .axioms.search.plan import Options, Selection
from .claims import Claim, Method
from .methods.registry import as_method, get_method
from .results import Report, Result, Verdict
from .runner.axioms import prepared, run


def _as_one_method(target: Any, claims: Iterable[Claim] | None) -> Method:
    if isinstance(target, str):
        found = get_method(target)
    else:
        found = as_method(target, imports=_imports(target))
    return found if claims is None else found.but(claims=tuple(claims))


def _imports(target: Any) -> str | None:
    """Source that imports a callable, where it can be imported by name."""
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "<locals>")
    if module in (None, "__main__") or "<locals>" in name or inspect.getmodule(target) is None:
        return None
    return f"from {module} import {name.partition('.')[0]}\n\nattribute = {name}"


def check(
    method: Any,
    *,
    claims: Iterable[Claim] | None = None,
    axioms: Sequence[str] = (),
    families: Sequence[str] = (),
    max_examples: int = 100,
    seed: int = 0,
    observe: bool = False,
    device: str = "cpu",
    progress: Callable[[int, int, Result], None] | None = None,
) -> Report:
    """Check the claims of a method, in this process.

    What a method raises is an error of its own; one that never returns, or that ends the process, is contained on the command
    line only, which calls methods in processes of their own.

    Args:
        method: a decorated or bare callable attribute(model, x, target, baseline=None), or the name of a method.
        claims: replace the method's own; a method without claims is observed on every axiom, and nothing gates.
        axioms, families: only these.
        max_examples: cases for each claim.
        seed: the same seed gives the same verdicts and the same witnesses.
        observe: also check everything else that applies.
        device: "cpu" or "cuda".
        progress: called with (done, total, result) after each cell.

    Returns:
        The report; `report.ok` says whether every claim stands. After Ctrl-C, that of the claims that were checked until
        then: `report.incomplete` says so.

    Raises:
        UsageError: the method is not callable, a claim makes no sense, nothing is selected, or fewer than one example is
            asked for.
    """
    options = Options(
        selection=Selection(tuple(axioms), (), tuple(families), observe),
        max_examples=max_examples,
        seed=seed,
        device=device,
    )
    return run(options, [_as_one_method(method, claims)], progress=progress)


def parametrize_with_axioms(methods: Iterable[Any], *, max_examples: int = 100, seed: int = 0) -> Any:
    """A pytest decorator: one test for each claim of the methods, marked `axioms`.

    The test function takes one argument, `axiom_check`, and calls it; the call fails with the witness where the claim
    does not stand:

        @ac.parametrize_with_axioms([my_method, "deeplift"])
        def test_claims(axiom_check):
            axiom_check()

    Args:
        methods: callables or names.
        max_examples, seed: as for `check`.

    Raises:
        UsageError: a method is not callable, a claim makes no sense, or fewer than one example is asked for.
    """
    import pytest

    options = Options(max_examples=max_examples, seed=seed)
    cells, _ = prepared(options, [_as_one_method(m, None) for m in methods])

    def checker(cell: Any) -> Callable[[], Result]:
        def axiom_check() -> Result:
            from .axioms.search.failures import failure_text

            result = run_cell(cell, options)
            if result.verdict not in (Verdict.PASS, Verdict.UNCLAIMED):
                pytest.fail(failure_text(result, None), pytrace=False)
            return result

        return axiom_check

    parameters = [pytest.param(checker(cell), id=cell.id, marks=pytest.mark.axioms) for cell in cells]
    return pytest.mark.parametrize("axiom_check", parameters)
