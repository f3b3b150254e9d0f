"""Rewrites of nonlinearities: identities of ReLU, maxima as ReLUs, the nested identity, changes of activation."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from ..build import values
from ..families import Has
from ..sources import WEIGHTS
from ..spec import Call, Layer, Network, Sketch
from .base import Context, Rewrite


def _relu_identity(network: Network, context: Context) -> Network | None:
    """h = ReLU(h) - ReLU(-h), on the input or behind a weighted layer."""
    sites = [call.value for call in network.calls if network.layers[call.layer].kind in ("linear", "conv1d", "conv2d")]
    site = context.source.pick(*sites, "x")
    readers = [call.value for call in network.consumers(site)]
    edit = network.edit()
    before = readers[0] if readers else None
    positive = edit.add(Layer("relu"), site, before=before)
    mirrored = edit.add(Layer("affine", scale=-1.0), site, before=before)
    negative = edit.add(Layer("relu"), mirrored, before=before)
    value = edit.add(Layer("sub"), positive, negative, before=before)
    edit.rewire(site, value, only=readers)
    return edit.network()


def _replaced(network: Network, call: Call, value: str, edit: Sketch) -> Network:
    """Let everybody read `value` instead of the call's value, and remove the call."""
    edit.rewire(call.value, value)
    edit.drop(call.value)
    return edit.network()


def _max_of_two(edit: Sketch, a: str, b: str, before: str, form: str) -> str:
    """b + ReLU(a - b), or the symmetric (a + b + ReLU(a - b) + ReLU(b - a)) / 2."""
    first = edit.add(Layer("relu"), edit.add(Layer("sub"), a, b, before=before), before=before)
    if form == "one-sided":
        return edit.add(Layer("add"), b, first, before=before)
    second = edit.add(Layer("relu"), edit.add(Layer("sub"), b, a, before=before), before=before)
    total = edit.add(Layer("add"), a, b, before=before)
    spread = edit.add(Layer("add"), first, second, before=before)
    return edit.add(Layer("affine", scale=0.5), edit.add(Layer("add"), total, spread, before=before), before=before)


def _max_as_relus(network: Network, context: Context) -> Network | None:
    """max(a, b) = b + ReLU(a - b); a pooling window is folded pair by pair, its entries picked by 0/1 convolutions."""
    calls = [
        call
        for call in network.calls
        if network.layers[call.layer].kind in ("maximum", "maxpool1d", "maxpool2d")
        and not network.layers[call.layer].get("padding")
    ]
    if not calls:
        return None
    call = context.source.pick(*calls)
    form = context.source.pick("one-sided", "symmetric")
    edit = network.edit()
    if network.layers[call.layer].kind == "maximum":
        entries = list(call.inputs)
    else:
        entries = _window_entries(network, call, edit, context)
    value = entries[0]
    for entry in entries[1:]:
        value = _max_of_two(edit, value, entry, call.value, form)
    return _replaced(network, call, value, edit)


def _window_entries(network: Network, call: Call, edit: Sketch, context: Context) -> list[str]:
    """Each entry of a pooling window as a convolution with a 0/1 kernel, one channel at a time."""
    layer = network.layers[call.layer]
    dims = {"maxpool1d": 1, "maxpool2d": 2}[layer.kind]
    kernel = layer["kernel"]
    sizes = kernel if isinstance(kernel, tuple) else (kernel,) * dims
    channels = values(network, torch.tensor(context.x))[call.inputs[0]].shape[1]
    entries = []
    places: list[tuple[int, ...]] = list(itertools.product(*(range(size) for size in sizes)))
    for place in places:
        weight = np.zeros((channels, 1, *sizes))
        for channel in range(channels):
            weight[channel, 0][place] = 1.0
        picked = Layer(
            f"conv{dims}d", weight=weight, stride=layer.get("stride", kernel), groups=channels,
            **({"dilation": layer["dilation"]} if layer.get("dilation") else {}),
        )  # fmt: skip
        entries.append(edit.add(picked, call.inputs[0], before=call.value))
    return entries


def _with_nested(network: Network, context: Context) -> Network | None:
    """Add to the logits a unit ReLU(a h_0 - sum_k d_k h_k - c) over a first ReLU layer, with a, c > 0 and d_k >= 0."""
    found = _rectified(network)
    if found is None:
        return None
    linear, hidden = found
    source, units = context.source, len(network.layers[linear]["weight"])
    if units < 2:
        return None  # without an inhibiting unit the two forms are one chain
    at = values(network, torch.tensor(context.x))[hidden][0].numpy()
    leader = int(np.argmax(at))  # the unit that is largest at the first sample, so that the new unit can be active
    row = -source.numbers((1.0, 2.0, 0.0), units)
    row[leader] = source.pick(1.0, 2.0)
    # The threshold is a quarter rung below every pre-activation, and at times a whole number more.
    threshold = source.pick(0.25, 1.25, 0.75)
    classes = len(network.layers[network.call(network.output).layer]["weight"])
    edit = network.edit()
    unit = edit.add(Layer("linear", weight=[row.tolist()], bias=[-threshold * row[leader]]), hidden)
    active = edit.add(Layer("relu"), unit)
    column = source.numbers(WEIGHTS[:-1], classes).reshape(-1, 1)
    edit.add(Layer("add"), network.output, edit.add(Layer("linear", weight=column), active))
    return edit.network()


def _rectified(network: Network) -> tuple[str, str] | None:
    """The first dense layer that reads x and is followed by a ReLU: its name and the ReLU's value."""
    for call in network.calls:
        if network.layers[call.layer].kind != "linear" or call.inputs != ("x",):
            continue
        for reader in network.consumers(call.value):
            if network.layers[reader.layer].kind == "relu":
                return call.layer, reader.value
    return None


def _nested(network: Network, context: Context) -> Network | None:
    """ReLU(a ReLU(u) - c - D) = ReLU(a ReLU(u - c/a) - D) for a, c > 0 and D = sum d_k h_k >= 0.

    Where u <= c/a both sides are ReLU of something not positive; elsewhere both arguments are a u - c - D.
    """
    for call in network.calls:
        layer = network.layers[call.layer]
        if layer.kind != "linear" or len(layer["weight"]) != 1 or layer.get("bias") is None:
            continue
        row, shift = layer["weight"][0], float(layer["bias"][0])
        readers = network.consumers(call.value)
        if sum(row > 0) != 1 or shift >= 0 or [network.layers[r.layer].kind for r in readers] != ["relu"]:
            continue
        before = next((c for c in network.calls if c.value == call.inputs[0]), None)
        if before is None or network.layers[before.layer].kind != "relu":
            continue
        producer = next((c for c in network.calls if c.value == before.inputs[0]), None)
        if producer is None or network.layers[producer.layer].kind != "linear":
            continue
        source, leader = network.layers[producer.layer], int(np.argmax(row))
        bias = source.get("bias")
        moved = (0.0 if bias is None else float(bias[leader])) + shift / row[leader]
        edit = network.edit()
        inner = edit.add(
            Layer("linear", weight=source["weight"][leader : leader + 1], bias=[moved]),
            *producer.inputs,
            before=call.value,
        )
        inner = edit.add(Layer("relu"), inner, before=call.value)
        rest = row.copy()
        rest[leader] = 0.0
        others = edit.add(Layer("linear", weight=[rest.tolist()]), call.inputs[0], before=call.value)
        scaled = edit.add(Layer("affine", scale=float(row[leader])), inner, before=call.value)
        value = edit.add(Layer("add"), scaled, others, before=call.value)
        return _replaced(network, call, value, edit)
    return None


def _activation_change(network: Network, context: Context) -> Network | None:
    """tanh(z) = 2 sigmoid(2z) - 1; sigmoid(z) = tanh(z/2)/2 + 1/2; softplus, GELU: a(z) = z + a(-z)."""
    calls = [
        call for call in network.calls if network.layers[call.layer].kind in ("tanh", "sigmoid", "softplus", "gelu")
    ]
    if not calls:
        return None
    call = context.source.pick(*calls)
    kind, (z,) = network.layers[call.layer].kind, call.inputs
    edit = network.edit()

    def put(layer: Layer, *inputs: str) -> str:
        return edit.add(layer, *inputs, before=call.value)

    if kind == "tanh":
        value = put(Layer("affine", scale=2.0, shift=-1.0), put(Layer("sigmoid"), put(Layer("affine", scale=2.0), z)))
    elif kind == "sigmoid":
        value = put(Layer("affine", scale=0.5, shift=0.5), put(Layer("tanh"), put(Layer("affine", scale=0.5), z)))
    else:
        value = put(Layer("add"), z, put(Layer(kind), put(Layer("affine", scale=-1.0), z)))
    return _replaced(network, call, value, edit)


_EVERY = frozenset({Has.DENSE, Has.CONV, Has.MAX, Has.PRODUCT})

RELU_IDENTITY = Rewrite("relu-identity", "h = ReLU(h) - ReLU(-h)", _relu_identity, _EVERY)
MAX_AS_RELUS = Rewrite("max-as-relus", "max(a, b) = b + ReLU(a - b)", _max_as_relus, frozenset({Has.MAX}))
NESTED = Rewrite(
    "nested",
    "ReLU(a ReLU(u) - c - D) = ReLU(a ReLU(u - c/a) - D) for a, c > 0, D >= 0",
    _nested,
    frozenset({Has.NESTED}),
    _with_nested,
)
ACTIVATION_CHANGE = Rewrite(
    "activation-change",
    "tanh(z) = 2 sigmoid(2z) - 1 and its kin",
    _activation_change,
    frozenset({Has.SMOOTH}),
)
