"""Networks made of networks: sums, differences, masked, permuted and shifted inputs, weights a few roundings away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .sources import Array
from .spec import ARRAYS, Layer, Network, Sketch


def _merge(sketch: Sketch, network: Network, start: str) -> str:
    """Append a network that reads `start` to a sketch; returns its output."""
    layers = {}
    for name, layer in network.layers.items():
        layers[name] = sketch.fresh(layer.kind, sketch.layers)
        sketch.layers[layers[name]] = layer
    values = {"x": start}
    for call in network.calls:
        inputs = tuple(values[name] for name in call.inputs)
        values[call.value] = sketch.call(layers[call.layer], *inputs)
    return values[network.output]


def combined(kind: str, left: Network, right: Network) -> Network:
    """left + right ("add") or left - right ("sub"), on the same input."""
    sketch = Sketch(left.input_shape)
    outputs = (_merge(sketch, left, "x"), _merge(sketch, right, "x"))
    sketch.add(Layer(kind), *outputs)
    return sketch.network()


def last_linear(network: Network) -> str | None:
    """The layer whose value the network returns, if it is a linear layer called once; else None."""
    name = network.call(network.output).layer
    return name if network.layers[name].kind == "linear" and len(network.calls_of(name)) == 1 else None


def scaled(network: Network, factor: float, how: str = "affine") -> Network:
    """factor * network: by the weights of its last layer ("weights", where that is linear) or by one more layer."""
    name = last_linear(network)
    if how == "affine" or name is None:
        sketch = network.edit()
        sketch.add(Layer("affine", scale=factor), network.output)
        return sketch.network()
    layer = network.layers[name]
    bias = layer.get("bias")
    return network.with_layers(
        **{name: layer.but(weight=factor * layer["weight"], bias=None if bias is None else factor * bias)}
    )


def _behind(network: Network, layer: Layer) -> Network:
    """The network behind one more layer on its input."""
    sketch = Sketch(network.input_shape)
    _merge(sketch, network, sketch.add(layer, "x"))
    return sketch.network()


def _first_linear(network: Network) -> list[str] | None:
    """The layers that read x [N], if all are linear layers called once; else None."""
    if len(network.input_shape) > 1:
        return None  # one layer for all words has no column for each feature
    readers = network.consumers("x")
    if all(network.layers[r.layer].kind == "linear" and len(network.calls_of(r.layer)) == 1 for r in readers):
        return [reader.layer for reader in readers]
    return None


def masked(network: Network, feature: int) -> Network:
    """The network that ignores a feature: a zero column where dense layers read x, else a factor of zero."""
    first = _first_linear(network)
    if first is None:
        mask = np.ones(network.n_features)
        mask[feature] = 0.0
        return _behind(network, Layer("affine", scale=mask.reshape(network.input_shape)))
    changed = {}
    for name in first:
        weight = np.array(network.layers[name]["weight"])
        weight[:, feature] = 0.0
        changed[name] = network.layers[name].but(weight=weight)
    return network.with_layers(**changed)


def permuted(network: Network, order: Sequence[int]) -> Network:
    """A network f' with f'(x in that order) = f(x): its k-th feature is feature order[k] of the given network.

    Permuted columns where dense layers read x, else an explicit first layer that restores the order.
    """
    order = list(order)
    first = _first_linear(network)
    if first is None:
        return _behind(network, Layer("permute", order=np.argsort(order).tolist()))
    return network.with_layers(
        **{name: network.layers[name].but(weight=network.layers[name]["weight"][:, order]) for name in first}
    )


def swapped(network: Network, i: int, j: int) -> Network:
    """The network that reads features i and j in each other's place."""
    order = list(range(network.n_features))
    order[i], order[j] = order[j], order[i]
    return permuted(network, order)


def shifted(network: Network, shift: Array, how: str = "affine") -> Network | None:
    """A network f2 with f2(x + m) = f(x), for the shift m [*shape].

    how: "affine" subtracts m in an explicit first layer; "bias" changes the biases of the layers that read x,
    b2 = b - W m (Kindermans et al. 2019, section 2). Returns None where the biases cannot absorb the shift: a reader of x
    that is neither linear (for sequences, with one m for all words) nor a convolution without padding under a constant shift.
    """
    if how == "affine":
        return _behind(network, Layer("affine", shift=-shift))
    changed = {}
    for reader in network.consumers("x"):
        layer = network.layers[reader.layer]
        if len(network.calls_of(reader.layer)) > 1:
            return None
        if layer.kind == "linear" and (shift == shift.reshape(-1, shift.shape[-1])[0]).all():
            moved = layer["weight"] @ shift.reshape(-1, shift.shape[-1])[0]
        elif layer.kind.startswith("conv") and not layer.get("padding") and np.unique(shift).size == 1:
            moved = layer["weight"].reshape(len(layer["weight"]), -1).sum(1) * shift.reshape(-1)[0]
        else:
            return None
        bias = layer.get("bias")
        changed[reader.layer] = layer.but(bias=(0.0 if bias is None else bias) - moved)
    return network.with_layers(**changed)


def jittered(network: Network, size: float) -> Network:
    """The same network with each weight w moved to w (1 + size * noise), by fixed noise of a standard deviation of one."""
    rng = np.random.default_rng(0)
    layers = {}
    for name, layer in network.layers.items():
        arrays = {key: layer[key] for key in sorted(ARRAYS & layer.settings.keys())}
        moved = {key: array * (1 + size * rng.standard_normal(array.shape)) for key, array in arrays.items()}
        layers[name] = layer.but(**moved)
    return network.with_layers(**layers)
