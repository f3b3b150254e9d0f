"""Claims on full-model checks: which one decides a finding, and whether it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .. import verdict
from ..claims import SANITY, Claim, Kind, Method
from ..errors import UsageError, suggestion
from ..results import Finding, Verdict
from ..verdict import ANY, NOT_SHOWN, deciding
from . import checks
from .outcome import Check


def claims_of(method: Method, among: Mapping[str, Check] | None = None) -> tuple[Claim, ...]:
    """A method's claims on full-model checks, each of which makes sense.

    Args:
        method: with any claims.
        among: the checks that there are; the registry's by default.

    Raises:
        UsageError: an unknown check, variant or model; a tolerance or a witness, which these claims do not take; two claims
            on one check and model.
    """
    claims = tuple(claim for claim in method.claims if claim.check is not None)
    for claim in claims:
        written = f"{method.name} claims {claim.kind}({claim.axiom!r}, on={claim.on!r})"
        try:
            checks.find(claim.check or "", among)
            if among is None and claim.on != ANY:
                _check_subject(claim.on)
        except UsageError as error:
            raise UsageError(f"{written}: {error}") from error
        if claim.tol is not None or claim.witness is not None:
            raise UsageError(f"{written}: a full-model check has its own rule; tol and witness are for axioms")
        if sum((other.axiom, other.on) == (claim.axiom, claim.on) for other in claims) > 1:
            raise UsageError(f"{method.name}: two claims on {claim.axiom!r} for {claim.on!r}")
    return claims


def must_be_known(methods: Iterable[Method]) -> None:
    """Every check that the methods claim something of must exist; imports none of them.

    Raises:
        UsageError: no check is called that.
    """
    for method in methods:
        for claim in method.claims:
            if claim.check is not None:
                try:
                    checks.known(claim.check.partition("/")[0])
                except UsageError as error:
                    raise UsageError(
                        f"{method.name} claims {claim.kind}({claim.axiom!r}, on={claim.on!r}): {error}"
                    ) from error


def _check_subject(on: str) -> None:
    """Raise UsageError where `on` names no model, or a named model with data that there is not."""
    from ..models import architectures, datasets

    model, colon, data = on.partition(":")
    if colon and model.partition("(")[0] not in architectures.ARCHITECTURES and "-" not in model:
        return  # package.module:factory, of which nothing is known before it is imported
    architectures.architecture(model)
    if colon and ":" not in data and data not in datasets.SOURCES:
        raise UsageError(f"unknown data {data!r}; {suggestion(data, datasets.SOURCES)}")


def judge(findings: Sequence[Finding], claims: Iterable[Claim]) -> None:
    """Set the claim and the verdict of each finding that a check made of one method on one model.

    The more specific claim decides: first one that names the variant, then one that names the model with its data, then one
    that names the model. A general claim that a check holds speaks of each variant; a general claim that it fails, of some
    variant; where a finding has the bare name of the check, a claim on that name speaks of it alone.

    Where a check says nothing, see `verdict`.
    """
    bare = {finding.check for finding in findings}
    claims = tuple(claims)
    some: dict[Claim, list[Finding]] = {}
    for finding in findings:
        name = finding.check.partition("/")[0]
        general = finding.check if name in bare else name
        names = dict.fromkeys((f"{SANITY}/{general}", f"{SANITY}/{finding.check}"))
        claim = deciding(claims, tuple(names), (ANY, finding.model, f"{finding.model}:{finding.data}"))
        verdict.judge(finding, claim)
        if claim is not None and finding.claim == Kind.FAILS and claim.check != finding.check:
            some.setdefault(claim, []).append(finding)
    for group in some.values():
        _some_variant(group)


def _some_variant(group: list[Finding]) -> None:
    """A claim that some variant fails: one that shows it is enough, and one that is open leaves it open."""
    for kind in (Verdict.PASS, Verdict.INCONCLUSIVE):
        shown = [finding.check for finding in group if finding.verdict == kind]
        if shown:
            for finding in group:
                if finding.verdict not in (kind, Verdict.ERROR):
                    finding.verdict = Verdict.UNCLAIMED
                    finding.claim = finding.reason = finding.source = None
                    finding.note = (finding.note or "").removeprefix(NOT_SHOWN).removeprefix(": ") or None
                    what = "shown by" if kind == Verdict.PASS else "left open by"
                    finding.add_note(f"the claim that some variant fails is {what} {', '.join(shown)}")
            return
