"""The kinds of layer that act on each entry: activations, as modules, functions, methods and in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Layer
from .kind import Decided, Form, Kind, load, tensor
from .skeletons import skeleton

Act = Callable[[Layer, Tensor], Tensor]
Bound = Callable[[Layer, Tensor], Tensor]


def _written(expression: str, run: Act) -> Form:
    """A form whose expression may name settings of the layer: {slope}."""
    return Form(lambda layer, weights, z: run(layer, z), lambda layer: _filled(expression, layer))


def _filled(expression: str, layer: Layer) -> str:
    settings = {name: repr(value) for name, value in layer.settings.items() if not isinstance(value, np.ndarray)}
    return expression.format("{0}", **settings)


def _activation(
    apply: Act,
    module: str,
    make: Callable[[Layer, bool], nn.Module],
    role: str,
    *,
    functional: str,
    method: str | None = None,
    inplace: bool = False,
    overwrites: tuple[str, Act] | None = None,
    kinks: Callable[[Layer], Sequence[float]] = lambda layer: (0.0,),
    bound: tuple[Bound, Bound] | None = None,
) -> Kind:
    """One activation.

    Args:
        apply: (layer, z) -> a, which writes nothing.
        module: the constructor, without its closing bracket; make: builds it, in place or not.
        functional, method: the expressions of the other forms; overwrites: that of the in-place method, and what it runs.
        inplace: whether the module has the setting.
        kinks: the values of z at which the slope jumps (role "kink").
        bound: on |a| and on |da/dz|, from bounds on |z|; without, |a| <= |z| + 1 and a slope of at most 1.13 are assumed.
    """
    forms = {"functional": _written(functional, apply)}
    if method is not None:
        forms["method"] = _written(method, apply)
    if overwrites is not None:
        forms["in-place method"] = _written(*overwrites)

    def source(layer: Layer) -> str:
        text = _filled(module, layer)
        if layer.get("form") != "in-place":
            return text + ")"
        return f"{text}{'' if text.endswith('(') else ', '}inplace=True)"

    def deciders(layer: Layer, z: Tensor) -> Decided:
        at = torch.cat([(z - kink).flatten(1) for kink in kinks(layer)], 1)
        return at, torch.zeros_like(at)

    def bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
        assert bound is not None
        size = bound[0](layer, sizes[0])
        return size, bound[1](layer, sizes[0]) * sums[0] + size

    return Kind(
        apply,
        source,
        role,
        lambda layer: make(layer, inplace and layer.get("form") == "in-place"),
        deciders=deciders if role == "kink" else None,
        absolute=lambda layer: Layer("affine", shift=1.0),
        bounded=None if bound is None else bounds,
        forms={**forms, **({"in-place": Form(lambda *a: a[-1], lambda layer: "")} if inplace else {})},
    )


_ONE: tuple[Bound, Bound] = (lambda layer, z: torch.ones_like(z), lambda layer, z: torch.ones_like(z))
"""Values below 1 and slopes of at most 1: without that a product of gates over a few time steps has no useful bound."""


def _prelu_module(layer: Layer) -> nn.Module:
    return load(skeleton(nn.PReLU, len(layer["weight"])), layer)


def _prelu(layer: Layer, z: Tensor) -> Tensor:
    weight = tensor(layer, "weight", z)
    assert weight is not None
    return F.prelu(z, weight)


ACTIVATIONS: dict[str, Kind] = {
    "relu": _activation(
        lambda layer, z: F.relu(z), "nn.ReLU(", lambda layer, inplace: nn.ReLU(inplace), "kink",
        functional="torch.relu({0})", method="{0}.relu()", inplace=True,
        overwrites=("{0}.relu_()", lambda layer, z: z.relu_()),
    ),
    "leakyrelu": _activation(
        lambda layer, z: F.leaky_relu(z, layer["slope"]), "nn.LeakyReLU({slope}",
        lambda layer, inplace: nn.LeakyReLU(layer["slope"], inplace), "kink",
        functional="F.leaky_relu({0}, {slope})", inplace=True,
        overwrites=("F.leaky_relu_({0}, {slope})", lambda layer, z: F.leaky_relu_(z, layer["slope"])),
    ),
    "hardtanh": _activation(
        lambda layer, z: F.hardtanh(z, layer["low"], layer["high"]), "nn.Hardtanh({low}, {high}",
        lambda layer, inplace: nn.Hardtanh(layer["low"], layer["high"], inplace), "kink",
        functional="F.hardtanh({0}, {low}, {high})", method="{0}.clamp({low}, {high})", inplace=True,
        overwrites=("{0}.clamp_({low}, {high})", lambda layer, z: z.clamp_(layer["low"], layer["high"])),
        kinks=lambda layer: (layer["low"], layer["high"]),
    ),
    "abs": Kind(
        lambda layer, z: z.abs(), lambda layer: "torch.abs({0})", "kink",
        deciders=lambda layer, z: (z.flatten(1), torch.zeros_like(z.flatten(1))),
        absolute=lambda layer: Layer("affine", shift=0.0),
        forms={
            "functional": _written("torch.abs({0})", lambda layer, z: torch.abs(z)),
            "method": _written("{0}.abs()", lambda layer, z: z.abs()),
            "in-place method": _written("{0}.abs_()", lambda layer, z: z.abs_()),
        },
    ),
    "prelu": Kind(
        _prelu, lambda layer: f"nn.PReLU({len(layer['weight'])})", "kink", _prelu_module,
        deciders=lambda layer, z: (z.flatten(1), torch.zeros_like(z.flatten(1))),
        absolute=lambda layer: Layer("affine", shift=1.0),
        forms={
            "functional": Form(
                lambda layer, weights, z: F.prelu(z, weights["weight"]), lambda layer: "F.prelu({0}, {weight})", ("weight",)
            ),
        },
    ),
    "elu": _activation(
        lambda layer, z: F.elu(z), "nn.ELU(", lambda layer, inplace: nn.ELU(inplace=inplace), "smooth",
        functional="F.elu({0})", inplace=True, overwrites=("F.elu_({0})", lambda layer, z: F.elu_(z)),
    ),
    "silu": _activation(
        lambda layer, z: F.silu(z), "nn.SiLU(", lambda layer, inplace: nn.SiLU(inplace), "smooth",
        functional="F.silu({0})", inplace=True,
    ),
    "gelu": _activation(
        lambda layer, z: F.gelu(z), "nn.GELU(", lambda layer, inplace: nn.GELU(), "smooth", functional="F.gelu({0})"
    ),
    "tanh": _activation(
        lambda layer, z: torch.tanh(z), "nn.Tanh(", lambda layer, inplace: nn.Tanh(), "smooth",
        functional="torch.tanh({0})", method="{0}.tanh()", overwrites=("{0}.tanh_()", lambda layer, z: z.tanh_()), bound=_ONE,
    ),
    "sigmoid": _activation(
        lambda layer, z: torch.sigmoid(z), "nn.Sigmoid(", lambda layer, inplace: nn.Sigmoid(), "smooth",
        functional="torch.sigmoid({0})", method="{0}.sigmoid()",
        overwrites=("{0}.sigmoid_()", lambda layer, z: z.sigmoid_()), bound=_ONE,
    ),
    # The threshold is raised so that softplus(z) = z + softplus(-z) holds to rounding at any z.
    "softplus": _activation(
        lambda layer, z: F.softplus(z, threshold=40.0), "nn.Softplus(threshold=40.0",
        lambda layer, inplace: nn.Softplus(threshold=40.0), "smooth", functional="F.softplus({0}, threshold=40.0)",
    ),
    "exp": Kind(
        lambda layer, z: z.exp(), lambda layer: "torch.exp({0})", "smooth",
        bounded=lambda layer, sizes, sums: (sizes[0].exp(), sizes[0].exp() * (sums[0] + 1.0)),
        forms={
            "functional": _written("torch.exp({0})", lambda layer, z: torch.exp(z)),
            "method": _written("{0}.exp()", lambda layer, z: z.exp()),
        },
    ),
}  # fmt: skip
