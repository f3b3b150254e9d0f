"""The axioms: the registry. A new axiom is one file and one entry of AXIOMS."""

from __future__ import annotations

from ..errors import UsageError, suggestion
from . import (
    approximate_completeness,
    batch_independence,
    class_sensitivity,
    completeness,
    continuity,
    dummy,
    equivalence,
    feature_permutation,
    form_invariance,
    implementation_invariance,
    input_invariance,
    linearity,
    memory,
    non_negativity,
    purity,
    repeat_determinism,
    scale_equivariance,
    sensitivity_n,
    symmetry,
    tying_invariance,
)
from .axiom import Axiom
from .networks.families import ANY, MODEL, SUMMARIES, members
from .options import read_family

AXIOMS: dict[str, Axiom] = {
    module.AXIOM.name: module.AXIOM
    for module in (
        completeness,
        approximate_completeness,
        sensitivity_n,
        implementation_invariance,
        input_invariance,
        dummy,
        symmetry,
        class_sensitivity,
        linearity,
        scale_equivariance,
        feature_permutation,
        continuity,
        non_negativity,
        equivalence,
        batch_independence,
        repeat_determinism,
        purity,
        memory,
        form_invariance,
        tying_invariance,
    )
}


def find(full: str) -> tuple[Axiom, str | None]:
    """An axiom and its variant (None where the name has none) by "name" or "name/variant".

    Raises UsageError for an unknown name or variant.
    """
    name, _, variant = full.partition("/")
    if name not in AXIOMS:
        raise UsageError(f"unknown axiom {full!r}; {suggestion(name, AXIOMS)}")
    axiom = AXIOMS[name]
    if variant and variant not in axiom.variants:
        known = [axiom.full(v) for v in axiom.variants if v]
        raise UsageError(f"unknown variant {full!r}; {suggestion(full, known) if known else 'it has no variants'}")
    return axiom, variant or None


def applies(axiom: Axiom, variant: str, family: str) -> bool:
    """Whether a variant makes sense for a family ("any": for a member of it; "model": where it needs no network data).

    Raises UsageError for an unknown family.
    """
    if family == MODEL:
        return axiom.model
    return any(axiom.applies(variant, member) for member in members(family))


def check_family(name: str) -> str:
    """The name, if it is a family's; raises UsageError otherwise."""
    head, fixed = read_family(name)
    if head not in SUMMARIES:
        raise UsageError(f"unknown family {name!r}; {suggestion(name, SUMMARIES)}")
    if fixed and head == MODEL:
        raise UsageError(f"family {name!r}: your own network is as it is; only drawn families take options")
    return name


__all__ = ["ANY", "AXIOMS", "MODEL", "Axiom", "applies", "check_family", "find"]
