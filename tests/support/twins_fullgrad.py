"""Slow twins of the full gradients: the bias of each layer by its derivative, carried forward in explicit loops."""

from __future__ import annotations

import itertools

import numpy as np
from attribcheck.axioms.networks.spec import Network

from .slow_twins import forward, matrix
from .twins_gradcam import _corners, _space, derivative_at, lay_out

Place = list[int | None]


def biases(network: Network, x: np.ndarray, target: int) -> list[tuple[np.ndarray, Place]]:
    """For each call: the derivative of the logit there times (value - derivative of the layer * its inputs), and the axis
    of x that each axis of the value runs along."""
    inside = forward(network, x)
    place: dict[str, Place] = {"x": list(range(x.ndim))}
    found = []
    for call in network.calls:
        layer, parts, value = network.layers[call.layer], [inside[name] for name in call.inputs], inside[call.value]
        linear = matrix(layer, parts) @ np.concatenate([v.reshape(-1) for v in parts])
        place[call.value] = _placed(layer.kind, [place[name] for name in call.inputs], value.ndim)
        gradient = derivative_at(network, x, call.value, target)[1]
        found.append((gradient * (value - linear.reshape(value.shape)), place[call.value]))
    return found


def _placed(kind: str, inputs: list[Place], n: int) -> Place:
    own = inputs[0]
    if kind.startswith("conv"):
        return [None, *own[1:]]
    if kind == "linear":
        return [*own[:-1], None]
    if kind == "transpose":
        return own[::-1]
    if kind == "select":
        return own[1:]
    if kind == "slice":
        return [*own[:-1], None]
    if kind in ("flatten", "mean", "amax", "matmul"):
        return [None] * n
    return [a if all(other[k] == a for other in inputs) else None for k, a in enumerate(own)]


def _shares(sources: int, places: int) -> np.ndarray:
    """How each source is shared out among places [sources, places]."""
    shares = np.zeros((sources, places))
    for p in range(places):
        for k, weight in _corners(p, places, sources):
            shares[k, p] += weight
    for k in range(sources):
        if shares[k].sum() == 0:
            shares[k, int((k + 0.5) * places / sources)] = 1.0
    return shares / shares.sum(1, keepdims=True)


def complete(network: Network, x: np.ndarray, target: int) -> np.ndarray:
    """The input term, and each bias term shared out."""
    _, gradient = derivative_at(network, x, "x", target)
    result = x * gradient
    for term, place in biases(network, x, target):
        others = x.size
        for a in place:
            others //= 1 if a is None else x.shape[a]
        tables = {a: _shares(size, x.shape[a]) for a, size in zip(place, term.shape, strict=True) if a is not None}
        for source in np.ndindex(*term.shape):
            if term[source] == 0:
                continue
            share = np.ones(x.shape) / others
            for k, a in zip(source, place, strict=True):
                if a is not None:
                    share = share * tables[a][k].reshape([-1 if d == a else 1 for d in range(x.ndim)])
            result = result + term[source] * share
    return result


def _unit(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return np.zeros_like(values) if high - low <= 1e-12 * high else (values - low) / (high - low)


def aggregated(network: Network, x: np.ndarray, target: int) -> np.ndarray:
    """The sizes of all terms with a place, channel by channel brought to [0, 1], over the input."""
    space = list(_space(network, x))
    _, gradient = derivative_at(network, x, "x", target)
    result = np.zeros_like(x)
    for term, place in [(x * gradient, list(range(x.ndim))), *biases(network, x, target)]:
        if any(a not in place for a in space):
            continue
        axes = [place.index(a) for a in space]
        channels = np.moveaxis(np.abs(term), axes, range(-len(axes), 0))
        for at in itertools.product(*map(range, channels.shape[: -len(axes)])):
            if channels[at].any():
                result += lay_out(network, x, _unit(channels[at]))
    return result
