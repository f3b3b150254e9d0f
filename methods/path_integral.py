"""The mean gradient on the segment from a baseline: exact on piecewise linear networks, by quadrature elsewhere."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.integrate import cubature
from scipy.optimize.elementwise import find_root
from torch import Tensor, nn

from ..errors import Unsupported, UsageError
from .backprop.kinks import KinkTrace
from .gradients import input_gradient

# Rows of one forward or backward pass along the path.
_ROWS = 256
# The quadrature stops when its error estimate is below this share of the largest attribution.
_ACCURACY = 1e-12
# And the attributions must add up to f(x) - f(baseline) to this share of the terms of that sum.
_COMPLETE = 1e-11
# Inside one linear piece the gradient is constant to rounding; two of its values that differ by more (weighted by the
# length of the piece, relative to the largest gradient) show that the network is not piecewise linear after all.
_CONSTANT = 1e-9


def integrate_gradients(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, steps: int = 0) -> Tensor:
    """(x - baseline) times the mean gradient of the target logit on the segment from the baseline to x.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B].
        baseline: [B, *shape].
        steps: nodes of a Gauss-Legendre rule; 0: exact, or to an error estimate.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        UsageError: fewer than 0 steps.
        Unsupported: the integral does not converge to the stated accuracy.
    """
    if steps < 0:
        raise UsageError(f"steps must be 0 (exact) or more, not {steps}")
    if steps:
        return (x - baseline) * _by_nodes(model, x, target, baseline, steps)
    rows = [_one_sample(model, x[b : b + 1], target[b : b + 1], baseline[b : b + 1]) for b in range(len(x))]
    return torch.cat(rows) if rows else torch.zeros_like(x)


def _one_sample(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    alphas = breakpoints(model, x, baseline)
    mean = None if alphas is None else _over_pieces(model, x, target, baseline, alphas)
    if mean is None:
        mean = _by_quadrature(model, x, target, baseline)
    return (x - baseline) * mean


def _along(x: Tensor, baseline: Tensor, alphas: Tensor) -> Tensor:
    return baseline + alphas.to(x).reshape(-1, *[1] * (x.dim() - 1)) * (x - baseline)


def breakpoints(model: nn.Module, x: Tensor, baseline: Tensor) -> Tensor | None:
    """Where on the segment from the baseline to x [1, *shape] the network changes its linear piece.

    Between neighbouring points of the list, the deciding quantities of the first k operations keep their signs, so
    those of operation k + 1 are affine there: their sign changes are found by interpolation. One batched forward pass
    for each piecewise linear operation.

    Returns:
        Increasing alphas [P] in float64 from 0 to 1, or None for a network that is not piecewise linear.
    """
    alphas = torch.tensor([0.0, 1.0], dtype=torch.float64, device=x.device)
    k = 0
    while True:
        with torch.no_grad(), KinkTrace() as trace:
            model(trace.watch(_along(x, baseline, alphas)))
        if not trace.linear:
            return None
        if k >= len(trace.deciders):
            return alphas
        z = trace.deciders[k].to(torch.float64)
        left, right = z[:-1], z[1:]
        crossing = (left * right < 0) & left.isfinite() & right.isfinite()
        share = torch.where(crossing, left / (left - right), torch.zeros_like(left))
        roots = alphas[:-1, None] + share * (alphas[1:] - alphas[:-1])[:, None]
        alphas = torch.cat([alphas, roots[crossing]]).unique()
        k += 1


def _gradients(model: nn.Module, points: Tensor, target: Tensor) -> Tensor:
    chunks = [input_gradient(model, chunk, target.expand(len(chunk))) for chunk in points.split(_ROWS)]
    return torch.cat(chunks)


def _over_pieces(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, alphas: Tensor) -> Tensor | None:
    """The mean gradient over linear pieces; None where a gradient turns out not to be constant on its piece.

    On a piece that lies inside a kink (a tie of two entries all along it) rounding picks the slope, at one point this one, at
    the next that one. Their derivatives along the path agree there, so either is as good, and complete.
    """
    lengths = alphas[1:] - alphas[:-1]
    inner = torch.cat([alphas[:-1] + lengths * share for share in (0.3125, 0.6875)])
    gradients = _gradients(model, _along(x, baseline, inner), target)
    first, second = gradients.chunk(2)
    weights = lengths.to(x).reshape(-1, *[1] * (x.dim() - 1))
    difference = ((first - second).abs() * weights).sum(0).max()
    scale = gradients.abs().max()
    slack = _CONSTANT if x.dtype == torch.float64 else 1e-4
    if float(difference) > slack * float(scale):
        along = (((first - second) * weights * (x - baseline)).flatten(1).sum(1)).abs().max()
        size = (gradients.abs() * (x - baseline).abs()).flatten(1).sum(1).max()
        if float(along) > slack * float(size):
            return None
    return (weights * (first + second) / 2).sum(0, keepdim=True)


def _by_nodes(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """The mean gradient [B, *shape] by a fixed rule, all samples at once. Across a kink its error is of order 1 / steps."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    mean = torch.zeros_like(x)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        mean += float(weight) * input_gradient(model, baseline + float(node) * (x - baseline), target)
    return mean


def _by_quadrature(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    """The mean gradient by adaptive Gauss-Kronrod quadrature (21 points, SciPy), cut at the kinks of the path.

    A narrow bump between the nodes escapes every error estimate, so the result must also be complete; where it is not,
    the path is cut finer and the search for kinks repeated.
    """
    exact = x.dtype == torch.float64
    accuracy = _ACCURACY if exact else 1e-6

    def integrand(points: np.ndarray) -> np.ndarray:
        alphas = torch.from_numpy(points[:, 0].copy()).to(x.device)
        values = _gradients(model, _along(x, baseline, alphas), target)
        return values.flatten(1).double().cpu().numpy()

    with torch.no_grad():
        end, start = (model(point).gather(1, target[:, None]).double() for point in (x, baseline))
    # A function that is constant but for rounding has gradients of noise: nothing is finer than the rounding of the outputs.
    distance = float((x - baseline).abs().sum()) or 1.0
    noise = 4 * torch.finfo(x.dtype).eps * float(end.abs() + start.abs()) / distance
    for cuts in (4, 32, 256):
        grid = np.linspace(0.0, 1.0, cuts + 1)
        scale = float(np.abs(integrand(grid[:, None])).max()) or 1.0
        if not np.isfinite(scale):
            raise Unsupported("integrated gradients: the gradient is not finite on the path from the baseline")
        points = np.unique(np.concatenate([grid, _kinks_on(model, x, baseline, 8 * cuts)]))[1:-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            result = cubature(
                integrand, [0.0], [1.0], rule="gk21", rtol=0.0, atol=max(accuracy * scale, noise), max_subdivisions=500,
                points=[np.array([point]) for point in points],
            )  # fmt: skip
        mean = torch.from_numpy(result.estimate).reshape(x.shape).to(x)
        terms = (x - baseline) * mean
        missing = float((terms.double().sum() - (end - start).sum()).abs())
        # Rounding enters through the gradients that were added, also where they cancel to zero.
        size = float(end.abs() + start.abs()) + scale * float((x - baseline).abs().sum())
        if result.status == "converged" and missing <= (_COMPLETE if exact else 1e-5) * size:
            return mean
        if result.status != "converged" and _inside_a_kink(model, x, baseline):
            raise Unsupported(
                "integrated gradients: the path runs inside a kink, and rounding picks the slope of each point"
            )
    raise Unsupported(f"integrated gradients: the integral did not converge to {accuracy:g}")


def _decided(model: nn.Module, x: Tensor, baseline: Tensor, alphas: np.ndarray) -> Tensor:
    """What decides on the pieces of all operations [points, K], in float64 on the CPU."""
    points = _along(x, baseline, torch.from_numpy(alphas).to(x.device))
    with torch.no_grad(), KinkTrace() as trace:
        model(trace.watch(points))
    if not trace.deciders:
        return torch.zeros(len(alphas), 0, dtype=torch.float64)
    return torch.cat([z.double().cpu() for z in trace.deciders], 1)


def _inside_a_kink(model: nn.Module, x: Tensor, baseline: Tensor) -> bool:
    """Whether something that decides on a piece is zero, but for rounding, all along the path.

    Where nothing else decides, only the input tells how large the terms of such a zero are.
    """
    z = _decided(model, x, baseline, np.linspace(0.0, 1.0, 9)).abs()
    if not z.numel():
        return False
    size = max(float(z.max()), float(x.abs().max()), float(baseline.abs().max()))
    return bool((z <= 64 * torch.finfo(x.dtype).eps * size).all(0).any())


def _kinks_on(model: nn.Module, x: Tensor, baseline: Tensor, pieces: int) -> np.ndarray:
    """Where piecewise operations change their piece along the path: sign changes on a grid, refined by root finding."""
    grid = np.linspace(0.0, 1.0, pieces + 1)
    z = _decided(model, x, baseline, grid)
    left, right = z[:-1], z[1:]
    interval, column = ((left * right < 0) & left.isfinite() & right.isfinite()).nonzero(as_tuple=True)
    if not len(interval):
        return np.empty(0)

    def own(alphas: np.ndarray, which: np.ndarray) -> np.ndarray:
        flat = np.ravel(alphas)
        columns = torch.from_numpy(np.ravel(which).astype(np.int64))
        values = _decided(model, x, baseline, flat).gather(1, columns[:, None])[:, 0]
        return values.numpy().reshape(np.shape(alphas))

    ends = (grid[interval.numpy()], grid[interval.numpy() + 1])
    return np.asarray(find_root(own, ends, args=(column.numpy(),)).x)
