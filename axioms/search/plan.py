"""From claims and options to the cells that a run checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ... import axioms
from ...claims import Claim, Kind, Method
from ...errors import UsageError
from ...verdict import deciding
from ..axiom import Axiom
from ..networks.families import ANY, MODEL, SUMMARIES


@dataclass(frozen=True)
class Cell:
    """One thing to check: a method, an axiom's variants (several only for "some variant fails"), and a family."""

    method: Method
    axiom: Axiom
    variants: tuple[str, ...]
    family: str
    claim: Claim | None = None

    @property
    def label(self) -> str:
        """ "name/variant" or, where any of several variants may show a failure, "name"."""
        return self.axiom.full(self.variants[0]) if len(self.variants) == 1 else self.axiom.name

    @property
    def id(self) -> str:
        """The name of the cell in pytest: axiom/variant[method-family]."""
        return f"{self.label}[{self.method.short}-{self.family}]"

    @property
    def named(self) -> NamedCell:
        """The cell by names."""
        return NamedCell(self.method.name, self.axiom.name, self.variants, self.family, self.claim)


@dataclass(frozen=True)
class NamedCell:
    """A cell as plain data, from which any process makes it again; the unit of a run."""

    method: str
    axiom: str
    variants: tuple[str, ...]
    family: str
    claim: Claim | None = None

    def of(self, method: Method) -> Cell:
        """The cell of the method that has that name."""
        return Cell(method, axioms.AXIOMS[self.axiom], self.variants, self.family, self.claim)


@dataclass(frozen=True)
class Selection:
    """Which cells of a plan are wanted. Empty tuples select everything."""

    axioms: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    observe: bool = False

    def __post_init__(self) -> None:
        for name in (*self.axioms, *self.excluded):
            axioms.find(name)
        for family in self.families:
            axioms.check_family(family)

    def wants(self, axiom: Axiom, variant: str, family: str) -> bool:
        """Whether a variant on a family is selected."""
        names = {axiom.name, axiom.full(variant)}
        return (
            (not self.axioms or bool(names & set(self.axioms)))
            and not names & set(self.excluded)
            and (not self.families or family in self.families or family.partition("(")[0] in self.families)
        )


@dataclass(frozen=True)
class Options:
    """What a run of axioms was asked for; plain data, so that workers can rebuild what they need.

    targets       TARGETs; empty where methods are given as objects
    max_examples  cases for each claim
    model, data   the user's network and inputs, by name
    max_time      seconds after which no more cases are tried; None: no end

    Raises:
        UsageError: fewer than one example, or a number that is none.
    """

    targets: tuple[str, ...] = ()
    selection: Selection = field(default_factory=Selection)
    max_examples: int = 100
    seed: int = 0
    device: str = "cpu"
    model: str | None = None
    data: str | None = None
    max_time: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.max_examples, int) or isinstance(self.max_examples, bool) or self.max_examples < 1:
            raise UsageError(f"max_examples must be a whole number of at least 1, not {self.max_examples!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise UsageError(f"seed must be a whole number of at least 0, not {self.seed!r}")


def plan(methods: Sequence[Method], selection: Selection, has_model: bool = False) -> list[Cell]:
    """The cells of a run, in a fixed order: for each method its claims, then (if asked) everything else that applies.

    Claims on full-model checks are none of it.

    Args:
        has_model: a user's model is given, so the family "model" exists; claims on "any" extend to it.

    Raises:
        UsageError: a claim makes no sense, or nothing is selected.
    """
    if MODEL in selection.families and not has_model:
        raise UsageError("the family 'model' needs your network: give --model and --data")
    cells = [cell for method in methods for cell in sorted(_cells_of(method, selection, has_model), key=_place)]
    if not cells:
        names = ", ".join(method.name for method in methods)
        raise UsageError(
            f"the selection matches nothing for {names}: no claim fits (add --observe to check unclaimed cells)"
        )
    return cells


def _place(cell: Cell) -> tuple[int, int, int]:
    """Cells stand in the order of the registries, so that two methods' rows read alike."""
    variant = 0 if cell.axiom.others else list(cell.axiom.variants).index(cell.variants[0])
    return list(axioms.AXIOMS).index(cell.axiom.name), variant, list(SUMMARIES).index(cell.family.partition("(")[0])


def _cells_of(method: Method, selection: Selection, has_model: bool) -> list[Cell]:
    claimed = _claimed(method, has_model)
    cells = []
    for cell in claimed:
        variants = tuple(v for v in cell.variants if selection.wants(cell.axiom, v, cell.family))
        if variants:
            cells.append(Cell(method, cell.axiom, variants, cell.family, cell.claim))
    if selection.observe or all(claim.check is not None for claim in method.claims):
        known = {(c.axiom.name, v, c.family) for c in claimed for v in c.variants}
        families = [name for name in SUMMARIES if name != MODEL or has_model]
        families += [name for name in selection.families if name not in SUMMARIES]
        for axiom in axioms.AXIOMS.values():
            for variant in axiom.variants:
                for family in families:
                    if (
                        (axiom.name, variant, family) not in known
                        and variant not in axiom.fails_only
                        and axioms.applies(axiom, variant, family)
                        and selection.wants(axiom, variant, family)
                    ):
                        cells.append(Cell(method, axiom, (variant,), family))
    return cells


def _claimed(method: Method, has_model: bool) -> list[Cell]:
    """One cell for each claim and variant; the more specific claim decides, see `verdict.deciding`."""
    claims = [claim for claim in method.claims if claim.check is None]
    found = [(claim, *_found(method, claim)) for claim in claims]
    _must_differ(method, [(axiom, variant, claim.on) for claim, axiom, variant in found])
    cells = []
    for claim, axiom, variant in found:
        families = [claim.on] if claim.on != MODEL or has_model else []
        if claim.on == ANY and has_model and axiom.model:
            families.append(MODEL)
        for family in families:
            places = (ANY, MODEL) if family == MODEL else (family,)
            options = [
                each
                for each in ((variant or "",) if variant or "" in axiom.variants else _meant(axiom, claim))
                if deciding(claims, (axiom.name, axiom.full(each)), places) is claim
                and (variant is not None or axioms.applies(axiom, each, family))
            ]
            if claim.kind == Kind.FAILS:
                cells += [Cell(method, axiom, tuple(options), family, claim)] if options else []
            else:
                cells += [Cell(method, axiom, (each,), family, claim) for each in options]
    return cells


def _meant(axiom: Axiom, claim: Claim) -> Iterable[str]:
    """The variants that a claim on an axiom as a whole speaks of."""
    return axiom.default if axiom.default and claim.kind == Kind.HOLDS else axiom.variants


def _must_differ(method: Method, said: Sequence[tuple[Axiom, str | None, str]]) -> None:
    known = set()
    for axiom, variant, family in said:
        key = (axiom.name, variant, family)
        if key in known:
            name = axiom.full(variant or "")
            raise UsageError(f"{method.name}: two claims on {name!r} for the family {family!r}")
        known.add(key)


def _found(method: Method, claim: Claim) -> tuple[Axiom, str | None]:
    """The axiom and variant of a claim, which must make sense together with its family."""
    try:
        axiom, variant = axioms.find(claim.axiom)
        axioms.check_family(claim.on)
    except UsageError as error:
        raise UsageError(f"{method.name} claims {claim.kind}({claim.axiom!r}, on={claim.on!r}): {error}") from error
    if claim.kind == Kind.HOLDS and variant in axiom.fails_only:
        raise UsageError(
            f"{method.name} claims holds({claim.axiom!r}, on={claim.on!r}): it can only be claimed to fail"
        )
    if axiom.others and variant is None:
        raise UsageError(f"{method.name} claims {axiom.name!r}: write {axiom.name}/{axiom.others}")
    candidates = [variant] if variant else list(axiom.variants)
    if not any(axioms.applies(axiom, v, claim.on) for v in candidates):
        raise UsageError(
            f"{method.name} claims {claim.kind}({claim.axiom!r}, on={claim.on!r}): "
            f"the axiom does not apply to that family"
        )
    return axiom, variant
