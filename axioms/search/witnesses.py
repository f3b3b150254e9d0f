"""Counterexamples as documents that stand alone: written, read, evaluated again, and told as a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ... import axioms
from ...errors import UsageError
from ...methods.naming import file_name
from ...results import SCHEMA_VERSION
from ..axiom import Axiom
from ..case import Case
from ..comparison import Comparison
from ..networks.build import magnitude, seen_magnitude
from ..networks.spec import Network
from ..script import script
from ..tolerances import Judgement, judge
from ..trial import Trial
from .bench import Bench


def evaluate(bench: Bench, case: Case) -> tuple[Judgement, Comparison, Trial]:
    """The method on one case.

    Raises:
        Unsupported, MethodError: see Trial.attribute.
    """
    trial = bench.trial(case)
    comparison = bench.axiom.residual(bench.variant, trial)
    return judge(comparison, case.dtype, bench.tol, _magnitude(bench, case), trial.finite), comparison, trial


def _magnitude(bench: Bench, case: Case) -> Callable[[], float]:
    """The path magnitude over all networks that a check evaluates, to be called where it matters."""
    # On modules of its own: what the method does to them is not ours to build on.
    own = bench.trial(case)

    def of(each: Case) -> float:
        # The reference enters as well as x: completeness subtracts the output there.
        x, start = own.tensor(each.x, each), own.reference(each)
        if isinstance(each.network, Network):
            return magnitude(each.network, torch.maximum(x.abs(), start.abs()).cpu())
        target = torch.tensor(each.target, device=own.device)
        return seen_magnitude(own.module(each), torch.cat([x, start]), torch.cat([target, target]))

    return lambda: max(of(each) for each in bench.axiom.evaluated(bench.variant, case))


def to_document(bench: Bench, case: Case) -> dict[str, Any]:
    """The witness of a violated case, with its figures and its script.

    Raises:
        Unsupported, MethodError: the method does not answer on this case (any more).
    """
    judgement, comparison, trial = evaluate(bench, case)
    figures = {
        "what": comparison.what,
        "expected": _finite(comparison.expected.tolist()),
        "obtained": _finite(comparison.obtained.tolist()),
        "residual": judgement.residual,
        "tolerance": judgement.tolerance,
        "attribution": _finite(trial.attribute().tolist()),
    }
    return _document(bench, case, figures, judgement)


def error_document(bench: Bench, case: Case, error: str) -> dict[str, Any]:
    """The witness of a case on which a method raises, or returns something that is no attribution; `error` says what."""
    figures = {
        "what": f"error: {error}",
        "error": error,
        "expected": None,
        "obtained": None,
        "residual": None,
        "tolerance": None,
    }
    return _document(bench, case, figures, error)


def _document(bench: Bench, case: Case, figures: dict[str, Any], shown: Judgement | str) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "method": bench.method.name,
        "axiom": bench.axiom.full(bench.variant),
        "family": bench.family,
        **case.to_json(),
        "figures": figures,
        "script": script(bench.axiom, bench.variant, bench.method, case, shown),
    }


def _finite(value: Any) -> Any:
    """Nested lists with None where a number is not finite (strict JSON has no NaN)."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if value == value and abs(value) != float("inf") else None


def read_case(document: Mapping[str, Any]) -> tuple[Axiom, str, Case]:
    """The axiom, the variant and the case of a witness document.

    Raises:
        UsageError: the document does not describe them.
    """
    axiom, variant = axioms.find(document["axiom"])
    if variant is None:
        if "" not in axiom.variants:
            raise UsageError(f"witness: {document['axiom']!r} names no variant")
        variant = ""
    case = Case.from_json(document)
    missing = [name for name in axiom.draws if name not in case.drawn]
    if missing:
        raise UsageError(f"witness: a case of {axiom.name} needs drawn.{missing[0]}")
    return axiom, variant, case


def filename(method: str, axiom: str, family: str) -> str:
    """A file name for a witness: unique for each cell, and safe on any file system."""
    return "--".join(map(file_name, (method, axiom, family))) + ".json"
