"""Positive aggregation: GradCAM and plain gradients of inner layers, of which only sizes or positive parts count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..claims import Claim, fails, holds, method
from .backprop.layers import ALL, LAST, Layer, layers_of
from .backprop.places import upsampled
from .gradcam import LAST_LAYER, SPATIAL, Score, aggregated, common


def _size(values: Tensor, absolute: bool) -> Tensor:
    return values.abs() if absolute else values.clamp(min=0)


def _positive(absolute: bool, means: bool) -> Score:
    """The map of GradCAM_Pos of a layer: [B, *sizes]."""

    def score(layer: Layer) -> Tensor:
        g = layer.gradient.flatten(2)
        weights = _size(g.mean(2), absolute) if means else _size(g, absolute).mean(2)
        return torch.einsum("bk,bk...->b...", weights, layer.activation)

    return score


def _gradients(absolute: bool) -> Score:
    """The map of GradMid of a layer: [B, *sizes]."""
    return lambda layer: _size(layer.gradient, absolute).sum(1)


def rescaled(values: Tensor, size: Tensor | None = None) -> Tensor:
    """Maps [B, *sizes] brought to [0, 1], sample by sample; a map that is constant but for rounding becomes zero.

    Rounding is 2^8 eps of the size, and stretched by size / width, so a width below eps^(1/3) of the size counts as none:
    what is left is right to 2^8 eps^(2/3), 1e-8 in double precision.

    size: [B], how large the values are that these were computed from, where that is not seen in them.
    """
    flat = values.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    width = high - low
    largest = torch.maximum(high.abs(), low.abs())
    if size is not None:
        largest = torch.maximum(largest, size[:, None])
    flat_enough = width <= torch.finfo(values.dtype).eps ** (1 / 3) * largest
    result = torch.where(flat_enough, 0.0, (flat - low) / torch.where(flat_enough, 1.0, width))
    return result.reshape(values.shape)


def _cumulative(name: str, model: nn.Module, x: Tensor, target: Tensor, score: Score, rescale: bool) -> Tensor:
    """The maps of all layers, each without its negative part (and rescaled), laid over the input and added up."""
    maps = []
    for layer in layers_of(name, model, x, target, ALL):
        values = score(layer).clamp(min=0)
        maps.append(upsampled(rescaled(values) if rescale else values, layer.axes, x))
    return torch.stack(maps).sum(0)


_EVEN = "the sizes of the gradients of f and of -f are the same: the map is even"
_CUT = "only positive gradients count, of f and of -f"
_PARTS = "proved here: shares of a gradient in [0, 1] have its sign, and sizes that add up to its size"
_LAMBDA = "shares outside of [0, 1] have sizes that add up to more than the whole"
_RATIO = "proved here: sizes and positive parts are in proportion to the gradient"
_JUMPS = "the gradient that reaches an earlier layer jumps where a later ReLU opens"
_BEHIND = "a unit that is never active has a gradient behind its ReLU"
_INSERTED = "the two ReLUs of h = ReLU(h) - ReLU(-h) are two more layers"
_UNSCALED = "the gradient at c A is 1 / c of that at A, and is not multiplied with the map"


def _kin(*, maps: bool) -> list[Claim]:
    return [
        *common(maps=maps),
        *(holds("scale-equivariance", on=family, source=_RATIO) for family in SPATIAL),
        *(holds("implementation-invariance/split", on=family, source=_PARTS) for family in SPATIAL),
        fails("implementation-invariance/split-signed", on="conv", reason=_LAMBDA),
        fails("completeness/output", on="conv", reason="positive parts of a logit do not add up to it"),
        *([] if maps else [
            fails("implementation-invariance/rescale", on="conv", reason=_UNSCALED),
            fails("implementation-invariance/never-active", on="conv", reason=_BEHIND),
        ]),
        fails("linearity", on="conv", reason="f = x, g = -x: the map of f + g = 0 is 0, the sum of the maps is not"),
    ]  # fmt: skip


@method(
    name="gradcam-pos",
    claims=[
        *_kin(maps=True),
        *LAST_LAYER,
        fails("class-sensitivity/parity", on="conv", reason=_EVEN),
    ],
)  # fmt: skip
def gradcam_pos(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    layer: str | None = LAST,
    absolute: bool = True,
    means: bool = False,
) -> Tensor:
    """GradCAM_Pos: GradCAM with the sizes of the gradients in the place of the gradients.

    L = ReLU(sum_k w_k A^k), w_k = 1/Z sum_ij |df/dA^k_ij|, laid over the input as in GradCAM.

    Source: Khakzar et al. 2020, section 3 ("adding an absolute function to the formulation of GradCAM before aggregation").
    Where the paper leaves it open, options: a ReLU in the place of the absolute value (absolute=False), and of the mean of
    the gradient in the place of its entries (means=True).

    What holds: rewrites that permute, rescale or add idle units, or split one with shares in [0, 1]; input invariance, scale
    equivariance; continuity under a linear head, flat or behind global average pooling, whose gradient is constant. What
    fails: continuity under a deeper head, where the gradient jumps; a unit split with shares outside of [0, 1], linearity,
    completeness, and class sensitivity: the map is even, f and -f have the same.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        layer: "last", "all", "B1" to "B5" or a module's name (see `layers`).
        absolute: the absolute value; else the ReLU.
        means: of the mean of the gradient over space; else of each entry.

    Returns:
        [B, *shape], none negative.

    Raises:
        Unsupported: networks without convolutions; layers whose place over the input is not known.
        UsageError: there is no such layer.
    """
    layers = layers_of("gradcam-pos", model, x, target, layer)
    return aggregated("gradcam-pos", layers, x, _positive(absolute, means), relu=True)


@method(
    name="gradmid",
    claims=[
        *_kin(maps=False),
        *LAST_LAYER,
        fails("class-sensitivity/parity", on="conv", reason=_CUT),
        fails("class-sensitivity/collapse", on="conv", reason="two logits with one positive part have one map"),
    ],
)  # fmt: skip
def gradmid(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    layer: str | None = LAST,
    absolute: bool = False,
) -> Tensor:
    """GradMid: the positive gradients of a layer, added up over its channels.

    L_ij = sum_k ReLU(df/dA^k_ij), laid over the input by (bi)linear interpolation (align_corners=False), the same for each
    channel. The maps A^k themselves do not enter.

    Source: Khakzar et al. 2020, section 3 ("positive aggregation on gradients alone without any weighting"). The paper calls
    the ReLU and the absolute value positive aggregation; absolute=True takes the latter.

    What holds: rewrites that leave gradients at the layer as they are (permute, dead), or share them (a split in [0, 1]);
    input invariance, scale equivariance; continuity under a linear head, flat or behind global average pooling: there the
    map is constant. What fails: continuity under a deeper head, where the gradient jumps; rescaled units, and never-active
    ones, which have a gradient behind their ReLU; a split with shares outside of [0, 1]; parity, linearity, completeness;
    logits are told apart by their positive gradients only.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        layer: "last", "all", "B1" to "B5" or a module's name (see `layers`).
        absolute: the absolute value; else the ReLU.

    Returns:
        [B, *shape], none negative, in units of output per activation.

    Raises:
        Unsupported: networks without convolutions; layers whose place over the input is not known.
        UsageError: there is no such layer.
    """
    return aggregated("gradmid", layers_of("gradmid", model, x, target, layer), x, _gradients(absolute))


@method(
    name="cumulative-gradcam",
    claims=[
        *_kin(maps=True),
        fails("implementation-invariance/relu-identity", on="conv", reason=_INSERTED),
        fails("class-sensitivity/parity", on="conv", reason=_EVEN),
        fails("continuity", on="conv", reason=_JUMPS),
    ],
)  # fmt: skip
def cumulative_gradcam(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    absolute: bool = True,
    means: bool = False,
    rescale: bool = False,
) -> Tensor:
    """CumulativeGradCAM: GradCAM_Pos of every spatial activation, each laid over the input, added up.

    L = sum_l up(ReLU(sum_k w^l_k A^lk)), w^l_k = 1/Z sum_ij |df/dA^lk_ij|, over all layers l that are spatial activations (or
    convolutions that none follows).

    Source: Khakzar et al. 2020, section 3 ("an all-layer aggregation on GradCAM_Pos"; "all-layer summation"). Maps are added
    up as they are; rescale=True brings each to [0, 1] first, as FullGrad does.

    What holds and fails: as for GradCAM_Pos; besides, a ReLU that is put in is one more layer, and the gradients of earlier
    layers jump at kinks.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        absolute: the absolute value of gradients; else the ReLU.
        means: of the mean of the gradient over space; else of each entry.
        rescale: whether each layer's map is brought to [0, 1].

    Returns:
        [B, *shape], none negative.

    Raises:
        Unsupported: networks without convolutions; layers whose place over the input is not known.
    """
    return _cumulative("cumulative-gradcam", model, x, target, _positive(absolute, means), rescale)


@method(
    name="cumulative-gradmid",
    claims=[
        *_kin(maps=False),
        fails("implementation-invariance/relu-identity", on="conv", reason=_INSERTED),
        fails("class-sensitivity/parity", on="conv", reason=_CUT),
        fails("continuity", on="conv", reason=_JUMPS),
    ],
)  # fmt: skip
def cumulative_gradmid(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    absolute: bool = False,
    rescale: bool = False,
) -> Tensor:
    """CumulativeGradMid: GradMid of every spatial activation, each laid over the input, added up.

    L = sum_l up(sum_k ReLU(df/dA^lk)), over all layers l that are spatial activations (or convolutions that none follows).

    Source: Khakzar et al. 2020, section 3 ("when done on all layers"). rescale=True brings each map to [0, 1] first.

    What holds and fails: as for GradMid; besides, the gradients of earlier layers jump at kinks.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        absolute: the absolute value of gradients; else the ReLU.
        rescale: whether each layer's map is brought to [0, 1].

    Returns:
        [B, *shape], none negative.

    Raises:
        Unsupported: networks without convolutions; layers whose place over the input is not known.
    """
    return _cumulative("cumulative-gradmid", model, x, target, _gradients(absolute), rescale)
