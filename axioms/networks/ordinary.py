"""Networks as people write them: every common activation, shared layers, means over windows, normalisation, quotients."""

from __future__ import annotations

import numpy as np

from .architectures import convolved
from .draft import Draft
from .spec import Layer, Network

# Powers of two keep products of small dyadic numbers exact.
_SLOPE = 0.25


def _activation(draft: Draft, h: str) -> Layer:
    """One of the activations that are piecewise linear or smooth, with settings that fit the units [B, n] of a value."""
    source, n = draft.source, draft.at[h].shape[1]
    kind = source.pick("leakyrelu", "prelu", "hardtanh", "abs", "elu", "silu")
    if kind == "leakyrelu":
        return Layer(kind, slope=_SLOPE)
    if kind == "prelu":
        return Layer(kind, weight=source.numbers((_SLOPE, 0.5, -0.5), source.pick(1, n)))
    if kind == "hardtanh":
        return Layer(kind, low=-1.0, high=source.pick(1.0, 2.0))
    return Layer(kind)


def activations(draft: Draft) -> Network:
    """One or more dense layers, each with an activation, or with two in a row."""
    source, h = draft.source, "x"
    for _ in range(source.layers()):
        h = draft.linear(h, source.width(), soft=True)
        h = draft.put(_activation(draft, h), h)
        if source.pick(False, False, False, True):
            h = draft.put(Layer("relu"), h)
    return draft.logits(h, soft=True)


def shared(draft: Draft) -> Network:
    """A dense layer and a ReLU that are called twice, or one ReLU behind two layers and around a skip."""
    width = draft.source.width()
    form = draft.source.pick("layer", "activation", "layer, with a skip")
    h = draft.put(Layer("relu"), draft.linear("x", width))
    relu = draft.sketch.calls[-1].layer
    if form == "activation":
        z = draft.linear(h, draft.source.width())
        return draft.logits(draft.call(relu, z))
    roles: dict[str, str] = {}
    first = draft.call(relu, draft.again("layer", roles, h, "linear", (width, width)))
    second = draft.call(relu, draft.again("layer", roles, first, "linear", (width, width)))
    return draft.logits(second if form == "layer" else draft.put(Layer("add"), first, second))


def avgpool(draft: Draft) -> Network:
    """The mean over windows (overlapping, padded) or over equal parts, with a ReLU before or after it, or both."""
    source, h = draft.source, "x"
    if source.pick(True, False):
        h = convolved(draft, h)
    order = source.pick("after", "before", "both", "alone")
    if order in ("after", "both"):
        h = draft.put(Layer("relu"), h)
    _, *sizes = draft.at[h].shape[1:]
    if source.pick("window", "parts") == "window":
        kernel = min(source.pick(2, 1, 3), *sizes)
        settings = {
            "stride": source.pick(kernel, 1, 2),
            **({"padding": 1} if kernel > 1 and source.pick(False, True) else {}),
        }
        h = draft.put(Layer(f"avgpool{len(sizes)}d", kernel=kernel, **settings), h)
    else:
        h = draft.put(Layer(f"adaptiveavgpool{len(sizes)}d", size=min(source.pick(1, 2), *sizes)), h)
    if order in ("before", "both"):
        h = draft.put(Layer("relu"), h)
    return draft.logits(h)


def normalised(draft: Draft) -> Network:
    """A dense layer or a convolution, a normalisation with drawn weights, and a ReLU before or after it."""
    source = draft.source
    flat = draft.at["x"].dim() == 2
    width = source.width() + 1  # a single entry normalises to its bias
    if flat:
        h = draft.linear("x", width, soft=True)
    else:
        _, channels, length = draft.at["x"].shape
        h = draft.weighted("x", "conv1d", (width, channels, min(2, length)), soft=True)
    if source.pick(False, True):
        h = draft.put(Layer("relu"), h)
    kind = source.pick("batchnorm", "layernorm" if flat else "groupnorm")
    weight, bias = source.numbers((1.0, 2.0, 0.5, -1.0), width), source.numbers((0.0, 1.0, -1.0), width)
    eps = 0.25  # of the order of the variances: slopes of order one, where all entries are equal too
    if kind == "batchnorm":
        mean, var = source.numbers((0.0, 1.0, -1.0), width), source.numbers((0.75, 3.75), width)
        layer = Layer(kind, weight=weight, bias=bias, mean=mean, var=var, eps=eps, dims=1)
    elif kind == "layernorm":
        layer = Layer(kind, weight=_unequal(weight), bias=bias, eps=eps)
    else:
        groups = source.pick(1, width) if draft.at[h].shape[2] > 1 else 1
        layer = Layer(kind, groups=groups, weight=_unequal(weight), bias=bias, eps=eps)
    h = draft.put(layer, h)
    if source.pick(True, False):
        h = draft.put(Layer("relu"), h)
    return draft.logits(h, soft=True)


def _unequal(weight: np.ndarray) -> np.ndarray:
    """Weights that are not all the same: normalised entries add up to zero, so equal ones may make a constant."""
    weight = np.array(weight)
    if (weight == weight[0]).all():
        weight[-1] += 1.0
    return weight


def ratios(draft: Draft) -> Network:
    """A quotient u / (1 + exp v), a softmax layer, or a log-softmax on the logits."""
    source = draft.source
    form = source.pick("quotient", "softmax", "log-softmax", "exponential")
    width = source.width() + (form == "softmax")  # the softmax of one number is 1
    h = draft.linear("x", width, soft=True)
    if form == "quotient":
        below = draft.put(Layer("affine", shift=1.0), draft.put(Layer("exp"), draft.linear("x", width, soft=True)))
        h = draft.put(Layer("div"), h, below)
    elif form == "softmax":
        h = draft.put(Layer("softmax"), h)
    elif form == "exponential":
        h = draft.put(Layer("exp"), h)
    else:
        h = draft.put(Layer("relu"), h)
    network = draft.logits(h, soft=True)
    if form != "log-softmax":
        return network
    edit = network.edit()
    edit.add(Layer("logsoftmax"), network.output)
    return edit.network()
