"""Slow twin of DeepLIFT with RevealCancel: multipliers for what pushes up and what pushes down, unit by unit, in reverse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attribcheck.axioms.networks.spec import Layer, Network
from attribcheck.errors import Unsupported

from .slow_twins import ELEMENTWISE, curve, forward, matrix

AVERAGES = {"gap", "avgpool1d", "avgpool2d", "adaptiveavgpool1d", "adaptiveavgpool2d"}
WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d", "add"}
KINDS = {"flatten", "batchnorm", *WEIGHTED, *AVERAGES, *ELEMENTWISE}


def _multipliers(f: Callable[[float], float], start: float, rise: float, fall: float) -> tuple[float, float]:
    a, b, c, d = (f(start + s) for s in (0.0, rise, fall, rise + fall))
    up = ((b - a) + (d - c)) / 2 / rise if rise else 0.0
    down = ((c - a) + (d - b)) / 2 / fall if fall else 0.0
    return up, down


def _curves(layer: Layer, value: np.ndarray) -> list[Callable[[float], float]]:
    """The activation of each entry, as a function of its value."""

    def of(unit: int) -> Callable[[float], float]:
        return lambda z: curve(layer, z, unit)[0]

    return [of(at[0]) for at in np.ndindex(*value.shape)]


def reveal_cancel(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    """The map [*shape]; Unsupported for networks with other layers than these."""
    if {layer.kind for layer in network.layers.values()} - KINDS:
        raise Unsupported("the twin knows other layers")
    here, there = forward(network, x), forward(network, start)
    sides: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # rise and fall of values whose contributions are known
    for call in network.calls:
        layer = network.layers[call.layer]
        steps = np.concatenate([(here[name] - there[name]).reshape(-1) for name in call.inputs])
        if layer.kind in WEIGHTED:
            w = matrix(layer, [here[name] for name in call.inputs])
            sides[call.value] = (np.maximum(w * steps, 0).sum(1), np.minimum(w * steps, 0).sum(1))
        elif call.inputs[0] in sides and layer.kind not in AVERAGES:
            rise, fall = sides[call.inputs[0]]
            if layer.kind == "batchnorm":
                scale = np.diag(matrix(layer, [here[call.inputs[0]]]))
                rise, fall = np.where(scale > 0, (rise, fall), (fall, rise)) * scale
            elif layer.kind != "flatten":
                z = there[call.inputs[0]]
                slopes = [
                    _multipliers(*each) for each in zip(_curves(layer, z), z.reshape(-1), rise, fall, strict=True)
                ]
                rise, fall = (rise * [up for up, _ in slopes], fall * [down for _, down in slopes])
            sides[call.value] = (rise, fall)
    up = {name: np.zeros(value.size) for name, value in here.items()}
    down = {name: np.zeros(value.size) for name, value in here.items()}
    up[network.output][target] = down[network.output][target] = 1.0
    for call in reversed(network.calls):
        layer, m, n = network.layers[call.layer], up[call.value], down[call.value]
        if layer.kind in ELEMENTWISE:
            (name,) = call.inputs
            z, at = there[name].reshape(-1), here[name].reshape(-1)
            for j, f in enumerate(_curves(layer, there[name])):
                if name in sides:
                    first, second = _multipliers(f, z[j], sides[name][0][j], sides[name][1][j])
                elif at[j] != z[j]:
                    first = second = (f(at[j]) - f(z[j])) / (at[j] - z[j])
                else:
                    first = second = matrix(layer, [there[name]])[j, j]
                up[name][j] += first * m[j]
                down[name][j] += second * n[j]
            continue
        if layer.kind == "flatten":
            up[call.inputs[0]] += m
            down[call.inputs[0]] += n
            continue
        w = matrix(layer, [here[name] for name in call.inputs])
        if layer.kind in AVERAGES or layer.kind == "batchnorm":
            # A rise stays one under a positive factor, and turns into a fall under a negative one.
            positive, negative = np.maximum(w, 0), np.minimum(w, 0)
            up[call.inputs[0]] += m @ positive + n @ negative
            down[call.inputs[0]] += n @ positive + m @ negative
            continue
        steps = np.concatenate([(here[name] - there[name]).reshape(-1) for name in call.inputs])
        flowing = np.zeros(steps.size)
        for i, step in enumerate(steps):
            for j in range(len(w)):
                pushes = np.sign(w[j, i] * step)
                flowing[i] += w[j, i] * (m[j] if pushes > 0 else n[j] if pushes < 0 else (m[j] + n[j]) / 2)
        begin = 0
        for name in call.inputs:
            size = here[name].size
            up[name] += flowing[begin : begin + size]
            down[name] += flowing[begin : begin + size]
            begin += size
    result: np.ndarray = ((x - start).reshape(-1) * up["x"]).reshape(x.shape)
    return result
