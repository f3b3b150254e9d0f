"""SmoothGrad: the mean of another method's maps over noisy copies of the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import Claim, Method, fails, holds
from ..errors import UsageError

N_SAMPLES = 50
SIGMA = 0.15

# Rows of one call of the base method.
_ROWS = 256

_DOC = """SmoothGrad over {base}: R = mean of R_base(x + n), n normal.

R(x) = 1/n_samples sum_k R_base(x + sigma (max x - min x) n_k), n_k ~ N(0, 1)

Source: Smilkov et al. 2017 (SmoothGrad). The noise is relative to the range of the sample's values, as in the
paper; n_samples = 50 and sigma = 0.15 are its choices. The baseline, where the base takes one, stays.

What holds: what holds for the base at every point and speaks of one input or of sums of models: with the same noise,
dummy, implementation invariance, class-sensitivity, linearity. A constant shift moves neither the noise nor its scale.
What fails: completeness and sensitivity-n (what the base has of them is true of the mean output over the noise, not of
f(x)), symmetry at finitely many samples, continuity (where one of the copies crosses a kink at which the base jumps, the
mean jumps by 1/n_samples of it; only its expectation is smooth), and input invariance under an arbitrary shift, which
changes the range that the noise is relative to (a sigma in units of the input would not).

Args:
    model: maps [B, *shape] to logits [B, C], in eval mode.
    x: inputs [B, *shape].
    target: [B], the logit of each sample.
    baseline: [B, *shape] where the base takes one.

Returns:
    [B, *shape], in the units of the base.
"""

# Each map of the mean is one of the base at the same noisy point in both networks, and the mean is linear.
INHERITED = ("implementation-invariance", "dummy", "class-sensitivity", "linearity", "scale-equivariance")
_NOISE = "the same noise is drawn for both (Kindermans et al. 2019, section 3.1)"


def smoothgrad(base: Method, *, n_samples: int = N_SAMPLES, sigma: float = SIGMA) -> Method:
    """The method that smooths another one.

    Raises:
        UsageError: n_samples is not a positive whole number, or sigma is not a positive number.
    """
    check_noise("smoothgrad", n_samples, sigma)

    def attribute(
        model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, **options: Any
    ) -> Tensor:
        total = torch.zeros_like(x)
        for maps in noisy_maps(base, n_samples, sigma, model, x, target, baseline, options):
            total += maps.sum(0)
        return total / n_samples

    return over_noise("smoothgrad", base, attribute, inherited(base, INHERITED), _DOC)


def over_noise(
    name: str, base: Method, attribute: Callable[..., Tensor], claims: tuple[Claim, ...], doc: str
) -> Method:
    """A method over another one's noisy maps; `doc` has a place for {base}."""
    return Method(
        name=f"{name}({base.name})",
        function=attribute,
        baseline=base.baseline,
        stochastic=True,
        data=base.data,
        claims=claims,
        doc=doc.format(base=base.name).strip(),
    )


def check_noise(method: str, n_samples: int, sigma: float) -> None:
    """Raise UsageError where n_samples is not a positive whole number, or sigma not a positive number."""
    if not isinstance(n_samples, int) or isinstance(n_samples, bool) or n_samples < 1:
        raise UsageError(f"{method}: n_samples must be a positive whole number, not {n_samples!r}")
    if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 < sigma < float("inf"):
        raise UsageError(f"{method}: sigma must be a positive number, not {sigma!r}")


def noisy_maps(
    base: Method,
    n_samples: int,
    sigma: float,
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None,
    options: dict[str, Any],
) -> Iterator[Tensor]:
    """The base's maps of n_samples noisy copies of x, a few copies [copies, B, *shape] at a time."""
    flat = x.flatten(1)
    scale = sigma * (flat.amax(1) - flat.amin(1)).reshape(-1, *[1] * (x.dim() - 1))
    at_once = max(1, _ROWS // len(x))
    for start in range(0, n_samples, at_once):
        copies = min(at_once, n_samples - start)
        noisy = x + scale * torch.randn(copies, *x.shape, dtype=x.dtype, device=x.device)
        reference = None if baseline is None else baseline.repeat(copies, *[1] * (x.dim() - 1))
        maps = base.function(model, noisy.flatten(0, 1), target.repeat(copies), reference, **options)
        yield maps.reshape(noisy.shape)


def inherited(base: Method, names: tuple[str, ...]) -> tuple[Claim, ...]:
    """What the base's claims become under noise that does not depend on the network.

    names: axioms, or axiom/variant, whose claims pass from the base to the ensemble.
    """
    claims = [
        holds(claim.axiom, on=claim.on, tol=claim.tol, source=f"inherited from {base.name}: {_NOISE}")
        for claim in base.claims
        if claim.kind == "holds" and (claim.name in names or claim.axiom in names)
    ]
    shifts = {claim.axiom for claim in base.claims if claim.kind == "holds" and claim.name == "input-invariance"}
    if shifts & {"input-invariance", "input-invariance/constant"}:
        claims.append(holds("input-invariance/constant", on="any", source=f"inherited from {base.name}: {_NOISE}"))
    return tuple(claims)


def over_gradient(gradient: Method) -> Method:
    """The built-in `smoothgrad`, with the claims that are particular to the gradient."""
    made = smoothgrad(gradient)
    mean = "mean of gradients: on a linear network all are one"
    return made.but(
        name="smoothgrad",
        claims=(
            *made.claims,
            holds("equivalence/gradient", on="linear", source=f"proved here: {mean}"),
            fails("equivalence/gradient", on="relu", reason="the noise carries some copies over kinks"),
            *(
                fails(axiom, on="linear", reason="it is a mean of gradients: f = x at 2 gives 1, and f(2) - f(0) is 2")
                for axiom in ("completeness/delta", "sensitivity-n/1", "sensitivity-n/n")
            ),
            fails("continuity", on="relu", reason="the mean jumps where one of the noisy copies crosses a kink"),
            fails("symmetry", on="relu", reason="the noise of the two features differs at finitely many samples"),
            fails("symmetry", on="smooth", reason="the noise of the two features differs at finitely many samples"),
            fails(
                "input-invariance/arbitrary",
                on="relu",
                reason="the noise is relative to max x - min x, which the shift changes",
            ),
        ),
    )
