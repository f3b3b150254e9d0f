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


MORE: dict[str, Callable[[Layer, float], tuple[float, float]]] = {
    "leakyrelu": lambda layer, z: (z, 1.0) if z > 0 else (layer["slope"] * z, layer["slope"]),
    "hardtanh": lambda layer, z: (min(max(z, layer["low"]), layer["high"]), float(layer["low"] < z < layer["high"])),
    "abs": lambda layer, z: (abs(z), 1.0 if z > 0 else -1.0),
    "elu": lambda layer, z: (z, 1.0) if z > 0 else (math.expm1(z), math.exp(z)),
    "silu": lambda layer, z: (z * _logistic(z), _logistic(z) * (1 + z * (1 - _logistic(z)))),
    "exp": lambda layer, z: (math.exp(z), math.exp(z)),
}
"""Activations that have settings, or are not in every table of rules: (layer, z) -> the value and the slope."""


CURVED = {"mul", "div", "matmul", "softmax", "logsoftmax", "layernorm", "groupnorm", "elu", "silu", "exp", *SLOPES} - {
    "relu"
}


ELEMENTWISE = {*SLOPES, *MORE, "prelu"}


def curve(layer: Layer, z: float, unit: int) -> tuple[float, float]:
    """Value and slope of an activation at z; of a PReLU each unit [on the first axis] may have a slope of its own."""
    if layer.kind in SLOPES:
        return SLOPES[layer.kind](z)
    if layer.kind == "prelu":
        weight = layer["weight"]
        layer = Layer("leakyrelu", slope=float(weight[unit if len(weight) > 1 else 0]))
    return MORE[layer.kind](layer, z)


def _logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def _phi(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _linear(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    """On the last axis: the only one of a vector, that of the features of each word in a sequence."""
    if value.ndim > 1:
        rows = [_linear(layer, v, s) for v, s in zip(value, slope, strict=True)]
        return np.stack([out for out, _ in rows]), np.stack([out_slope for _, out_slope in rows])
    weight, bias = layer["weight"], layer.get("bias")
    out, out_slope = np.zeros(len(weight)), np.zeros((len(weight), slope.shape[-1]))
    for o, i in itertools.product(*map(range, weight.shape)):
        out[o] += weight[o, i] * value[i]
        out_slope[o] += weight[o, i] * slope[i]
    return (out if bias is None else out + bias), out_slope


def _places(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[list[int]]:
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return [[p * stride + k * dilation - padding for k in range(kernel)] for p in range(count)]


def windows(layer: Layer, sizes: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> list[list[list[int]]]:
    padding, dilation = layer.get("padding", 0), layer.get("dilation", 1)
    return [_places(s, k, stride, padding, dilation) for s, k in zip(sizes, kernel, strict=True)]


def whole_kernel(layer: Layer) -> np.ndarray:
    """The weights [out, in, *kernel] of a convolution, with zeros between channels of different groups."""
    weight, groups = layer["weight"], layer.get("groups", 1)
    own, units = weight.shape[1], len(weight) // groups
    whole = np.zeros((len(weight), own * groups, *weight.shape[2:]))
    for unit in range(len(weight)):
        first = unit // units * own
        whole[unit, first : first + own] = weight[unit]
    return whole


def _conv(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    """Entry by entry of the kernel: its weights times what it lies on, at all places."""
    weight, bias, padding = whole_kernel(layer), layer.get("bias"), layer.get("padding", 0)
    axes = windows(layer, value.shape[1:], weight.shape[2:], layer.get("stride", 1))
    around = [(0, 0), *[(padding, padding)] * (value.ndim - 1)]
    value, slope = np.pad(value, around), np.pad(slope, [*around, (0, 0)])
    shape = (len(weight), *(len(axis) for axis in axes))
    out, out_slope = np.zeros(shape), np.zeros((*shape, slope.shape[-1]))
    for tap in itertools.product(*map(range, weight.shape[2:])):
        at = np.ix_(range(len(value)), *([a[k] + padding for a in axis] for axis, k in zip(axes, tap, strict=True)))
        out += np.tensordot(weight[(..., *tap)], value[at], axes=1)
        out_slope += np.tensordot(weight[(..., *tap)], slope[at], axes=1)
    return (out if bias is None else out + bias.reshape(-1, *[1] * (out.ndim - 1))), out_slope


def _maxpool(layer: Layer, value: np.ndarray, slope: np.ndarray, chosen: list[object]) -> Pair:
    kernel = (layer["kernel"],) * (value.ndim - 1)
    axes = windows(layer, value.shape[1:], kernel, layer.get("stride", layer["kernel"]))
    shape = (len(value), *(len(axis) for axis in axes))
    out, out_slope = np.zeros(shape), np.zeros((*shape, slope.shape[-1]))
    for c in range(len(value)):
        for place in itertools.product(*(range(len(axis)) for axis in axes)):
            around = itertools.product(*(axis[p] for axis, p in zip(axes, place, strict=True)))
            window = [at for at in around if all(0 <= a < n for a, n in zip(at, value.shape[1:], strict=True))]
            best = max(window, key=lambda at: value[(c, *at)])
            chosen.append(best)
            out[(c, *place)], out_slope[(c, *place)] = value[(c, *best)], slope[(c, *best)]
    return out, out_slope


def _amax(axis: int, value: np.ndarray, slope: np.ndarray, chosen: list[object]) -> Pair:
    value, slope = np.moveaxis(value, axis, 0), np.moveaxis(slope, axis, 0)
    out, out_slope = np.zeros(value.shape[1:]), np.zeros(slope.shape[1:])
    for at in np.ndindex(*out.shape):
        best = max(range(len(value)), key=lambda k: value[(k, *at)])
        chosen.append(best)
        out[at], out_slope[at] = value[(best, *at)], slope[(best, *at)]
    return out, out_slope


def _softmax(value: np.ndarray, slope: np.ndarray) -> Pair:
    """exp(z_i) / sum_k exp(z_k) on the last axis, row by row."""
    if value.ndim > 1:
        rows = [_softmax(v, s) for v, s in zip(value, slope, strict=True)]
        return np.stack([out for out, _ in rows]), np.stack([out_slope for _, out_slope in rows])
    powers = [math.exp(z - max(value)) for z in value]
    shares = np.array([p / sum(powers) for p in powers])
    common = sum(share * row for share, row in zip(shares, slope, strict=True))
    return shares, np.stack([share * (row - common) for share, row in zip(shares, slope, strict=True)])


def _layernorm(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    """weight (z - mean) / sqrt(variance + eps) + bias on the last axis, row by row."""
    if value.ndim > 1:
        rows = [_layernorm(layer, v, s) for v, s in zip(value, slope, strict=True)]
        return np.stack([out for out, _ in rows]), np.stack([out_slope for _, out_slope in rows])
    n = len(value)
    centred, moved = value - sum(value) / n, slope - sum(slope) / n
    variance = sum(c * c for c in centred) / n
    changed = sum(2 * c * row for c, row in zip(centred, moved, strict=True)) / n
    scale = (variance + layer["eps"]) ** -0.5
    out_slope = scale * moved - 0.5 * scale**3 * centred[:, None] * changed
    return layer["weight"] * centred * scale + layer["bias"], layer["weight"][:, None] * out_slope


def _each(layer: Layer, value: np.ndarray, slope: np.ndarray, chosen: list[object]) -> Pair:
    """An activation, entry by entry."""
    out, slopes = np.zeros(value.shape), np.zeros(value.shape)
    for at in np.ndindex(*value.shape):
        out[at], slopes[at] = curve(layer, float(value[at]), at[0])
        if layer.kind == "elu":  # bent at 0: its second derivative jumps there
            chosen.append(bool(value[at] > 0))
        elif layer.kind not in CURVED:
            chosen.append(slopes[at])
    return out, slopes[..., None] * slope


def averaged(layer: Layer, sizes: tuple[int, ...]) -> list[list[list[int]]]:
    """For each axis, for each place of the output, the places that an average pooling reads; some lie in the padding."""
    if layer.kind.startswith("adaptive"):
        n = layer["size"]
        return [[list(range(p * s // n, -(-(p + 1) * s // n))) for p in range(n)] for s in sizes]
    return windows(layer, sizes, (layer["kernel"],) * len(sizes), layer.get("stride", layer["kernel"]))


def _avgpool(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    """The mean over windows, the padding counted as zeros, or over parts of nearly equal size."""
    sizes = value.shape[1:]
    axes = averaged(layer, sizes)
    shape = (len(value), *(len(axis) for axis in axes))
    out, out_slope = np.zeros(shape), np.zeros((*shape, slope.shape[-1]))
    for at in np.ndindex(*shape):
        places = list(itertools.product(*(axis[p] for axis, p in zip(axes, at[1:], strict=True))))
        for place in places:
            if all(0 <= p < s for p, s in zip(place, sizes, strict=True)):
                out[at] += value[(at[0], *place)] / len(places)
                out_slope[at] += slope[(at[0], *place)] / len(places)
    return out, out_slope


def _batchnorm(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    """(z - mean) / sqrt(variance + eps) weight + bias, unit by unit, with the stored mean and variance."""
    out, out_slope = np.zeros(value.shape), np.zeros(slope.shape)
    for unit in range(len(value)):
        scale = layer["weight"][unit] / math.sqrt(layer["var"][unit] + layer["eps"])
        out[unit] = (value[unit] - layer["mean"][unit]) * scale + layer["bias"][unit]
        out_slope[unit] = slope[unit] * scale
    return out, out_slope


def _groupnorm(layer: Layer, value: np.ndarray, slope: np.ndarray) -> Pair:
    """A layer normalisation over the entries of each group of channels."""
    n, width = layer["groups"], len(value) // layer["groups"]
    out, out_slope = np.zeros(value.shape), np.zeros(slope.shape)
    for group in range(n):
        part = slice(group * width, (group + 1) * width)
        flat, flat_slope = value[part].reshape(-1), slope[part].reshape(value[part].size, -1)
        each = [np.repeat(layer[name][part], flat.size // width) for name in ("weight", "bias")]
        norm = Layer("layernorm", weight=each[0], bias=each[1], eps=layer["eps"])
        row, row_slope = _layernorm(norm, flat, flat_slope)
        out[part], out_slope[part] = row.reshape(value[part].shape), row_slope.reshape(slope[part].shape)
    return out, out_slope


def _matmul(a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray) -> Pair:
    out, out_slope = np.zeros((len(a), b.shape[1])), np.zeros((len(a), b.shape[1], da.shape[-1]))
    for i, j, k in itertools.product(range(len(a)), range(b.shape[1]), range(a.shape[1])):
        out[i, j] += a[i, k] * b[k, j]
        out_slope[i, j] += da[i, k] * b[k, j] + a[i, k] * db[k, j]
    return out, out_slope


def _rearranged(layer: Layer, a: np.ndarray, da: np.ndarray) -> Pair:
    """What moves, cuts, averages and scales values. Axes of a layer count the batch, of which there is none here."""
    kind = layer.kind
    if kind == "flatten":
        return a.reshape(-1), da.reshape(a.size, da.shape[-1])
    if kind == "gap":
        return a.mean((1, 2), keepdims=True), da.mean((1, 2), keepdims=True)
    if kind == "mean":
        return a.mean(layer["axis"] - 1), da.mean(layer["axis"] - 1)
    if kind == "select":
        return a[layer["step"]], da[layer["step"]]
    if kind == "slice":
        part = slice(layer["start"], layer["stop"])
        return a[..., part], da[..., part, :]
    if kind == "transpose":
        return a.T, np.swapaxes(da, 0, 1)
    assert kind == "affine"
    scale, shift = layer.get("scale", np.ones(())), layer.get("shift", np.zeros(()))
    return a * scale + shift, da * np.asarray(scale)[..., None]


def step(layer: Layer, inputs: list[Pair], pattern: list[object]) -> Pair:
    """One layer on values with their derivatives; signs and maxima are appended to the pattern."""
    (a, da), kind = inputs[0], layer.kind
    if kind == "linear":
        return _linear(layer, a, da)
    if kind.startswith("conv"):
        return _conv(layer, a, da)
    if kind.startswith("maxpool"):
        return _maxpool(layer, a, da, pattern)
    if kind in ELEMENTWISE:
        return _each(layer, a, da, pattern)
    if kind == "amax":
        return _amax(layer["axis"] - 1, a, da, pattern)
    if kind.startswith(("avgpool", "adaptiveavgpool")):
        return _avgpool(layer, a, da)
    if kind in ("batchnorm", "groupnorm"):
        return _batchnorm(layer, a, da) if kind == "batchnorm" else _groupnorm(layer, a, da)
    if kind == "logsoftmax":
        shares, slope = _softmax(a, da)
        return np.log(shares), slope / shares[..., None]
    if kind == "softmax":
        return _softmax(a, da)
    if kind == "layernorm":
        return _layernorm(layer, a, da)
    if len(inputs) == 1:
        return _rearranged(layer, a, da)
    b, db = inputs[1]
    if kind == "matmul":
        return _matmul(a, da, b, db)
    if kind == "add":
        return a + b, da + db
    if kind == "mul":
        return a * b, da * b[..., None] + a[..., None] * db
    if kind == "sub":
        return a - b, da - db
    if kind == "div":
        return a / b, da / b[..., None] - (a / b**2)[..., None] * db
    assert kind == "maximum"
    first = a >= b
    pattern += first.reshape(-1).tolist()
    return np.where(first, a, b), np.where(first[..., None], da, db)


def derivative(network: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[object, ...]]:
    """Logits [C], their derivatives [C, N], and the pattern of signs and maxima, at one input x [*shape]."""
    values: dict[str, Pair] = {"x": (x, np.eye(x.size).reshape(*x.shape, x.size))}
    pattern: list[object] = []
    for call in network.calls:
        values[call.value] = step(network.layers[call.layer], [values[name] for name in call.inputs], pattern)
    logits, slopes = values[network.output]
    return logits, slopes, tuple(pattern)


def signs(network: Network, x: np.ndarray) -> tuple[object, ...]:
    """The pattern alone: the same loops, with no derivatives to carry."""
    values: dict[str, Pair] = {"x": (x, np.zeros((*x.shape, 0)))}
    pattern: list[object] = []
    for call in network.calls:
        values[call.value] = step(network.layers[call.layer], [values[name] for name in call.inputs], pattern)
    return tuple(pattern)


def forward(network: Network, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of the network at one input x [*shape], by name."""
    values = {"x": x}
    for call in network.calls:
        inputs: list[Pair] = [(values[name], np.zeros((*values[name].shape, 0))) for name in call.inputs]
        values[call.value] = step(network.layers[call.layer], inputs, [])[0]
    return values


def matrix(layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    """The derivatives [out, in] of one layer there, the entries of all its inputs in a row."""
    total, parts, start = sum(value.size for value in inputs), [], 0
    for value in inputs:
        slope = np.zeros((value.size, total))
        slope[:, start : start + value.size] = np.eye(value.size)
        parts.append((value, slope.reshape(*value.shape, total)))
        start += value.size
    return step(layer, parts, [])[1].reshape(-1, total)


def guided(network: Network, x: np.ndarray, target: int) -> np.ndarray:
    """Guided backpropagation: back over the calls with each layer's matrix of derivatives; ReLUs cut what is negative."""
    values = forward(network, x)
    reaching = {name: np.zeros(value.size) for name, value in values.items()}
    reaching[network.output][target] = 1.0
    for call in reversed(network.calls):
        layer, g = network.layers[call.layer], reaching[call.value]
        if layer.kind == "relu":
            g = np.where(g > 0, g, 0.0)
        down, start = g @ matrix(layer, [values[name] for name in call.inputs]), 0
        for name in call.inputs:
            size = values[name].size
            reaching[name] += down[start : start + size]
            start += size
    return reaching["x"].reshape(x.shape)


def gradient(network: Network, x: np.ndarray, target: int) -> np.ndarray:
    """df/dx of one logit at one input [*shape]."""
    return derivative(network, x)[1][target].reshape(x.shape)


def pieces(network: Network, x: np.ndarray, start: np.ndarray) -> list[tuple[float, float]]:
    """Where the pattern changes from start to x: bisection. (A pattern's region is convex as long as what is rectified is
    piecewise linear, so equal patterns at both ends mean one piece.)"""
    pattern = {a: signs(network, start + a * (x - start)) for a in (0.0, 1.0)}
    open_, done = [(0.0, 1.0)], []
    while open_:
        a, b = open_.pop()
        if pattern[a] == pattern[b] or b - a < 2.0**-48:
            done.append((a, b))
            continue
        middle = (a + b) / 2
        pattern[middle] = signs(network, start + middle * (x - start))
        open_ += [(a, middle), (middle, b)]
    return done


def integrated_gradients(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    """(x - start) times the mean gradient: Gauss-Legendre on each piece of the path (exact where it is linear)."""
    curved = {layer.kind for layer in network.layers.values()} & CURVED
    nodes, weights = np.polynomial.legendre.leggauss(12 if curved else 1)  # on a linear piece the midpoint is exact
    total = np.zeros_like(x)
    for a, b in pieces(network, x, start):
        parts = 8 if curved and b - a > 0.1 else 1  # smooth networks are one piece
        for p in range(parts):
            low, width = a + p * (b - a) / parts, (b - a) / parts
            for node, weight in zip(nodes, weights, strict=True):
                point = start + (low + width * (node + 1) / 2) * (x - start)
                total += weight / 2 * width * gradient(network, point, target)
    return (x - start) * total


def smoothed_gradient(network: Network, x: np.ndarray, target: int, noise: np.ndarray) -> np.ndarray:
    """The mean gradient at x plus 0.15 of its range times each noise [n, *shape]."""
    scale = 0.15 * (x.max() - x.min())
    return np.mean([gradient(network, x + scale * each, target) for each in noise], axis=0)


def occlusion(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    """f(x) minus f of x with one feature replaced, feature by feature."""
    here, result = derivative(network, x)[0][target], np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        other = x.copy()
        other[at] = start[at]
        result[at] = here - derivative(network, other)[0][target]
    return result
