"""GradCAM and GradCAM++: sums of a layer's maps, weighted by the gradients that reach them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..claims import Claim, fails, holds, method
from ..errors import Unsupported
from .backprop.layers import LAST, Layer, layers_of
from .backprop.places import upsampled

Score = Callable[[Layer], Tensor]
"""A layer -> its map [B, *sizes]: what its channels add up to."""


def aggregated(name: str, layers: Sequence[Layer], x: Tensor, score: Score, *, relu: bool = False) -> Tensor:
    """The maps of some layers, added up and laid over the input.

    Args:
        relu: only what is positive in the sum counts; the sum is then taken at the layers' resolution, before upsampling.

    Returns:
        [B, *shape].

    Raises:
        Unsupported: a sum at the layers' resolution is asked for, and they have several.
    """
    if relu:
        return upsampled(joint_map(name, layers, score).clamp(min=0), layers[0].axes, x)
    return torch.stack([upsampled(score(layer), layer.axes, x) for layer in layers]).sum(0)


def joint_map(name: str, layers: Sequence[Layer], score: Score) -> Tensor:
    """The sum [B, *sizes] of the maps of layers that have one size."""
    maps = [score(layer) for layer in layers]
    if any(m.shape != maps[0].shape or layer.axes != layers[0].axes for m, layer in zip(maps, layers, strict=True)):
        raise Unsupported(f"{name}: branches end in layers of different sizes; name one of them by layer=...")
    return torch.stack(maps).sum(0)


def weighted(layer: Layer) -> Tensor:
    """sum_k w_k A^k with w_k the mean of the gradient over space: [B, *sizes]."""
    weights = layer.gradient.flatten(2).mean(2)
    return torch.einsum("bk,bk...->b...", weights, layer.activation)


def gradcam_map(model: nn.Module, x: Tensor, target: Tensor, *, layer: str | None = LAST, relu: bool = True) -> Tensor:
    """GradCAM at the resolution of its layer, not upsampled.

    On a network that ends in global average pooling and one linear layer the map before the ReLU is complete: the sum over
    its pixels is f(x) - b, b the bias of the target logit (Selvaraju et al. 2017, section 3; Zhou et al. 2016, equation 2).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        layer: see `layers`.
        relu: whether negative sums are cut.

    Returns:
        [B, *sizes], in units of the output.

    Raises:
        Unsupported, UsageError: see `layers.layers_of`; branches that end in layers of different sizes.
    """
    total = joint_map("gradcam", layers_of("gradcam", model, x, target, layer), weighted)
    return total.clamp(min=0) if relu else total


# -- claims -----------------------------------------------------------------------------------------------------

SPATIAL = ("conv", "gap", "vgg")
"""Families whose networks have convolutions."""

_ORDER = "proved here: a sum over channels does not depend on their order, and neither maps nor their gradients change"
_ZERO = "proved here: a channel without gradient, or that is zero, adds nothing"
_SCALE = "proved here: the maps are multiplied by c, their gradients by 1 / c"
IDENTITY = "proved here: the ReLU behind h = ReLU(h) - ReLU(-h) stays the last one"
_INNER = "proved here: the shift is undone before the layer, so its maps and gradients stay"
_TARGET = "proved here: the gradient of the target logit alone"


def common(*, maps: bool = True, families: Sequence[str] = SPATIAL) -> list[Claim]:
    """The claims of every sum over the channels of inner layers.

    Args:
        maps: the gradients are multiplied with the maps.
    """
    rewrites = [("permute", _ORDER), ("fuse-linear", _ORDER), ("split-linear", _ORDER), ("batchnorm-folding", _ORDER),
                ("dead", _ZERO), *([("never-active", _ZERO), ("rescale", _SCALE)] if maps else [])]  # fmt: skip
    return [
        holds(axiom, on=family, source=source)
        for family in families
        for axiom, source in (
            # (A VGG with a drawn normalisation is dead too often to say much.)
            *(
                (f"implementation-invariance/{rewrite}", source)
                for rewrite, source in rewrites
                if (rewrite, family) != ("batchnorm-folding", "vgg")
            ),
            ("input-invariance", _INNER),
            ("class-sensitivity/other-logits", _TARGET),
            ("class-sensitivity/logit-permutation", _TARGET),
        )
    ]


_SHARES = "proved here: shares of w_k add up to w_k"
_RATIO = "proved here: the weights are in proportion to the gradient"
MAXIMA = "a maximum written with convolutions and ReLUs has other last layers"
HIDDEN = "the gradient jumps where a ReLU of the head opens"
FLAT_HEAD = "proved here: a linear head on the layer has a constant gradient, and the maps are continuous"
_CHAIN = "proved here: each rewrite alone leaves the map, and the last spatial activation where it is"
_SIDES = (
    "proved here: side by side, the layer has the channels of both, and their gradients are a and b times those of f, g"
)


# What speaks of the last spatial activation.
LAST_LAYER = (
    *(holds("implementation-invariance/relu-identity", on=family, source=IDENTITY) for family in SPATIAL),
    fails("implementation-invariance/max-as-relus", on="vgg", reason=MAXIMA),
    holds("continuity", on="conv", source=FLAT_HEAD),
    holds("continuity", on="gap", source=FLAT_HEAD),
    fails("continuity", on="vgg", reason=HIDDEN),
)


def _gradcam_claims() -> list[Claim]:
    return [
        *common(),
        *(
            holds(f"implementation-invariance/{rewrite}", on=family, source=_SHARES)
            for rewrite in ("split", "split-signed")
            for family in SPATIAL
        ),
        *(holds("implementation-invariance/chain", on=family, source=_CHAIN) for family in ("conv", "gap")),
        *(holds("scale-equivariance", on=family, source=_RATIO) for family in SPATIAL),
        *LAST_LAYER,
    ]


@method(
    name="gradcam",
    claims=[
        *_gradcam_claims(),
        fails("class-sensitivity/parity", on="conv", reason="where the map of f is positive that of -f is zero"),
        fails("linearity", on="conv", reason="f = x, g = -x: the map of f + g = 0 is 0, the sum of the maps is not"),
        fails("equivalence/cam", on="gap", reason="the class activation map has no ReLU"),
    ],
)  # fmt: skip
def gradcam(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    layer: str | None = LAST,
    relu: bool = True,
) -> Tensor:
    """GradCAM: the maps of a layer, weighted by the mean of their gradients, where their sum is positive.

    L = ReLU(sum_k w_k A^k), w_k = 1/Z sum_ij df/dA^k_ij, with A^k [*sizes] the k-th of the layer's maps and Z their number of
    entries. L is laid over the input by (bi)linear interpolation (align_corners=False), the same for each channel.

    Source: Selvaraju et al. 2017, equations 1 and 2; Khakzar et al. 2020, equations 1 and 2. The layer is the last spatial
    activation by default; another one is named by its module or as a block (see `layers`).

    What holds: what speaks of the layer and what is behind it: input invariance, rewrites of units (a split unit shares its
    weight), on networks whose last spatial activation stays where it is; continuity under a flat linear head or global
    average pooling, which have constant gradients. What fails: parity and linearity, by the ReLU. Completeness is not meant:
    see `gradcam_map` for the sum over the pixels before upsampling. Pixels have no attribution of their own, so dummy and
    symmetry are not meant either.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        layer: "last", "all", "B1" to "B5" or a module's name.
        relu: whether negative sums are cut.

    Returns:
        [B, *shape], in units of the output (per pixel of the layer).

    Raises:
        Unsupported: networks without convolutions; layers whose place over the input is not known.
        UsageError: there is no such layer.
    """
    return aggregated("gradcam", layers_of("gradcam", model, x, target, layer), x, weighted, relu=relu)


@method(
    name="gradcam-pre-relu",
    claims=[
        *_gradcam_claims(),
        *(holds("class-sensitivity/parity", on=family, source=_RATIO) for family in SPATIAL),
        *(holds("linearity", on=family, source=_SIDES) for family in SPATIAL),
        holds("equivalence/cam", on="gap", source="Selvaraju et al. 2017, section 3: df/dA = w / Z"),
        fails("equivalence/gradcam", on="gap", reason="GradCAM cuts negative sums"),
        fails("completeness/output", on="conv", reason="weights are means: with a flat head the gradient differs from place "
              "to place (and interpolation keeps no total)"),
    ],
)  # fmt: skip
def gradcam_pre_relu(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, layer: str | None = LAST
) -> Tensor:
    """GradCAM without its ReLU: L = sum_k w_k A^k, w_k = 1/Z sum_ij df/dA^k_ij.

    Source: Selvaraju et al. 2017, equations 1 and 2, before the ReLU. On networks that end in global average pooling and one
    linear layer it is the class activation map of Zhou et al. 2016, and the sum over the layer's pixels is f(x) - b.

    What holds: what holds for GradCAM; besides, parity and linearity in the model: the gradient is linear, and networks side
    by side have the channels of both. What fails: completeness, with heads that weight places differently.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        layer: "last", "all", "B1" to "B5" or a module's name (see `layers`).

    Returns:
        [B, *shape], in units of the output (per pixel of the layer).

    Raises:
        Unsupported: networks without convolutions; layers whose place over the input is not known.
        UsageError: there is no such layer.
    """
    return aggregated("gradcam-pre-relu", layers_of("gradcam-pre-relu", model, x, target, layer), x, weighted)


def _plus_plus(layer: Layer) -> Tensor:
    """sum_k w_k A^k with the weights of GradCAM++: [B, *sizes]."""
    g, total = layer.gradient, layer.activation.flatten(2).sum(2)
    bottom = 2 + g * total.reshape(*total.shape, *[1] * (g.dim() - 2))
    if bool(((g > 0) & (bottom <= 0)).any()):
        raise Unsupported(
            "gradcam-plus-plus: the maps of a channel add up to less than zero, and its weights have a pole"
        )
    weights = torch.where(g > 0, g / torch.where(g > 0, bottom, 1.0), 0.0).flatten(2).sum(2)
    return torch.einsum("bk,bk...->b...", weights, layer.activation)


@method(
    name="gradcam-plus-plus",
    claims=[
        *common(),
        *LAST_LAYER,
        *(fails(f"implementation-invariance/{rewrite}", on="conv", reason="the weight g / (2 + g sum A) is not linear in g")
          for rewrite in ("split", "split-signed")),
        fails("class-sensitivity/parity", on="conv", reason="only positive gradients count, of f and of -f"),
        fails("class-sensitivity/collapse", on="conv", reason="two logits with one positive part have one map"),
        fails("scale-equivariance", on="conv", reason="the weight g / (2 + g sum A) is not in proportion to g"),
        fails("linearity", on="conv", reason="only positive gradients count"),
        fails("completeness/output", on="conv", reason="the weights are no gradients, and negative sums are cut"),
    ],
)  # fmt: skip
def gradcam_plus_plus(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, layer: str | None = LAST
) -> Tensor:
    """GradCAM++: the maps of a layer, weighted by a sum of their positive gradients.

    L = ReLU(sum_k w_k A^k), w_k = sum_ij a^k_ij ReLU(g^k_ij), g^k_ij = df/dA^k_ij,
    a^k_ij = g^2 / (2 g^2 + g^3 sum_ab A^k_ab) = 1 / (2 + g sum_ab A^k_ab).

    Source: Chattopadhay et al. 2018, section 3 (the closed form for an exponential of the logit, whose positive factor
    exp(f) is left out); Khakzar et al. 2020, equations 3 and 4.

    What holds: rewrites that permute, rescale or add idle units, input invariance; continuity under a linear head, flat or
    behind global average pooling: its gradient is constant, and the weights are continuous in the maps. What fails:
    continuity under a deeper head, whose gradient jumps where its ReLUs open; splitting a unit, with any shares, scale
    equivariance and linearity, since the weights are not linear in the gradient; parity, and logits are told apart by their
    positive gradients only; completeness.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        layer: "last", "all", "B1" to "B5" or a module's name (see `layers`).

    Returns:
        [B, *shape], none negative.

    Raises:
        Unsupported: networks without convolutions; layers whose place over the input is not known; maps that add up to so
            much less than zero that a weight has a pole.
        UsageError: there is no such layer.
    """
    layers = layers_of("gradcam-plus-plus", model, x, target, layer)
    return aggregated("gradcam-plus-plus", layers, x, _plus_plus, relu=True)
