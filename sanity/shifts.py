"""Shifts of the input that a network undoes: f2(x + m) = f1(x), and the shifts m of Kindermans et al. 2017."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..axioms.case import Shifted
from ..axioms.tolerances import PRESERVED
from .outcome import NotApplicable

CLIP = 0.3
"""Of the range of the inputs: how far a planted shift may move an entry (Kindermans et al. 2017, section 4)."""

_CELLS = 7

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

# Of the largest change: what tells the rounding of one number, computed in several places, from several numbers.
_ONE_NUMBER = 1e-12


@dataclass(frozen=True)
class Pair:
    """Two networks with f2(x + m) = f1(x) that differ in what is added to the first layer's output alone.

    one, two  network 1, the model itself or one that computes the same, and network 2
    how       where m is undone
    gap       the largest |f2(x + m) - f1(x)| over the samples, relative to the largest |f1(x)|
    """

    one: nn.Module
    two: nn.Module
    how: str
    gap: float


class Offset(nn.Module):
    """A layer with a bias for each unit of its output, beyond one for each channel."""

    def __init__(self, layer: nn.Module, offset: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output at x, less the offset."""
        found: Tensor = self.layer(x) - self.get_buffer("offset")
        return found


def compensated(model: nn.Module, x: Tensor, shift: Tensor) -> Pair:
    """A network that undoes a shift of its input, with the network that it is to be compared with.

    Where a dense or convolutional layer alone reads x, its output changes by W m. That is subtracted from its bias, as in
    the paper, where it is one number for each channel. Else (arbitrary shifts of a convolution, any shift where zeros are
    padded, which do not move with x) it is subtracted unit by unit, and network 1 subtracts zeros, so that methods see one
    architecture. Where something else reads x, an explicit first layer subtracts m.

    Args:
        model: maps [B, *shape] to logits [B, C]; stays as it is.
        x: samples [B, *shape], float64.
        shift: m [*shape].

    Raises:
        NotApplicable: the two networks are not one function to rounding: the model draws random numbers, say.

    Source: Kindermans et al. 2017, section 2.
    """
    with torch.no_grad():
        expected = model(x)
        for one, two, how in _candidates(model, x, shift):
            gap = float((two(x + shift) - expected).abs().max() / expected.abs().max().clamp(min=1e-300))
            if gap <= PRESERVED:
                return Pair(one, two, how, gap)
    raise NotApplicable("the shifted network is not the same function to rounding")


def _candidates(model: nn.Module, x: Tensor, shift: Tensor) -> Iterator[tuple[nn.Module, nn.Module, str]]:
    found = _first_layer(model, x)
    if found is not None:
        name, shape = found
        layer = model.get_submodule(name)
        change = (layer(shift.reshape(shape)) - layer(torch.zeros_like(shift).reshape(shape)))[0]
        by_channel = change.movedim(-1, 0) if isinstance(layer, nn.Linear) else change
        by_channel = by_channel.flatten(1) if by_channel.dim() > 1 else by_channel[:, None]
        if bool(((by_channel - by_channel[:, :1]).abs() <= _ONE_NUMBER * change.abs().max()).all()):
            yield model, _with_bias(model, name, by_channel[:, 0]), "the bias of the first layer: b2 = b1 - W m"
        else:
            one, two = (_with_offset(model, name, offset) for offset in (torch.zeros_like(change), change))
            yield one, two, "a bias for each unit of the first layer: b2 = b1 - W m"
    yield model, Shifted(model, shift).eval(), "an explicit first layer: x - m"


def _with_bias(model: nn.Module, name: str, change: Tensor) -> nn.Module:
    found = copy.deepcopy(model)
    layer = found.get_submodule(name)
    assert isinstance(layer, _LAYERS)
    old = 0.0 if layer.bias is None else layer.bias
    layer.bias = nn.Parameter(old - change, requires_grad=False)
    return found


def _with_offset(model: nn.Module, name: str, offset: Tensor) -> nn.Module:
    found = copy.deepcopy(model)
    layer = Offset(found.get_submodule(name), offset).eval()
    if not name:
        return layer
    found.set_submodule(name, layer)
    return found


def _first_layer(model: nn.Module, x: Tensor) -> tuple[str, torch.Size] | None:
    """The dense or convolutional layer that is called first, once, on x in its order; and in what shape it gets a sample."""
    calls: list[tuple[str, Tensor]] = []
    with _watched(model, calls):
        model(x[:1])
    names = [name for name, _ in calls]
    if not calls or names.count(names[0]) > 1:
        return None
    name, given = calls[0]
    reads = len(given) == 1 and given.numel() == x[:1].numel() and torch.equal(given.flatten(), x[:1].flatten())
    return (name, given.shape) if reads else None


@contextmanager
def _watched(model: nn.Module, calls: list[tuple[str, Tensor]]) -> Iterator[None]:
    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, inputs: calls.append((name, inputs[0]))

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in model.named_modules()
        if isinstance(module, _LAYERS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def checkerboard(shape: tuple[int, ...]) -> Tensor:
    """A checkerboard [*shape] of zeros and ones, some seven cells along the last two axes, alike in all channels."""
    height, width = _plane(shape)
    side = max(1, max(height, width) // _CELLS)
    cells = (torch.arange(height)[:, None] // side + torch.arange(width) // side) % 2
    return cells.double().reshape(shape[-2:]).expand(shape).clone()


def drawing(shape: tuple[int, ...]) -> Tensor:
    """The face of a cat [*shape], ones on zeros, over the last two axes, alike in all channels."""
    height, width = _plane(shape)
    v = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None] if height > 1 else torch.zeros(1, 1).double()
    h = torch.linspace(-1, 1, width, dtype=torch.float64).abs()
    head = h**2 + (v - 0.2) ** 2 < 0.42
    ears = (v > -0.95) & (v < 0) & ((h - 0.45).abs() < 0.3 * (v + 0.95) / 0.75)
    eyes = (h - 0.25) ** 2 + (v - 0.05) ** 2 < 0.015
    mouth = ((v - 0.5).abs() < 0.06) & (h < 0.25)
    face = (head | ears) & ~eyes & ~mouth
    return face.double().reshape(shape[-2:]).expand(shape).clone()


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[-2], shape[-1]) if len(shape) > 1 else (1, shape[-1])


def planted(x: Tensor, gradient: Tensor, picture: Tensor, reach: float) -> Tensor:
    """The shift m = s / gradient - x, clipped to [-reach, reach], by which gradient * (x + m) is the picture s.

    Where the gradient is zero, no shift makes an attribution: m = 0.

    Args:
        x, gradient, picture: of one sample [*shape].

    Source: Kindermans et al. 2017, section 4.
    """
    flat = gradient == 0
    shift = (picture / gradient.where(~flat, torch.ones_like(gradient)) - x).clamp(-reach, reach)
    return shift.where(~flat, torch.zeros_like(shift))
