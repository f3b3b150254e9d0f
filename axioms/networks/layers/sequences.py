"""The kinds of layer of recurrent networks and attention: parts of tensors, means and maxima over them, products."""

from __future__ import annotations

import torch

from ..spec import Layer
from .kind import Kind, between
from .norms import bounded_product


def _slice_source(layer: Layer) -> str:
    return f"{{0}}[..., {layer['start']}:{layer['stop']}]"


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
}
