"""The kinds of layer that pool: maxima and means over windows, overlapping, padded and dilated ones too."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Layer
from .kind import Decided, Kind, between, keywords

# -- maxima --------------------------------------------------------------------------------------------------


def _maxpool(dims: int) -> Kind:
    function = (F.max_pool1d, F.max_pool2d)[dims - 1]
    cls = (nn.MaxPool1d, nn.MaxPool2d)[dims - 1]

    def arguments(layer: Layer) -> dict[str, Any]:
        return {name: layer[name] for name in ("stride", "padding", "dilation") if layer.get(name) is not None}

    def deciders(layer: Layer, x: Tensor) -> Decided:
        per_dim = lambda name, default: _per_dim(layer.get(name, default), dims)  # noqa: E731
        kernel, dilation = per_dim("kernel", None), per_dim("dilation", 1)
        stride, padding = per_dim("stride", layer["kernel"]), per_dim("padding", 0)
        pads = [side for p in reversed(padding) for side in (p, p)]
        padded = F.pad(x, pads, value=-torch.inf)
        entries = []
        for offsets in itertools.product(*(range(k) for k in kernel)):
            view = padded
            for d in range(dims):
                length = padded.shape[2 + d]
                count = (length - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1
                start = offsets[d] * dilation[d]
                view = view.narrow(2 + d, start, (count - 1) * stride[d] + 1)
                view = view[(slice(None),) * (2 + d) + (slice(None, None, stride[d]),)]
            entries.append(view)
        return between(entries)

    return Kind(
        lambda layer, x: function(x, layer["kernel"], **arguments(layer)),
        lambda layer: f"nn.MaxPool{dims}d({layer['kernel']}{keywords(arguments(layer))})",
        "kink",
        lambda layer: cls(layer["kernel"], **arguments(layer)),
        deciders=deciders,
    )


def _per_dim(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * dims


def _avgpool(dims: int) -> Kind:
    function: Any = (F.avg_pool1d, F.avg_pool2d)[dims - 1]
    cls: Any = (nn.AvgPool1d, nn.AvgPool2d)[dims - 1]

    def arguments(layer: Layer) -> dict[str, Any]:
        return {name: layer[name] for name in ("stride", "padding") if layer.get(name) is not None}

    return Kind(
        lambda layer, x: function(x, layer["kernel"], **arguments(layer)),
        lambda layer: f"nn.AvgPool{dims}d({layer['kernel']}{keywords(arguments(layer))})",
        "affine",
        lambda layer: cls(layer["kernel"], **arguments(layer)),
    )


def _adaptive(dims: int) -> Kind:
    function: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d)[dims - 1]
    cls: Any = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[dims - 1]
    return Kind(
        lambda layer, x: function(x, layer["size"]),
        lambda layer: f"nn.AdaptiveAvgPool{dims}d({layer['size']})",
        "affine",
        lambda layer: cls(layer["size"]),
    )


POOLINGS: dict[str, Kind] = {
    "maxpool1d": _maxpool(1),
    "maxpool2d": _maxpool(2),
    "avgpool1d": _avgpool(1),
    "avgpool2d": _avgpool(2),
    "adaptiveavgpool1d": _adaptive(1),
    "adaptiveavgpool2d": _adaptive(2),
}
