"""What a kind of layer is, and what all of them are made with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ....compat.torch_parts import put_parameter
from ..spec import ARRAYS, Layer

Decided = tuple[Tensor, Tensor]
"""The quantities [P, K] whose sign decides a branch, and how far [P, K] each is from mattering (0: it matters)."""


@dataclass(frozen=True)
class Form:
    """Another way to write a layer than as a module: an expression in `forward`.

    run        (layer, its weights by setting, *inputs [P, ...]) -> [P, ...]; may write into its input
    source     the expression, with {0}, {1} for its inputs and {weight}, {bias} for its parameters
    parameters the settings that are nn.Parameters of the network itself
    """

    run: Callable[..., Tensor]
    source: Callable[[Layer], str]
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """What the package knows of one kind of layer.

    apply      (layer, *inputs [P, ...]) -> [P, ...]: the function, on plain tensors
    source     the constructor (a module) or the expression with {0}, {1} for its inputs (a function)
    module     builds the nn.Module; None for what is written as an expression in `forward`
    role       "affine" | "kink" (piecewise linear) | "smooth" | "product"
    deciders   for kinks: the quantities whose sign chooses the piece
    absolute   the layer of the magnitude network, which bounds the sum over paths of absolute values
    bounded    in its place where the size of a value counts too: (layer, sizes, magnitudes) -> (size, magnitude) of the
               result, from bounds on the absolute values of the inputs and on their sums over paths
    forms      other ways to write the layer, by name (see `forms`); "in-place" of a module is that module's own setting
    """

    apply: Callable[..., Tensor]
    source: Callable[[Layer], str]
    role: str
    module: Callable[[Layer], nn.Module] | None = None
    deciders: Callable[..., Decided] | None = None
    absolute: Callable[[Layer], Layer] = lambda layer: layer
    bounded: Callable[[Layer, list[Tensor], list[Tensor]], tuple[Tensor, Tensor]] | None = None
    forms: Mapping[str, Form] = field(default_factory=dict)


def tensor(layer: Layer, name: str, like: Tensor | None = None) -> Tensor | None:
    """A weight of the layer as a tensor of the dtype and device of `like` (float64 without)."""
    array = layer.get(name)
    if array is None:
        return None
    weight = torch.tensor(np.asarray(array))
    return weight if like is None else weight.to(like)


def load(module: nn.Module, layer: Layer) -> nn.Module:
    """Put the layer's weights into a module that waits for them (see `skeletons`)."""
    names = {"mean": "running_mean", "var": "running_var"}
    for name in ARRAYS & layer.settings.keys():
        value = tensor(layer, name)
        assert value is not None
        if name in names:
            module.register_buffer(names[name], value)
        else:
            put_parameter(module, name, value)
    return module


def between(values: Sequence[Tensor]) -> Decided:
    """Pairwise differences of the candidates of each maximum, with the distance of each pair below it."""
    top = torch.stack(list(values)).amax(0)
    differences, gaps = [], []
    for a, b in itertools.combinations(values, 2):
        difference = a - b
        # Two padded (-inf) entries never compete: their difference is no decision.
        differences.append(torch.where(difference.isnan(), torch.full_like(difference, torch.inf), difference))
        gaps.append(top - torch.maximum(a, b))
    if not differences:  # a window of one
        return top.flatten(1)[:, :0], top.flatten(1)[:, :0]
    return torch.cat([d.flatten(1) for d in differences], 1), torch.cat([g.flatten(1) for g in gaps], 1)


def keywords(settings: Mapping[str, object]) -> str:
    """Settings as the keyword arguments at the end of a call."""
    return "".join(f", {name}={value!r}" for name, value in settings.items())
