"""Independent twins of DeconvNet, RectGrad and RectGrad_Mod: back over the calls of a network as data, in loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from attribcheck.axioms.networks.spec import Layer, Network

from . import slow_twins

AtRelu = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(the pre-activations of one ReLU [n], the gradient that reaches it [n]) -> what goes on [n]."""


def deconvolution(z: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The positive part of what arrives, for active and inactive units alike."""
    return np.array([value if value > 0 else 0.0 for value in g])


def above(tau: float, absolute: bool = False) -> AtRelu:
    """What arrives at units whose score is above tau."""

    def passed(z: np.ndarray, g: np.ndarray) -> np.ndarray:
        scores = _scores(z, g, absolute)
        return np.array([value if score > tau else 0.0 for value, score in zip(g, scores, strict=True)])

    def active(z: np.ndarray, g: np.ndarray) -> np.ndarray:
        return np.where(z > 0, passed(z, g), 0.0)

    return active


def without_lowest(percent: float, absolute: bool = False) -> AtRelu:
    """What arrives at units that are not among the lowest so many per cent, nor tie with one of them."""

    def passed(z: np.ndarray, g: np.ndarray) -> np.ndarray:
        scores = _scores(z, g, absolute)
        dropped = sorted(scores)[: int(percent / 100 * len(scores))]
        highest = dropped[-1] + 1e-12 * max(map(abs, scores)) if dropped else -np.inf
        kept = [a > 0 and score > highest for a, score in zip(z, scores, strict=True)]
        return np.array([value if keep else 0.0 for value, keep in zip(g, kept, strict=True)])

    return passed


def _scores(z: np.ndarray, g: np.ndarray, absolute: bool) -> list[float]:
    products = [max(float(a), 0.0) * float(b) for a, b in zip(z, g, strict=True)]
    return [abs(p) for p in products] if absolute else products


def matrices(layer: Layer, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The derivatives [outputs, size of the input] of one layer by each of its inputs."""
    if layer.kind == "amax":
        return [_amax(layer["axis"] - 1, inputs[0])]
    whole = slow_twins.matrix(layer, inputs)
    cuts = np.cumsum([value.size for value in inputs])[:-1]
    return np.split(whole, cuts, axis=1)


def _amax(axis: int, value: np.ndarray) -> np.ndarray:
    """Entries that tie share the derivative of a maximum over an axis."""
    shape = tuple(n for k, n in enumerate(value.shape) if k != axis)
    out = np.zeros((*shape, *value.shape))
    for place in itertools.product(*map(range, shape)):
        line = [(*place[:axis], k, *place[axis:]) for k in range(value.shape[axis])]
        best = [at for at in line if value[at] == max(value[other] for other in line)]
        for at in best:
            out[(*place, *at)] = 1 / len(best)
    return out.reshape(-1, value.size)


def back(network: Network, x: np.ndarray, target: int, at_relu: AtRelu) -> np.ndarray:
    """The gradient of one logit at x [*shape], with what ReLUs let back decided by `at_relu`."""
    values = slow_twins.forward(network, x)
    reaching = {name: np.zeros(value.size) for name, value in values.items()}
    reaching[network.output][target] = 1.0
    for call in reversed(network.calls):
        layer, g = network.layers[call.layer], reaching[call.value]
        inputs = [values[name] for name in call.inputs]
        if layer.kind == "relu":
            reaching[call.inputs[0]] += at_relu(inputs[0].reshape(-1), g)
            continue
        for name, slopes in zip(call.inputs, matrices(layer, inputs), strict=True):
            reaching[name] += g @ slopes
    return reaching["x"].reshape(x.shape)
