"""Confidence intervals of figures that are averaged over samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def interval(
    values: Sequence[float] | np.ndarray,
    resamples: int,
    seed: int = 0,
    statistic: Callable[..., Any] = np.mean,
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a statistic over samples.

    Args:
        values: one figure for each sample [M], or one row for each sample [M, k], which are drawn together: differences
            of paired figures are compared with `values` being the differences.
        resamples: how often M samples are drawn with replacement.
        seed: of the draws.
        statistic: of an array of figures along `axis`; the mean by default.

    Returns:
        Lower and upper end; the figure itself twice where all samples agree or there is one alone.

    Source: Efron 1979.
    """
    figures = np.asarray(values, dtype=float)
    if len(figures) < 2 or (figures == figures[:1]).all():
        figure = float(statistic(figures, axis=0))
        return figure, figure
    found = stats.bootstrap(
        (figures,), statistic, n_resamples=resamples, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(seed), batch=100,
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
