"""Competition for pixels: another method's map, less what it gives to other labels as well."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import Claim, Method, fails, holds
from .perturbation import ROWS

ALIASES = {"cgi": "gradient-times-input", "clrp": "lrp-epsilon", "cdasp": "dasp"}
"""The three competitions that have names of their own (Gupta and Arora 2019, section 5), with their bases."""

_DOC = """Competition over {base}: a feature counts for a label only if no other label claims more of it.

R_i^c = R_base,i^c where that is positive and the largest over all labels, or negative and the smallest; else 0

Source: Gupta and Arora 2019, section 3. All logits compete. Labels that tie, to rounding, all keep the feature. With a
single logit the map is that of the base. If scores were exchangeable and symmetric about zero, a feature would be kept with
probability (2 / k) (1 - 2^-k) among k labels (the paper's 1/k leaves out the negative ones).

What holds: what holds for the base and for all its logits at once, feature by feature: implementation invariance, dummy,
symmetry, input invariance, scale equivariance; parity where the base is odd.
What fails: completeness and sensitivity-n (W = ((1, 1), (2, -1)) at (1, 1): the map of the first logit, 2, is (0, 1), and
removing x1 costs 1); the other logits are looked at, on purpose; linearity; continuity: S = (x^2, x) on the way through
x = 1; whatever fails for the base, which it is where there is one logit.

Args:
    model: maps [B, *shape] to logits [B, C], in eval mode. The base is called with C B rows, in batches.
    x: inputs [B, *shape].
    target: [B], the logit of each sample.
    baseline: [B, *shape] where the base takes one.

Returns:
    [B, *shape], in the units of the base.

Raises:
    Unsupported: the base refuses the network.
"""

# Each figure of the map is one of the base's, chosen by comparing figures of the base.
_INHERITED = (
    "implementation-invariance",
    "dummy",
    "symmetry",
    "input-invariance",
    "feature-permutation",
    "scale-equivariance",
)
_PER_LOGIT = ("parity", "logit-permutation")


def competition(base: Method) -> Method:
    """The method that lets all labels compete for each feature of another method's map."""

    def attribute(
        model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, **options: Any
    ) -> Tensor:
        with torch.no_grad():
            labels = model(x[:1]).shape[1]
        # A stochastic base draws the same numbers for each label; any other takes the labels as rows of its batch.
        at_once = 1 if base.stochastic else max(1, ROWS // max(1, len(x)))
        devices = [x.device] if x.device.type == "cuda" else []
        maps: list[Tensor] = []
        for some in torch.arange(labels, device=target.device).split(at_once):
            last = int(some[-1]) == labels - 1
            with contextlib.nullcontext() if last else torch.random.fork_rng(devices=devices):
                found = base.function(
                    model, _times(x, some), some.repeat_interleave(len(x)), _times(baseline, some), **options
                )
            maps.append(found.reshape(-1, *x.shape))
        return survivors(torch.cat(maps), target)

    return Method(
        name=f"competition({base.name})",
        function=attribute,
        baseline=base.baseline,
        stochastic=base.stochastic,
        data=base.data,
        claims=_claims(base),
        doc=_DOC.format(base=base.name).strip(),
    )


def _times(tensor: Tensor | None, some: Tensor) -> Any:
    """A batch [B, *shape] as often as there are labels; None for None."""
    return None if tensor is None else tensor.repeat(len(some), *[1] * (tensor.dim() - 1))


def survivors(maps: Tensor, target: Tensor) -> Tensor:
    """The map of each sample's own label, where it wins.

    Scores of two labels that differ by rounding only tie: two equivalent networks would break such a tie differently.

    Args:
        maps: [C, B, *shape], the maps of all labels.
        target: [B].

    Returns:
        [B, *shape].
    """
    own = maps[target, torch.arange(len(target), device=maps.device)]
    largest = maps.abs().transpose(0, 1).flatten(1).amax(1).reshape(-1, *[1] * (own.dim() - 1))
    tie = torch.finfo(maps.dtype).eps ** 0.5 * largest
    wins = (own > 0) & (own >= maps.amax(0) - tie)
    loses = (own < 0) & (own <= maps.amin(0) + tie)
    return torch.where(wins | loses, own, torch.zeros_like(own))


def _claims(base: Method) -> tuple[Claim, ...]:
    """What follows from the base's claims, for any base. Approximate ones do not pass: a small change can decide who wins."""
    source = f"inherited from {base.name}: each figure is one of the base's, or zero"
    claims: dict[tuple[str, str], Claim] = {}

    def add(claim: Claim) -> None:
        claims.setdefault((claim.axiom, claim.on), claim)

    held = {(claim.axiom, claim.on) for claim in base.claims if claim.kind == "holds"}
    if ("sensitivity-n", "linear") in held:  # then R_i is the weight times x_i - baseline_i on linear networks
        add(
            fails(
                "completeness/delta",
                on="linear",
                reason="W = ((1, 1), (2, -1)) at (1, 1): the map of logit 0 is (0, 1)",
            )
        )
        add(fails("linearity", on="linear", reason="who wins in f + g depends on both"))
        add(fails("class-sensitivity/other-logits", on="linear", reason="the other logits compete, by definition"))
    if {on.partition("(")[0] for axiom, on in held if axiom == "continuity"} & {"relu", "any"}:
        add(fails("continuity", on="relu", reason="the label that is ahead changes where two maps cross"))
    for claim in base.claims:
        if claim.kind != "holds" or claim.tol is not None:
            continue
        if claim.name in _INHERITED:
            add(holds(claim.axiom, on=claim.on, source=source))
        elif claim.name == "class-sensitivity":
            variants = _PER_LOGIT if claim.variant is None else (claim.variant,)
            for variant in variants:
                if variant in _PER_LOGIT:
                    add(holds(f"class-sensitivity/{variant}", on=claim.on, source=source))
    return tuple(claims.values())


def alias(name: str, base: Method) -> Method:
    """The built-in `cgi`, `clrp` or `cdasp`: the competition over its base, with the claims particular to it."""
    jumps = "with one logit it is the base, which jumps at kinks"
    moves = "with one logit it is the base, which is multiplied by the input"
    figure = "W = ((1, 1), (2, -1)) at (1, 1): (0, 1) for logit 0, and removing x1 costs 1"
    alone = "with one logit it is the base"
    sums = tuple(fails(f"sensitivity-n/{n}", on="linear", reason=figure) for n in ("1", "n"))

    def of_the_base(family: str, *axioms: str) -> tuple[Claim, ...]:
        return tuple(fails(axiom, on=family, reason=f"{alone} ({base.name})") for axiom in axioms)

    def rewritten(family: str, *names: str) -> tuple[Claim, ...]:
        return of_the_base(family, *(f"implementation-invariance/{rewrite}" for rewrite in names))

    own = {
        "cgi": (
            *sums,
            fails("input-invariance/arbitrary", on="linear", reason=moves),
            fails("completeness/output", on="relu-nobias", reason="what goes to other labels is missing"),
            fails("completeness/delta", on="relu-nobias", reason="what goes to other labels is missing"),
            fails("continuity", on="relu", reason=jumps),
            fails("input-invariance/constant", on="any", reason=moves),
            fails("class-sensitivity/other-logits", on="relu", reason="the other logits compete, by definition"),
        ),
        "clrp": (
            *sums,
            *of_the_base("linear", "dummy", "symmetry"),
            fails("linearity", on="linear", reason="who wins in f + g depends on both"),
            *rewritten("relu", "rescale", "fuse-linear", "split-linear", "batchnorm-folding"),
            fails("input-invariance/arbitrary", on="linear", reason=moves),
            fails("input-invariance/constant", on="any", reason=moves),
            fails("completeness/output", on="relu-nobias", reason="what goes to other labels is missing"),
            fails("class-sensitivity/other-logits", on="relu", reason="the other logits compete, by definition"),
        ),
        "cdasp": (
            *sums,
            *of_the_base("relu", "dummy", "symmetry"),
            *rewritten("relu", "split", "split-signed", "relu-identity", "fuse-linear", "split-linear", "nested"),
            *rewritten("conv", "never-active"),
            fails("completeness/delta", on="relu", reason="the base is not complete, and labels lose to others"),
            fails("class-sensitivity/other-logits", on="relu", reason="the other logits compete, by definition"),
        ),
    }  # fmt: skip
    made = competition(base)
    new = {(claim.axiom, claim.on) for claim in own[name]}
    kept = [claim for claim in made.claims if (claim.axiom, claim.on) not in new]
    return made.but(name=name, claims=(*kept, *own[name]))
