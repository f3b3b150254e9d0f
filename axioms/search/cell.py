"""One cell, checked: its pinned witness evaluated again, or a search; and what a cell whose process died is told as."""

from __future__ import annotations

import time
from pathlib import Path

from ... import calling, verdict
from ...claims import Kind
from ...errors import Defect, MethodError, Unsupported, UsageError, defect
from ...reports.document import load_witness
from ...results import Observed, Result
from ..case import Case, GivenModel
from ..tolerances import TOLERANCE
from .bench import Bench
from .falsify import ENOUGH, Tally, search
from .plan import Cell, Options
from .witnesses import error_document, evaluate, filename, read_case, to_document

CUT_OFF = "cut off by --max-time"


def run_cell(cell: Cell, options: Options, given: GivenModel | None = None, deadline: float | None = None) -> Result:
    """Check one cell: replay its pinned witness, or search; then the verdict.

    Args:
        deadline: on time.monotonic's clock of this process, when no more cases are tried; None: no end.
    """
    start, claim = time.perf_counter(), cell.claim
    result = Result(cell.method.name, cell.label, cell.family, seed=options.seed)
    untouched = calling.originals()
    try:
        with calling.kept_random_numbers(options.device):
            calling.seed_all(options.seed)  # whatever was computed before in this process
            if claim is not None and claim.witness is not None:
                _replay_pinned(cell, options, given, result)
            else:
                for variant in cell.variants:
                    calling.working_on(cell.axiom.full(variant))
                    _search(cell, variant, options, given, deadline, result)
                    if result.observed in (Observed.VIOLATED, Observed.ERROR) or result.note:
                        break
                claimed_to_fail = claim is not None and claim.kind == Kind.FAILS
                if claimed_to_fail and result.observed == Observed.HOLDS and result.note is None:
                    result.note = "no counterexample among the cases drawn"
    except Defect as error:
        result.observed, result.note = Observed.ERROR, _defect(error, untouched)
    except UsageError as error:  # a pinned witness that is not there, an option out of range: of this cell alone
        result.observed, result.note = Observed.ERROR, str(error)
    except Exception as error:  # a mistake of ours, which is charged to no method
        result.observed, result.note = Observed.ERROR, defect(error)
    verdict.judge(result, claim)
    result.seconds = round(time.perf_counter() - start, 3)
    return result


def _defect(error: Defect, untouched: calling.Originals) -> str:
    """Whose fault it is that a precheck of attribcheck's own fails."""
    replaced = untouched.replaced()
    if replaced:
        return f"replaced {', '.join(replaced)} in the whole process and did not put it back"
    return f"a defect of attribcheck, please report it: {error}"


def lost(cell: Cell, options: Options, given: GivenModel | None, why: str, at: str | None, case: object) -> Result:
    """The result of a cell whose process died, or was ended since a call did not return.

    Args:
        why: in one line.
        at: the axiom's variant that was looked at, "name/variant"; None where that is not known.
        case: the case on which the method was called last; anything else where that is not known.
    """
    result = Result(cell.method.name, cell.label, cell.family, seed=options.seed, examples=1)
    result.observed, result.note = Observed.ERROR, why
    variants = [variant for variant in cell.variants if cell.axiom.full(variant) == at]
    if variants and isinstance(case, Case) and case.is_finite():  # (strict JSON has no infinity)
        result.axiom = cell.axiom.full(variants[0])
        bench = Bench(cell.axiom, variants[0], cell.method, cell.family, None, options.device, given)
        result.witness = error_document(bench, case, why)
        result.witness_file = _witness_file(result)
    verdict.judge(result, cell.claim)
    return result


def _search(
    cell: Cell, variant: str, options: Options, given: GivenModel | None, deadline: float | None, result: Result
) -> None:
    tol = cell.claim.tol if cell.claim else None
    bench = Bench(cell.axiom, variant, cell.method, cell.family, tol, options.device, given, deadline)
    tally = search(bench, options.max_examples, options.seed)
    result.examples += tally.examples
    result.discarded += tally.discarded
    result.unsupported += tally.unsupported
    result.vacuous += tally.vacuous
    for name, count in tally.drawn.items():
        if count:
            result.drawn[name] = result.drawn.get(name, 0) + count
    result.worst = _worst(tally, tol)
    if tally.error is not None:
        result.observed, result.note = Observed.ERROR, tally.error
        if tally.violated is not None:
            _show_error(bench, tally.violated, result)
    elif tally.flaky:
        result.observed = Observed.INCONCLUSIVE
        result.note = _FLAKY
    elif tally.violated is not None:
        result.observed = Observed.VIOLATED
        result.axiom = cell.axiom.full(variant)
        try:
            result.witness = to_document(bench, tally.violated)
        except (MethodError, Unsupported) as error:
            result.observed = Observed.INCONCLUSIVE
            result.note = f"the counterexample could not be evaluated again: {error}"
            return
        figures = result.witness["figures"]
        if figures["residual"] is not None and figures["residual"] <= figures["tolerance"]:
            result.observed, result.note, result.witness = Observed.INCONCLUSIVE, _FLAKY, None
            return
        result.witness_file = _witness_file(result)
        if not tally.nonfinite:
            tally.saw(figures["residual"], figures["tolerance"])
            result.worst = _worst(tally, tol)
    elif tally.cut:
        result.observed, result.note = Observed.INCONCLUSIVE, CUT_OFF
    elif tally.examples == 0 and tally.unsupported:
        result.observed, result.note = Observed.UNSUPPORTED, "the method refused every network that was drawn"
    elif tally.examples - tally.vacuous < ENOUGH * options.max_examples:
        result.observed = Observed.INCONCLUSIVE
        result.note = (
            f"only {tally.examples - tally.vacuous} of {options.max_examples} cases were valid and said something"
            f" ({tally.discarded} discarded, {tally.unsupported} refused, {tally.vacuous} vacuous)"
        )
    else:
        result.observed = Observed.HOLDS
        if tol is not None and tally.residual is not None and tally.residual <= TOLERANCE["float64"]:
            result.note = f"the claim is weaker than what was seen: it holds without the stated tolerance {tol:g}"


_FLAKY = "the method answers differently on the same case; declare stochastic=True if it draws random numbers"


def _worst(tally: Tally, tol: float | None) -> dict[str, object]:
    return {
        "residual": tally.residual,
        "tolerance": tally.tolerance or max(TOLERANCE["float64"], tol or 0.0),
        **({"nonfinite": True} if tally.nonfinite else {}),
    }


def _witness_file(result: Result) -> str:
    return "witnesses/" + filename(result.method, result.axiom, result.family)


def _show_error(bench: Bench, case: Case, result: Result) -> None:
    """The witness of the smallest case on which the method erred, and what it says there."""
    try:
        evaluate(bench, case)
    except MethodError as error:
        result.note, result.axiom = str(error), bench.axiom.full(bench.variant)
        result.witness = error_document(bench, case, result.note)
        result.witness_file = _witness_file(result)
    except Unsupported:
        pass
    if result.witness is None:
        result.note = f"{result.note}; not when it was called again on the same case"


def _replay_pinned(cell: Cell, options: Options, given: GivenModel | None, result: Result) -> None:
    """Evaluate the pinned witness of a claimed failure: deterministic, and no search."""
    assert cell.claim is not None and cell.claim.witness is not None
    document = load_witness(Path(cell.claim.witness))
    axiom, variant, case = read_case(document)
    if axiom is not cell.axiom or variant not in cell.variants:
        raise UsageError(f"{cell.claim.witness}: the pinned witness is one of {axiom.full(variant)}, not {cell.label}")
    bench = Bench(axiom, variant, cell.method, cell.family, cell.claim.tol, options.device, given)
    try:
        judgement, _, _ = evaluate(bench, case)
    except Unsupported:
        result.observed, result.unsupported = Observed.UNSUPPORTED, 1
        result.note = "the method refuses the network of the pinned witness"
        return
    except MethodError as error:
        result.observed, result.note = Observed.ERROR, f"on the pinned witness: {error}"
        return
    result.examples, result.axiom = 1, axiom.full(variant)
    result.worst = {
        "residual": judgement.residual,
        "tolerance": judgement.tolerance,
        **({"nonfinite": True} if judgement.residual is None else {}),
    }
    if not judgement.violated:
        result.observed, result.note = Observed.HOLDS, "the pinned witness is stale: it no longer shows the failure"
        return
    result.observed, result.note = Observed.VIOLATED, "shown by the pinned witness"
    result.witness = to_document(bench, case)
    result.witness_file = _witness_file(result)
