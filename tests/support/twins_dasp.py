"""Independent slow twin of DASP: one random coalition size at a time, matrices of layers, textbook moments in 50 digits."""

from __future__ import annotations

from dataclasses import dataclass

import mpmath
import numpy as np
from attribcheck.axioms.networks.spec import Layer, Network

from . import slow_twins

mpmath.mp.dps = 50


@dataclass
class Known:
    """Entries that depend on one feature each: what they are without it and with it, and which it is (-1: none)."""

    absent: np.ndarray
    present: np.ndarray
    owner: np.ndarray


@dataclass
class Normal:
    mean: np.ndarray
    variance: np.ndarray


Random = Known | Normal


def _normal(value: Random, k: int, others: int) -> Normal:
    if isinstance(value, Normal):
        return value
    p = k / others if others else 0.0
    step = value.present - value.absent
    return Normal(value.absent + p * step, p * (1 - p) * step * step)


def rectified(mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of max(z, 0): the textbook formulas, second moment minus square."""
    if variance == 0:
        return max(mean, 0.0), 0.0
    m, s = mpmath.mpf(mean), mpmath.sqrt(mpmath.mpf(variance))
    below, density = mpmath.ncdf(m / s), mpmath.npdf(m / s)
    first = m * below + s * density
    second = (m * m + s * s) * below + m * s * density
    return float(first), float(second - first * first)


def maximum(m1: float, v1: float, m2: float, v2: float) -> tuple[float, float]:
    """Clark's first and second moment of the maximum of two independent normal values."""
    if v1 + v2 == 0:
        return max(m1, m2), 0.0
    a, b, a2, b2 = map(mpmath.mpf, (m1, m2, v1, v2))
    theta = mpmath.sqrt(a2 + b2)
    alpha = (a - b) / theta
    here, there, density = mpmath.ncdf(alpha), mpmath.ncdf(-alpha), mpmath.npdf(alpha)
    first = a * here + b * there + theta * density
    second = (a * a + a2) * here + (b * b + b2) * there + (a + b) * theta * density
    return float(first), float(second - first * first)


def _affine(layer: Layer, value: Random, k: int, others: int) -> Random:
    at = value.mean if isinstance(value, Normal) else value.absent
    identity = np.eye(at.size).reshape(*at.shape, at.size)
    out, slope = slow_twins.step(layer, [(at, identity)], [])
    matrix = slope.reshape(-1, at.size)
    if isinstance(value, Normal):
        variance = np.array(
            [sum(row[j] ** 2 * value.variance.reshape(-1)[j] for j in range(at.size)) for row in matrix]
        )
        return Normal(out, variance.reshape(out.shape))
    steps = (value.present - value.absent).reshape(-1)
    owners = [int(o) for o in value.owner.reshape(-1)]
    mean, variance = out.reshape(-1).copy(), np.zeros(out.size)
    for unit, row in enumerate(matrix):
        gains = np.zeros(others)  # of the features that are not the one explained, which moves nothing
        for place, j in enumerate(j for j in range(at.size) if owners[j] >= 0):
            gains[place] = row[j] * steps[j]
        mean[unit] += k * gains.sum() / others if others else 0.0
        if others > 1:
            about = ((gains - gains.mean()) ** 2).sum() / others
            variance[unit] = k * (others - k) / (others - 1) * about
    return Normal(mean.reshape(out.shape), variance.reshape(out.shape))


def _pool(layer: Layer, z: Normal) -> Normal:
    """The maximum of two at a time, along each window in its order."""
    shape: tuple[int, ...] | None = None
    rows = []
    for c in range(len(z.mean)):
        windows = slow_twins.windows(
            layer, z.mean.shape[1:], (layer["kernel"],) * (z.mean.ndim - 1), layer.get("stride", layer["kernel"])
        )
        shape = tuple(len(axis) for axis in windows)
        for place in np.ndindex(*shape):
            best: tuple[float, float] | None = None
            for tap in np.ndindex(*(len(axis[0]) for axis in windows)):
                at = (c, *(axis[p][t] for axis, p, t in zip(windows, place, tap, strict=True)))
                if any(not 0 <= i < size for i, size in zip(at, z.mean.shape, strict=True)):
                    continue  # padding never wins
                entry = (float(z.mean[at]), float(z.variance[at]))
                best = entry if best is None else maximum(*best, *entry)
            rows.append(best)
    assert shape is not None
    mean, variance = (np.array(part).reshape(len(z.mean), *shape) for part in zip(*rows, strict=True))
    return Normal(mean, variance)


def _layer(layer: Layer, values: list[Random], k: int, others: int) -> Random:
    kind, value = layer.kind, values[0]
    if kind == "linear" or kind.startswith("conv"):
        return _affine(layer, value, k, others)
    if kind == "flatten":
        if isinstance(value, Known):
            return Known(value.absent.reshape(-1), value.present.reshape(-1), value.owner.reshape(-1))
        return Normal(value.mean.reshape(-1), value.variance.reshape(-1))
    if kind == "relu":
        if isinstance(value, Known):
            return Known(np.maximum(value.absent, 0), np.maximum(value.present, 0), value.owner)
        pairs = [rectified(float(m), float(v)) for m, v in zip(value.mean.flat, value.variance.flat, strict=True)]
        mean, variance = (np.array(part).reshape(value.mean.shape) for part in zip(*pairs, strict=True))
        return Normal(mean, variance)
    if kind.startswith("maxpool"):
        return _pool(layer, _normal(value, k, others))
    a, b = (_normal(each, k, others) for each in values)
    if kind == "add":
        return Normal(a.mean + b.mean, a.variance + b.variance)
    assert kind == "maximum", kind
    flat = zip(a.mean.flat, a.variance.flat, b.mean.flat, b.variance.flat, strict=True)
    mean, variance = zip(*(maximum(*map(float, four)) for four in flat), strict=True)
    return Normal(np.array(mean).reshape(a.mean.shape), np.array(variance).reshape(a.mean.shape))


def _mean(network: Network, absent: np.ndarray, present: np.ndarray, number: int, k: int, target: int) -> float:
    """The mean logit when k of the features but one are present; that one is the same in both arrays."""
    owner = np.arange(absent.size)
    owner[number] = -1
    others = absent.size - 1
    values: dict[str, Random] = {"x": Known(absent, present, owner.reshape(absent.shape))}
    for call in network.calls:
        values[call.value] = _layer(network.layers[call.layer], [values[name] for name in call.inputs], k, others)
    return float(_normal(values[network.output], k, others).mean[target])


def dasp(network: Network, x: np.ndarray, target: int, start: np.ndarray, sizes: int = 8) -> np.ndarray:
    """The mean gain of each feature over the sizes of the coalition it joins."""
    n = x.size
    taken = range(n) if n <= sizes else [int((j + 0.5) * n / sizes) for j in range(sizes)]
    result = np.zeros_like(x)
    for number, at in enumerate(np.ndindex(*x.shape)):
        with_it, without = start.copy(), x.copy()
        with_it[at], without[at] = x[at], start[at]
        gains = [
            _mean(network, with_it, x, number, k, target) - _mean(network, start, without, number, k, target)
            for k in taken
        ]
        result[at] = sum(gains) / len(gains)
    return result
