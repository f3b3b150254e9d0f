"""The kinds of layer: what each computes, builds, prints, and where it has kinks. A new layer is one entry of KINDS."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....errors import UsageError
from ..spec import Layer
from .activations import ACTIVATIONS
from .kind import Form, Kind, between, keywords, load, tensor
from .norms import NORMS, bounded_product, bounded_ratio
from .pooling import POOLINGS
from .sequences import SEQUENCES
from .skeletons import skeleton


def kind_of(layer: Layer) -> Kind:
    """The entry of KINDS for a layer; raises UsageError for an unknown kind."""
    if layer.kind not in KINDS:
        raise UsageError(f"network: unknown kind of layer {layer.kind!r}; known: {', '.join(sorted(KINDS))}")
    return KINDS[layer.kind]


def is_module(layer: Layer) -> bool:
    """Whether the layer is written as an nn.Module (and not as a function or method in `forward`)."""
    return kind_of(layer).module is not None and layer.get("form", "module") in ("module", "in-place")


def form_of(layer: Layer) -> Form:
    """How a layer that is no module is written."""
    kind = kind_of(layer)
    known = kind.forms.get(layer.get("form", ""))
    return known or Form(lambda layer, weights, *inputs: kind.apply(layer, *inputs), kind.source)


# -- affine layers -------------------------------------------------------------------------------------------


def _absolute_weights(layer: Layer) -> Layer:
    return layer.but(**{name: np.abs(layer[name]) for name in ("weight", "bias") if layer.get(name) is not None})


def _linear_module(layer: Layer) -> nn.Module:
    n_out, n_in = layer["weight"].shape
    return load(skeleton(nn.Linear, n_in, n_out, bias=layer.get("bias") is not None), layer)


def _linear_source(layer: Layer) -> str:
    n_out, n_in = layer["weight"].shape
    return f"nn.Linear({n_in}, {n_out}{'' if layer.get('bias') is not None else ', bias=False'})"


def _bare_linear(layer: Layer, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    out = x @ weights["weight"].T
    return out + weights["bias"] if "bias" in weights else out


def _bare_linear_source(layer: Layer) -> str:
    return "{0} @ {weight}.T + {bias}" if "bias" in layer.settings else "{0} @ {weight}.T"


_CONV_SETTINGS = ("stride", "padding", "dilation", "groups")


def _conv(dims: int) -> Kind:
    function = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    cls = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]

    def arguments(layer: Layer) -> dict[str, Any]:
        return {name: layer[name] for name in _CONV_SETTINGS if layer.get(name) is not None}

    def sizes(layer: Layer) -> tuple[int, int, Any]:
        n_out, per_group, *kernel = layer["weight"].shape
        return per_group * layer.get("groups", 1), n_out, tuple(kernel) if dims > 1 else kernel[0]

    def module(layer: Layer) -> nn.Module:
        return load(skeleton(cls, *sizes(layer), bias=layer.get("bias") is not None, **arguments(layer)), layer)

    def source(layer: Layer) -> str:
        n_in, n_out, kernel = sizes(layer)
        extra = {**arguments(layer), **({} if layer.get("bias") is not None else {"bias": False})}
        return f"nn.Conv{dims}d({n_in}, {n_out}, {kernel}{keywords(extra)})"

    def apply(layer: Layer, x: Tensor) -> Tensor:
        weight = tensor(layer, "weight", x)
        assert weight is not None
        return function(x, weight, tensor(layer, "bias", x), **arguments(layer))

    def bare(layer: Layer, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return function(x, weights["weight"], weights.get("bias"), **arguments(layer))

    def bare_source(layer: Layer) -> str:
        bias = ", {bias}" if layer.get("bias") is not None else ""
        return f"F.conv{dims}d({{0}}, {{weight}}{bias}{keywords(arguments(layer))})"

    forms = {"bare": Form(bare, bare_source, ("weight", "bias"))}
    return Kind(apply, source, "affine", module, absolute=_absolute_weights, forms=forms)


def _batchnorm_module(layer: Layer) -> nn.Module:
    cls = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[layer.get("dims", 1) - 1]
    module = load(skeleton(cls, len(layer["mean"]), eps=layer["eps"]), layer)
    module.register_buffer("num_batches_tracked", torch.tensor(0))
    return module


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


KINDS: dict[str, Kind] = {
    "linear": Kind(
        lambda layer, x: F.linear(x, tensor(layer, "weight", x), tensor(layer, "bias", x)),  # type: ignore[arg-type]
        _linear_source,
        "affine",
        _linear_module,
        absolute=_absolute_weights,
        forms={
            "functional": Form(
                lambda layer, weights, x: F.linear(x, weights["weight"], weights.get("bias")),
                lambda layer: (
                    "F.linear({0}, {weight}, {bias})" if "bias" in layer.settings else "F.linear({0}, {weight})"
                ),
                ("weight", "bias"),
            ),
            "bare": Form(_bare_linear, _bare_linear_source, ("weight", "bias")),
        },
    ),
    "conv1d": _conv(1),
    "conv2d": _conv(2),
    "conv3d": _conv(3),
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
    # Denominators of 1 or more: architectures see to it.
    "div": Kind(lambda layer, a, b: a / b, lambda layer: "{0} / {1}", "product", bounded=bounded_ratio),
    "mul": Kind(lambda layer, a, b: a * b, lambda layer: "{0} * {1}", "product", bounded=bounded_product(torch.mul)),
    "maximum": Kind(
        lambda layer, a, b: torch.maximum(a, b),
        lambda layer: "torch.maximum({0}, {1})",
        "kink",
        deciders=lambda layer, a, b: between([a, b]),
    ),
    **ACTIVATIONS,
    **POOLINGS,
    **NORMS,
    **SEQUENCES,
}
