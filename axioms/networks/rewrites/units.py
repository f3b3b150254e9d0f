"""Rewrites of hidden units: permutation, rescaling, splitting, and units that contribute nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..build import values
from ..families import Has
from ..layers.kinds import kind_of
from ..sources import WEIGHTS
from ..spec import Layer, Network
from .affine import split_linear
from .base import Context, Rewrite, Step

_WEIGHTED = ("linear", "conv1d", "conv2d", "conv3d")
_POOLS = ("maxpool1d", "maxpool2d", "avgpool1d", "avgpool2d", "adaptiveavgpool1d", "adaptiveavgpool2d", "gap")
_HOMOGENEOUS = ("relu", "leakyrelu", "abs", *_POOLS, "mean", "amax", "flatten")
_UNITWISE = (*_HOMOGENEOUS, "tanh", "sigmoid", "softplus", "gelu", "elu", "silu", "hardtanh")


@dataclass(frozen=True)
class Block:
    """Hidden units between two weighted layers: producer -> unit-wise layers -> consumer."""

    producer: str
    between: tuple[str, ...]
    consumer: str
    units: int
    spread: int
    """How many columns of the consumer one unit feeds (more than one behind a flatten)."""


def blocks(network: Network) -> Iterator[Block]:
    """All blocks of units that nobody else reads."""
    for call in network.calls:
        layer = network.layers[call.layer]
        if layer.kind not in _WEIGHTED or layer.get("groups", 1) != 1 or len(network.calls_of(call.layer)) > 1:
            continue
        kinds: list[str] = []
        value = call.value
        while True:
            readers = network.consumers(value)
            if len(readers) != 1 or len(network.calls_of(readers[0].layer)) > 1:
                break
            reader = network.layers[readers[0].layer]
            if reader.kind in _WEIGHTED and reader.get("groups", 1) == 1:
                units = len(layer["weight"])
                yield Block(call.layer, tuple(kinds), readers[0].layer, units, reader["weight"].shape[1] // units)
                break
            if reader.kind not in _UNITWISE or not _keeps_units(layer, reader):
                break
            kinds.append(reader.kind)
            value = readers[0].value


def _keeps_units(producer: Layer, reader: Layer) -> bool:
    """Whether a mean or maximum is over words or places, and not over the units of the producer (last axis, or first)."""
    return reader.kind not in ("mean", "amax") or reader["axis"] == (1 if producer.kind == "linear" else 2)


def _rebuilt(
    network: Network, block: Block, index: Sequence[int], into: Sequence[float], out: Sequence[float]
) -> Network:
    """Take the units of a block by index, scaling what goes into each and what comes out of each."""
    producer, consumer = network.layers[block.producer], network.layers[block.consumer]
    rows = np.asarray(into).reshape(-1, *[1] * (producer["weight"].ndim - 1))
    changed = producer.but(weight=producer["weight"][list(index)] * rows)
    if producer.get("bias") is not None:
        changed = changed.but(bias=producer["bias"][list(index)] * np.asarray(into))
    weight = consumer["weight"]
    grouped = weight.reshape(len(weight), block.units, block.spread, *weight.shape[2:])[:, list(index)]
    grouped = grouped * np.asarray(out).reshape(1, -1, *[1] * (grouped.ndim - 2))
    columns = grouped.reshape(len(weight), len(index) * block.spread, *weight.shape[2:])
    return network.with_layers(**{block.producer: changed, block.consumer: consumer.but(weight=columns)})


def _chosen(network: Network, context: Context, only: Sequence[str] | None = None) -> Block | None:
    found = [b for b in blocks(network) if only is None or all(kind in only for kind in b.between)]
    return context.source.pick(*found) if found else None


def _with_block(network: Network, context: Context) -> Network | None:
    """A single linear layer has no hidden units: split it in two."""
    return network if any(blocks(network)) else split_linear(network, context)


def _permute(network: Network, context: Context) -> Network | None:
    found = [block for block in blocks(network) if block.units > 1]
    if not found:
        return None
    block = context.source.pick(*found)
    shift = context.source.pick(*range(1, block.units))
    ones = [1.0] * block.units
    return _rebuilt(network, block, [(k + shift) % block.units for k in range(block.units)], ones, ones)


def _rescale(network: Network, context: Context) -> Network | None:
    block = _chosen(network, context, _HOMOGENEOUS)
    if block is None:
        return None
    scales = [context.source.pick(2.0, 0.5, 4.0) for _ in range(block.units)]
    return _rebuilt(network, block, range(block.units), scales, [1 / c for c in scales])


def _split(*shares: float) -> Step:
    """A unit as two copies of it, one with a drawn share of its outgoing weights and one with the rest."""

    def apply(network: Network, context: Context) -> Network | None:
        block = _chosen(network, context)
        if block is None:
            return None
        unit = context.source.pick(*range(block.units))
        share = context.source.pick(*shares)
        out = [1.0] * block.units + [1 - share]
        out[unit] = share
        return _rebuilt(network, block, [*range(block.units), unit], [1.0] * (block.units + 1), out)

    return apply


def _grown(network: Network, block: Block, row: np.ndarray, bias: float | None, column: np.ndarray) -> Network:
    """Append a unit with the given incoming weights, bias and outgoing weights."""
    grown = _rebuilt(network, block, [*range(block.units), 0], [1.0] * (block.units + 1), [1.0] * (block.units + 1))
    producer, consumer = grown.layers[block.producer], grown.layers[block.consumer]
    weight = np.array(producer["weight"])
    weight[-1] = row
    shift = producer.get("bias")
    if bias is not None:
        shift = np.zeros(len(weight)) if shift is None else np.array(shift)
        shift[-1] = bias
    columns = np.array(consumer["weight"])
    columns[:, -block.spread :] = column.reshape(columns[:, -block.spread :].shape)
    return grown.with_layers(
        **{block.producer: producer.but(weight=weight, bias=shift), block.consumer: consumer.but(weight=columns)}
    )


def _incoming(network: Network, block: Block, context: Context) -> np.ndarray:
    shape = network.layers[block.producer]["weight"].shape[1:]
    return context.source.numbers(WEIGHTS[:-1], math.prod(shape)).reshape(shape)


def _outgoing(network: Network, block: Block) -> tuple[int, ...]:
    weight = network.layers[block.consumer]["weight"]
    return (len(weight), block.spread, *weight.shape[2:])


def _dead(network: Network, context: Context) -> Network | None:
    block = _chosen(network, context)
    if block is None:
        return None
    has_bias = network.layers[block.producer].get("bias") is not None
    # The new unit's bias is a quarter of the smallest rung in use: off every kink that the ladder avoids.
    bias = 2.0**-8 if has_bias else None
    return _grown(network, block, _incoming(network, block, context), bias, np.zeros(_outgoing(network, block)))


def _never_active(network: Network, context: Context) -> Network | None:
    found = [b for b in blocks(network) if b.between and b.between[0] == "relu"]
    if not found:
        return None
    block = context.source.pick(*found)
    row = _incoming(network, block, context)
    reach = _largest_input(network, block, context.bound)
    bias = -math.ceil(float(np.abs(row).sum()) * reach + 1.0)
    column = context.source.numbers(WEIGHTS[:-1], math.prod(_outgoing(network, block)))
    return _grown(network, block, row, float(bias), column)


def _largest_input(network: Network, block: Block, bound: float) -> float:
    """A bound on what the producer of a block reads, for |x_i| <= bound: the values of the magnitude network."""
    layers = {name: kind_of(layer).absolute(layer) for name, layer in network.layers.items()}
    twin = Network(network.input_shape, layers, network.calls)
    corner = torch.full((1, *network.input_shape), bound, dtype=torch.float64)
    read = network.calls_of(block.producer)[0].inputs[0]
    return float(values(twin, corner)[read].max())


_HIDDEN = frozenset({Has.DENSE, Has.CONV})
_RECTIFIED = frozenset({Has.RELU})

PERMUTE = Rewrite("permute", "a sum does not depend on the order of its terms", _permute, _HIDDEN, _with_block)
RESCALE = Rewrite("rescale", "ReLU(c z) = c ReLU(z) for c > 0, and so for max", _rescale, _RECTIFIED)
SPLIT = Rewrite(
    "split",
    "v h = (lambda v) h + ((1 - lambda) v) h, with lambda in [0, 1]: both copies keep the sign of v",
    _split(0.5, 0.25),
    _HIDDEN,
    _with_block,
)
SPLIT_SIGNED = Rewrite(
    "split-signed",
    "v h = (lambda v) h + ((1 - lambda) v) h, with lambda outside of [0, 1]: one copy turns the sign of v",
    _split(2.0, -1.0, 3.0),
    _HIDDEN,
    _with_block,
)
DEAD = Rewrite("dead", "a unit with no outgoing weight is not heard", _dead, _HIDDEN, _with_block)
NEVER_ACTIVE = Rewrite(
    "never-active",
    "a ReLU unit with bias below -sum |w| max |h| is zero on the box that holds all inputs in use",
    _never_active,
    _RECTIFIED,
)
