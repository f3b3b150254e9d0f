"""The kinds of layer: what each computes, builds, prints, and where it has kinks. A new layer is one entry of KINDS."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UsageError
from .kind import Decided, Kind, between, load, tensor
from .kinds_of_sequences import SEQUENCES, bounded_product
from .spec import Layer


def kind_of(layer: Layer) -> Kind:
    """The entry of KINDS for a layer; raises UsageError for an unknown kind."""
    if layer.kind not in KINDS:
        raise UsageError(f"network: unknown kind of layer {layer.kind!r}; known: {', '.join(sorted(KINDS))}")
    return KINDS[layer.kind]


def is_module(layer: Layer) -> bool:
    """Whether the layer is written as an nn.Module (and not as a function or method in `forward`)."""
    return kind_of(layer).module is not None and layer.get("form", "module") == "module"


# -- affine layers -------------------------------------------------------------------------------------------


def _absolute_weights(layer: Layer) -> Layer:
    return layer.but(**{name: np.abs(layer[name]) for name in ("weight", "bias") if layer.get(name) is not None})


def _linear_module(layer: Layer) -> nn.Module:
    n_out, n_in = layer["weight"].shape
    return load(nn.Linear(n_in, n_out, bias=layer.get("bias") is not None, device="meta"), layer)


def _linear_source(layer: Layer) -> str:
    n_out, n_in = layer["weight"].shape
    return f"nn.Linear({n_in}, {n_out}{'' if layer.get('bias') is not None else ', bias=False'})"


_CONV_SETTINGS = ("stride", "padding", "dilation", "groups")


def _conv(dims: int) -> Kind:
    function = (F.conv1d, F.conv2d)[dims - 1]
    cls = (nn.Conv1d, nn.Conv2d)[dims - 1]

    def arguments(layer: Layer) -> dict[str, Any]:
        return {name: layer[name] for name in _CONV_SETTINGS if layer.get(name) is not None}

    def sizes(layer: Layer) -> tuple[int, int, Any]:
        n_out, per_group, *kernel = layer["weight"].shape
        return per_group * layer.get("groups", 1), n_out, tuple(kernel) if dims > 1 else kernel[0]

    def module(layer: Layer) -> nn.Module:
        conv = cls(*sizes(layer), bias=layer.get("bias") is not None, device="meta", **arguments(layer))
        return load(conv, layer)

    def source(layer: Layer) -> str:
        n_in, n_out, kernel = sizes(layer)
        extra = {**arguments(layer), **({} if layer.get("bias") is not None else {"bias": False})}
        return f"nn.Conv{dims}d({n_in}, {n_out}, {kernel}{_keywords(extra)})"

    def apply(layer: Layer, x: Tensor) -> Tensor:
        weight = tensor(layer, "weight", x)
        assert weight is not None
        return function(x, weight, tensor(layer, "bias", x), **arguments(layer))

    return Kind(apply, source, "affine", module, absolute=_absolute_weights)


def _batchnorm_module(layer: Layer) -> nn.Module:
    cls = (nn.BatchNorm1d, nn.BatchNorm2d)[layer.get("dims", 1) - 1]
    return load(cls(len(layer["mean"]), eps=layer["eps"], device="meta"), layer)


def _batchnorm_apply(layer: Layer, x: Tensor) -> Tensor:
    return F.batch_norm(
        x, tensor(layer, "mean", x), tensor(layer, "var", x), tensor(layer, "weight", x), tensor(layer, "bias", x),
        eps=layer["eps"],
    )  # fmt: skip


def _batchnorm_absolute(layer: Layer) -> Layer:
    scale = np.abs(layer["weight"]) / np.sqrt(layer["var"] + layer["eps"])
    return layer.but(
        weight=np.abs(layer["weight"]), bias=np.abs(layer["bias"]) + scale * np.abs(layer["mean"]),
        mean=np.zeros_like(layer["mean"]),
    )  # fmt: skip


def _affine_source(layer: Layer) -> str:
    parts = ["{0}"]
    for name, sign in (("scale", "*"), ("shift", "+")):
        value = layer.get(name)
        if value is not None:
            parts.append(f"{sign} {float(value)!r}" if value.ndim == 0 else f"{sign} torch.tensor({value.tolist()})")
    return " ".join(parts)


def _affine_apply(layer: Layer, x: Tensor) -> Tensor:
    scale, shift = tensor(layer, "scale", x), tensor(layer, "shift", x)
    x = x if scale is None else x * scale
    return x if shift is None else x + shift


def _permute(layer: Layer, x: Tensor) -> Tensor:
    return x.flatten(1)[:, list(layer["order"])].reshape(x.shape)


# -- activations ---------------------------------------------------------------------------------------------


def _activation(
    function: Callable[[Tensor], Tensor],
    cls: Callable[[], nn.Module],
    module: str,
    functional: str,
    role: str,
    *,
    saturates: bool = False,
) -> Kind:
    def source(layer: Layer) -> str:
        return module if layer.get("form", "module") == "module" else functional

    # Every activation here has |a(z)| <= |z| + 1 and a slope of at most 1.13: for bounds, z -> |z| + 1 serves.
    return Kind(
        lambda layer, z: function(z),
        source,
        role,
        lambda layer: cls(),
        deciders=(lambda layer, z: (z.flatten(1), torch.zeros_like(z.flatten(1)))) if role == "kink" else None,
        absolute=lambda layer: Layer("affine", shift=1.0),
        # Its values stay below 1; without that a product of gates over a few time steps has no useful bound.
        bounded=(lambda layer, sizes, sums: (torch.ones_like(sizes[0]), sums[0] + 1.0)) if saturates else None,
    )


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
        lambda layer: f"nn.MaxPool{dims}d({layer['kernel']}{_keywords(arguments(layer))})",
        "kink",
        lambda layer: cls(layer["kernel"], **arguments(layer)),
        deciders=deciders,
    )


def _per_dim(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * dims


def _keywords(settings: dict[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in settings.items())


KINDS: dict[str, Kind] = {
    "linear": Kind(
        lambda layer, x: F.linear(x, tensor(layer, "weight", x), tensor(layer, "bias", x)),  # type: ignore[arg-type]
        _linear_source,
        "affine",
        _linear_module,
        absolute=_absolute_weights,
    ),
    "conv1d": _conv(1),
    "conv2d": _conv(2),
    "batchnorm": Kind(
        _batchnorm_apply,
        lambda layer: f"nn.BatchNorm{layer.get('dims', 1)}d({len(layer['mean'])}, eps={layer['eps']!r})",
        "affine",
        _batchnorm_module,
        absolute=_batchnorm_absolute,
    ),
    "flatten": Kind(lambda layer, x: x.flatten(1), lambda layer: "nn.Flatten()", "affine", lambda layer: nn.Flatten()),
    "gap": Kind(
        lambda layer, x: F.adaptive_avg_pool2d(x, 1),
        lambda layer: "nn.AdaptiveAvgPool2d(1)",
        "affine",
        lambda layer: nn.AdaptiveAvgPool2d(1),
    ),
    "affine": Kind(
        _affine_apply,
        _affine_source,
        "affine",
        absolute=lambda layer: layer.but(
            **{name: np.abs(layer[name]) for name in ("scale", "shift") if layer.get(name) is not None}
        ),
    ),
    "permute": Kind(
        _permute, lambda layer: f"{{0}}.flatten(1)[:, {list(layer['order'])}].reshape({{0}}.shape)", "affine"
    ),
    "add": Kind(lambda layer, a, b: a + b, lambda layer: "{0} + {1}", "affine"),
    "sub": Kind(lambda layer, a, b: a - b, lambda layer: "{0} - {1}", "affine", absolute=lambda layer: Layer("add")),
    "mul": Kind(lambda layer, a, b: a * b, lambda layer: "{0} * {1}", "product", bounded=bounded_product(torch.mul)),
    "maximum": Kind(
        lambda layer, a, b: torch.maximum(a, b),
        lambda layer: "torch.maximum({0}, {1})",
        "kink",
        deciders=lambda layer, a, b: between([a, b]),
    ),
    "relu": _activation(F.relu, nn.ReLU, "nn.ReLU()", "torch.relu({0})", "kink"),
    "tanh": _activation(torch.tanh, nn.Tanh, "nn.Tanh()", "torch.tanh({0})", "smooth", saturates=True),
    "sigmoid": _activation(torch.sigmoid, nn.Sigmoid, "nn.Sigmoid()", "torch.sigmoid({0})", "smooth", saturates=True),
    # The threshold is raised so that softplus(z) = z + softplus(-z) holds to rounding at any z.
    "softplus": _activation(
        lambda z: F.softplus(z, threshold=40.0),
        lambda: nn.Softplus(threshold=40.0),
        "nn.Softplus(threshold=40.0)",
        "F.softplus({0}, threshold=40.0)",
        "smooth",
    ),
    "gelu": _activation(F.gelu, nn.GELU, "nn.GELU()", "F.gelu({0})", "smooth"),
    "maxpool1d": _maxpool(1),
    "maxpool2d": _maxpool(2),
    **SEQUENCES,
}
