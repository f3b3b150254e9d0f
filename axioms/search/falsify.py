"""The search for a counterexample in one cell: trying the cases, counting and shrinking, with no clock in any decision."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import hypothesis
import torch
from torch import Tensor

from ...compat.torch_parts import unseen
from ...errors import Defect, MethodError, Unsupported
from ..case import Case
from ..networks.compose import jittered
from ..networks.families import MODEL
from ..networks.kinks import MARGIN, SINGLE_MARGIN, has_kinks, on_kink
from ..networks.spec import Network
from ..tolerances import ROUNDOFF
from .bench import Bench
from .streams import Drawn, Sample, shrink, stream
from .witnesses import evaluate

# Every fifth example is a network of ordinary size from a seed; the others are small and shrink.
WIDE_SHARE = 5
# A claim that holds needs at least this share of max_examples in valid cases that say something.
ENOUGH = 0.5
# A shrink that has not ended after so many evaluations stops at the smallest case so far.
SHRINK_CALLS = 2000
# So many cases that fail are shrunk, the simplest ones; the smallest result counts.
STARTS = 3
# Weights are moved by JITTER roundings (one standard deviation): more than the one that any arithmetic makes of each of them.
# That moves a map by a fixed share of what all roundings of a run do; a network has some tens of weights on a path, whose
# moves add up as their square root, so a gap AMPLIFIED times larger is not made of roundings.
JITTER = 4.0
AMPLIFIED = 16.0
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

    def saw(self, residual: float | None, tolerance: float) -> None:
        """Keep the residual that is largest for its tolerance; None is not finite, and beyond any number."""
        if residual is None:
            self.residual, self.tolerance, self.nonfinite = None, tolerance, True
        elif not self.nonfinite and (
            self.residual is None or self.tolerance is None or residual * self.tolerance > self.residual * tolerance
        ):
            self.residual, self.tolerance = residual, tolerance


def search(bench: Bench, max_examples: int, seed: int) -> Tally:
    """Look for a counterexample; the tally holds the smallest one found.

    Raises:
        Defect: a rewrite is wrong, or a drawn case holds a number that is not finite.
    """
    tally = Tally()
    n_wide = 0 if bench.family == MODEL else max_examples // WIDE_SHARE
    n_small = max_examples - n_wide
    found = tried(bench, tally, False, n_small, seed)
    if found is not None:
        tally.violated = _smallest(bench, found, tally, n_small, seed)
    elif n_wide and not tally.cut:
        found = tried(bench, tally, True, n_wide, seed)
        if found is not None:
            tally.violated = _with_fewest_samples(bench, found.case, _kind(tally))
            again = Tally()
            smaller = tried(bench, again, False, SECOND_LOOK * max_examples, seed)
            if smaller is not None and _kind(again) == _kind(tally):
                tally.violated = _smallest(bench, smaller, tally, SECOND_LOOK * max_examples, seed)
    return tally


def _late(bench: Bench) -> bool:
    """Whether the time that was given is over."""
    return bench.deadline is not None and time.monotonic() > bench.deadline


def _kind(tally: Tally) -> str:
    return "violated" if tally.error is None else "error"


def tried(bench: Bench, tally: Tally, is_wide: bool, n: int, seed: int) -> Sample | None:
    """Try n valid cases; the first that is violated (or on which the method errs), or None.

    Where most of them say nothing, up to twice as many more are tried. Where the method refuses networks, or looks elsewhere,
    more are drawn, until it has refused more than n, or looked elsewhere in more than 2 n.
    """
    if n < 1:
        return None
    cases, goal, silent = stream(bench.origin, seed), tally.examples + n, tally.vacuous
    refused = elsewhere = 0

    def done() -> bool:
        said = n - (goal - tally.examples) - (tally.vacuous - silent)
        return (
            refused > n
            or elsewhere > 2 * n
            or (tally.examples >= goal and (said >= ENOUGH * n or tally.examples >= goal + 2 * n))
        )

    for number in itertools.count():
        if _late(bench):  # drawing a chunk takes longer than many a method takes on all of it
            tally.cut = True
            return None
        chunk, lost = cases.chunk(is_wide, n, number), 0
        for sample in chunk.samples:
            if done():
                return None
            if _late(bench):
                tally.cut = True
                return None
            tally.discarded += sample.discarded
            kind, detail = _outcome(bench, sample.case, tally, shrinking=False)
            lost += kind in ("unsupported", "elsewhere")
            refused += kind == "unsupported"
            elsewhere += kind == "elsewhere"
            tally.discarded += kind == "elsewhere"
            if kind == "error":
                tally.error = detail
            if kind in ("violated", "error"):
                return sample
        if done():
            return None
        tally.discarded += chunk.discarded
        if lost == 0 and tally.examples < goal:  # there are no more valid cases than these
            return None
    raise AssertionError("unreachable")


def _simplest(bench: Bench, found: Sample, kind: str, n: int, seed: int) -> list[Sample]:
    """Up to STARTS of the simplest cases of the first chunk that show the same: features and layers shrink badly."""
    starts: list[Sample] = []
    for sample in sorted(stream(bench.origin, seed).chunk(False, n, 0).samples, key=_size):
        if len(starts) == STARTS or _size(sample) >= _size(found):
            break
        if _outcome(bench, sample.case, Tally(), shrinking=True)[0] == kind:
            starts.append(sample)
    return [*starts, found][:STARTS]


def parts(case: Case) -> int:
    """What a reader of a case has to look at: its features and its layers with weights."""
    layers = case.network.weighted_layers() if isinstance(case.network, Network) else 0
    return int(case.x[0].size) + layers


def _size(sample: Sample) -> tuple[int, int]:
    return (parts(sample.case), len(sample.choices))


def _smallest(bench: Bench, found: Sample, tally: Tally, n: int, seed: int) -> Case:
    """The smallest of what several starts shrink to; one that shrinks to three parts or fewer ends it."""
    cases: list[Case] = []
    for start in _simplest(bench, found, _kind(tally), n, seed):
        cases.append(_shrunk(bench, start, tally, n, seed))
        if parts(cases[-1]) <= 3:
            break
    return min(cases, key=parts)


def _shrunk(bench: Bench, found: Sample, tally: Tally, n: int, seed: int) -> Case:
    """The smallest case that Hypothesis finds from one that shows the same."""
    kind = _kind(tally)
    state: dict[str, Any] = {"failing": set(), "calls": 0, "best": found.case}

    def failing(drawn: Drawn) -> bool:
        case = drawn.case
        state["calls"] += 1
        if case is None or bench.origin.excluded(case):
            hypothesis.reject()
        assert case is not None
        key = json.dumps(case.to_json(), sort_keys=True)
        if state["calls"] > SHRINK_CALLS:
            return key in state["failing"]
        seen, detail = _outcome(bench, case, Tally(), shrinking=True)
        if seen in ("unsupported", "elsewhere"):
            hypothesis.reject()
        if seen != kind:
            return False
        state["best"] = case
        state["failing"].add(key)
        if kind == "error":
            tally.error = detail
        return True

    if not shrink(bench.origin, failing, found.choices, n, seed):
        tally.flaky = True
    return _with_fewest_samples(bench, state["best"], kind)


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
    """ "holds", "violated", "unsupported", "elsewhere" or "error", with the error's line; counts while generating.

    Raises:
        Defect: the case says nothing, since it holds a number that is not finite.
    """
    try:
        judgement, comparison, _ = evaluate(bench, case)
    except Unsupported:
        tally.unsupported += not shrinking
        return "unsupported", ""
    except MethodError as error:
        _must_be_finite(case)
        tally.examples += not shrinking
        return "error", str(error)
    if judgement.violated:
        _must_be_finite(case)
        if _looks_elsewhere(bench, case) or _rounding_decides(bench, case, float(comparison.gap.max())):
            return "elsewhere", ""
    if not shrinking:
        tally.examples += 1
        tally.vacuous += judgement.empty
        tally.drawn.update(f"{name}={value}" for name, value in case.options.items())
        tally.drawn[f"samples={len(case.x)}"] += 1
        tally.saw(judgement.residual, judgement.tolerance)
    return ("violated" if judgement.violated else "holds"), ""


def _must_be_finite(case: Case) -> None:
    # A method may answer what it likes to infinite weights.
    if not case.is_finite():
        raise Defect(f"a number of the drawn case is not finite: {' '.join(repr(case).split())}")


def _looks_elsewhere(bench: Bench, case: Case) -> bool:
    """Whether the method looks at a network where the axiom says nothing. Asked before a case counts as a counterexample.

    It differentiates on a kink, at a point that is neither x nor the baseline: a quadrature node that falls on a kink to
    the last bit gets one slope or the other by rounding, in either of two equivalent networks. Or it calls the network
    outside the box on which it is what the axiom says.
    """
    trial, bound = bench.trial(case), bench.axiom.within(case)
    for each in bench.axiom.evaluated(bench.variant, case):
        if not isinstance(each.network, Network):
            continue
        kinks = bench.axiom.kinks != "any" and has_kinks(each.network)
        if not kinks and bound is None:
            continue
        points: list[Tensor] = []
        reach: list[float] = []

        def record(module: Any, inputs: tuple[Any, ...], seen: list[Tensor] = points, far: list[float] = reach) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                with unseen():  # a method's function mode must not see what is copied here
                    far.append(float(inputs[0].detach().abs().max()) if inputs[0].numel() else 0.0)
                    if torch.is_grad_enabled():
                        seen.append(inputs[0].detach().double().cpu().clone())

        handle = trial.module(each).register_forward_pre_hook(record)
        try:
            trial.attribute(each)
        finally:
            handle.remove()
        if bound is not None and max(reach, default=0.0) > bound:
            return True
        if not kinks:
            continue
        known = [t.double().cpu() for t in (trial.tensor(each.x, each), trial.reference(each))]
        shape, margin = tuple(each.x.shape[1:]), SINGLE_MARGIN if each.dtype == "float32" else MARGIN
        for batch in points:
            if tuple(batch.shape[1:]) != shape:
                continue
            new = [p for p in batch if not any((p == k).flatten(1).all(1).any() for k in known)]
            if new and on_kink(each.network, torch.stack(new), margin):
                return True
    return False


def _rounding_decides(bench: Bench, case: Case, gap: float) -> bool:
    """Whether maps of equivalent networks differ no more than the map of one of them, when its weights are rounded anew.

    Where a function is constant, the gradient is rounding, which a method that divides by its largest entry brings to
    one: claims of right methods hold there for exact arithmetic alone. Weights are moved by JITTER roundings. A method of
    the function moves by less than 2^10 u A then, the noise below which no gap is a violation (see `tolerances`); what
    moves it by a gap's AMPLIFIED-th part is no matter of the networks. One network is no pair, and on kinks a map may
    jump.
    """
    cases = bench.axiom.evaluated(bench.variant, case)
    networks = {id(each.network) for each in cases}
    if bench.axiom.kinks != "off" or len(networks) < 2 or not isfinite(gap):
        return False
    trial, moved = bench.trial(case), 0.0
    for each in cases:
        if not isinstance(each.network, Network):
            return False
        other = each.but(network=jittered(each.network, JITTER * ROUNDOFF[each.dtype]))
        try:
            moved = max(moved, float((trial.attribute(other) - trial.attribute(each)).abs().max()))
        except (Unsupported, MethodError):
            return False
    return gap <= AMPLIFIED * moved
