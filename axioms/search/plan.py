"""From claims and options to the cells that a run checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ... import axioms
from ...claims import Claim, Method
from ...errors import UsageError
from ...sanity import checks
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
    """One cell for each claim and variant; the more specific claim wins over the general one."""
    known: set[tuple[str, ...]] = set()  # (axiom, family) of general claims, (axiom, variant, family) of specific ones
    order: list[tuple[Axiom, str | None, str, Claim]] = []
    for claim in method.claims:
        if claim.check is not None:
            _checked(method, claim)
            continue
        axiom, variant = _found(method, claim)
        families = [claim.on] if claim.on != MODEL or has_model else []
        if claim.on == ANY and has_model and axiom.model:
            families.append(MODEL)
        for family in families:
            whole = variant is None and "" not in axiom.variants
            key: tuple[str, ...] = (axiom.name, family) if whole else (axiom.name, variant or "", family)
            if key in known:
                if MODEL in (family, claim.on) and family != claim.on:
                    continue  # an explicit claim on the model stands before the one that "any" lends it
                raise UsageError(f"{method.name}: two claims on {claim.axiom!r} for the family {family!r}")
            known.add(key)
            order.append((axiom, variant, family, claim))
    cells = []
    for axiom, variant, family, claim in order:
        if variant is not None or "" in axiom.variants:
            cells.append(Cell(method, axiom, (variant or "",), family, claim))
            continue
        options = [
            v
            for v in (axiom.default if axiom.default and claim.kind == "holds" else axiom.variants)
            if axioms.applies(axiom, v, family) and (axiom.name, v, family) not in known
        ]
        if claim.kind == "fails":
            cells += [Cell(method, axiom, tuple(options), family, claim)] if options else []
        else:
            cells += [Cell(method, axiom, (v,), family, claim) for v in options]
    return cells


def _checked(method: Method, claim: Claim) -> None:
    """A full-model check must have the name; whether the claim makes sense is looked at by those who import the checks."""
    try:
        checks.known((claim.check or "").partition("/")[0])
    except UsageError as error:
        raise UsageError(f"{method.name} claims {claim.kind}({claim.axiom!r}, on={claim.on!r}): {error}") from error


def _found(method: Method, claim: Claim) -> tuple[Axiom, str | None]:
    """The axiom and variant of a claim, which must make sense together with its family."""
    try:
        axiom, variant = axioms.find(claim.axiom)
        axioms.check_family(claim.on)
    except UsageError as error:
        raise UsageError(f"{method.name} claims {claim.kind}({claim.axiom!r}, on={claim.on!r}): {error}") from error
    if claim.kind == "holds" and variant in axiom.fails_only:
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
