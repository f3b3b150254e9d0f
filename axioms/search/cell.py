"""The runner: cells in, results out. It alone turns searches and replays into verdicts."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...claims import Method
from ...errors import Defect, MethodError, Unsupported, UsageError
from ...methods.registry import resolve, unique
from ...results import Report, Result
from ...runner.processes import STOPS, in_workers, why
from .. import user_model as given_models
from ..case import Case, GivenModel
from ..tolerances import TOLERANCE
from .bench import Bench
from .falsify import ENOUGH, Tally, search
from .plan import Cell, Selection, plan
from .streams import Origin
from .witnesses import error_document, evaluate, filename, read_case, to_document


@dataclass(frozen=True)
class Options:
    """What a run was asked for; plain data, so that workers can rebuild the same plan.

    targets    TARGETs; empty where methods are given as objects
    deadline   on time.monotonic's clock of this machine, or None
    """

    targets: tuple[str, ...] = ()
    selection: Selection = field(default_factory=Selection)
    max_examples: int = 100
    seed: int = 0
    device: str = "cpu"
    model: str | None = None
    data: str | None = None
    deadline: float | None = None


Progress = Callable[[int, int, Result], None]


def run(
    options: Options,
    methods: Sequence[Method] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    wanted: Callable[[Cell], bool] = lambda cell: True,
) -> Report:
    """Check the selected claims.

    An interruption ends the run with what was found until then; the report says so.

    Args:
        methods: the methods, where they are objects and not TARGETs (then in this process only).
        jobs: worker processes; 0: one for each core.
        progress: called after each cell with (done, total, result), in the order in which cells finish.
        wanted: which of the planned cells to check.

    Raises:
        UsageError: see `plan` and `resolve`.
    """
    cells, given = prepared(options, methods)
    chosen = [k for k, cell in enumerate(cells) if wanted(cell)]
    jobs = min(jobs or multiprocessing.cpu_count(), max(1, len(chosen)))
    tasks = _tasks(cells, chosen, jobs)
    found: Generator[list[tuple[int, Result]], None, None]
    if jobs > 1 and methods is None:
        found = in_workers(_run_task, tasks, jobs, _start, options)
    else:
        found = ([(k, run_cell(cells[k], options, given))] for task in tasks for k in task)
    results: dict[int, Result] = {}
    incomplete = None
    try:
        with closing(found):
            for numbered in found:
                for k, result in numbered:
                    results[k] = result
                    if progress is not None:
                        progress(len(results), len(chosen), result)
    except STOPS as stop:
        incomplete = f"{why(stop)} after {len(results)} of {len(chosen)} claims"
    done = [results[k] for k in chosen if k in results]
    return Report(done, options.seed, options.max_examples, options.device, incomplete=incomplete)


def prepared(options: Options, methods: Sequence[Method] | None = None) -> tuple[list[Cell], GivenModel | None]:
    """The plan of a run, and the user's model where one is given.

    Raises:
        UsageError: see `plan` and `resolve`; no CUDA device where one is asked for.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    given = None
    if options.model is not None:
        given = given_models.load(options.model, options.data)
    found = unique([m for target in options.targets for m in resolve(target)]) if methods is None else methods
    return plan(found, options.selection, given is not None), given


# -- workers -------------------------------------------------------------------------------------------------

_WORKER: tuple[Options, list[Cell], GivenModel | None] | None = None


def _start(options: Options) -> None:
    global _WORKER
    _WORKER = (options, *prepared(options))


def _run_task(numbers: list[int]) -> list[tuple[int, Result]]:
    assert _WORKER is not None
    options, cells, given = _WORKER
    return [(k, run_cell(cells[k], options, given)) for k in numbers]


# So many cells one after the other save most of what drawing costs, and workers still end at about the same time.
_TASK = 24


def _tasks(cells: Sequence[Cell], chosen: Sequence[int], jobs: int) -> list[list[int]]:
    """The numbers of the chosen cells, those next to each other that are tried on the same cases."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for k in chosen:
        cell = cells[k]
        key = Origin.of(cell.axiom, cell.variants[0], cell.family, cell.method).key
        groups.setdefault(key, []).append(k)
    size = _TASK if jobs > 1 else len(cells)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


# -- one cell ------------------------------------------------------------------------------------------------


def run_cell(cell: Cell, options: Options, given: GivenModel | None = None) -> Result:
    """Check one cell: replay its pinned witness, or search; then the verdict."""
    start = time.perf_counter()
    claim, method = cell.claim, cell.method
    seed = options.seed
    result = Result(
        method=method.name,
        axiom=cell.label,
        family=cell.family,
        claim=claim.kind if claim else None,
        reason=claim.reason if claim else None,
        source=claim.source if claim else None,
        seed=seed,
    )
    try:
        if claim is not None and claim.witness is not None:
            _replay_pinned(cell, options, given, result)
        else:
            for variant in cell.variants:
                _search(cell, variant, options, given, seed, result)
                if result.observed in ("violated", "error") or result.note:
                    break
    except Defect as error:
        result.observed, result.note = "error", f"a defect of attribcheck, please report it: {error}"
    except UsageError as error:  # a pinned witness that is not there, an option out of range: of this cell alone
        result.observed, result.note = "error", str(error)
    result.verdict = _verdict(result)
    result.seconds = round(time.perf_counter() - start, 3)
    return result


def _verdict(result: Result) -> str:
    if result.observed == "error":
        return "error"
    if result.claim is None:
        return "unclaimed"
    if result.observed in ("inconclusive", "unsupported", "not-applicable"):
        return "inconclusive"
    shown = "holds" if result.claim == "holds" else "violated"
    if result.observed != shown and result.claim == "fails" and not result.note:
        result.note = "the claimed failure could not be shown: no counterexample among the cases drawn"
    return "pass" if result.observed == shown else "fail"


def _search(cell: Cell, variant: str, options: Options, given: GivenModel | None, seed: int, result: Result) -> None:
    tol = cell.claim.tol if cell.claim else None
    bench = Bench(cell.axiom, variant, cell.method, cell.family, tol, options.device, given, options.deadline)
    tally = search(bench, options.max_examples, seed)
    result.examples += tally.examples
    result.discarded += tally.discarded
    result.unsupported += tally.unsupported
    result.vacuous += tally.vacuous
    for name, count in tally.drawn.items():
        if count:
            result.drawn[name] = result.drawn.get(name, 0) + count
    result.worst = _worst(tally, tol)
    if tally.error is not None:
        result.observed, result.note = "error", tally.error
        if tally.violated is not None:
            _show_error(bench, tally.violated, result)
    elif tally.flaky:
        result.observed = "inconclusive"
        result.note = _FLAKY
    elif tally.violated is not None:
        result.observed = "violated"
        result.axiom = cell.axiom.full(variant)
        try:
            result.witness = to_document(bench, tally.violated)
        except (MethodError, Unsupported) as error:
            result.observed, result.note = "inconclusive", f"the counterexample could not be evaluated again: {error}"
            return
        figures = result.witness["figures"]
        if figures["residual"] is not None and figures["residual"] <= figures["tolerance"]:
            result.observed, result.note, result.witness = "inconclusive", _FLAKY, None
            return
        result.witness_file = _witness_file(result)
        if not tally.nonfinite:
            tally.saw(figures["residual"], figures["tolerance"])
            result.worst = _worst(tally, tol)
    elif tally.cut:
        result.observed, result.note = "inconclusive", "cut off by --max-time"
    elif tally.examples == 0 and tally.unsupported:
        result.observed, result.note = "unsupported", "the method refused every network that was drawn"
    elif tally.examples - tally.vacuous < ENOUGH * options.max_examples:
        result.observed = "inconclusive"
        result.note = (
            f"only {tally.examples - tally.vacuous} of {options.max_examples} cases were valid and said something"
            f" ({tally.discarded} discarded, {tally.unsupported} refused, {tally.vacuous} vacuous)"
        )
    else:
        result.observed = "holds"
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
    from ...reports.document import load_witness

    assert cell.claim is not None and cell.claim.witness is not None
    document = load_witness(Path(cell.claim.witness))
    axiom, variant, case = read_case(document)
    if axiom is not cell.axiom or variant not in cell.variants:
        raise UsageError(f"{cell.claim.witness}: the pinned witness is one of {axiom.full(variant)}, not {cell.label}")
    bench = Bench(axiom, variant, cell.method, cell.family, cell.claim.tol, options.device, given)
    try:
        judgement, _, _ = evaluate(bench, case)
    except Unsupported:
        result.observed, result.unsupported = "unsupported", 1
        result.note = "the method refuses the network of the pinned witness"
        return
    except MethodError as error:
        result.observed, result.note = "error", f"on the pinned witness: {error}"
        return
    result.examples, result.axiom = 1, axiom.full(variant)
    result.worst = {
        "residual": judgement.residual,
        "tolerance": judgement.tolerance,
        **({"nonfinite": True} if judgement.residual is None else {}),
    }
    if not judgement.violated:
        result.observed, result.note = "holds", "the pinned witness is stale: it no longer shows the failure"
        return
    result.observed, result.note = "violated", "shown by the pinned witness"
    result.witness = to_document(bench, case)
    result.witness_file = _witness_file(result)
