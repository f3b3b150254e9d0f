"""Convolutional networks of the papers that are trained here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .activations import activation as activation_named


def mnist_cnn(in_shape: Sequence[int], n_classes: int, activation: str = "relu") -> nn.Sequential:
    """Two convolutions of 32 and 64 kernels 3x3, max-pooling, a layer of 128: images to logits [B, n_classes].

    Source: Ancona et al. 2018, appendix C.1. Convolutions are not padded.

    Raises:
        UsageError: the activation is unknown.
    """
    unit = activation_named(activation)
    features = nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3), unit(), nn.Conv2d(32, 64, 3), unit(), nn.MaxPool2d(2), nn.Flatten()
    )
    return nn.Sequential(*features, nn.Linear(_width(features, in_shape), 128), unit(), nn.Linear(128, n_classes))


def cifar_cnn(in_shape: Sequence[int], n_classes: int) -> nn.Sequential:
    """Two blocks of two convolutions 3x3 (32, 64 kernels), dropout, a layer of 256: images to logits [B, n_classes].

    Source: Ancona et al. 2018, appendix C.2, with dropout 0.25, 0.25 and 0.5. The paper does not say how convolutions are
    padded; here the first of each block keeps the size and the second is not padded.
    """
    features = nn.Sequential(
        nn.Conv2d(in_shape[0], 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
    )  # fmt: skip
    width = _width(features, in_shape)
    return nn.Sequential(*features, nn.Linear(width, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, n_classes))


def small_vgg(in_shape: Sequence[int], n_classes: int) -> nn.Sequential:
    """Blocks of convolutions 3x3 and max-pooling as in VGG, then the mean over places: images to logits [B, n_classes].

    16 | 32 | 64 64 | 64 64 kernels; the last block is not pooled, so class activation maps of 64x64 images are 8x8.

    Source: after Simonyan and Zisserman 2015, with the head of Lin et al. 2014 (global average pooling).
    """
    layers: list[nn.Module] = []
    channels = in_shape[0]
    for block in ((16,), (32,), (64, 64), (64, 64)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for width in block:
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.ReLU()]
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))


def _width(features: nn.Module, in_shape: Sequence[int]) -> int:
    """How many values the features of one image are."""
    with torch.no_grad():
        return int(features(torch.zeros(1, *in_shape)).shape[1])
