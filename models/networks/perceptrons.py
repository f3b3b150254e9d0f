"""Multi-layer perceptrons for images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from .activations import activation as activation_named


def mlp_3x1024(in_shape: Sequence[int], n_classes: int) -> nn.Sequential:
    """Three hidden layers of 1024 ReLU units: [B, *in_shape] to logits [B, n_classes].

    Source: Kindermans et al. 2017, section 2.1.
    """
    return perceptron(math.prod(in_shape), (1024, 1024, 1024), n_classes, nn.ReLU)


def mnist_mlp(in_shape: Sequence[int], n_classes: int, activation: str = "relu") -> nn.Sequential:
    """Two hidden layers of 512 units: [B, *in_shape] to logits [B, n_classes].

    Source: Ancona et al. 2018, appendix C.1.

    Raises:
        UsageError: the activation is unknown.
    """
    return perceptron(math.prod(in_shape), (512, 512), n_classes, activation_named(activation))


def perceptron(inputs: int, hidden: Sequence[int], outputs: int, unit: type[nn.Module]) -> nn.Sequential:
    """Flattening, then linear layers with a non-linearity after each but the last."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(inputs, width), unit()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
