"""The kinds of layer that divide by what they read: softmax, layer and group normalisation; bounds of products and ratios."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import Layer
from .kind import Form, Kind, load, tensor
from .skeletons import skeleton

Bounds = Callable[[Layer, list[Tensor], list[Tensor]], tuple[Tensor, Tensor]]


def bounded_product(multiply: Callable[[Tensor, Tensor], Tensor]) -> Bounds:
    """The bounds of a bilinear operation: d(a b) = a db + da b."""

    def bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
        return multiply(*sizes), multiply(sizes[0], sums[1]) + multiply(sums[0], sizes[1])

    return bounds


def bounded_ratio(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """d(a / b) = da / b - a db / b^2, with |b| >= 1."""
    return sizes[0], sums[0] + sizes[0] * sums[1]


def _softmax_bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """|ds_i / dz_j| = s_i |[i = j] - s_j| <= 1/4."""
    return torch.ones_like(sizes[0]), (sums[0].sum(-1, keepdim=True) / 4 + 1.0).expand_as(sums[0])


def _layernorm(layer: Layer, x: Tensor) -> Tensor:
    return F.layer_norm(
        x, x.shape[-1:], tensor(layer, "weight", x), tensor(layer, "bias", x), eps=layer["eps"]
    )  # fmt: skip


def _layernorm_module(layer: Layer) -> nn.Module:
    return load(skeleton(nn.LayerNorm, len(layer["weight"]), eps=layer["eps"]), layer)


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


def _log_softmax_bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """l_i = z_i - log sum exp z: |l_i| <= |z_i| + max |z| + log n, and dl_i / dz_j = [i = j] - s_j."""
    n = torch.tensor(float(sizes[0].shape[-1]))
    size = sizes[0] + sizes[0].amax(-1, keepdim=True) + n.log()
    return size, sums[0] + sums[0].sum(-1, keepdim=True) + size


def _groupnorm(layer: Layer, x: Tensor) -> Tensor:
    return F.group_norm(x, layer["groups"], tensor(layer, "weight", x), tensor(layer, "bias", x), eps=layer["eps"])


def _groupnorm_module(layer: Layer) -> nn.Module:
    return load(skeleton(nn.GroupNorm, layer["groups"], len(layer["weight"]), eps=layer["eps"]), layer)


def _groupnorm_bounds(layer: Layer, sizes: list[Tensor], sums: list[Tensor]) -> tuple[Tensor, Tensor]:
    """As for a layer normalisation, over the entries of a group of channels."""
    batch, channels = sums[0].shape[:2]
    grouped = sums[0].reshape(batch, layer["groups"], -1)
    n, total = grouped.shape[2], grouped.sum(2).repeat_interleave(channels // layer["groups"], 1)
    wide = (1, channels, *[1] * (sums[0].dim() - 2))
    weight, bias = (torch.tensor(abs(layer[name])).reshape(wide) for name in ("weight", "bias"))
    size = weight * n**0.5 + bias
    total = total.reshape(batch, channels, *[1] * (sums[0].dim() - 2))
    return size.expand_as(sizes[0]), (weight * layer["eps"] ** -0.5 * total + size).expand_as(sums[0])


NORMS: dict[str, Kind] = {
    "softmax": Kind(
        lambda layer, x: torch.softmax(x, dim=-1),
        lambda layer: "torch.softmax({0}, dim=-1)",
        "smooth",
        bounded=_softmax_bounds,
        forms={"method": Form(lambda layer, weights, x: x.softmax(-1), lambda layer: "{0}.softmax(-1)")},
    ),
    "logsoftmax": Kind(
        lambda layer, x: torch.log_softmax(x, dim=-1),
        lambda layer: "nn.LogSoftmax(dim=-1)",
        "smooth",
        lambda layer: nn.LogSoftmax(dim=-1),
        bounded=_log_softmax_bounds,
        forms={
            "functional": Form(
                lambda layer, weights, x: F.log_softmax(x, dim=-1), lambda layer: "F.log_softmax({0}, dim=-1)"
            ),
            "method": Form(lambda layer, weights, x: x.log_softmax(-1), lambda layer: "{0}.log_softmax(-1)"),
        },
    ),
    "layernorm": Kind(
        _layernorm,
        lambda layer: f"nn.LayerNorm({len(layer['weight'])}, eps={layer['eps']!r})",
        "smooth",
        _layernorm_module,
        bounded=_layernorm_bounds,
    ),
    "groupnorm": Kind(
        _groupnorm,
        lambda layer: f"nn.GroupNorm({layer['groups']}, {len(layer['weight'])}, eps={layer['eps']!r})",
        "smooth",
        _groupnorm_module,
        bounded=_groupnorm_bounds,
    ),
}
