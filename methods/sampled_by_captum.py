"""LIME and kernel SHAP, fitted by Captum to outputs at random coalitions; there with the extra `captum` only."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import Unsupported, UsageError

N_SAMPLES = 100

# Captum makes single precision of the outputs (2**-24 of each), fits with scikit-learn, and gives the two full coalitions of
# kernel SHAP the weight 1e6, whose root multiplies rounding: 2**-24 * 1e3 = 6e-5 of the outputs. The factor up to 1e-2 is
# for outputs that are larger than what they differ by. What a claimed failure shows must be larger than that.
SINGLE = 1e-2

NEEDED = {"captum": "captum", "sklearn": "scikit-learn"}
_SAME = "proved here: the same coalitions are drawn, and only outputs of the function enter; single precision"
_FIT = (
    "proved here: w is a solution of the fit, the only one as soon as the coalitions have full rank; single precision"
)
_SHRINKS = "the lasso (alpha = 0.01) takes a constant from each weight"


def available() -> dict[str, Callable[..., Tensor]]:
    """The methods of this file by name, if what they need is installed; else none."""
    if any(importlib.util.find_spec(module) is None for module in NEEDED):
        return {}
    return {"lime": lime, "kernel-shap": kernel_shap}


def _captum(name: str) -> Any:
    """The module captum.attr; raises UsageError, in one line, where it cannot be used."""
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UsageError(f"{name} needs {' and '.join(missing)}: pip install 'attribcheck[captum]'")
    return importlib.import_module("captum.attr")


def _check(name: str, n_samples: int) -> None:
    if not isinstance(n_samples, int) or isinstance(n_samples, bool) or n_samples < 3:
        raise UsageError(f"{name}: n_samples must be a whole number of at least 3, not {n_samples!r}")


def _fitted(
    name: str, cls: str, model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None, n_samples: int
) -> Tensor:
    explainer = getattr(_captum(name), cls)(model)
    baseline = torch.zeros_like(x) if baseline is None else baseline
    rows = []
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # (a fit that did not converge, a target that does not vary)
        for b in range(len(x)):
            here = slice(b, b + 1)
            found = explainer.attribute(
                x[here], baselines=baseline[here], target=target[here], n_samples=n_samples, perturbations_per_eval=64
            )
            rows.append(found.to(x))
    return torch.cat(rows)


@method(
    name="lime",
    baseline="given",
    stochastic=True,
    claims=[
        holds("class-sensitivity/parity", on="relu", source="proved here: the fit of -f is minus the fit of f"),
        holds("class-sensitivity/other-logits", on="relu", tol=SINGLE, source=_SAME),
        holds("class-sensitivity/logit-permutation", on="relu(magnitude=large)", tol=SINGLE, source=_SAME),
        fails("completeness/delta", on="linear", tol=SINGLE, reason=_SHRINKS),
        fails("sensitivity-n/1", on="linear", tol=SINGLE, reason=_SHRINKS),
        fails("equivalence/occlusion-1", on="linear", tol=SINGLE, reason=_SHRINKS),
        fails("scale-equivariance", on="linear", tol=SINGLE, reason="the lasso's alpha is in the units of the output"),
        fails("symmetry", on="relu", tol=SINGLE, reason="finitely many coalitions do not treat two features alike"),
        fails("input-invariance/constant", on="relu", tol=SINGLE,
              reason="coalitions are weighted by the cosine of their input and x, which a shift turns"),
    ],
)  # fmt: skip
def lime(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, n_samples: int = N_SAMPLES
) -> Tensor:
    """LIME: the weights of a sparse linear model, fitted to the outputs at random coalitions of the features.

    min over w, c of sum_S pi(S) (f(x_S) - c - sum_{i in S} w_i)^2 + alpha |w|_1, R = w; x_S has the features in S from x and
    the others from the baseline, each with probability 1/2.

    Source: Ribeiro et al. 2016, equation 1, as Captum does it: pi(S) from the cosine distance of x_S and x, alpha = 0.01.

    What holds: it sees outputs of the target alone, and is odd in them. What fails: the penalty shrinks weights, so not even
    a linear function gets its own; it has a scale; the cosine knows where zero is.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values of absent features; zeros where None.
        n_samples: how many coalitions.

    Returns:
        [B, *shape], in units of the output, right to single precision. Costs n_samples rows for each sample.

    Raises:
        UsageError: Captum or scikit-learn is not installed, or n_samples is below 3.
    """
    _check("lime", n_samples)
    return _fitted("lime", "Lime", model, x, target, baseline, n_samples)


@method(
    name="kernel-shap",
    baseline="given",
    stochastic=True,
    claims=[
        holds("equivalence/shapley", on="linear", tol=SINGLE, source=_FIT),
        holds("completeness/delta", on="linear", tol=SINGLE,
              source="proved here: a fit without residuals exists, and the two full coalitions are in it; single precision"),
        # (Each fit takes a quarter of a second: a chain of rewrites stands for each of them, one family for all.)
        holds("implementation-invariance/chain", on="relu", tol=SINGLE, source=_SAME),
        holds("class-sensitivity/parity", on="relu", source="proved here: the fit of -f is minus the fit of f"),
        holds("class-sensitivity/other-logits", on="relu", tol=SINGLE, source=_SAME),
        holds("class-sensitivity/logit-permutation", on="relu", tol=SINGLE, source=_SAME),
        holds("scale-equivariance", on="relu", tol=SINGLE, source="proved here: least squares are linear in the outputs"),
        fails("equivalence/shapley", on="relu", tol=SINGLE, reason="finitely many coalitions"),
        fails("symmetry", on="relu", tol=SINGLE, reason="finitely many coalitions do not treat two features alike"),
        fails("dummy", on="relu", tol=SINGLE, reason="what the linear fit leaves over is correlated with every feature"),
        fails("sensitivity-n/1", on="product", tol=SINGLE, reason="interactions are shared: it comes near Shapley values"),
    ],
)  # fmt: skip
def kernel_shap(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, n_samples: int = N_SAMPLES
) -> Tensor:
    """Kernel SHAP: Shapley values as weighted least squares, over coalitions drawn from the Shapley kernel.

    min over w, c of sum_S (f(x_S) - c - sum_{i in S} w_i)^2, R = w, with k = |S| drawn in proportion to 1 / (k (N - k)), and
    the empty and the full coalition with the weight 1e6.

    Source: Lundberg and Lee 2017, Theorem 2, as Captum does it.

    What holds: on linear functions Shapley values, to single precision; it is linear in the outputs of the target and sees
    nothing else. What fails at finitely many coalitions: dummy, symmetry and Shapley values where features interact.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values of absent features; zeros where None.
        n_samples: how many coalitions, of which two are the empty and the full one.

    Returns:
        [B, *shape], in units of the output, right to single precision. Costs n_samples rows for each sample.

    Raises:
        UsageError: Captum or scikit-learn is not installed, or n_samples is below 3.
        Unsupported: a single feature, which leaves no coalition to draw; more features than the coalitions determine.
    """
    _check("kernel-shap", n_samples)
    n = x[0].numel()
    if n < 2:
        raise Unsupported("kernel-shap draws coalitions between none and all features: it needs two features")
    if n > n_samples - 2:
        raise Unsupported(f"kernel-shap: {n_samples} coalitions do not determine the values of {n} features; draw more")
    return _fitted("kernel-shap", "KernelShap", model, x, target, baseline, n_samples)
