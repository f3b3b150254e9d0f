"""Saved counterexamples, evaluated again: what `attribcheck replay` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ... import calling
from ...errors import MethodError, Unsupported, UsageError, first_line
from ...methods.registry import get_method
from ...reports.document import load_witness
from ...results import Observed, Row
from .. import user_model as given_models
from ..case import GivenModel, UserModel
from ..tolerances import TOLERANCE
from .bench import Bench
from .witnesses import evaluate, read_case


@dataclass
class Outcome(Row):
    """One replayed witness.

    error    what the method raised, or returned that is no attribution; reproduced where that is what the witness shows
    refused  the method says that it cannot treat the network
    wrong    why the document cannot be evaluated; None where it can
    """

    path: Path
    method: str
    axiom: str
    reproduced: bool
    residual: float | None = None
    tolerance: float | None = None
    error: str | None = None
    refused: bool = False
    wrong: str | None = None

    @property
    def id(self) -> str:
        """Its file, what it shows, and the method."""
        return f"{self.path}: {self.axiom}, {self.method}"

    def line(self) -> str:
        """One line for a terminal."""
        head = f"{self.id}: "
        error = self.note if self.observed == Observed.ERROR else self.error
        if error:
            return head + ("reproduced: " if self.reproduced else "error: ") + error
        if self.refused:
            return head + "not reproduced: the method refuses this network"
        if self.tolerance is None:
            return head + "not reproduced: the method answers"
        residual = "not finite" if self.residual is None else f"{self.residual:.6g}"
        word = "reproduced" if self.reproduced else "not reproduced"
        return head + f"{word}: residual {residual} against {self.tolerance:g}"


def replay(path: Path, target: str | None = None, device: str = "cpu") -> list[Outcome]:
    """Evaluate a witness, or every witness of a folder, again, in this process.

    Args:
        target: another method to try on the same cases; by default the one that the witness names.

    Raises:
        UsageError: nothing readable there, an unknown target, or no CUDA device.
    """
    return [replay_one(each, target, device) for each in witnesses(path, device)]


def witnesses(path: Path, device: str = "cpu") -> list[Path]:
    """The files of a witness, or of every witness of a folder.

    Raises:
        UsageError: there is none in the folder, or no CUDA device.
    """
    calling.must_have(device)
    if path.is_dir():
        paths = sorted((path / "witnesses" if (path / "witnesses").is_dir() else path).glob("*.json"))
        paths = [p for p in paths if p.name != "results.json"]
        if not paths:
            raise UsageError(f"{path}: no witnesses (*.json) in this folder")
    else:
        paths = [path]
    return paths


def readable(path: Path, target: str | None) -> tuple[str, str, bool]:
    """The method and the axiom of a witness, and whether it shows an error.

    Raises:
        UsageError: the file is no witness, or there is no such method.
    """
    document = load_witness(path)
    axiom, variant, _ = read_case(document)
    name = target or document["method"]
    get_method(name)
    return name, axiom.full(variant), "error" in document["figures"]


def replay_one(path: Path, target: str | None, device: str) -> Outcome:
    """Evaluate one witness again, in this process.

    Raises:
        UsageError: it cannot be read or evaluated, or there is no such method.
    """
    document = load_witness(path)
    axiom, variant, case = read_case(document)
    name = target or document["method"]
    method = get_method(name)
    given: GivenModel | None = None
    if isinstance(case.network, UserModel):
        given = given_models.for_case(case.network, case.x.shape[1:])
    # The tolerance that the claim stated travels with the witness; another method is held to rounding.
    figures = document["figures"]
    erred = "error" in figures
    if figures["tolerance"] is None and not erred:
        raise UsageError(f"{path}: figures.tolerance is null; a witness states the tolerance that it exceeds")
    stated = 0.0 if erred else float(figures["tolerance"])
    tol = stated if target is None and stated > TOLERANCE[case.dtype] else None
    full = axiom.full(variant)
    try:
        judgement, _, _ = evaluate(Bench(axiom, variant, method, document["family"], tol, device, given), case)
    except Unsupported:
        return Outcome(path, name, full, False, refused=True)
    except MethodError as error:
        return Outcome(path, name, full, erred, error=str(error))
    except UsageError:
        raise
    except Exception as error:  # what the method raises is a MethodError: anything else is a defect of the document
        raise UsageError(f"{path}: the case cannot be evaluated: {first_line(error)}") from error
    if erred:
        return Outcome(path, name, full, False)
    return Outcome(path, name, full, judgement.violated, judgement.residual, judgement.tolerance)
