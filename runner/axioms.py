"""The job of checking claims on generated networks, and the run that makes a report of it."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import calling
from ..axioms import user_model
from ..axioms.case import GivenModel
from ..axioms.networks.families import MODEL
from ..axioms.search import cell as cells
from ..axioms.search.plan import Cell, NamedCell, Options, plan
from ..axioms.search.streams import Origin
from ..claims import Method
from ..methods.registry import get_method, owner, resolve, unique
from ..results import Report, Result, Row
from ..sanity.claims import must_be_known
from . import journal
from .job import Death, cut
from .running import Executor, on_this_machine
from .running import run as run_job
from .watch import Called, Watch

TIMEOUT = 120.0
"""Seconds of one call of a method, if nobody says how many: a call on a generated network takes milliseconds."""


@dataclass
class AxiomsJob:
    """Cells as units; each is computed from its names and the options alone.

    methods  by name, where they are objects; else they are found by their names
    cells    all of the plan
    """

    options: Options
    cells: tuple[NamedCell, ...]
    methods: dict[str, Method] = field(default_factory=dict)
    _found: dict[str, Method] = field(default_factory=dict)
    model: GivenModel | None = None

    noun = "claims"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_found": {}, "model": None}  # (a worker finds its own)

    @property
    def local(self) -> bool:
        """Whether methods are objects of this process."""
        return bool(self.methods)

    def units(self) -> Sequence[NamedCell]:
        """The cells, in the order of the report."""
        return self.cells

    def cell(self, unit: NamedCell) -> Cell:
        """The cell with its method and its axiom."""
        if unit.method not in self._found:
            self._found[unit.method] = self.methods.get(unit.method) or get_method(unit.method)
        return unit.of(self._found[unit.method])

    def groups(self, units: Sequence[NamedCell], size: int, apart: bool) -> list[list[NamedCell]]:
        """Cells of one owner that are tried on the same cases next to each other."""
        by_owner: dict[str, dict[tuple[str, ...], list[NamedCell]]] = {}
        for unit in units:
            cell = self.cell(unit)
            key = Origin.of(cell.axiom, unit.variants[0], unit.family, cell.method).key
            by_owner.setdefault(owner(unit.method) if apart else "", {}).setdefault(key, []).append(unit)
        rows = ([unit for together in origins.values() for unit in together] for origins in by_owner.values())
        return cut(rows, size)

    def key(self, unit: NamedCell) -> Any:
        """What the result of a cell depends on."""
        options, method = self.options, self.cell(unit).method
        parts: dict[str, Any] = {
            "unit": asdict(unit),
            "examples": options.max_examples,
            "seed": options.seed,
            "code": journal.code_version(options.device),
        }
        if owner(unit.method) or unit.family == MODEL or ":" in unit.variants[0]:
            parts["method"] = journal.source(method)
            parts["modules"] = self._modules
        if unit.claim is not None and unit.claim.witness is not None and Path(unit.claim.witness).is_file():
            parts["witness"] = Path(unit.claim.witness).read_text(encoding="utf-8", errors="replace")
        if unit.family == MODEL and options.model is not None:
            given = self.given(unit)
            assert given is not None
            batch = hashlib.sha256(given.batch.tobytes()).hexdigest()
            parts["model"] = [options.model, options.data, given.reference.sha256, str(given.module), batch]
        return parts

    @functools.cached_property
    def _modules(self) -> Mapping[str, str]:
        return journal.local_modules()

    def given(self, unit: NamedCell) -> GivenModel | None:
        """The user's model, for a cell of it."""
        if unit.family != MODEL or self.options.model is None:
            return None
        if self.model is None:
            self.model = user_model.load(self.options.model, self.options.data)
        return self.model

    def compute(self, unit: NamedCell, deadline: float | None) -> list[Result]:
        """The result of a cell."""
        return [cells.run_cell(self.cell(unit), self.options, self.given(unit), deadline)]

    def lost(self, unit: NamedCell, death: Death) -> list[Result]:
        """The result of a cell whose process died."""
        found = cells.lost(self.cell(unit), self.options, self.given(unit), death.why, death.at, death.about)
        found.output = death.output
        return [found]

    def judged(self, unit: NamedCell, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows: what a cell is searched for depends on its claim, which is judged with it."""
        return rows

    def finished(self, rows: Sequence[Row]) -> bool:
        """Whether no time limit has cut it off."""
        return all(row.note != cells.CUT_OFF for row in rows)


def prepared(options: Options, methods: Sequence[Method] | None = None) -> tuple[list[Cell], GivenModel | None]:
    """The plan of a run, and the user's model where one is given.

    Args:
        methods: where they are objects and not TARGETs.

    Raises:
        UsageError: see `plan` and `resolve`; a claim on a check that there is not; no CUDA device where one is asked for.
    """
    calling.must_have(options.device)
    given = None if options.model is None else user_model.load(options.model, options.data)
    found = unique([m for target in options.targets for m in resolve(target)]) if methods is None else methods
    must_be_known(found)
    return plan(found, options.selection, given is not None), given


def run(
    options: Options,
    methods: Sequence[Method] | None = None,
    jobs: int = 1,
    progress: Callable[[int, int, Result], None] | None = None,
    wanted: Callable[[Cell], bool] = lambda cell: True,
    *,
    executor: Executor | None = None,
    kept: journal.Journal | None = None,
    watch: Watch | None = None,
) -> Report:
    """Check the selected claims.

    An interruption ends the run with what was found until then; the report says so.

    Args:
        methods: the methods, where they are objects and not TARGETs (then in this process only).
        jobs: 1: in this process; more: so many worker processes; 0: one for each core.
        progress: called after each cell with (done, total, result), in the order in which cells finish.
        wanted: which of the planned cells to check.
        executor: where they are checked, instead of `jobs`.
        kept: the journal that finished cells are taken from and kept in; opened here, closed by the caller.
        watch: told how it goes, instead of `progress`.

    Raises:
        UsageError: see `prepared`.
    """
    planned, given = prepared(options, methods)
    deadline = None if options.max_time is None else time.monotonic() + options.max_time
    units = tuple(cell.named for cell in planned if wanted(cell))
    job = AxiomsJob(options, units, {} if methods is None else {method.name: method for method in methods})
    job.model = given
    if kept is not None:
        kept.open()
    if executor is None:
        executor = on_this_machine(job.local, jobs, TIMEOUT, None, options.device)
    if watch is None:
        watch = Watch() if progress is None else Called(progress)
    found = run_job(job, executor, kept, watch, deadline)
    results = [row for rows in found.rows.values() for row in rows if isinstance(row, Result)]
    return Report(
        results, options.seed, options.max_examples, options.device, incomplete=found.stopped, asked=_asked(options)
    )


def _asked(options: Options) -> dict[str, Any]:
    """What a run was asked for, as results.json has it: a part must never be taken for the whole."""
    selection = options.selection
    return {
        **({"targets": list(options.targets)} if options.targets else {}),
        "selection": {
            "axioms": list(selection.axioms),
            "excluded": list(selection.excluded),
            "families": list(selection.families),
            "observe": selection.observe,
            **({"model": options.model, "data": options.data} if options.model is not None else {}),
        },
        "limits": {"max_time": options.max_time},
    }
