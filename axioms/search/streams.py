"""The cases that a cell's methods are tried on: drawn once, in chunks, and shared by all methods that take the same ones.

Drawing costs several times what a method costs on a case, and methods are many. So the cases of an axiom's variant on a
family depend on the run's seed and on these names only; each comes with the choices that made it, from which
Hypothesis can shrink it for a method that it refutes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable

from ...claims import Method
from ...compat.hypothesis_parts import choices_so_far, only_global_constants, starts_from
from ..axiom import Axiom
from ..case import Case, GivenModel
from ..networks.families import MODEL, Family, members
from ..networks.kinks import MARGIN, SINGLE_MARGIN, on_kink, segment_in_kink
from ..networks.sources import Small, Source, Wide
from ..networks.spec import Network
from ..options import read_family
from ..setting import Setting
from ..trial import in_dtype_of, reference

# Streams that one process keeps: cells that share one stand next to each other in a run.
KEPT = 8


class Drawn:
    """A drawn case, with a short repr: Hypothesis formats what it draws, and wide networks are long."""

    __slots__ = ("case",)

    def __init__(self, case: Case | None) -> None:
        self.case = case

    def __repr__(self) -> str:
        return "<case>"


@dataclass(frozen=True)
class Origin:
    """What a case depends on besides the seed: the axiom's variant, the family, and what kind of method it is for."""

    axiom: Axiom
    variant: str
    family: str
    data: bool
    baseline: str | None
    given: GivenModel | None = None

    @staticmethod
    def of(axiom: Axiom, variant: str, family: str, method: Method, given: GivenModel | None = None) -> Origin:
        """The origin of the cases for a method."""
        return Origin(axiom, variant, family, method.needs_data, method.baseline, given if family == MODEL else None)

    @property
    def key(self) -> tuple[str, ...]:
        """Its names; methods with equal ones (and one seed) see the same cases."""
        return (self.axiom.name, self.variant, self.family, str(self.data), str(self.baseline))

    def setting(self, source: Source) -> Setting:
        """Where a case is drawn from: for "any", a member to which the variant applies."""
        family: Family | GivenModel
        if self.family == MODEL:
            assert self.given is not None
            family = self.given
        else:
            family = source.pick(*(m for m in members(self.family) if self.axiom.applies(self.variant, m)))
        features = 2 if self.baseline == "min" else 1
        return Setting(source, family, self.data, features, self.baseline, read_family(self.family)[1])

    def draw(self, source: Source) -> Case | None:
        """One case, or None where the draw has no site for the variant."""
        setting = self.setting(source)
        case = self.axiom.draw(self.variant, setting)
        return None if case is None else setting.written(case, self.axiom.own_form, self.axiom.single)

    def excluded(self, case: Case) -> bool:
        """Whether a network of the case is on a kink where the axiom forbids it.

        At x (unless x may lie on one), or on a piece of the segment from the method's baseline.
        """
        if self.axiom.kinks == "any":
            return False
        for each in self.axiom.evaluated(self.variant, case):
            if not isinstance(each.network, Network):
                continue
            x, margin = in_dtype_of(each, each.x).double(), SINGLE_MARGIN if each.dtype == "float32" else MARGIN
            if self.axiom.kinks == "off" and on_kink(each.network, x, margin, inside=True):
                return True
            if self.baseline is None:
                continue
            if segment_in_kink(each.network, reference(self.baseline, each).double(), x, margin):
                return True
        return False


@st.composite
def small(draw: Any, origin: Origin) -> Drawn:
    """Small dyadic networks, which shrink."""
    return Drawn(origin.draw(Small(draw)))


@st.composite
def wide(draw: Any, origin: Origin) -> Drawn:
    """Networks of ordinary size, each from one seed."""
    return Drawn(origin.draw(Wide(draw(st.integers(0, 2**32 - 1)))))


@dataclass(frozen=True)
class Sample:
    """A valid case, the choices that made it, and how many draws were discarded since the one before."""

    case: Case
    choices: tuple[Any, ...]
    discarded: int


@dataclass
class Chunk:
    """Up to n valid cases, and how many draws were discarded after the last one."""

    samples: list[Sample] = field(default_factory=list)
    discarded: int = 0


@dataclass
class Stream:
    """The cases of one origin and seed: chunks of n small ones, as many as are asked for, and of wide ones."""

    origin: Origin
    seed: int
    chunks: dict[tuple[bool, int, int], Chunk] = field(default_factory=dict)

    def chunk(self, is_wide: bool, n: int, number: int) -> Chunk:
        """The chunk of that number."""
        key = (is_wide, n, number)
        if key not in self.chunks:
            seed = derived_seed(self.seed, "wide" if is_wide else "small", str(n), str(number))
            self.chunks[key] = _drawn(self.origin, is_wide, n, seed)
        return self.chunks[key]


def _drawn(origin: Origin, is_wide: bool, n: int, seed: int) -> Chunk:
    chunk = Chunk()

    def collect(drawn: Drawn) -> bool:
        if len(chunk.samples) >= n:
            return False
        if drawn.case is None or origin.excluded(drawn.case):
            chunk.discarded += 1
            hypothesis.reject()
        assert drawn.case is not None
        chunk.samples.append(Sample(drawn.case, choices_so_far(), chunk.discarded))
        chunk.discarded = 0
        return False

    strategy = (wide if is_wide else small)(origin)
    with only_global_constants(), contextlib.suppress(NoSuchExample, Unsatisfiable):
        hypothesis.find(strategy, collect, settings=quiet(n, Phase.generate), random=random.Random(seed))
    return chunk


class _Named:
    """An origin that equals every other one with its key: what a cache can be asked for."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return (*self.origin.key, id(self.origin.given))


def stream(origin: Origin, seed: int) -> Stream:
    """The stream of an origin under the run's seed; the same object as long as it is kept."""
    return _kept(_Named(origin), seed)


@functools.lru_cache(KEPT)
def _kept(named: _Named, seed: int) -> Stream:
    return Stream(named.origin, derived_seed(seed, *named.origin.key))


class _Found(Exception):
    """What a shrink keeps alive."""


def shrink(origin: Origin, failing: Callable[[Drawn], bool], choices: tuple[Any, ...], n: int, seed: int) -> bool:
    """Let Hypothesis shrink the small case that these choices make, as long as `failing` says so; False: it did not fail.

    `hypothesis.find` forgets its database when it is given a seed; here it needs both, the choices and the seed.
    """
    database = InMemoryExampleDatabase()

    @quiet(n, Phase.reuse, Phase.shrink, database=database)  # above the seed, which takes the database away
    @hypothesis.seed(seed)
    @hypothesis.given(small(origin))
    def keep(drawn: Drawn) -> None:
        if failing(drawn):
            raise _Found

    starts_from(keep, database, choices)
    try:
        with only_global_constants():
            keep()
    except _Found:
        return True
    except (Flaky, NoSuchExample, Unsatisfiable):
        return False
    return False


def quiet(n: int, *phases: Phase, database: Any = None) -> hypothesis.settings:
    """Settings of Hypothesis with no clock and no memory of other runs."""
    return hypothesis.settings(
        max_examples=n,
        database=database,
        deadline=None,
        derandomize=False,
        phases=phases,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )


def derived_seed(seed: int, *names: str) -> int:
    """A seed of its own for each set of names, the same whatever else is run."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:4], "big")
