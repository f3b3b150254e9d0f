"""The mean gradient on one segment by adaptive quadrature, where no fixed rule converges."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.integrate import cubature
from torch import Tensor, nn

from ..errors import Unsupported
from .gradients import input_gradient
from .perturbation import ROWS
from .segments import Segments, inside_a_kink, kinks_on


def accuracy(dtype: torch.dtype) -> tuple[float, float]:
    """When an integral is exact: its error estimate as a share of the largest gradient, and how far what it adds up to may be
    from f(x) - f(baseline), as a share of the terms of that sum."""
    return (1e-12, 1e-11) if dtype == torch.float64 else (1e-6, 1e-5)


def noise(ends: Tensor, distance: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient that rounding of the outputs makes: of a function that is constant but for rounding, nothing is finer.

    Args:
        ends: [S], the absolute outputs at both ends together.
        distance: [S], the sum of the absolute differences of the ends.
    """
    return 4 * torch.finfo(dtype).eps * ends / torch.where(distance == 0, torch.ones_like(distance), distance)


def mean_gradient(model: nn.Module, segment: Segments) -> Tensor:
    """The mean gradient [1, *shape] by adaptive Gauss-Kronrod quadrature (21 points, SciPy), cut at the kinks of the path.

    A narrow bump between the nodes escapes every error estimate, so the result must also be complete; where it is not,
    the path is cut finer and the search for kinks repeated.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        segment: a single one.

    Raises:
        Unsupported: it does not converge, or the gradient is not finite.
    """
    x, baseline, target = segment.end, segment.start, segment.target
    relative, complete = accuracy(x.dtype)

    def integrand(points: np.ndarray) -> np.ndarray:
        alphas = torch.from_numpy(points[:, 0].copy()).to(x.device)
        path = segment.at(torch.zeros(len(alphas), dtype=torch.long, device=x.device), alphas)
        values = [input_gradient(model, part, target.expand(len(part))) for part in path.split(ROWS)]
        return torch.cat(values).flatten(1).double().cpu().numpy()

    with torch.no_grad():
        end, start = (model(point).gather(1, target[:, None]).double()[:, 0] for point in (x, baseline))
    distance = (x - baseline).double().abs().sum()[None]
    floor = float(noise(end.abs() + start.abs(), distance, x.dtype))
    for cuts in (4, 32, 256):
        grid = np.linspace(0.0, 1.0, cuts + 1)
        scale = float(np.abs(integrand(grid[:, None])).max()) or 1.0
        if not np.isfinite(scale):
            raise Unsupported("integrated gradients: the gradient is not finite on the path from the baseline")
        kinks = kinks_on(model, segment, 8 * cuts).alphas.cpu().numpy()
        points = np.unique(np.concatenate([grid, kinks]))[1:-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            result = cubature(
                integrand, [0.0], [1.0], rule="gk21", rtol=0.0, atol=max(relative * scale, floor), max_subdivisions=500,
                points=[np.array([point]) for point in points],
            )  # fmt: skip
        mean = torch.from_numpy(result.estimate).reshape(x.shape).to(x)
        terms = (x - baseline) * mean
        missing = float((terms.double().sum() - (end - start).sum()).abs())
        # Rounding enters through the gradients that were added, also where they cancel to zero.
        size = float(end.abs() + start.abs()) + scale * float(distance)
        if result.status == "converged" and missing <= complete * size:
            return mean
        if result.status != "converged" and inside_a_kink(model, segment):
            raise Unsupported(
                "integrated gradients: the path runs inside a kink, and rounding picks the slope of each point"
            )
    raise Unsupported(f"integrated gradients: the integral did not converge to {relative:g}")
