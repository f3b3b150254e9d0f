"""Which claim decides a row, and whether it stands: once, for axioms on generated networks and for checks on trained models.

A claim on "any" speaks of what the method supports. Where a method refuses everything that is drawn, or a check says nothing
of a model, a claim on that family or model, by name, stays open: its author meant it, and it was not seen to stand. One on
"any" claims nothing there. In neither case does it pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .claims import Claim, Kind
from .results import Observed, Row, Verdict

ANY = "any"
NOT_SHOWN = "the claimed failure could not be shown"


def deciding(claims: Iterable[Claim], names: Sequence[str], places: Sequence[str]) -> Claim | None:
    """The most specific of the claims that speak of something; None where none does.

    Args:
        claims: of one method.
        names: what it is called in claims, from the general name to its own: ("sensitivity-n", "sensitivity-n/1").
        places: where it was looked at, as claims write it in `on`, from the general to the specific: ("any", "model").

    Returns:
        The one with the most specific name, and among these the one with the most specific place.
    """
    fitting = [claim for claim in claims if claim.axiom in names and claim.on in places]
    return max(fitting, key=lambda claim: (names.index(claim.axiom), places.index(claim.on)), default=None)


def verdict(claim: Claim | None, observed: Observed) -> Verdict:
    """What becomes of a claim where something was observed."""
    if observed == Observed.ERROR:
        return Verdict.ERROR
    if claim is None:
        return Verdict.UNCLAIMED
    if observed in (Observed.UNSUPPORTED, Observed.NOT_APPLICABLE):
        return Verdict.UNCLAIMED if claim.on.partition("(")[0] == ANY else Verdict.INCONCLUSIVE
    if observed == Observed.INCONCLUSIVE:
        return Verdict.INCONCLUSIVE
    stands = (observed == Observed.HOLDS) == (claim.kind == Kind.HOLDS)
    return Verdict.PASS if stands else Verdict.FAIL


def judge(row: Row, claim: Claim | None) -> None:
    """Set the claim and the verdict of a row, and say in its note why a claim claims nothing, or was not shown."""
    row.verdict = verdict(claim, row.observed)
    if claim is not None and row.verdict != Verdict.UNCLAIMED:
        row.claim, row.reason, row.source = claim.kind, claim.reason, claim.source
    else:
        row.claim = row.reason = row.source = None
    if claim is not None and row.verdict == Verdict.UNCLAIMED:
        row.add_note(f"the claim that it {claim.kind} speaks of {row.SPEAKS_OF}")
    if claim is not None and claim.kind == Kind.FAILS and row.verdict == Verdict.FAIL:
        row.note = f"{NOT_SHOWN}: {row.note}" if row.note else NOT_SHOWN
