"""Occlusion of single features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method

# Rows of one forward pass: large enough to amortise a call, small enough to stay out of the allocator's mmap range.
_ROWS = 256


@method(
    name="occlusion-1",
    baseline="given",
    claims=[
        holds("sensitivity-n/1", on="any", source="by definition (Ancona et al. 2018, section 4)"),
        holds("sensitivity-n", on="linear", source="Ancona et al. 2018, Proposition 4"),
        holds("completeness/delta", on="linear", source="Ancona et al. 2018, Proposition 4"),
        holds("implementation-invariance", on="any", source="proved here: only outputs of the function enter"),
        holds("input-invariance", on="any", source="proved here: the baseline moves with the input"),
        holds("dummy", on="any", source="proved here: the two outputs are equal"),
        holds("symmetry", on="any", source="proved here: the two occluded inputs are mirror images"),
        holds("class-sensitivity", on="any", source="proved here: only the target's outputs enter, linearly"),
        holds("linearity", on="any", source="proved here: a difference of outputs is linear in the function"),
        holds("scale-equivariance", on="any", source="proved here: a difference of outputs is linear in the function"),
        holds("feature-permutation", on="any", source="proved here: the two occluded inputs are one, permuted"),
        holds("continuity", on="any", source="proved here: a difference of outputs is continuous as they are"),
        fails("completeness/delta", on="relu", reason="interactions: ReLU(x1 + x2 - 1) at (1, 1) gives 2 and not 1"),
        fails("completeness/delta", on="smooth", reason="interactions are counted for each feature"),
        fails("completeness/delta", on="product", reason="f = x1 x2 at (1, 1) gives 2 and not 1"),
        fails("completeness/delta", on="maxpool", reason="max(x1, x2) at (1, 1) gives 0 and not 1"),
        fails("sensitivity-n/n", on="relu", reason="interactions: Ancona et al. 2018, Proposition 4"),
        fails("sensitivity-n/N-1", on="relu", reason="interactions: Ancona et al. 2018, Proposition 4"),
    ],
)
def occlusion_1(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Occlusion of one feature at a time: R_i = f(x) - f(x with x_i set to the baseline).

    Source: Zeiler and Fergus 2014; Ancona et al. 2018, section 2 (Occlusion-1). One feature is one input value.

    What holds: sensitivity-1 by definition, on every network and at kinks too; dummy, symmetry, implementation
    invariance; linearity, class sensitivity and continuity; input invariance with a baseline that moves. What fails:
    completeness, as soon as features interact.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values that replace features; zeros where None.

    Returns:
        [B, *shape], in units of the output. Costs one forward pass of B (N + 1) rows, in batches.
    """
    baseline = torch.zeros_like(x) if baseline is None else baseline
    flat, reference = x.flatten(1), baseline.flatten(1)
    batch, n = flat.shape
    result = torch.empty_like(flat)
    with torch.no_grad():
        here = model(x).gather(1, target[:, None])[:, 0]
        for start in range(0, batch * n, _ROWS):
            cell = torch.arange(start, min(start + _ROWS, batch * n), device=x.device)
            row, feature = cell // n, cell % n
            occluded = flat[row]
            occluded[torch.arange(len(cell), device=x.device), feature] = reference[row, feature]
            there = model(occluded.reshape(-1, *x.shape[1:])).gather(1, target[row, None])[:, 0]
            result[row, feature] = here[row] - there
    return result.reshape(x.shape)
