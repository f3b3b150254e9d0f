"""The kinds of layer of recurrent networks and attention: parts of tensors, means over them, products, normalisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .kind import Kind, between, load, tensor
from .spec import Layer

Bounds = Callable[[Layer, list[Tensor], list[Tensor]], tuple[Tensor, Tensor]]


def bounded_product(multiply: Callable[[Tensor, Tensor], Tensor]) -> Bounds:
    """The bounds of a bilinear operation: d(a b) = a db + da b."""

    def bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
        return multiply(*sizes), multiply(sizes[0], sums[1]) + multiply(sums[0], sizes[1])

    return bounds


def _slice_source(layer: Layer) -> str:
    return f"{{0}}[..., {layer['start']}:{layer['stop']}]"


def _softmax_bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """|ds_i / dz_j| = s_i |[i = j] - s_j| <= 1/4."""
    return torch.ones_like(sizes[0]), (sums[0].sum(-1, keepdim=True) / 4 + 1.0).expand_as(sums[0])


def _layernorm(layer: Layer, x: Tensor) -> Tensor:
    return F.layer_norm(
        x, x.shape[-1:], tensor(layer, "weight", x), tensor(layer, "bias", x), eps=layer["eps"]
    )  # fmt: skip


def _layernorm_module(layer: Layer) -> nn.Module:
    return load(nn.LayerNorm(len(layer["weight"]), eps=layer["eps"], device="meta"), layer)


def _layernorm_bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """With u = (z - mean) / s, s^2 = var + eps, n entries: du_i / dz_j = ([i = j] - 1/n - u_i u_j / n) / s.

    sum u^2 <= n, so |u_i u_j| <= n / 2 for i != j, and u_i^2 / n + 1/n is between 0 and 1 on the diagonal: each is at most
    1/s, and 1/s <= eps^-1/2.
    """
    n = len(layer["weight"])
    weight, bias = (torch.tensor(abs(layer[name])) for name in ("weight", "bias"))
    size = weight * n**0.5 + bias
    sums_out = weight * layer["eps"] ** -0.5 * sums[0].sum(-1, keepdim=True) + size
    return size.expand_as(sizes[0]), sums_out.expand_as(sums[0])


SEQUENCES: dict[str, Kind] = {
    "select": Kind(lambda layer, x: x[:, layer["step"]], lambda layer: f"{{0}}[:, {layer['step']}]", "affine"),
    "slice": Kind(lambda layer, x: x[..., layer["start"] : layer["stop"]], _slice_source, "affine"),
    "transpose": Kind(lambda layer, x: x.transpose(1, 2), lambda layer: "{0}.transpose(1, 2)", "affine"),
    "mean": Kind(lambda layer, x: x.mean(layer["axis"]), lambda layer: f"{{0}}.mean({layer['axis']})", "affine"),
    "amax": Kind(
        lambda layer, x: x.amax(layer["axis"]),
        lambda layer: f"{{0}}.amax({layer['axis']})",
        "kink",
        deciders=lambda layer, x: between(x.unbind(layer["axis"])),
    ),
    "matmul": Kind(
        lambda layer, a, b: a @ b, lambda layer: "{0} @ {1}", "product", bounded=bounded_product(torch.matmul)
    ),
    "softmax": Kind(
        lambda layer, x: torch.softmax(x, dim=-1),
        lambda layer: "torch.softmax({0}, dim=-1)",
        "smooth",
        bounded=_softmax_bounds,
    ),
    "layernorm": Kind(
        _layernorm,
        lambda layer: f"nn.LayerNorm({len(layer['weight'])}, eps={layer['eps']!r})",
        "smooth",
        _layernorm_module,
        bounded=_layernorm_bounds,
    ),
}
