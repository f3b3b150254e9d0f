"""Slow twins of the LRP rules: each layer's matrix, entry by entry, and relevance handed down over the calls in reverse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attribcheck.axioms.networks.spec import Network
from attribcheck.errors import Unsupported

from .slow_twins import ELEMENTWISE, forward, matrix

Share = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(matrix [out, in], input [in], bias [out]) -> k [out, in]: input i takes x_i k_ji of the relevance of unit j."""


def by_contributions(epsilon: float) -> Share:
    """The epsilon rule, for the dense layers of a composite."""

    def share(w: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
        z = w @ x + b
        return w / (z + epsilon * np.where(z >= 0, 1.0, -1.0))[:, None]

    return share


def gamma(amount: float) -> Share:
    """Positive weights and biases count 1 + amount times."""

    def share(w: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
        k = np.zeros_like(w)
        for j in range(len(w)):
            favoured = [v * (1 + amount) if v > 0 else v for v in w[j]]
            total = sum(v * a for v, a in zip(favoured, x, strict=True)) + (b[j] * (1 + amount) if b[j] > 0 else b[j])
            k[j] = [v / total if total else 0.0 for v in favoured]
        return k

    return share


def alpha_beta(alpha: float, beta: float) -> Share:
    """Positive and negative contributions apart, biases in neither."""

    def share(w: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
        k = np.zeros_like(w)
        for j in range(len(w)):
            gains = sum(max(v * a, 0.0) for v, a in zip(w[j], x, strict=True))
            losses = sum(min(v * a, 0.0) for v, a in zip(w[j], x, strict=True))
            for i, (v, a) in enumerate(zip(w[j], x, strict=True)):
                k[j, i] = alpha * v / gains if v * a > 0 else -beta * v / losses if v * a < 0 else 0.0
        return k

    return share


def z_plus(w: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Positive weights alone."""
    k = np.zeros_like(w)
    for j in range(len(w)):
        total = sum(max(v, 0.0) * a for v, a in zip(w[j], x, strict=True))
        k[j] = [max(v, 0.0) / total if total else 0.0 for v in w[j]]
    return k


def w_squared(w: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shares of the input layer: squares of weights (here k is the share itself)."""
    total = (w**2).sum(1, keepdims=True)
    return np.divide(w**2, total, out=np.zeros_like(w), where=total != 0)


def z_beta(w: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shares of the input layer: distances from the sample's own box."""
    c = w * x - np.maximum(w, 0) * x.min() - np.minimum(w, 0) * x.max()
    total = c.sum(1, keepdims=True)
    return np.divide(c, total, out=np.zeros_like(w), where=total != 0)


def relevance(
    network: Network,
    x: np.ndarray,
    target: int,
    dense: Share,
    conv: Share | None = None,
    first: Share | None = None,
    start: Callable[[float], float] = lambda f: 1.0,
) -> np.ndarray:
    """The map [*shape]; g = relevance over value is what goes down, and relevance itself into the input's own layers.

    Unsupported where a value is 0 and its relevance is not, as behind a sigmoid.
    """
    values = forward(network, x)
    matrices = {
        call.value: matrix(network.layers[call.layer], [values[name] for name in call.inputs]) for call in network.calls
    }
    g = {name: np.zeros(value.size) for name, value in values.items()}
    g[network.output][target] = start(float(values[network.output][target]))
    # Where the entries of rearrangements of the input come from: value = moved @ x.
    moved, relevant = {"x": np.eye(x.size)}, np.zeros(x.size)
    for call in network.calls:
        if network.layers[call.layer].kind in ("flatten", "transpose", "select", "slice") and call.inputs[0] in moved:
            moved[call.value] = matrices[call.value] @ moved[call.inputs[0]]
    for call in reversed(network.calls):
        layer, w = network.layers[call.layer], matrices[call.value]
        into = np.concatenate([values[name].reshape(-1) for name in call.inputs])
        out = values[call.value].reshape(-1)
        if layer.kind in ("linear", "batchnorm") or layer.kind.startswith("conv"):
            share = conv if conv is not None and layer.kind.startswith("conv") else dense
            if first is not None and call.inputs[0] in moved:
                relevant += (g[call.value] * out) @ first(w, into, out - w @ into) @ moved[call.inputs[0]]
                continue
            down = (g[call.value] * out) @ share(w, into, out - w @ into)
        elif layer.kind in ELEMENTWISE - {"relu"}:
            if ((into == 0) & (out != 0) & (g[call.value] != 0)).any():
                raise Unsupported("relevance over value is infinite")
            slope = [a / z if z else d for a, z, d in zip(out, into, np.diag(w), strict=True)]
            down = g[call.value] * np.array(slope)
        else:
            down = g[call.value] @ w
        begin = 0
        for name in call.inputs:
            g[name] += down[begin : begin + values[name].size]
            begin += values[name].size
    return (x.reshape(-1) * g["x"] + relevant).reshape(x.shape)
