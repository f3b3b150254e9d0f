"""The shape of every value of a network given as data, and how its calls follow one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from .tensors import shape_of

Shape = list[int] | None

_UNARY = {
    "relu", "leakyrelu", "prelu", "hardtanh", "abs", "elu", "silu", "tanh", "sigmoid", "softplus", "gelu", "exp", "affine",
    "batchnorm", "softmax", "logsoftmax", "layernorm", "groupnorm",
}  # fmt: skip
_BINARY = {"add", "sub", "mul", "div", "maximum"}

# What takes parts of one value together, or takes it apart. Axes of a layer count the batch.
_CUT: dict[str, Callable[[Mapping[str, Any], list[int]], list[int]]] = {
    "flatten": lambda layer, shape: [prod(shape)],
    "adaptiveavgpool1d": lambda layer, shape: [shape[0], layer["size"]],
    "adaptiveavgpool2d": lambda layer, shape: [shape[0], layer["size"], layer["size"]],
    "gap": lambda layer, shape: [shape[0], 1, 1],
    "mean": lambda layer, shape: [size for axis, size in enumerate(shape, 1) if axis != layer["axis"]],
    "amax": lambda layer, shape: [size for axis, size in enumerate(shape, 1) if axis != layer["axis"]],
    "select": lambda layer, shape: shape[1:],
    "slice": lambda layer, shape: [*shape[:-1], layer["stop"] - layer["start"]],
    "transpose": lambda layer, shape: [shape[1], shape[0], *shape[2:]],
}


def shapes(network: Mapping[str, Any]) -> dict[str, Shape]:
    """The shape of each value without the batch, None where it is not known.

    A picture without a shape is better than one with a wrong shape: whatever is not understood gives None.
    """
    known: dict[str, Shape] = {"x": list(network["input_shape"])}
    for call in network["calls"]:
        layer = network["layers"].get(call["layer"], {"kind": "?"})
        try:
            known[call["value"]] = _shape(layer, [known.get(value) for value in call["inputs"]])
        except (TypeError, ValueError, IndexError, KeyError):
            known[call["value"]] = None
    return known


def depths(network: Mapping[str, Any]) -> dict[str, int]:
    """For each value the length of the longest way to it from the input."""
    depth = {"x": 0}
    for call in network["calls"]:
        depth[call["value"]] = 1 + max((depth.get(value, 0) for value in call["inputs"]), default=0)
    return depth


def _shape(layer: Mapping[str, Any], inputs: list[Shape]) -> Shape:
    kind, first = layer["kind"], inputs[0]
    if first is None or any(shape is None for shape in inputs):
        return None
    if kind == "linear" and len(inputs) == 1:
        outputs, features = shape_of(layer["weight"])
        return [*first[:-1], outputs] if features == first[-1] else None
    if kind in _UNARY and len(inputs) == 1:
        return first
    if kind in _BINARY:
        return first if all(shape == first for shape in inputs) else None
    if kind == "matmul" and len(inputs) == 2:
        second = inputs[1] or []
        return [*first[:-1], second[-1]] if len(first) == len(second) == 2 and first[-1] == second[0] else None
    if kind in _CUT and len(inputs) == 1:
        return _CUT[kind](layer, first)
    if kind == "permute" and len(first) == 1 and len(layer["order"]) == first[0]:
        return first
    if kind in ("conv1d", "conv2d", "conv3d"):
        channels, own, *window = shape_of(layer["weight"])
        if own * layer.get("groups", 1) != first[0] or channels % layer.get("groups", 1):
            return None
        return _windowed(layer, first, window, {"weight", "bias"}, channels)
    if kind in ("maxpool1d", "maxpool2d", "avgpool1d", "avgpool2d"):
        size = layer.get("kernel_size", layer.get("kernel"))
        window = list(size) if isinstance(size, list) else [size] * int(kind[-2])
        return _windowed(layer, first, window, {"kernel_size", "kernel"}, first[0])
    return None


def _windowed(layer: Mapping[str, Any], first: list[int], window: list[int], own: set[str], channels: int) -> Shape:
    """The shape after a convolution or a pooling; None where it has an option that is not known here."""
    if set(layer) - own - {"kind", "form", "stride", "padding", "dilation", "groups"} or len(first) != len(window) + 1:
        return None

    def each(key: str, default: list[int]) -> list[int]:
        value = layer.get(key, default)
        return list(value) if isinstance(value, list) else [value] * len(window)

    stride = each("stride", window if "pool" in layer["kind"] else [1] * len(window))
    padding, dilation = each("padding", [0] * len(window)), each("dilation", [1] * len(window))
    shape = [channels]
    for size, span, step, pad, wide in zip(first[1:], window, stride, padding, dilation, strict=True):
        shape.append((size + 2 * pad - wide * (span - 1) - 1) // step + 1)
    return shape
