"""Shapley values: exact over all coalitions of features, and sampled over orders."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import Unsupported, UsageError
from .perturbation import group_index, shared, target_outputs

# 2**12 = 4096 coalitions of a sample: a few milliseconds on a small network.
MOST_FEATURES = 12
N_ORDERS = 25

_OUTPUTS = "proved here: only outputs of the function enter"
_SHAPLEY = "Shapley 1953"
_PROP_4 = "Ancona et al. 2018, Proposition 4"
_INTERACTIONS = "interactions are shared: f = x1 x2 at (1, 1) gives (1/2, 1/2), removing x1 costs 1"
_MOVES = "proved here: the baseline moves with the input"


@method(
    baseline="given",
    claims=[
        holds("completeness/delta", on="any", source=f"{_SHAPLEY}: efficiency"),
        holds("sensitivity-n/N", on="any", source=f"{_SHAPLEY}: efficiency"),
        holds("sensitivity-n", on="linear", source=_PROP_4),
        fails("sensitivity-n/1", on="product", reason=_INTERACTIONS),
        fails("sensitivity-n/n", on="relu", reason=f"interactions: {_PROP_4}"),
        holds("implementation-invariance", on="any", source=_OUTPUTS),
        holds("input-invariance", on="any", source=_MOVES),
        holds("dummy", on="any", source=f"{_SHAPLEY}: null player"),
        holds("symmetry", on="any", source=f"{_SHAPLEY}: symmetry"),
        holds("class-sensitivity", on="any", source=f"{_OUTPUTS} of one logit, linearly"),
        holds("linearity", on="any", source=f"{_SHAPLEY}: additivity"),
        holds("scale-equivariance", on="any", source=f"{_SHAPLEY}: additivity"),
        holds("feature-permutation", on="any", source=f"{_OUTPUTS}, on all coalitions"),
        holds("continuity", on="any", source="proved here: a sum of values of a continuous function"),
        *(
            holds(f"equivalence/{other}", on="linear", source=_PROP_4)
            for other in ("occlusion-1", "integrated-gradients", "deeplift")
        ),
        fails("equivalence/integrated-gradients", on="relu", reason="another path for each order of the features"),
    ],
)  # fmt: skip
def shapley(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, groups: str = "none"
) -> Tensor:
    """Shapley values, exact: the mean gain of a feature over all orders in which features replace the baseline.

    R_i = sum over S without i of |S|! (N - |S| - 1)! / N! (f(x_S+i) - f(x_S)), where x_S has the features in S from x and the
    others from the baseline.

    Source: Shapley 1953; Ancona et al. 2019 (DASP), section 2. One feature is one input value, unless it enters with
    its group.

    What holds: completeness, dummy, symmetry, linearity in the model (which together determine it), implementation
    invariance, continuity; input invariance with a baseline that moves. What fails: sensitivity-n for n < N, as soon as
    features interact; input invariance from a baseline that stays (zeros): f = x gives x, and x + m after a shift.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values of absent features; zeros where None.
        groups: what enters together: "none"; "channels", all channels of a position of x [B, C, *positions]; "vectors", the
            last axis of x [B, *positions, D]. What a group gains is divided equally among its features.

    Returns:
        [B, *shape], in units of the output. Costs a forward pass of B 2^N rows, in batches; N groups.

    Raises:
        UsageError: an unknown kind of group.
        Unsupported: more than 12 groups, or an input without an axis for them.
    """
    baseline = torch.zeros_like(x) if baseline is None else baseline
    index = group_index("shapley", groups, x)
    flat, reference, n = x.flatten(1), baseline.flatten(1), int(index.max()) + 1
    if n > MOST_FEATURES:
        raise Unsupported(
            f"exact Shapley values take 2^{n} evaluations for {n} features; at most {MOST_FEATURES} are taken"
        )
    coalitions = torch.arange(2**n, device=x.device)
    present = (coalitions[:, None] >> torch.arange(n, device=x.device)) & 1 == 1  # [2^N, N]
    sizes = present.sum(1)
    shares = [math.factorial(s) * math.factorial(n - s - 1) / math.factorial(n) for s in range(n)]
    weights = torch.tensor(shares, dtype=x.dtype, device=x.device)

    def mixed(start: int, stop: int) -> tuple[Tensor, Tensor]:
        cell = torch.arange(start, stop, device=x.device)
        sample, coalition = cell // len(coalitions), cell % len(coalitions)
        inputs = torch.where(present[coalition][:, index], flat[sample], reference[sample])
        return inputs.reshape(-1, *x.shape[1:]), target[sample]

    values = target_outputs(model, len(x) * len(coalitions), mixed).reshape(len(x), len(coalitions))
    result = torch.empty(len(x), n, dtype=x.dtype, device=x.device)
    for i in range(n):
        without = coalitions[~present[:, i]]
        gains = values[:, without + (1 << i)] - values[:, without]
        result[:, i] = (weights[sizes[without]] * gains).sum(1)
    return shared(result, index).reshape(x.shape)


@method(
    name="shapley-sampling",
    baseline="given",
    stochastic=True,
    claims=[
        holds("completeness/delta", on="any", source="proved here: the gains along each order add up to f(x) - f(baseline)"),
        holds("sensitivity-n/N", on="any", source="proved here: the gains along each order add up"),
        holds("sensitivity-n", on="linear", source=_PROP_4),
        holds("implementation-invariance", on="any", source=f"{_OUTPUTS}, along the same orders"),
        holds("input-invariance", on="any", source=_MOVES),
        holds("dummy", on="any", source="proved here: every gain of the feature is zero"),
        fails("symmetry", on="product", reason="finitely many orders do not treat two features alike"),
        holds("class-sensitivity", on="any", source=f"{_OUTPUTS} of one logit, along the same orders"),
        holds("linearity", on="any", source="proved here: the gains of a sum are the sums of the gains"),
        holds("scale-equivariance", on="any", source="proved here: the gains are scaled"),
        holds("continuity", on="any", source="proved here: a sum of values of a continuous function"),
        holds("equivalence/shapley", on="linear", source="proved here: every order gives w_i (x_i - baseline_i)"),
        fails("equivalence/shapley", on="product", reason="finitely many orders"),
    ],
)  # fmt: skip
def shapley_sampling(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    n_samples: int = N_ORDERS,
    groups: str = "none",
) -> Tensor:
    """Shapley values, sampled: the mean gain of a feature over random orders.

    Source: Castro et al. 2009; Ancona et al. 2019 (DASP), section 2. Each sample of the batch has orders of its own.

    What holds: completeness and dummy along each order; whatever compares outputs of one function, with the same orders.
    What fails: symmetry at finitely many orders.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values of absent features; zeros where None.
        n_samples: how many orders; the error falls like 1 / sqrt(n_samples).
        groups: what enters together: "none"; "channels", all channels of a position of x [B, C, *positions]; "vectors", the
            last axis of x [B, *positions, D]. What a group gains is divided equally among its features.

    Returns:
        [B, *shape], in units of the output. Costs a forward pass of B n_samples (N + 1) rows, in batches; N groups.

    Raises:
        UsageError: n_samples is not positive, or an unknown kind of group.
        Unsupported: the input has no axis for such groups.
    """
    if n_samples < 1:
        raise UsageError(f"shapley-sampling: n_samples must be positive, not {n_samples}")
    baseline = torch.zeros_like(x) if baseline is None else baseline
    index = group_index("shapley-sampling", groups, x)
    flat, reference, n = x.flatten(1), baseline.flatten(1), int(index.max()) + 1
    if not len(x):
        return torch.zeros_like(x)
    orders = torch.stack([torch.randperm(n, device=x.device) for _ in range(n_samples * len(x))])
    rank = orders.argsort(1)

    def mixed(start: int, stop: int) -> tuple[Tensor, Tensor]:
        cell = torch.arange(start, stop, device=x.device)
        order, present = cell // (n + 1), cell % (n + 1)  # of each order its first 0, 1, ..., n groups
        sample = order % len(x)
        inputs = torch.where((rank[order] < present[:, None])[:, index], flat[sample], reference[sample])
        return inputs.reshape(-1, *x.shape[1:]), target[sample]

    values = target_outputs(model, len(orders) * (n + 1), mixed).reshape(len(orders), n + 1)
    gains = (values[:, 1:] - values[:, :-1]).gather(1, rank)
    return shared(gains.reshape(n_samples, len(x), n).mean(0), index).reshape(x.shape)
