"""The families: named sets of networks. A new family is one function and one entry of FAMILIES."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ...errors import UsageError
from . import architectures, ordinary
from .architectures import convolved
from .draft import Draft
from .sources import Source
from .spec import Layer, Network


class Has(Enum):
    """What the networks of a family contain; a member is here because a rewrite or an axiom asks for it."""

    DENSE = auto()
    CONV = auto()
    PRODUCT = auto()
    """Products or quotients of values that depend on the input."""
    MAX = auto()
    """A maximum of several values."""
    ACTIVATED = auto()
    """An activation, of whatever kind."""
    RELU = auto()
    SMOOTH = auto()
    """Tanh, sigmoid, softplus or GELU."""
    ONLY_GELU = auto()
    """No activation but GELU, which has no form that overwrites what it reads."""
    NESTED = auto()
    """Room for the nested identity: dense ReLU layers in a row, with biases."""
    PIECEWISE = auto()
    """Nothing but what is piecewise linear."""
    SHARED = auto()
    """A layer with weights is called more than once."""
    TIED = auto()
    """An activation module is called more than once."""


@dataclass(frozen=True)
class Family:
    """A named set of networks.

    shape      draws the input shape (without batch), with at least so many features
    write      writes the network into a draft
    has        what its networks contain, by which rewrites and axioms know whether they apply
    soft       inputs and weights small enough for saturating units
    distinct   samples without equal features, so that maxima over inputs have no ties
    positive   no feature of a sample or baseline is negative, and each sample has one that is not zero
    scales     inputs and outputs may be large or tiny, and pre-activations next to a kink
    """

    name: str
    summary: str
    shape: Callable[[Source, int], tuple[int, ...]]
    write: Callable[[Draft], Network]
    has: frozenset[Has] = frozenset()
    soft: bool = False
    distinct: bool = False
    positive: bool = False
    scales: bool = True


def _flat(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.features(at_least),)


def _signal(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.pick(1, 2), source.length(max(2, at_least)))


def _image(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.pick(1, 2), source.length(2), source.length(max(2, (at_least + 1) // 2)))


def _flat_or_signal(source: Source, at_least: int) -> tuple[int, ...]:
    return source.pick(_flat, _signal)(source, at_least)


def _signal_or_image(source: Source, at_least: int) -> tuple[int, ...]:
    return source.pick(_signal, _image)(source, at_least)


def _volume(source: Source, at_least: int) -> tuple[int, ...]:
    return (1, 2, source.length(2), 2 if at_least <= 8 else source.length(2))


def _places(source: Source, at_least: int) -> tuple[int, ...]:
    return source.pick(_signal, _image, _signal, _image, _volume)(source, at_least)


def _square(source: Source, at_least: int) -> tuple[int, ...]:
    channels, side = (source.pick(1, 1, 2), 4) if source.tier == "small" else (1, source.pick(6, 6, 8))
    return (channels, side, side)


def _words(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.length(max(2, at_least)), source.pick(1, 2, 3) if source.tier == "small" else source.pick(4, 8))


def _steps(source: Source, at_least: int) -> tuple[int, ...]:
    steps = source.pick(2, 3)
    features = source.pick(1, 2) if source.tier == "small" else source.pick(4, 8)
    return (steps, max(features, -(-at_least // steps)))


def _tokens(source: Source, at_least: int) -> tuple[int, ...]:
    return (source.pick(2, 3), source.pick(2, 3)) if source.tier == "small" else (source.pick(4, 6), 8)


def _linear(draft: Draft) -> Network:
    h = "x"
    for _ in range(draft.source.pick(0, 1, 2)):
        h = draft.linear(h, draft.source.width())
    if draft.source.pick(False, False, True):  # two branches that meet: still a linear graph
        width = draft.source.width()
        h = draft.put(Layer("add"), draft.linear("x", width), draft.linear(h, width))
    return draft.logits(h)


def _dense(
    activations: Sequence[str], *, bias: bool = True, soft: bool = False, **form: str
) -> Callable[[Draft], Network]:
    def write(draft: Draft) -> Network:
        activation = draft.source.pick(*activations)
        h = "x"
        for _ in range(draft.source.layers()):
            h = draft.linear(h, draft.source.width(), bias=bias, soft=soft)
            h = draft.put(Layer(activation, **form), h)
        return draft.logits(h, bias=bias, soft=soft)

    return write


def _residual(draft: Draft) -> Network:
    """A skip around two layers, with or without a ReLU on the sum, or around the ReLU alone: z + ReLU(z)."""
    width = draft.source.width()
    h = draft.put(Layer("relu"), draft.linear("x", width))
    z = draft.linear(h, width)
    form = draft.source.pick("around the activation", "around two layers", "activated sum")
    if form == "around the activation":
        return draft.logits(draft.put(Layer("add"), z, draft.put(Layer("relu"), z)))
    total = draft.put(Layer("add"), h, draft.linear(draft.put(Layer("relu"), z), width))
    return draft.logits(total if form == "around two layers" else draft.put(Layer("relu"), total))


def _stacked(draft: Draft) -> Network:
    h = draft.linear("x", draft.source.width(), soft=True)
    for activation in draft.source.pick(("relu", "tanh"), ("tanh", "relu"), ("relu", "relu"), ("sigmoid", "tanh")):
        h = draft.put(Layer(activation), h)
    return draft.logits(h, soft=True)


CLEARANCE = 0.5


def _clear(draft: Draft) -> Network:
    draft.clear = CLEARANCE
    return _dense(["relu"])(draft)


def _positive(draft: Draft) -> Network:
    draft.positive = True
    return _dense(["relu"])(draft)


def _conv(draft: Draft) -> Network:
    h = draft.put(Layer("relu"), convolved(draft, "x"))
    if draft.source.pick(False, False, True):
        h = draft.put(Layer("relu"), convolved(draft, h))
    return draft.logits(h)


def _maxpool(draft: Draft) -> Network:
    source = draft.source
    h = "x"
    if source.pick(False, True):
        h = convolved(draft, h)
    activation = source.pick("none", "before", "after")
    if activation == "before":
        h = draft.put(Layer("relu"), h)
    _, *sizes = draft.at[h].shape[1:]
    kernel = min(source.pick(2, 2, 3), *sizes)
    # A stride below the kernel makes windows overlap; a padded place never wins.
    settings = {"stride": source.pick(kernel, 1, 1, 2)}
    if source.pick(False, True):
        settings["padding"] = kernel // 2
    if source.pick(False, False, False, True) and all(2 * (kernel - 1) < size for size in sizes):
        settings["dilation"] = 2
    h = draft.put(Layer(f"maxpool{len(sizes)}d", kernel=kernel, **settings), h)
    if activation == "after":
        h = draft.put(Layer("relu"), h)
    return draft.logits(h)


def _max_of_branches(draft: Draft) -> Network:
    width = draft.source.width()
    h = draft.put(Layer("maximum"), draft.linear("x", width), draft.linear("x", width))
    return draft.logits(h)


def _product(draft: Draft) -> Network:
    source = draft.source
    width = source.width()
    factors = []
    for _ in range(2):
        h = draft.linear("x", width)
        factors.append(draft.put(Layer("relu"), h) if source.pick(False, True) else h)
    h = draft.put(Layer("mul"), *factors)
    if source.pick(False, False, True):
        h = draft.put(Layer("add"), h, draft.linear("x", width))
    return draft.logits(h)


_DENSE_RELU = frozenset({Has.ACTIVATED, Has.DENSE, Has.RELU, Has.PIECEWISE})
_CONV_RELU = frozenset({Has.ACTIVATED, Has.CONV, Has.RELU, Has.PIECEWISE})
_DENSE_SMOOTH = frozenset({Has.ACTIVATED, Has.DENSE, Has.SMOOTH})

_DRAWN = (
    Family(
        "relu", "dense networks with ReLU and biases", _flat, _dense(["relu"]),
        has=_DENSE_RELU | {Has.NESTED},
    ),
    Family(
        "linear", "linear graphs: dense layers with biases, also in a row and in branches that add up", _flat, _linear,
        has=frozenset({Has.DENSE, Has.PIECEWISE}),
    ),
    Family(
        "relu-nobias", "dense networks with ReLU and no bias: positively homogeneous", _flat,
        _dense(["relu"], bias=False), has=_DENSE_RELU,
    ),
    Family(
        "smooth", "dense networks with tanh, sigmoid, softplus or GELU, with biases", _flat,
        _dense(["tanh", "sigmoid", "softplus", "gelu"], soft=True), has=_DENSE_SMOOTH, soft=True,
    ),
    Family(
        "odd-nobias", "dense networks with tanh and no bias: odd functions, f(0) = 0", _flat,
        _dense(["tanh"], bias=False, soft=True), has=_DENSE_SMOOTH, soft=True,
    ),
    Family(
        "conv", "1-d, 2-d and 3-d convolutions with ReLU, stride, padding, dilation and groups, and a dense head",
        _places, _conv, has=_CONV_RELU,
    ),
    Family(
        "maxpool", "max-pooling (1-d, 2-d, overlapping, padded, dilated), on inputs or convolutions, before or after ReLU",
        _signal_or_image, _maxpool, has=frozenset({Has.MAX, Has.PIECEWISE}), distinct=True,
    ),
    Family(
        "maximum", "maxima of two dense branches", _flat, _max_of_branches, has=frozenset({Has.MAX, Has.PIECEWISE}),
        distinct=True,
    ),
    Family(
        "relu-clear", f"dense ReLU networks whose linear outputs all keep {CLEARANCE} away from zero at the samples", _flat,
        _clear, has=_DENSE_RELU, scales=False,
    ),
    Family(
        "residual", "dense ReLU networks with skips: around layers, around an activation, activated sums", _flat, _residual,
        has=_DENSE_RELU,
    ),
    Family(
        "functional", "dense networks whose ReLUs are functions in the forward pass, not modules", _flat,
        _dense(["relu"], form="functional"), has=_DENSE_RELU,
    ),
    Family(
        "stacked", "dense networks with two activations in a row (ReLU, tanh, sigmoid)", _flat, _stacked,
        has=frozenset({Has.ACTIVATED, Has.DENSE}), soft=True,
    ),
    Family(
        "relu-positive", "dense ReLU networks without positive biases, on inputs >= 0, with target logits > 0", _flat,
        _positive, has=_DENSE_RELU, positive=True,
    ),
    Family(
        "gap", "2-d convolutions with ReLU, global average pooling and a linear layer (the CAM architecture)", _image,
        architectures.gap, has=_CONV_RELU,
    ),
    Family(
        "vgg", "blocks of 3x3 convolution, ReLU and 2x2 max-pooling, and a dense head", _square, architectures.vgg,
        has=_CONV_RELU | {Has.MAX}, distinct=True,
    ),
    Family(
        "embedding", "sequences of word vectors: a layer for each word or a convolution, ReLU, mean or maximum, a dense head",
        _words, architectures.embedding, has=_DENSE_RELU, distinct=True,
    ),
    Family(
        "recurrent", "LSTM and GRU cells over a few time steps, written with visible gates, and a linear layer", _steps,
        architectures.recurrent, has=_DENSE_SMOOTH | {Has.PRODUCT, Has.SHARED}, soft=True,
    ),
    Family(
        "attention", "one block of softmax attention with layer normalisation and GELU, the mean over tokens, a linear layer",
        _tokens, architectures.attention, has=_DENSE_SMOOTH | {Has.ONLY_GELU, Has.PRODUCT}, soft=True,
    ),
    Family(
        "activations", "dense networks with LeakyReLU, PReLU, Hardtanh, |z|, ELU or SiLU, also two in a row", _flat,
        ordinary.activations, has=frozenset({Has.ACTIVATED, Has.DENSE}), soft=True,
    ),
    Family(
        "shared", "dense ReLU networks in which one layer, or one activation module, is called twice", _flat, ordinary.shared,
        has=frozenset({Has.ACTIVATED, Has.RELU, Has.PIECEWISE, Has.SHARED, Has.TIED}),
    ),
    Family(
        "avgpool", "average and adaptive average pooling beside ReLU, on inputs or convolutions, and a dense head",
        _signal_or_image, ordinary.avgpool, has=_CONV_RELU,
    ),
    Family(
        "normalised", "batch, layer and group normalisation in evaluation, beside ReLU", _flat_or_signal, ordinary.normalised,
        has=frozenset({Has.ACTIVATED, Has.DENSE}), soft=True,
    ),
    Family(
        "ratios", "exponentials, quotients, softmax and log-softmax as layers", _flat, ordinary.ratios,
        has=frozenset({Has.PRODUCT}), soft=True,
    ),
    Family(
        "product", "products of two branches, with or without ReLU, plus a linear branch", _flat, _product,
        has=frozenset({Has.PRODUCT}),
    ),
)  # fmt: skip

ANY = "any"
MODEL = "model"

FAMILIES: dict[str, Family] = {family.name: family for family in _DRAWN}
SUMMARIES = {
    **{family.name: family.summary for family in _DRAWN},
    ANY: "a network of any of the families above",
    MODEL: "your own network, given by --model and --data",
}


def members(name: str) -> tuple[Family, ...]:
    """The families that a name (with options in brackets or without) draws from: itself, or all of them for "any".

    Raises UsageError for an unknown name, and for "model", which is given and not drawn.
    """
    head = name.partition("(")[0]
    if head == ANY:
        return _DRAWN
    if head not in FAMILIES:
        raise UsageError(f"unknown family {name!r}; known: {', '.join(SUMMARIES)}")
    return (FAMILIES[head],)
