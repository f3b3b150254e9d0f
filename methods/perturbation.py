"""What perturbation methods share: the target's outputs at many altered inputs, and features removed in groups."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import Unsupported, UsageError

# Rows of one forward pass: large enough to amortise a call, small enough to stay out of the allocator's mmap range.
ROWS = 256

GROUPS = ("none", "channels", "vectors")


def target_outputs(model: nn.Module, rows: int, make: Callable[[int, int], tuple[Tensor, Tensor]]) -> Tensor:
    """The target logits [rows] of inputs that are made when they are needed, without gradients.

    Args:
        model: maps [B, *shape] to logits [B, C].
        rows: how many there are.
        make: (start, stop) -> the inputs [stop - start, *shape] and their targets [stop - start].
    """
    found = []
    with torch.no_grad():
        for start in range(0, max(1, rows), ROWS):  # (no rows are a batch of none)
            inputs, target = make(start, min(start + ROWS, rows))
            found.append(model(inputs).gather(1, target[:, None])[:, 0])
    return torch.cat(found)


def outputs_at(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """The target logits [P] at inputs [P, *shape], for one target or a target [P] each."""
    target = target.expand(len(inputs))
    return target_outputs(model, len(inputs), lambda start, stop: (inputs[start:stop], target[start:stop]))


def group_index(method: str, groups: str, x: Tensor) -> Tensor:
    """The group of each feature, [N] with values 0 to G - 1, for features in the order of x.flatten(1).

    Args:
        method: the name that errors mention.
        groups: "none": each feature alone; "channels": all channels of a position of x [B, C, *positions] together;
            "vectors": the last axis of x [B, *positions, D], such as a word's embedding, together.

    Raises:
        UsageError: an unknown name.
        Unsupported: x has no axis to form such groups along.
    """
    if groups not in GROUPS:
        raise UsageError(f"{method}: groups must be one of {', '.join(map(repr, GROUPS))}, not {groups!r}")
    shape = x.shape[1:]
    if groups == "none":
        return torch.arange(shape.numel(), device=x.device)
    if len(shape) < 2:
        raise Unsupported(
            f"{method}: groups={groups!r} needs an axis of {groups} and one of positions, x has {tuple(shape)}"
        )
    positions, channel = (shape[1:], 0) if groups == "channels" else (shape[:-1], -1)
    index = torch.arange(positions.numel(), device=x.device).reshape(positions)
    return index.unsqueeze(channel).expand(shape).flatten()


def shared(values: Tensor, index: Tensor) -> Tensor:
    """Group values [B, G] as feature values [B, N]: each group's is divided equally, so that sums stay."""
    sizes = torch.bincount(index)
    return (values / sizes)[:, index]
