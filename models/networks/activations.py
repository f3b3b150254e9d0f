"""The non-linearities of Ancona et al. 2018, by name."""

from __future__ import annotations

from torch import nn

from ...errors import UsageError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


def activation(name: str) -> type[nn.Module]:
    """The module of a non-linearity.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise UsageError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
