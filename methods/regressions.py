"""LIME and kernel SHAP: linear models fitted to the outputs at random coalitions of the features."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..claims import fails, holds, method
from ..errors import Unsupported, UsageError
from .perturbation import target_outputs

N_SAMPLES = 100

# Captum's default for LIME: the penalty on the absolute weights, in units of the output.
ALPHA = 0.01

# Of coordinate descent over all weights: some ten are enough for a few features, some hundreds for as many as coalitions.
SWEEPS = 1000

# Captum's weight of the empty and the full coalition: the fit leaves a millionth of what it leaves at others.
FULL_WEIGHT = 1e6

_SAME = "proved here: the same coalitions are drawn, and only outputs of the function enter"
_FIT = "proved here: w is a solution of the fit, the only one as soon as the coalitions have full rank"
_SHRINKS = "the lasso (alpha = 0.01) takes a constant from each weight"


def _check(name: str, n_samples: int) -> None:
    if not isinstance(n_samples, int) or isinstance(n_samples, bool) or n_samples < 3:
        raise UsageError(f"{name}: n_samples must be a whole number of at least 3, not {n_samples!r}")


def _inputs(x: Tensor, baseline: Tensor, present: Tensor) -> Tensor:
    """The inputs [B, K, N] of coalitions present [B, K, N]."""
    return torch.where(present, x.flatten(1)[:, None], baseline.flatten(1)[:, None])


def _outputs(model: nn.Module, x: Tensor, target: Tensor, inputs: Tensor) -> Tensor:
    """The target logits [B, K] at inputs [B, K, N], in float64."""
    count = inputs.shape[1]
    rows = inputs.reshape(-1, *x.shape[1:])
    chosen = target.repeat_interleave(count)
    return target_outputs(model, len(rows), lambda a, b: (rows[a:b], chosen[a:b])).double().reshape(-1, count)


@method(
    name="lime",
    baseline="given",
    stochastic=True,
    claims=[
        holds("class-sensitivity/parity", on="relu", source="proved here: the fit of -f is minus the fit of f"),
        holds("class-sensitivity/other-logits", on="relu", source=_SAME),
        holds("class-sensitivity/logit-permutation", on="relu(magnitude=large)", source=_SAME),
        fails("completeness/delta", on="linear", reason=_SHRINKS),
        fails("sensitivity-n/1", on="linear", reason=_SHRINKS),
        fails("equivalence/occlusion-1", on="linear", reason=_SHRINKS),
        fails("scale-equivariance", on="linear", reason="the lasso's alpha is in the units of the output"),
        fails("symmetry", on="relu", reason="finitely many coalitions do not treat two features alike"),
        fails("input-invariance/constant", on="relu",
              reason="coalitions are weighted by the cosine of their input and x, which a shift turns"),
    ],
)  # fmt: skip
def lime(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, n_samples: int = N_SAMPLES
) -> Tensor:
    """LIME: the weights of a sparse linear model, fitted to the outputs at random coalitions of the features.

    min over w, c of sum_S pi(S) (f(x_S) - c - sum_{i in S} w_i)^2 / (2 sum_S pi(S)) + alpha |w|_1, R = w

    x_S has the features in S from x and the others from the baseline, each with probability 1/2. With d the cosine distance
    of x_S and x, pi(S) = exp(-d^2 / 2); alpha = 0.01. The fit is exact to rounding where there are more coalitions than
    features, and else what coordinate descent reaches in 1000 sweeps.

    Source: Ribeiro et al. 2016, equation 1, with the choices that Captum makes.

    What holds: it sees outputs of the target alone, and is odd in them. What fails: the penalty shrinks weights, so not even
    a linear function gets its own; it has a scale; the cosine knows where zero is.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values of absent features; zeros where None.
        n_samples: how many coalitions.

    Returns:
        [B, *shape], in units of the output. Costs a forward pass of B n_samples rows, in batches.

    Raises:
        UsageError: n_samples is below 3.
    """
    _check("lime", n_samples)
    baseline = torch.zeros_like(x) if baseline is None else baseline
    present = torch.randint(2, (len(x), n_samples, x.shape[1:].numel()), device=x.device) == 1
    inputs = _inputs(x, baseline, present)
    distance = 1 - F.cosine_similarity(inputs.double(), x.flatten(1)[:, None].double(), dim=2)
    weights = torch.exp(-distance.square() / 2)
    outputs = _outputs(model, x, target, inputs)
    found = [
        _lasso(*(part.cpu().numpy() for part in parts))
        for parts in zip(present.double(), outputs, weights, strict=True)
    ]
    return torch.from_numpy(np.reshape(found, x.shape)).to(x)


def _lasso(present: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The w [N] of least sum_S p(S) (y(S) - c - sum_{i in S} w_i)^2 / 2 + alpha |w|_1, p in proportion to the weights.

    Args:
        present: [K, N], 1 for the features in each coalition.
        outputs: [K], y.
        weights: [K], positive.
    """
    # No change of the weights is too small to go on, so that rounding does not decide how many sweeps there are.
    lasso = _coordinate_descent()(alpha=ALPHA, tol=1e-16, max_iter=SWEEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # (where that is never reached)
        return np.asarray(lasso.fit(present, outputs, sample_weight=weights).coef_)


def _coordinate_descent() -> Any:
    """scikit-learn's Lasso, imported with the first call: it takes half a second.

    It then sets variables for OpenMP, which is loaded long since: a call leaves the environment as it was.
    """
    before = set(os.environ)
    from sklearn.linear_model import Lasso

    for name in set(os.environ) - before:
        del os.environ[name]
    return Lasso


@method(
    name="kernel-shap",
    baseline="given",
    stochastic=True,
    claims=[
        holds("equivalence/shapley", on="linear", source=_FIT),
        holds("completeness/delta", on="linear",
              source="proved here: a fit without residuals exists, and the two full coalitions are in it"),
        holds("implementation-invariance/chain", on="relu", source=_SAME),
        holds("class-sensitivity/parity", on="relu", source="proved here: the fit of -f is minus the fit of f"),
        holds("class-sensitivity/other-logits", on="relu", source=_SAME),
        holds("class-sensitivity/logit-permutation", on="relu", source=_SAME),
        holds("scale-equivariance", on="relu", source="proved here: least squares are linear in the outputs"),
        fails("equivalence/shapley", on="relu", reason="finitely many coalitions"),
        fails("symmetry", on="relu", reason="finitely many coalitions do not treat two features alike"),
        fails("dummy", on="relu", reason="what the linear fit leaves over is correlated with every feature"),
        fails("sensitivity-n/1", on="product", reason="interactions are shared: it comes near Shapley values"),
    ],
)  # fmt: skip
def kernel_shap(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, n_samples: int = N_SAMPLES
) -> Tensor:
    """Kernel SHAP: Shapley values as weighted least squares, over coalitions drawn from the Shapley kernel.

    min over w, c of sum_S (f(x_S) - c - sum_{i in S} w_i)^2, R = w, with k = |S| drawn in proportion to 1 / (k (N - k)), S
    equally likely among those of k features, and the empty and the full coalition with the weight 1e6.

    Source: Lundberg and Lee 2017, Theorem 2; the coalitions are drawn as Captum draws them.

    What holds: on linear functions Shapley values; it is linear in the outputs of the target and sees nothing else. What
    fails at finitely many coalitions: dummy, symmetry and Shapley values where features interact.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values of absent features; zeros where None.
        n_samples: how many coalitions, of which two are the empty and the full one.

    Returns:
        [B, *shape], in units of the output. Costs a forward pass of B n_samples rows, in batches.

    Raises:
        UsageError: n_samples is below 3.
        Unsupported: a single feature, which leaves no coalition to draw; more features than the coalitions determine.
    """
    _check("kernel-shap", n_samples)
    n = x.shape[1:].numel()
    if n < 2:
        raise Unsupported("kernel-shap draws coalitions between none and all features: it needs two features")
    if n > n_samples - 2:
        raise Unsupported(f"kernel-shap: {n_samples} coalitions do not determine the values of {n} features; draw more")
    baseline = torch.zeros_like(x) if baseline is None else baseline
    drawn = _by_shapley_kernel(len(x), n_samples - 2, n, x.device)
    ends = torch.tensor([False, True], device=x.device)[:, None].expand(len(x), 2, n)
    present = torch.cat([ends, drawn], 1)
    outputs = _outputs(model, x, target, _inputs(x, baseline, present))
    root = torch.ones(n_samples, 1, dtype=torch.float64)
    root[:2] = FULL_WEIGHT**0.5
    # On the CPU, whose solver bears coalitions that leave something open. Less the output without features, c is small.
    gains = (outputs - outputs[:, :1]).cpu()[..., None]
    design = F.pad(present.double().cpu(), (0, 1), value=1.0)
    return torch.linalg.lstsq(root * design, root * gains).solution[:, :n, 0].to(x).reshape(x.shape)


def _by_shapley_kernel(samples: int, count: int, n: int, device: torch.device) -> Tensor:
    """Random coalitions [samples, count, n] of 1 to n - 1 of n features: sizes by the kernel, alike within a size."""
    size = torch.arange(1, n, device=device)
    sizes = 1 + torch.multinomial(1.0 / (size * (n - size)).double(), samples * count, replacement=True)
    rank = torch.rand(samples, count, n, device=device).argsort(2).argsort(2)
    return rank < sizes.reshape(samples, count, 1)
