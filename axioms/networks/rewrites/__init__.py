"""Function-preserving rewrites of networks: the registry. A new rewrite is one function and one entry of REWRITES."""

from __future__ import annotations

from ..families import Family, Has
from .affine import FOLD_BATCHNORM, FUSE_LINEAR, SPLIT_LINEAR
from .base import Context, Rewrite
from .pieces import ACTIVATION_CHANGE, MAX_AS_RELUS, NESTED, RELU_IDENTITY
from .units import DEAD, NEVER_ACTIVE, PERMUTE, RESCALE, SPLIT, SPLIT_SIGNED

REWRITES: dict[str, Rewrite] = {
    rewrite.name: rewrite
    for rewrite in (
        PERMUTE,
        RESCALE,
        SPLIT,
        SPLIT_SIGNED,
        RELU_IDENTITY,
        FUSE_LINEAR,
        SPLIT_LINEAR,
        FOLD_BATCHNORM,
        DEAD,
        NEVER_ACTIVE,
        MAX_AS_RELUS,
        NESTED,
        ACTIVATION_CHANGE,
    )
}

CHAIN = "chain"
"""The variant in which up to three rewrites follow each other."""


def applicable(family: Family) -> list[Rewrite]:
    """The rewrites that have sites in the networks of a family; a layer that is called twice is none."""
    return [rewrite for rewrite in REWRITES.values() if rewrite.needs & family.has and Has.TIED not in family.has]


__all__ = ["CHAIN", "REWRITES", "Context", "Rewrite", "applicable"]
