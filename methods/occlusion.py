"""Occlusion: what the output loses without a feature, a group of features, or a box of them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import UsageError
from .perturbation import group_index, outputs_at, shared, target_outputs


@method(
    name="occlusion-1",
    baseline="given",
    claims=[
        holds("sensitivity-n/1", on="any", source="by definition (Ancona et al. 2018, section 4)"),
        holds("sensitivity-n", on="linear", source="Ancona et al. 2018, Proposition 4"),
        holds("completeness/delta", on="linear", source="Ancona et al. 2018, Proposition 4"),
        holds("implementation-invariance", on="any", source="proved here: only outputs of the function enter"),
        holds("input-invariance", on="any", source="proved here: the baseline moves with the input"),
        holds("dummy", on="any", source="proved here: the two outputs are equal"),
        holds("symmetry", on="any", source="proved here: the two occluded inputs are mirror images"),
        holds("class-sensitivity", on="any", source="proved here: only the target's outputs enter, linearly"),
        holds("linearity", on="any", source="proved here: a difference of outputs is linear in the function"),
        holds("scale-equivariance", on="any", source="proved here: a difference of outputs is linear in the function"),
        holds("feature-permutation", on="any", source="proved here: the two occluded inputs are one, permuted"),
        holds("continuity", on="any", source="proved here: a difference of outputs is continuous as they are"),
        fails("completeness/delta", on="relu", reason="interactions: ReLU(x1 + x2 - 1) at (1, 1) gives 2 and not 1"),
        fails("completeness/delta", on="smooth", reason="interactions are counted for each feature"),
        fails("completeness/delta", on="product", reason="f = x1 x2 at (1, 1) gives 2 and not 1"),
        fails("completeness/delta", on="maxpool", reason="max(x1, x2) at (1, 1) gives 0 and not 1"),
        fails("sensitivity-n/n", on="relu", reason="interactions: Ancona et al. 2018, Proposition 4"),
        fails("sensitivity-n/N-1", on="relu", reason="interactions: Ancona et al. 2018, Proposition 4"),
    ],
)
def occlusion_1(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, groups: str = "none"
) -> Tensor:
    """Occlusion of one feature at a time: R_i = f(x) - f(x with x_i set to the baseline).

    It is x_i - baseline_i times the mean of df/dx_i while x_i alone goes from the baseline to its value.

    Source: Zeiler and Fergus 2014; Ancona et al. 2018, section 2 (Occlusion-1) and section 3.2 (as a mean derivative). One
    feature is one input value, unless it is removed together with its group.

    What holds: sensitivity-1 by definition, on every network and at kinks too; dummy, symmetry, implementation
    invariance; linearity, class sensitivity and continuity; input invariance with a baseline that moves. What fails:
    completeness, as soon as features interact; input invariance from a baseline that stays (zeros): f = x gives
    x, and x + m after a shift.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values that replace features; zeros where None.
        groups: what is removed together: "none"; "channels", all channels of a position of x [B, C, *positions]; "vectors",
            the last axis of x [B, *positions, D]. What a group loses is divided equally among its features.

    Returns:
        [B, *shape], in units of the output. Costs one forward pass of B (N + 1) rows, in batches; N groups.

    Raises:
        UsageError: an unknown kind of group.
        Unsupported: the input has no axis for such groups.
    """
    baseline = torch.zeros_like(x) if baseline is None else baseline
    index = group_index("occlusion-1", groups, x)
    flat, reference = x.flatten(1), baseline.flatten(1)
    batch, n = len(x), int(index.max()) + 1

    def occluded(start: int, stop: int) -> tuple[Tensor, Tensor]:
        cell = torch.arange(start, stop, device=x.device)
        row, group = cell // n, cell % n
        inputs = torch.where(index == group[:, None], reference[row], flat[row])
        return inputs.reshape(-1, *x.shape[1:]), target[row]

    without = target_outputs(model, batch * n, occluded).reshape(batch, n)
    losses = outputs_at(model, x, target)[:, None] - without
    return shared(losses, index).reshape(x.shape)


_OUTPUTS = "proved here: only outputs of the function enter"
_MANY = "a feature is removed in several boxes, each with its neighbours"


@method(
    name="box-occlusion",
    baseline="given",
    claims=[
        holds("implementation-invariance", on="any", source=_OUTPUTS),
        holds("input-invariance", on="any", source="proved here: the baseline moves with the input"),
        holds("class-sensitivity", on="any", source="proved here: only the target's outputs enter, linearly"),
        holds("linearity", on="any", source="proved here: a difference of outputs is linear in the function"),
        holds("scale-equivariance", on="any", source="proved here: a difference of outputs is linear in the function"),
        holds("continuity", on="any", source="proved here: a difference of outputs is continuous as they are"),
        fails("completeness/delta", on="linear", reason=f"f = x1 at (1, 0): (1, 1), {_MANY}"),
        fails("sensitivity-n/1", on="linear", reason=f"f = x1 at (1, 0): R_2 = 1; {_MANY}"),
        fails("sensitivity-n/n", on="linear", reason=_MANY),
        fails("dummy", on="linear", reason="f = x1 at (1, 0): x2 is removed together with x1 and gets 1"),
        fails("symmetry", on="linear", reason="x1 + x3 of four features: x1 is in one box, x3 in two with other neighbours"),
        fails("feature-permutation", on="linear", reason="boxes are made of neighbours, and these change"),
        fails("equivalence/occlusion-1", on="linear", reason=_MANY),
    ],
)  # fmt: skip
def box_occlusion(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None = None,
    *,
    size: int | tuple[int, ...] = 2,
    stride: int | tuple[int, ...] = 1,
) -> Tensor:
    """Occlusion of a box that slides over the input: R_i = mean over the boxes with i of f(x) - f(x without the box).

    The box covers all channels of an image or signal [B, C, *positions], and neighbours of a flat input [B, N]. It starts
    at every multiple of the stride, and once more at the far end where the strides do not reach it.

    Source: Zeiler and Fergus 2014, section 4.2 (a grey square that slides over the image); Ancona et al. 2019, section 4.3.
    A feature's value is the mean over its boxes, as in Captum's Occlusion.

    What holds: what speaks of outputs alone: implementation invariance, linearity, class sensitivity, continuity, input
    invariance with a baseline that moves. What fails: neighbours of what matters get its value too, so dummy,
    completeness and every sensitivity-n; symmetry and feature permutation, since the box knows where features are; input
    invariance from a baseline that stays (zeros): f = x gives x, and x + m after a shift.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values that replace features; zeros where None.
        size: of the box along each axis of positions (one number for all); an axis that is shorter is covered as a whole.
        stride: of the box along each axis of positions; not larger than its size, so that every feature is covered.

    Returns:
        [B, *shape], in units of the output. Costs a forward pass of a row for each box and sample, in batches.

    Raises:
        UsageError: sizes or strides are not positive, a stride exceeds its size, or their number is not that of the axes.
    """
    baseline = torch.zeros_like(x) if baseline is None else baseline
    positions = x.shape[1:] if x.dim() == 2 else x.shape[2:]
    places = [
        _starts(length, *pair) for length, pair in zip(positions, _boxes(size, stride, len(positions)), strict=True)
    ]
    boxes = list(itertools.product(*places))
    masks = torch.zeros(len(boxes), *x.shape[1:], dtype=torch.bool, device=x.device)
    for mask, box in zip(masks, boxes, strict=True):
        mask[(..., *(slice(start, stop) for start, stop in box))] = True

    def occluded(start: int, stop: int) -> tuple[Tensor, Tensor]:
        cell = torch.arange(start, stop, device=x.device)
        row, box = cell // len(boxes), cell % len(boxes)
        return torch.where(masks[box], baseline[row], x[row]), target[row]

    without = target_outputs(model, len(x) * len(boxes), occluded).reshape(len(x), len(boxes))
    losses = outputs_at(model, x, target)[:, None] - without
    return (losses @ masks.flatten(1).to(losses)).reshape(x.shape) / masks.sum(0)


def _boxes(size: int | tuple[int, ...], stride: int | tuple[int, ...], axes: int) -> list[tuple[int, int]]:
    """Size and stride of the box along each axis of positions."""
    both = []
    for name, value in (("size", size), ("stride", stride)):
        each = tuple(value) if isinstance(value, tuple | list) else (value,) * axes
        if len(each) != axes or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in each):
            raise UsageError(
                f"box-occlusion: {name} must be a positive whole number, or one for each of {axes} axes: {value!r}"
            )
        both.append(each)
    if any(step > width for width, step in zip(*both, strict=True)):
        raise UsageError(f"box-occlusion: with stride {stride!r} beyond size {size!r}, features would be left out")
    return list(zip(*both, strict=True))


def _starts(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    size = min(size, length)
    starts = list(range(0, length - size + 1, stride))
    if starts[-1] + size < length:
        starts.append(length - size)
    return [(start, start + size) for start in starts]
