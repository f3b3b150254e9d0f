"""The class activation map, read from the weights of the network: no gradient is involved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import Unsupported
from .backprop.layers import LayerPass
from .backprop.operations import RESHAPES, argument
from .backprop.passes import Operation
from .backprop.places import NOWHERE, upsampled

_HEAD = "_attribcheck_head"


@dataclass(frozen=True)
class _Head:
    """What a value is: the mean over space of a layer (weights None), or a linear layer on it (weights [C, K])."""

    layer: int
    weights: Tensor | None = None


class _HeadPass(LayerPass):
    """Looks for a layer, its mean over space, and a linear layer."""

    def after(self, operation: Operation, outputs: list[Tensor], known: Any) -> None:
        super().after(operation, outputs, known)
        if len(operation.inputs) != 1 or len(outputs) != 1 or not operation.args:
            return
        value, result, name = operation.inputs[0], outputs[0], operation.name
        head: _Head | None = getattr(value, _HEAD, None)
        if known.exact is not None and _means(operation, value, result):
            setattr(result, _HEAD, _Head(known.exact))
        elif head is None or head.weights is not None:
            return
        elif name in RESHAPES or name == "squeeze":
            if result.shape[:2] == value.shape[:2] and result.numel() == value.numel():
                setattr(result, _HEAD, head)
        elif name == "linear" and value.dim() == 2:
            weights = argument(operation.args, operation.kwargs, 1, "weight")
            setattr(result, _HEAD, _Head(head.layer, weights.detach()))


def _means(operation: Operation, value: Tensor, result: Tensor) -> bool:
    """Whether an operation takes the mean over all of space."""
    places = list(range(2, value.dim()))
    if operation.name == "mean":
        dims = argument(operation.args, operation.kwargs, 1, "dim", ())
        dims = dims if isinstance(dims, tuple | list) else (dims,)
        return sorted(d % value.dim() for d in dims) == places
    if operation.name.startswith("adaptive_avg_pool"):
        return all(result.shape[d] == 1 for d in places)
    return False


@method(
    name="cam",
    claims=[
        *(holds(f"implementation-invariance/{rewrite}", on="gap",
                source="proved here: maps and head change places, or in proportion, and add up to the same")
          for rewrite in ("permute", "rescale", "split", "split-signed", "dead", "never-active")),
        holds("implementation-invariance/batchnorm-folding", on="gap", source="proved here: the maps lie behind it"),
        holds("input-invariance", on="gap", source="proved here: the shift is undone before the layer"),
        holds("class-sensitivity", on="gap", source="proved here: the weights of the target logit, linearly"),
        holds("scale-equivariance", on="gap", source="proved here: the weights of the target logit, linearly"),
        holds("continuity", on="gap", source="proved here: maps are continuous, weights constant"),
        holds("equivalence/gradcam-pre-relu", on="gap", source="Selvaraju et al. 2017, section 3: df/dA = w / Z"),
        fails("completeness/output", on="gap", reason="the bias of the logit, and interpolation, which keeps no total"),
    ],
)  # fmt: skip
def cam(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Class activation map: the maps of the last convolutional layer, weighted as the target logit weights their means.

    M = sum_k w_k A^k / Z for f = sum_k w_k (1/Z sum_ij A^k_ij) + b, with A^k [*sizes] the maps of the last spatial activation
    and Z their number of entries: f = sum_ij M_ij + b. M is laid over the input by linear interpolation
    (align_corners=False), the same for each channel. (Zhou et al. sum over space where networks of today take the mean: 1/Z
    is in their w_k.)

    Source: Zhou et al. 2016, section 2, equations 1 and 2.

    What holds: it is GradCAM before the ReLU, and has its properties. It is read from the weights, without a gradient.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.

    Returns:
        [B, *shape], in units of the output (per pixel of the layer).

    Raises:
        Unsupported: networks that do not end in the mean over space of their last spatial activation and one linear layer.
    """
    tracing = _HeadPass("cam")
    _, _, output = tracing.gradient(model, x, target)
    head: _Head | None = getattr(output, _HEAD, None)
    if head is None or head.weights is None:
        raise Unsupported("cam needs global average pooling of the last convolutional maps and one linear layer on it")
    layer = tracing.found.layers[head.layer]
    if not layer.axes or NOWHERE in layer.axes:
        raise Unsupported("cam: the last convolutional maps cannot be laid over the input")
    maps = layer.activation
    total = torch.einsum("bk,bk...->b...", head.weights[target], maps)
    return upsampled(total / maps[0, 0].numel(), layer.axes, x)
