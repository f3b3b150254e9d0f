"""Networks of the shapes that papers are about: pooled convolutions, blocks of them, word vectors, recurrence, attention."""

from __future__ import annotations

from typing import Any

from .draft import Draft
from .spec import Layer, Network


def convolved(draft: Draft, h: str) -> str:
    """One convolution with a drawn kernel, stride, padding and dilation that fit."""
    source = draft.source
    channels, *sizes = draft.at[h].shape[1:]
    stride, padding, dilation = source.pick(1, 1, 2), source.pick(0, 0, 1), source.pick(1, 1, 2)
    kernel = [min(source.pick(2, 1, 3), size) for size in sizes]
    if any(dilation * (k - 1) + 1 > size + 2 * padding for k, size in zip(kernel, sizes, strict=True)):
        dilation = 1
    n_out = source.pick(1, 2, 3)
    groups = channels if channels > 1 and n_out % channels == 0 and source.pick(False, False, True) else 1
    shape = (n_out, channels // groups, *kernel)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    plain: dict[str, Any] = {
        name: value for name, value in settings.items() if value != (0 if name == "padding" else 1)
    }
    return draft.weighted(h, f"conv{len(sizes)}d", shape, **plain)


def gap(draft: Draft) -> Network:
    """One or two convolutions with ReLU, the mean over all places of each channel, and a linear layer."""
    h = draft.put(Layer("relu"), convolved(draft, "x"))
    if draft.source.pick(False, True):
        h = draft.put(Layer("relu"), convolved(draft, h))
    return draft.logits(draft.put(Layer("gap"), h))


def vgg(draft: Draft) -> Network:
    """Blocks of 3x3 convolution, ReLU and 2x2 max-pooling; a linear layer, or two with a ReLU."""
    source, h = draft.source, "x"
    small = source.tier == "small"
    for _ in range(source.pick(2, 3) if draft.at["x"].shape[-1] == 8 else 2):
        channels = source.pick(1, 2) if small else source.pick(2, 3)
        pool = Layer("maxpool2d", kernel=2, stride=2)
        z = draft.weighted(h, "conv2d", (channels, draft.at[h].shape[1], 3, 3), padding=1, before=pool)
        h = draft.put(pool, draft.put(Layer("relu"), z))
    if source.pick(False, True):
        h = draft.put(Layer("relu"), draft.linear(draft.put(Layer("flatten"), h), source.width()))
    return draft.logits(h)


def embedding(draft: Draft) -> Network:
    """One layer for all words or a convolution over them, ReLU, the mean or the maximum over words, and a dense head."""
    source, width = draft.source, draft.source.width()
    words, axis = draft.at["x"].shape[1], 1
    if source.pick("for each word", "convolution") == "for each word":
        h = draft.put(Layer("relu"), draft.linear("x", width))
        if source.pick(False, False, True):
            h = draft.put(Layer("relu"), draft.linear(h, source.width()))
    else:
        turned, axis = draft.put(Layer("transpose"), "x"), 2
        shape = (width, draft.at["x"].shape[2], min(source.pick(2, 1, 3), words))
        h = draft.put(Layer("relu"), draft.weighted(turned, "conv1d", shape))
    h = draft.put(Layer(source.pick("mean", "amax"), axis=axis), h)
    if source.pick(False, False, True):
        h = draft.put(Layer("relu"), draft.linear(h, source.width()))
    return draft.logits(h)


def _gates(draft: Draft, step: int, state: str | None, shared: dict[str, str], units: int) -> tuple[str, str | None]:
    """What the input [B, D] of a step and the last state [B, H] (None: zeros) give to all gates, by shared layers."""
    x = draft.put(Layer("select", step=step), "x")
    into = draft.again("input", shared, x, "linear", (units, draft.at[x].shape[1]), soft=True)
    if state is None:
        return into, None
    shape = (units, draft.at[state].shape[1])
    return into, draft.again("state", shared, state, "linear", shape, soft=True, bias=False)


def lstm(draft: Draft) -> Network:
    """A long short-term memory, c' = f c + i g, h' = o tanh(c') from c = h = 0, and a linear layer on the last h."""
    shared: dict[str, str] = {}
    n = _units(draft)
    state = memory = None
    for step in range(draft.at["x"].shape[1]):
        into, back = _gates(draft, step, state, shared, 4 * n)
        z = into if back is None else draft.put(Layer("add"), into, back)
        parts = [draft.put(Layer("slice", start=k * n, stop=(k + 1) * n), z) for k in range(4)]
        kinds = ("sigmoid", "sigmoid", "tanh", "sigmoid")
        i, f, g, o = (draft.put(Layer(kind), part) for kind, part in zip(kinds, parts, strict=True))
        new = draft.put(Layer("mul"), i, g)
        memory = new if memory is None else draft.put(Layer("add"), draft.put(Layer("mul"), f, memory), new)
        state = draft.put(Layer("mul"), o, draft.put(Layer("tanh"), memory))
    assert state is not None
    return draft.logits(state, soft=True)


def gru(draft: Draft) -> Network:
    """Gated recurrent units, n = tanh(a + r b), h' = (1 - z) n + z h from h = 0, and a linear layer on the last h."""
    shared: dict[str, str] = {}
    n, state = _units(draft), None
    for step in range(draft.at["x"].shape[1]):
        into, back = _gates(draft, step, state, shared, 3 * n)
        reset = None if back is None else _gate(draft, 0, "sigmoid", into, back, n)  # no state, nothing to reset
        z = _gate(draft, 1, "sigmoid", into, back, n)
        candidate = _gate(draft, 2, "tanh", into, back, n, reset)
        kept = draft.put(Layer("affine", scale=-1.0, shift=1.0), z)
        new = draft.put(Layer("mul"), kept, candidate)
        state = new if state is None else draft.put(Layer("add"), new, draft.put(Layer("mul"), z, state))
    assert state is not None
    return draft.logits(state, soft=True)


def _gate(draft: Draft, k: int, activation: str, into: str, back: str | None, n: int, reset: str | None = None) -> str:
    """The k-th gate [B, n] of what input and state give to all gates; a reset gate lets through its share of the state's."""
    part = Layer("slice", start=k * n, stop=(k + 1) * n)
    z = draft.put(part, into)
    if back is not None:
        own = draft.put(part, back)
        z = draft.put(Layer("add"), z, own if reset is None else draft.put(Layer("mul"), reset, own))
    return draft.put(Layer(activation), z)


def _units(draft: Draft) -> int:
    return draft.source.pick(1, 2) if draft.source.tier == "small" else draft.source.pick(4, 8)


def recurrent(draft: Draft) -> Network:
    """One of the two cells over all steps."""
    return draft.source.pick(lstm, gru)(draft)


def attention(draft: Draft) -> Network:
    """x + softmax(Q K^T / sqrt(d)) V, layer normalisation, a GELU block with a skip, the mean over tokens."""
    source, d = draft.source, draft.at["x"].shape[2]
    queries, keys, values = (draft.linear("x", d, soft=True) for _ in range(3))
    scores = draft.put(Layer("matmul"), queries, draft.put(Layer("transpose"), keys))
    weights = draft.put(Layer("softmax"), draft.put(Layer("affine", scale=d**-0.5), scores))
    h = draft.put(Layer("add"), "x", draft.put(Layer("matmul"), weights, values))
    scale = source.numbers((1.0, 2.0, 0.5), d)
    if (scale == scale[0]).all():
        scale[-1] += 1.0  # normalised entries add up to zero: equal weights all the way make a constant of rounding
    # An epsilon of the order of the variances keeps slopes of order one, also where all entries of a token are equal.
    norm = Layer("layernorm", weight=scale, bias=source.numbers((0.0, 1.0, -1.0), d), eps=0.25)
    h = draft.put(norm, h)
    inner = draft.put(Layer("gelu"), draft.linear(h, source.width(), soft=True))
    h = draft.put(Layer("add"), h, draft.linear(inner, d, soft=True))
    return draft.logits(draft.put(Layer("mean", axis=1), h), soft=True)
