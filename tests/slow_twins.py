"""Independent slow twins of the built-in methods: forward-mode derivatives by explicit loops over the network as data.

Nothing here is shared with the methods: no autograd, no torch function mode, no SciPy; numpy and the layers' own numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from attribcheck.axioms.networks.spec import Layer, Network

Pair = tuple[np.ndarray, np.ndarray]  # a value [*shape] and its derivatives [*shape, N]

SLOPES: dict[str, Callable[[float], tuple[float, float]]] = {
    "relu": lambda z: (max(z, 0.0), float(z > 0)),
    "tanh": lambda z: (math.tanh(z), 1 - math.tanh(z) ** 2),
    "sigmoid": lambda z: (1 / (1 + math.exp(-z)), math.exp(-z) / (1 + math.exp(-z)) ** 2),
    "softplus": lambda z: (math.log1p(math.exp(-abs(z))) + max(z, 0.0), 1 / (1 + math.exp(-z))),
    "gelu": lambda z: (z * _phi(z), _phi(z) + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)),
}


def _phi(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _linear(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    weight, bias = layer["weight"], layer.get("bias")
    out, out_slope = np.zeros(len(weight)), np.zeros((len(weight), slope.shape[-1]))
    for o, i in itertools.product(*map(range, weight.shape)):
        out[o] += weight[o, i] * value[i]
        out_slope[o] += weight[o, i] * slope[i]
    return (out if bias is None else out + bias), out_slope


def _places(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return [[p * stride + k * dilation - padding for k in range(kernel)] for p in range(count)]


def _windows(layer: Layer, sizes: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> list[list[list[int]]]:
    padding, dilation = layer.get("padding", 0), layer.get("dilation", 1)
    return [_places(s, k, stride, padding, dilation) for s, k in zip(sizes, kernel, strict=True)]


def _conv(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    weight, bias = layer["weight"], layer.get("bias")
    axes = _windows(layer, value.shape[1:], weight.shape[2:], layer.get("stride", 1))
    shape = (len(weight), *(len(axis) for axis in axes))
    out, out_slope = np.zeros(shape), np.zeros((*shape, slope.shape[-1]))
    for o in range(len(weight)):
        for place in itertools.product(*(range(len(axis)) for axis in axes)):
            if bias is not None:
                out[(o, *place)] += bias[o]
            for c in range(weight.shape[1]):
                for tap in itertools.product(*map(range, weight.shape[2:])):
                    at = tuple(axis[p][k] for axis, p, k in zip(axes, place, tap, strict=True))
                    if all(0 <= a < s for a, s in zip(at, value.shape[1:], strict=True)):
                        out[(o, *place)] += weight[(o, c, *tap)] * value[(c, *at)]
                        out_slope[(o, *place)] += weight[(o, c, *tap)] * slope[(c, *at)]
    return out, out_slope


def _maxpool(layer: Layer, value: np.ndarray, slope: np.ndarray, chosen: list[object]) -> Pair:
    kernel = (layer["kernel"],) * (value.ndim - 1)
    axes = _windows(layer, value.shape[1:], kernel, layer.get("stride", layer["kernel"]))
    shape = (len(value), *(len(axis) for axis in axes))
    out, out_slope = np.zeros(shape), np.zeros((*shape, slope.shape[-1]))
    for c in range(len(value)):
        for place in itertools.product(*(range(len(axis)) for axis in axes)):
            window = itertools.product(*(axis[p] for axis, p in zip(axes, place, strict=True)))
            best = max(window, key=lambda at: value[(c, *at)])
            chosen.append(best)
            out[(c, *place)], out_slope[(c, *place)] = value[(c, *best)], slope[(c, *best)]
    return out, out_slope


def derivative(network: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[object, ...]]:
    """Logits [C], their derivatives [C, N], and the pattern of signs and maxima, at one input x [*shape]."""
    values: dict[str, Pair] = {"x": (x, np.eye(x.size).reshape(*x.shape, x.size))}
    pattern: list[object] = []
    for call in network.calls:
        layer = network.layers[call.layer]
        inputs = [values[name] for name in call.inputs]
        (a, da), kind = inputs[0], layer.kind
        if kind == "linear":
            result = _linear(layer, a, da)
        elif kind.startswith("conv"):
            result = _conv(layer, a, da)
        elif kind.startswith("maxpool"):
            result = _maxpool(layer, a, da, pattern)
        elif kind in SLOPES:
            pairs = [SLOPES[kind](float(z)) for z in a.reshape(-1)]
            if kind == "relu":
                pattern += [s for _, s in pairs]
            out, slopes = (np.array(part).reshape(a.shape) for part in zip(*pairs, strict=True))
            result = (out, slopes[..., None] * da)
        elif kind == "flatten":
            result = (a.reshape(-1), da.reshape(-1, x.size))
        else:
            b, db = inputs[1]
            first = a >= b
            if kind == "maximum":
                pattern += first.reshape(-1).tolist()
            result = {
                "add": lambda a=a, b=b, da=da, db=db: (a + b, da + db),
                "mul": lambda a=a, b=b, da=da, db=db: (a * b, da * b[..., None] + a[..., None] * db),
                "maximum": lambda a=a, b=b, da=da, db=db, first=first: (
                    np.where(first, a, b), np.where(first[..., None], da, db)
                ),
            }[kind]()  # fmt: skip
        values[call.value] = result
    logits, slopes = values[network.output]
    return logits, slopes, tuple(pattern)


def gradient(network: Network, x: np.ndarray, target: int) -> np.ndarray:
    """df/dx of one logit at one input [*shape]."""
    return derivative(network, x)[1][target].reshape(x.shape)


def pieces(network: Network, x: np.ndarray, start: np.ndarray) -> list[tuple[float, float]]:
    """Where the pattern changes from start to x: bisection. (A pattern's region is convex as long as what is rectified is
    piecewise linear, so equal patterns at both ends mean one piece.)"""
    pattern = {a: derivative(network, start + a * (x - start))[2] for a in (0.0, 1.0)}
    open_, done = [(0.0, 1.0)], []
    while open_:
        a, b = open_.pop()
        if pattern[a] == pattern[b] or b - a < 2.0**-44:
            done.append((a, b))
            continue
        middle = (a + b) / 2
        pattern[middle] = derivative(network, start + middle * (x - start))[2]
        open_ += [(a, middle), (middle, b)]
    return done


def integrated_gradients(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    """(x - start) times the mean gradient: Gauss-Legendre on each piece of the path (exact where it is linear)."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    total = np.zeros_like(x)
    for a, b in pieces(network, x, start):
        parts = 8 if b - a > 0.1 else 1  # smooth networks are one piece
        for p in range(parts):
            low, width = a + p * (b - a) / parts, (b - a) / parts
            if width < 1e-12:
                continue
            for node, weight in zip(nodes, weights, strict=True):
                point = start + (low + width * (node + 1) / 2) * (x - start)
                total += weight / 2 * width * gradient(network, point, target)
    return (x - start) * total


def occlusion(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    """f(x) minus f of x with one feature replaced, feature by feature."""
    here, result = derivative(network, x)[0][target], np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        other = x.copy()
        other[at] = start[at]
        result[at] = here - derivative(network, other)[0][target]
    return result
