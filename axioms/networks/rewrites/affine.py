"""Rewrites of affine layers: splitting one in two, fusing two into one, folding a batch normalisation."""

from __future__ import annotations

import numpy as np
import torch

from ..build import values
from ..families import Has
from ..sources import WHOLE
from ..spec import Layer, Network
from .base import Context, Rewrite


def _own(network: Network, *kinds: str) -> list[str]:
    """The layers of the given kinds that are called once."""
    return [
        call.layer
        for call in network.calls
        if network.layers[call.layer].kind in kinds and len(network.calls_of(call.layer)) == 1
    ]


def split_linear(network: Network, context: Context) -> Network | None:
    """W h + b = (W U^-1) (U h + t) + (b - W U^-1 t) for an invertible U: a shear, or a positive scaling."""
    names = _own(network, "linear")
    if not names:
        return None
    source = context.source
    name = source.pick(*names)
    layer = network.layers[name]
    n = layer["weight"].shape[1]
    change, inverse = np.eye(n), np.eye(n)
    factor = source.pick(1.0, -1.0, 2.0)
    if n > 1 and source.pick(True, False):
        # The shear x1, x2 -> x1 + a x2, x2: the sum and its part, of which the next layer takes the difference.
        change[0, 1], inverse[0, 1] = factor, -factor
    else:
        change, inverse = change * 2.0**factor, inverse * 2.0**-factor
    weight = layer["weight"] @ inverse
    shift, bias = None, layer.get("bias")
    if bias is not None:
        shift = source.numbers(WHOLE, n)
        bias = bias - weight @ shift
    call = network.calls_of(name)[0]
    edit = network.edit()
    inner = edit.add(Layer("linear", weight=change, bias=shift), *call.inputs, before=call.value)
    edit.rewire(call.inputs[0], inner, only=[call.value])
    edit.layers[name] = layer.but(weight=weight, bias=bias)
    return edit.network()


def _pairs(network: Network) -> list[tuple[str, str]]:
    """Linear layers whose only reader is another linear layer."""
    found = []
    once = _own(network, "linear")
    for name in once:
        readers = network.consumers(network.calls_of(name)[0].value)
        if len(readers) == 1 and readers[0].layer in once:
            found.append((name, readers[0].layer))
    return found


def _fuse_linear(network: Network, context: Context) -> Network | None:
    """V (W h + b) + c = (V W) h + (V b + c)."""
    pairs = _pairs(network)
    if not pairs:
        return None
    first, second = context.source.pick(*pairs)
    inner, outer = network.layers[first], network.layers[second]
    bias = None
    if inner.get("bias") is not None or outer.get("bias") is not None:
        bias = np.zeros(len(outer["weight"]))
        if inner.get("bias") is not None:
            bias = bias + outer["weight"] @ inner["bias"]
        if outer.get("bias") is not None:
            bias = bias + outer["bias"]
    call = network.calls_of(first)[0]
    edit = network.edit()
    edit.layers[second] = outer.but(weight=outer["weight"] @ inner["weight"], bias=bias)
    edit.rewire(call.value, call.inputs[0])
    edit.drop(call.value)
    return edit.network()


def _with_pair(network: Network, context: Context) -> Network | None:
    return network if _pairs(network) else split_linear(network, context)


def _with_batchnorm(network: Network, context: Context) -> Network | None:
    """Put a batch normalisation behind a linear or convolutional layer and undo it in that layer."""
    names = _own(network, "linear", "conv1d", "conv2d")
    if len(network.input_shape) > 1:
        # It normalises the units on the first axis; those of a linear layer for each word are on the last.
        at = values(network, torch.tensor(context.x))
        names = [n for n in names if network.layers[n].kind != "linear" or at[network.calls_of(n)[0].value].dim() == 2]
    if not names:
        return None
    source = context.source
    name = source.pick(*names)
    layer = network.layers[name]
    n = len(layer["weight"])
    eps = 2.0**-4
    deviation = np.array([source.pick(2.0, 1.0, 0.5) for _ in range(n)])
    gamma = np.array([source.pick(1.0, 2.0, -1.0) for _ in range(n)])
    mean = source.numbers(WHOLE, n)
    scale = gamma / deviation  # powers of two: everything below is exact in the small tier
    bias = layer.get("bias")
    # Without a bias the normalisation's own shift must vanish: beta = scale * mean.
    beta = scale * mean if bias is None else source.numbers(WHOLE, n)
    inner = layer["weight"] / scale.reshape(-1, *[1] * (layer["weight"].ndim - 1))
    shift = None if bias is None else (bias - beta) / scale + mean
    dims = {"linear": 1, "conv1d": 1, "conv2d": 2}[layer.kind]
    norm = Layer("batchnorm", weight=gamma, bias=beta, mean=mean, var=deviation**2 - eps, eps=eps, dims=dims)
    call = network.calls_of(name)[0]
    edit = network.edit()
    edit.layers[name] = layer.but(weight=inner, bias=shift)
    readers = [reader.value for reader in network.consumers(call.value)]
    if readers:
        value = edit.add(norm, call.value, before=readers[0])
        edit.rewire(call.value, value, only=readers)
    else:
        edit.add(norm, call.value)
    return edit.network()


def _fold_batchnorm(network: Network, context: Context) -> Network | None:
    """gamma (W h + b - mean) / sqrt(var + eps) + beta is affine in h."""
    for name in _own(network, "batchnorm"):
        norm, call = network.layers[name], network.calls_of(name)[0]
        before = next((c for c in network.calls if c.value == call.inputs[0]), None)
        if before is None or len(network.calls_of(before.layer)) > 1 or len(network.consumers(before.value)) > 1:
            continue
        layer = network.layers[before.layer]
        if layer.kind not in ("linear", "conv1d", "conv2d"):
            continue
        scale = norm["weight"] / np.sqrt(norm["var"] + norm["eps"])
        bias = layer.get("bias")
        shift = (np.zeros(len(scale)) if bias is None else bias) - norm["mean"]
        edit = network.edit()
        edit.layers[before.layer] = layer.but(
            weight=layer["weight"] * scale.reshape(-1, *[1] * (layer["weight"].ndim - 1)),
            bias=None if bias is None and not (shift * scale + norm["bias"]).any() else shift * scale + norm["bias"],
        )
        edit.rewire(call.value, before.value)
        edit.drop(call.value)
        return edit.network()
    return None


_ALL = frozenset({Has.DENSE, Has.CONV, Has.MAX, Has.PRODUCT})

SPLIT_LINEAR = Rewrite("split-linear", "W h = (W U^-1) (U h) for an invertible U", split_linear, _ALL)
FUSE_LINEAR = Rewrite("fuse-linear", "V (W h) = (V W) h", _fuse_linear, _ALL, _with_pair)
FOLD_BATCHNORM = Rewrite(
    "batchnorm-folding", "in eval mode a batch normalisation is affine", _fold_batchnorm, _ALL, _with_batchnorm
)
