"""Counterexamples as documents that stand alone: written, read, evaluated again, and told as a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ... import axioms
from ...claims import Method
from ...errors import UsageError
from ...methods.naming import file_name
from ...results import SCHEMA_VERSION
from ..axiom import Axiom
from ..case import Case, GivenModel
from ..comparison import Comparison
from ..networks.build import magnitude, seen_magnitude
from ..networks.spec import Network
from ..script import script
from ..tolerances import Judgement, judge
from ..trial import Trial


def evaluate(
    axiom: Axiom, variant: str, method: Method, case: Case, tol: float | None, device: str, given: GivenModel | None
) -> tuple[Judgement, Comparison, Trial]:
    """One method on one case of one axiom.

    Raises:
        Unsupported, MethodError: see Trial.attribute.
    """
    trial = Trial(method, case, device, given)
    comparison = axiom.residual(variant, trial)
    return judge(comparison, case.dtype, tol, _magnitude(axiom, variant, trial), trial.finite), comparison, trial


def _magnitude(axiom: Axiom, variant: str, trial: Trial) -> Callable[[], float]:
    """The path magnitude over all networks that a check evaluates, to be called where it matters."""
    # On modules of its own: what the method does to them is not ours to build on.
    own = Trial(trial.method, trial.case, trial.device, trial.given)

    def of(case: Case) -> float:
        # The reference enters as well as x: completeness subtracts the output there.
        x, start = own.tensor(case.x, case), own.reference(case)
        if isinstance(case.network, Network):
            return magnitude(case.network, torch.maximum(x.abs(), start.abs()).cpu())
        target = torch.tensor(case.target, device=trial.device)
        return seen_magnitude(own.module(case), torch.cat([x, start]), torch.cat([target, target]))

    return lambda: max(of(case) for case in axiom.evaluated(variant, trial.case))


def to_document(
    axiom: Axiom,
    variant: str,
    method: Method,
    family: str,
    case: Case,
    tol: float | None,
    device: str,
    given: GivenModel | None,
) -> dict[str, Any]:
    """The witness of a violated case, with its figures and its script.

    Raises:
        Unsupported, MethodError: the method does not answer on this case (any more).
    """  # fmt: skip
    judgement, comparison, trial = evaluate(axiom, variant, method, case, tol, device, given)
    figures = {
        "what": comparison.what,
        "expected": _finite(comparison.expected.tolist()),
        "obtained": _finite(comparison.obtained.tolist()),
        "residual": judgement.residual,
        "tolerance": judgement.tolerance,
        "attribution": _finite(trial.attribute().tolist()),
    }
    return _document(axiom, variant, method, family, case, figures, script(axiom, variant, method, case, judgement))


def error_document(axiom: Axiom, variant: str, method: Method, family: str, case: Case, error: str) -> dict[str, Any]:
    """The witness of a case on which a method raises, or returns something that is no attribution; `error` says what."""
    figures = {
        "what": f"error: {error}",
        "error": error,
        "expected": None,
        "obtained": None,
        "residual": None,
        "tolerance": None,
    }
    return _document(axiom, variant, method, family, case, figures, script(axiom, variant, method, case, error))


def _document(
    axiom: Axiom, variant: str, method: Method, family: str, case: Case, figures: dict[str, Any], program: str
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "method": method.name,
        "axiom": axiom.full(variant),
        "family": family,
        **case.to_json(),
        "figures": figures,
        "script": program,
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
