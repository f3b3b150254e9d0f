"""Slow twins of the methods that add up the channels of a layer: explicit loops over a network as data.

The derivative at a layer is carried forward from there through the layers behind it; nothing is shared with the methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from attribcheck.axioms.networks.spec import Network

from .slow_twins import Pair, forward, step


def derivative_at(network: Network, x: np.ndarray, value: str, target: int) -> tuple[np.ndarray, np.ndarray]:
    """A value inside the network [*shape] and the derivative of one logit with respect to it [*shape]."""
    inside = forward(network, x)
    here = inside[value]
    carried: dict[str, Pair] = {name: (v, np.zeros((*v.shape, here.size))) for name, v in inside.items()}
    carried[value] = (here, np.eye(here.size).reshape(*here.shape, here.size))
    behind = value == "x"
    for call in network.calls:
        if behind:
            carried[call.value] = step(network.layers[call.layer], [carried[name] for name in call.inputs], [])
        behind = behind or call.value == value
    return here, carried[network.output][1][target].reshape(here.shape)


def _is_conv(network: Network, value: str) -> bool:
    return value != "x" and network.layer_of(value).kind.startswith("conv")


def spatial_layers(network: Network) -> list[str]:
    """The values of the spatial activations in order (convolutions that none follows too), in chains of layers."""
    found: list[str] = []
    for call in network.calls:
        kind = network.layers[call.layer].kind
        if kind.startswith("conv"):
            found.append(call.value)
        elif kind == "relu" and _from_convolution(network, call.inputs[0]):
            if _is_conv(network, found[-1]):
                found.pop()
            found.append(call.value)
    return found


def _from_convolution(network: Network, value: str) -> bool:
    while value != "x" and (network.layer_of(value).kind in ("relu", "maxpool1d", "maxpool2d")):
        value = network.call(value).inputs[0]
    return _is_conv(network, value)


def _space(network: Network, x: np.ndarray) -> tuple[int, ...]:
    """The axes of x that are space: the words of a sequence [T, D] that is transposed, all but the channels elsewhere."""
    turned = any(layer.kind == "transpose" for layer in network.layers.values())
    return (0,) if turned else tuple(range(1, x.ndim))


def _corners(place: int, places: int, sources: int) -> list[tuple[int, float]]:
    """Which sources a place is interpolated from, and with which weights."""
    at = max((place + 0.5) * sources / places - 0.5, 0.0)
    low = int(at)
    high = min(low + 1, sources - 1)
    return [(low, 1 - (at - low)), (high, at - low)]


def lay_out(network: Network, x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map [*sizes] interpolated to the space of x, and given to each channel: [*shape]."""
    space, result = _space(network, x), np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        corners = [_corners(at[a], x.shape[a], size) for a, size in zip(space, values.shape, strict=True)]
        for chosen in itertools.product(*corners):
            weight = np.prod([w for _, w in chosen])
            result[at] += weight * values[tuple(k for k, _ in chosen)]
    return result


def _sum(a: np.ndarray, weights: list[float]) -> np.ndarray:
    total = np.zeros(a.shape[1:])
    for k, w in enumerate(weights):
        total += w * a[k]
    return total


def gradcam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """sum_k (mean of g_k) A_k."""
    return _sum(a, [sum(g[k].reshape(-1)) / g[k].size for k in range(len(a))])


def plus_plus(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The printed quotient g^2 / (2 g^2 + g^3 sum A), entry by entry."""
    weights = []
    for k in range(len(a)):
        total = sum(a[k].reshape(-1))
        entries = [float(s) for s in g[k].reshape(-1) if s > 0]
        weights.append(sum(s * s * s / (2 * s * s + s**3 * total) for s in entries))
    return _sum(a, weights)


def positive(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """sum_k (mean of |g_k|) A_k."""
    return _sum(a, [sum(abs(s) for s in g[k].reshape(-1)) / g[k].size for k in range(len(a))])


def middle(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """sum_k max(g_k, 0)."""
    return _sum(np.maximum(g, 0.0), [1.0] * len(g))


Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def last_layer(network: Network, x: np.ndarray, target: int, score: Score, relu: bool) -> np.ndarray:
    """A score of the last spatial activation, over the input."""
    values = score(*derivative_at(network, x, spatial_layers(network)[-1], target))
    return lay_out(network, x, np.maximum(values, 0.0) if relu else values)


def all_layers(network: Network, x: np.ndarray, target: int, score: Score) -> np.ndarray:
    """The positive parts of a score of every spatial activation, over the input, added up."""
    total = np.zeros_like(x)
    for value in spatial_layers(network):
        total += lay_out(network, x, np.maximum(score(*derivative_at(network, x, value, target)), 0.0))
    return total


def cam(network: Network, x: np.ndarray, target: int) -> np.ndarray:
    """The maps before the pooling, weighted by the rows of the last layer."""
    value = spatial_layers(network)[-1]
    maps, _ = derivative_at(network, x, value, target)
    weights = network.layer_of(network.output)["weight"][target]
    return lay_out(network, x, _sum(maps, [w / maps[0].size for w in weights]))
