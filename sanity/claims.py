"""Claims on full-model checks: which one decides a finding, and whether it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..axioms import suggestion
from ..claims import Claim, Method
from ..errors import UsageError
from ..results import Finding
from . import checks
from .outcome import Check

ANY = "any"
_NOT_SHOWN = "the claimed failure could not be shown"


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

    A claim on "any" speaks of the models on which the check says something: where it says nothing, nothing was claimed. A
    claim on a model that is named stays open there. In neither case does it pass.
    """
    bare = {finding.check for finding in findings}
    claims = tuple(claims)
    some: dict[Claim, list[Finding]] = {}
    for finding in findings:
        general = _name(finding) if _name(finding) not in bare else finding.check
        claim = _deciding(finding, general, claims)
        if claim is not None:
            finding.claim, finding.reason, finding.source = claim.kind, claim.reason, claim.source
        finding.verdict = _verdict(finding, claim)
        if finding.verdict == "unclaimed":
            finding.claim = finding.reason = finding.source = None
        elif claim is not None and claim.kind == "fails" and claim.check != finding.check:
            some.setdefault(claim, []).append(finding)
    for group in some.values():
        _some_variant(group)


def _name(finding: Finding) -> str:
    return finding.check.partition("/")[0]


def _deciding(finding: Finding, general: str, claims: Iterable[Claim]) -> Claim | None:
    """The most specific claim that speaks of a finding, by its own name or by the general one."""
    subjects = (ANY, finding.model, f"{finding.model}:{finding.data}")
    fitting = [claim for claim in claims if claim.check in (general, finding.check) and claim.on in subjects]
    return max(fitting, key=lambda c: (c.check == finding.check, subjects.index(c.on)), default=None)


def _verdict(finding: Finding, claim: Claim | None) -> str:
    if finding.observed == "error":
        return "error"
    if claim is None:
        return "unclaimed"
    if finding.observed in ("not-applicable", "unsupported"):
        if claim.on != ANY:
            return "inconclusive"
        _add_note(finding, f"the claim that it {claim.kind} speaks of models on which it can be checked")
        return "unclaimed"
    if finding.observed == "inconclusive":
        return "inconclusive"
    if finding.observed == ("holds" if claim.kind == "holds" else "violated"):
        return "pass"
    if claim.kind == "fails":
        _add_note(finding, _NOT_SHOWN)
    return "fail"


def _some_variant(group: list[Finding]) -> None:
    """A claim that some variant fails: one that shows it is enough, and one that is open leaves it open."""
    for kind in ("pass", "inconclusive"):
        shown = [finding.check for finding in group if finding.verdict == kind]
        if shown:
            for finding in group:
                if finding.verdict not in (kind, "error"):
                    finding.verdict, finding.claim, finding.reason, finding.source = "unclaimed", None, None, None
                    finding.note = None if finding.note == _NOT_SHOWN else finding.note
                    what = "shown by" if kind == "pass" else "left open by"
                    _add_note(finding, f"the claim that some variant fails is {what} {', '.join(shown)}")
            return


def _add_note(finding: Finding, text: str) -> None:
    finding.note = f"{finding.note}; {text}" if finding.note else text
