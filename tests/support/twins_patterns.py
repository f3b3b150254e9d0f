"""Independent twins of PatternNet and PatternAttribution: each unit's samples in loops, covariances by their definition."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.errors import Unsupported

from . import slow_twins
from .slow_twins import forward
from .twins_rectified import matrices

Where = list[tuple[int, tuple[int, ...]] | None]
"""What a unit reads: for each weight the number of the input and the index in there, None where it is padding."""

# What the documentation of the methods takes as equal, and as zero.
DIGITS = float(np.finfo(float).eps) ** (1 / 3)

_AVERAGES = ("avgpool1d", "avgpool2d", "adaptiveavgpool1d", "adaptiveavgpool2d")
_ROUTES = ("flatten", "transpose", "select", "slice")


def _places(
    layer: Layer, inputs: list[np.ndarray], y: np.ndarray
) -> Iterator[tuple[tuple[int, ...], object, Where, np.ndarray]]:
    """For each output: its index, its unit (a key: outputs with one key share their weights), what it reads, its weights."""
    x, kind = inputs[0], layer.kind
    for out in np.ndindex(*y.shape):
        if kind == "linear":
            weights = layer["weight"][out[-1]]
            yield out, out[-1], [(0, (*out[:-1], i)) for i in range(len(weights))], weights
        elif kind.startswith("conv"):
            weights = layer["weight"][out[0]]
            axes = slow_twins.windows(layer, x.shape[1:], weights.shape[1:], layer.get("stride", 1))
            first = out[0] // (len(layer["weight"]) // layer.get("groups", 1)) * len(weights)
            reads: Where = []
            for c, *tap in np.ndindex(*weights.shape):
                at = (first + c, *(axis[p][k] for axis, p, k in zip(axes, out[1:], tap, strict=True)))
                inside = all(0 <= a < size for a, size in zip(at, x.shape, strict=True))
                reads.append((0, at) if inside else None)
            yield out, out[0], reads, weights.reshape(-1)
        elif kind == "add":
            yield out, out, [(0, out), (1, out)], np.ones(2)
        elif kind in _AVERAGES:
            axes = slow_twins.averaged(layer, x.shape[1:])
            if any(
                sorted(itertools.chain(*axis)) != list(range(size))
                for axis, size in zip(axes, x.shape[1:], strict=True)
            ):
                raise Unsupported("sets of entries overlap, or leave some out, or reach into the padding")
            box = list(itertools.product(*(axis[p] for axis, p in zip(axes, out[1:], strict=True))))
            yield out, out, [(0, (out[0], *at)) for at in box], np.full(len(box), 1 / len(box))
        elif kind == "gap":
            channel = [(0, (out[0], *at)) for at in np.ndindex(*x.shape[1:])]
            yield out, out, list(channel), np.full(len(channel), 1 / len(channel))
        else:
            assert kind == "mean"
            axis = layer["axis"] - 1
            line = [(0, (*out[:axis], k, *out[axis:])) for k in range(x.shape[axis])]
            yield out, out, list(line), np.full(len(line), 1 / len(line))


def _read(inputs: list[np.ndarray], where: Where) -> np.ndarray:
    return np.array([0.0 if place is None else inputs[place[0]][place[1]] for place in where])


def _rectified(network: Network, value: str) -> bool:
    """Whether a ReLU reads a value, there or where it has been moved to."""
    readers = [(call, network.layers[call.layer].kind) for call in network.consumers(value)]
    return any(kind == "relu" or (kind in _ROUTES and _rectified(network, call.value)) for call, kind in readers)


def pattern(xs: np.ndarray, ys: np.ndarray, w: np.ndarray, positive: bool, printed: bool = False) -> np.ndarray | None:
    """a = cov / w^T cov of inputs xs [S, n] and outputs ys [S]; None where outputs are equal, or w^T cov is zero."""
    chosen = [s for s in range(len(ys)) if not positive or ys[s] > 0]
    if not chosen:
        return None
    n = len(chosen)
    mean_y = sum(ys) / len(ys) if printed and positive else sum(ys[s] for s in chosen) / n
    if max(abs(ys[s] - mean_y) for s in chosen) <= DIGITS * max(abs(ys[s]) for s in chosen):
        return None
    covariance = sum(xs[s] * (ys[s] - mean_y) for s in chosen) / n  # E[xy] - E[x] m, also as printed
    length = float(w @ covariance)
    return None if abs(length) <= DIGITS * (np.abs(w) @ np.abs(covariance)) else covariance / length


def attributed(
    network: Network, x: np.ndarray, target: int, data: np.ndarray, relevance: bool, printed: bool = False
) -> np.ndarray:
    """The map at one input x [*shape], with patterns of data [M, *shape]."""
    here, there = forward(network, x), [forward(network, row) for row in data]
    reaching = {name: np.zeros(value.shape) for name, value in here.items()}
    reaching[network.output][target] = here[network.output][target]
    for call in reversed(network.calls):
        layer, g = network.layers[call.layer], reaching[call.value]
        if layer.kind in ("linear", "conv1d", "conv2d", "conv3d", "add", "gap", "mean", *_AVERAGES):
            _through_units(network, call, here, there, reaching, relevance, printed)
        elif layer.kind == "batchnorm":  # a unit with one input, whose pattern is 1 / c whatever the data
            c = (layer["weight"] / np.sqrt(layer["var"] + layer["eps"])).reshape(-1, *[1] * (g.ndim - 1))
            reaching[call.inputs[0]] += np.where(c == 0, 0, g if relevance else g / np.where(c == 0, 1, c))
        elif layer.kind in ("relu", "maximum", "maxpool1d", "maxpool2d", "amax", *_ROUTES):
            for name, slopes in zip(call.inputs, matrices(layer, [here[n] for n in call.inputs]), strict=True):
                reaching[name] += (g.reshape(-1) @ slopes).reshape(reaching[name].shape)
        else:
            raise Unsupported(f"no formula for {layer.kind}")
    return reaching["x"]


def _through_units(
    network: Network,
    call: Call,
    here: dict[str, np.ndarray],
    there: list[dict[str, np.ndarray]],
    reaching: dict[str, np.ndarray],
    relevance: bool,
    printed: bool,
) -> None:
    layer, rectified, found = network.layers[call.layer], _rectified(network, call.value), {}
    inputs = [here[name] for name in call.inputs]
    places = list(_places(layer, inputs, here[call.value]))
    for out, unit, where, w in places:
        g = reaching[call.value][out]
        if g == 0:
            continue
        if unit not in found:
            mine = [(o, r) for o, u, r, _ in places if u == unit]
            pairs = [
                (_read([row[name] for name in call.inputs], reads), row[call.value][at])
                for row, (at, reads) in itertools.product(there, mine)
            ]
            xs, ys = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
            a = pattern(xs, ys, w, rectified, printed)
            found[unit] = pattern(xs, ys, w, False) if a is None and rectified else a
        a = found[unit]
        if a is None:
            raise Unsupported("a unit that is reached does not vary over the data")
        for share, place in zip(w * a if relevance else a, where, strict=True):
            if place is not None:
                reaching[call.inputs[place[0]]][place[1]] += share * g
