"""Expected gradients: integrated gradients averaged over baselines from the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import UsageError
from .path_integral import integrate_gradients

# Rows of the data that are taken; from more, equally many at equal steps.
MOST_ROWS = 64

# Numbers in the ends of the paths that are integrated at once.
_NUMBERS = 2**20

_MEAN = "proved here: a mean of integrated gradients, each of which has it (Sundararajan et al. 2017)"
_ADDITIVE = "proved here: on a linear graph the mean of w (x - row) is w (x - mean)"


@method(
    name="expected-gradients",
    baseline="mean",
    data=True,
    claims=[
        holds("implementation-invariance", on="any", source=_MEAN),
        holds("dummy", on="any", source=_MEAN),
        holds("symmetry", on="any", source=f"{_MEAN}; the data are symmetric too"),
        holds("class-sensitivity", on="any", source=_MEAN),
        holds("linearity", on="any", source=_MEAN),
        holds("scale-equivariance", on="any", source=_MEAN),
        holds("feature-permutation", on="any", source=f"{_MEAN}; the data are permuted too"),
        holds("input-invariance", on="any", source="proved here: the data move with the input"),
        holds("completeness/delta", on="linear", source=_ADDITIVE),
        holds("sensitivity-n", on="linear", source=_ADDITIVE),
        holds("equivalence/integrated-gradients-mean", on="linear", source=_ADDITIVE),
        holds("continuity", on="smooth", source="proved here: a mean of integrals of continuous functions"),
        fails("completeness/delta", on="relu", reason="the sum is f(x) - mean f(row), and mean f(row) is not f(mean row)"),
        fails("sensitivity-n/1", on="product", reason="interactions, as for integrated gradients"),
        fails("equivalence/integrated-gradients-mean", on="relu", reason="the mean over paths is not the path from the mean"),
    ],
)  # fmt: skip
def expected_gradients(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, data: Tensor | None = None
) -> Tensor:
    """Expected gradients: R = mean over the rows x' of the data of (x - x') integral_0^1 grad f(x' + a (x - x')) da.

    Source: Erion et al. 2021 (attribution priors), section on expected gradients. There one row and one point of its path
    are drawn at a time; here the mean is over all rows, and the integrals are those of `integrated-gradients`: nothing is
    drawn. Of more than 64 rows, 64 at equal steps are taken.

    What holds: sum R = f(x) - mean f(x'); the properties of integrated gradients that do not name a baseline; on linear
    graphs it is integrated gradients from the mean of the data. What fails: it is complete for the mean of the outputs, and
    no single baseline has that output in general, so neither completeness/delta nor sensitivity-n can be had.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used; the rows of the data are the baselines.
        data: [M, *shape], M > 0.

    Returns:
        [B, *shape], in units of the output. The paths from all rows to all samples are integrated at once.

    Raises:
        UsageError: no data were given.
        Unsupported: an integral does not converge.
    """
    if data is None or not len(data):
        raise UsageError("expected-gradients needs a batch of data: its rows are the baselines")
    step = -(-len(data) // MOST_ROWS)
    rows = data[::step]
    total = torch.zeros_like(x)
    for some in rows.split(max(1, _NUMBERS // max(1, x.numel()))):
        starts, ends = some.repeat_interleave(len(x), 0), x.repeat(len(some), *[1] * (x.dim() - 1))
        total += integrate_gradients(model, ends, target.repeat(len(some)), starts).reshape(-1, *x.shape).sum(0)
    return total / len(rows)
