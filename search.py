"""The search for a counterexample in one cell: drawing, discarding, counting and shrinking, with no clock in any decision."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable
from hypothesis.internal.conjecture import providers
from torch import Tensor

from .axioms.axiom import Axiom
from .axioms.cases import Case, GivenModel, Setting
from .axioms.networks.families import MODEL, Family, members
from .axioms.networks.kinks import has_kinks, on_kink, segment_in_kink
from .axioms.networks.sources import Small, Source, Wide
from .axioms.networks.spec import Network
from .axioms.trial import Trial
from .claims import Method
from .errors import MethodError, Unsupported
from .witnesses import evaluate

# Every fifth example is a network of ordinary size from a seed; the others are small and shrink.
WIDE_SHARE = 5
# A shrink that has not ended after so many evaluations stops at the smallest case so far.
SHRINK_CALLS = 2000
# When only a wide network refutes a claim, a small one is looked for in so many times the examples.
SECOND_LOOK = 4


@dataclass
class Tally:
    """What a search saw in one variant of a cell."""

    examples: int = 0
    discarded: int = 0
    unsupported: int = 0
    vacuous: int = 0
    drawn: Counter[str] = field(default_factory=Counter)
    residual: float | None = None
    nonfinite: bool = False
    tolerance: float | None = None
    violated: Case | None = None
    error: str | None = None
    cut: bool = False
    flaky: bool = False

    def saw(self, residual: float | None) -> None:
        """Keep the largest residual; None is not finite, and beyond any number."""
        if residual is None:
            self.residual, self.nonfinite = None, True
        elif not self.nonfinite:
            self.residual = residual if self.residual is None else max(self.residual, residual)


@dataclass(frozen=True)
class Bench:
    """What does not change during a search."""

    axiom: Axiom
    variant: str
    method: Method
    family: str
    tol: float | None
    device: str = "cpu"
    given: GivenModel | None = None
    deadline: float | None = None

    def setting(self, source: Source) -> Setting:
        """Where a case of this cell is drawn from: for "any", a member to which the variant applies."""
        family: Family | GivenModel
        if self.family == MODEL:
            assert self.given is not None
            family = self.given
        else:
            family = source.pick(*(m for m in members(self.family) if self.axiom.applies(self.variant, m)))
        features = 2 if self.method.baseline == "min" else 1
        return Setting(source, family, self.method.needs_data, features, self.method.baseline)

    def touches_kink(self, case: Case) -> bool:
        """Whether a network of the case is on a kink where the axiom forbids it.

        At x (unless x may lie on one), or on a piece of the segment from the method's baseline.
        """
        trial = Trial(self.method, case, "cpu", self.given)
        for each in self.axiom.evaluated(self.variant, case):
            if not isinstance(each.network, Network):
                continue
            x = trial.tensor(each.x, each).double()
            if self.axiom.kinks == "off" and on_kink(each.network, x):
                return True
            if self.method.baseline is not None and segment_in_kink(each.network, trial.reference(each).double(), x):
                return True
        return False

    def looks_at_kink(self, case: Case) -> bool:
        """Whether the method differentiates the network on a kink, at a point that is neither x nor the baseline.

        A quadrature node that falls on a kink to the last bit gets one slope or the other by rounding, in either of two
        equivalent networks. Only asked where a case is about to become a counterexample.
        """
        trial = Trial(self.method, case, self.device, self.given)
        for each in self.axiom.evaluated(self.variant, case):
            if not isinstance(each.network, Network) or not has_kinks(each.network):
                continue
            points: list[Tensor] = []

            def record(module: Any, inputs: tuple[Any, ...], seen: list[Tensor] = points) -> None:
                if torch.is_grad_enabled() and inputs and isinstance(inputs[0], Tensor):
                    with torch._C.DisableTorchFunction():  # a method's function mode must not see what is copied here
                        seen.append(inputs[0].detach().double().cpu().clone())

            handle = trial.module(each).register_forward_pre_hook(record)
            try:
                trial.attribute(each)
            finally:
                handle.remove()
            known = [t.double().cpu() for t in (trial.tensor(each.x, each), trial.reference(each))]
            shape = tuple(each.x.shape[1:])
            for batch in points:
                if tuple(batch.shape[1:]) != shape:
                    continue
                new = [p for p in batch if not any((p == k).flatten(1).all(1).any() for k in known)]
                if new and on_kink(each.network, torch.stack(new)):
                    return True
        return False


class _Drawn:
    """A drawn case, with a short repr: Hypothesis formats what it draws, and wide networks are long."""

    __slots__ = ("case",)

    def __init__(self, case: Case | None) -> None:
        self.case = case

    def __repr__(self) -> str:
        return "<case>"


@st.composite
def _small(draw: Any, bench: Bench) -> _Drawn:
    return _Drawn(bench.axiom.draw(bench.variant, bench.setting(Small(draw))))


@st.composite
def _wide(draw: Any, bench: Bench) -> _Drawn:
    return _Drawn(bench.axiom.draw(bench.variant, bench.setting(Wide(draw(st.integers(0, 2**32 - 1))))))


def search(bench: Bench, max_examples: int, seed: int) -> Tally:
    """Look for a counterexample; the tally holds the smallest one found.

    Raises:
        NotPreserved: a rewrite is wrong (a defect of attribcheck).
    """
    tally = Tally()
    wide = 0 if bench.family == MODEL else max_examples // WIDE_SHARE
    _find(bench, _small(bench), tally, max_examples - wide, seed)
    if wide and tally.violated is None and tally.error is None and not tally.cut:
        _find(bench, _wide(bench), tally, wide, seed + 1)
        if tally.violated is not None and not tally.cut:
            again = Tally()
            _find(bench, _small(bench), again, SECOND_LOOK * max_examples, seed + 2)
            tally.violated = again.violated or tally.violated
    return tally


def _find(bench: Bench, strategy: st.SearchStrategy[_Drawn], tally: Tally, n: int, seed: int) -> None:
    """Draw up to n valid cases; on a violation (or an error of the method) shrink it."""
    if n < 1:
        return
    goal = tally.examples + n
    state: dict[str, Any] = {"failing": {}, "calls": 0, "kind": None, "best": None, "refused": 0}

    def failing(drawn: _Drawn) -> bool:
        case = drawn.case
        shrinking = state["kind"] is not None
        if tally.cut or (not shrinking and (tally.examples >= goal or state["refused"] > n)):
            return False
        if bench.deadline is not None and time.monotonic() > bench.deadline:
            tally.cut = True
            return False
        if shrinking:
            state["calls"] += 1
        if case is None or (bench.axiom.kinks != "any" and bench.touches_kink(case)):
            tally.discarded += not shrinking
            hypothesis.reject()
        assert case is not None
        key = json.dumps(case.to_json(), sort_keys=True) if shrinking else ""
        if state["calls"] > SHRINK_CALLS:
            return key in state["failing"]
        kind, detail = _outcome(bench, case, tally, shrinking)
        if kind == "unsupported":
            state["refused"] += 1
        if kind == "on a kink":
            tally.discarded += not shrinking
        if kind in ("unsupported", "on a kink"):
            hypothesis.reject()
        if kind == "holds" or (shrinking and kind != state["kind"]):
            return False
        state["kind"], state["best"] = kind, (case, detail)
        state["failing"][key or json.dumps(case.to_json(), sort_keys=True)] = True
        return True

    settings = hypothesis.settings(
        max_examples=n,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    try:
        with _only_global_constants():
            hypothesis.find(strategy, failing, settings=settings, random=random.Random(seed))
    except (NoSuchExample, Unsatisfiable):
        return
    except Flaky:
        tally.flaky = True
        return
    case, detail = state["best"]
    if state["kind"] == "error":
        tally.error = detail
    tally.violated = _with_fewest_samples(bench, case, state["kind"])


def _with_fewest_samples(bench: Bench, case: Case, kind: str) -> Case:
    """The case with one sample (or two, in order) where that shows the same: Hypothesis rarely shrinks the batch."""
    n = len(case.x)
    for kept in [*((b,) for b in range(n)), *itertools.combinations(range(n), 2)]:
        if len(kept) < n:
            smaller = case.but(
                x=case.x[list(kept)],
                target=tuple(case.target[b] for b in kept),
                baseline=None if case.baseline is None else case.baseline[list(kept)],
            )
            if _outcome(bench, smaller, Tally(), shrinking=True)[0] == kind:
                return smaller
    return case


def _outcome(bench: Bench, case: Case, tally: Tally, shrinking: bool) -> tuple[str, str]:
    """ "holds", "violated", "unsupported", "on a kink" or "error", with the error's line; counts while generating."""
    try:
        judgement, _, _ = evaluate(bench.axiom, bench.variant, bench.method, case, bench.tol, bench.device, bench.given)
    except Unsupported:
        tally.unsupported += not shrinking
        return "unsupported", ""
    except MethodError as error:
        tally.examples += not shrinking
        return "error", str(error)
    if judgement.violated and bench.axiom.kinks != "any" and bench.looks_at_kink(case):
        return "on a kink", ""
    if not shrinking:
        tally.examples += 1
        tally.vacuous += judgement.empty
        tally.drawn.update(str(case.options[name]) for name in ("tier",) if name in case.options)
        tally.drawn["kinks allowed"] += case.options.get("kinks") == "on"
        tally.drawn["dead on purpose"] += bool(case.options.get("dead"))
        tally.tolerance = judgement.tolerance
        tally.saw(judgement.residual)
    return ("violated" if judgement.violated else "holds"), ""


@contextlib.contextmanager
def _only_global_constants() -> Iterator[None]:
    """Let Hypothesis draw no constants from the source of whatever modules happen to be loaded.

    It mixes integers it found in local source files into its draws, so the cases would depend on the working directory,
    on which modules were imported before, and on the number of workers. Hypothesis has no setting for this; where the
    hook is not there, nothing is changed.
    """
    original = getattr(providers, "_get_local_constants", None)
    if original is None:
        yield
        return
    empty = providers.Constants()
    providers._get_local_constants = lambda: empty
    providers.CONSTANTS_CACHE.cache.clear()
    try:
        yield
    finally:
        providers._get_local_constants = original
        providers.CONSTANTS_CACHE.cache.clear()


def cell_seed(seed: int, *names: str) -> int:
    """A seed of its own for each cell, the same whatever else is run."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:4], "big")
