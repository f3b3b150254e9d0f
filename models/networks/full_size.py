"""Full-size architectures, as torchvision builds them: their weights are read from a file, never downloaded."""

from __future__ import annotations

from collections.abc import Sequence

import torchvision.models
from torch import nn


def alexnet(in_shape: Sequence[int], n_classes: int) -> nn.Module:
    """AlexNet: images [B, 1 or 3, H, W] to logits; for one channel the first layer has one, and nothing else differs.

    Source: Krizhevsky 2014, as in torchvision; on one channel Gupta and Arora 2019, section 3.
    """
    return _of_channels(torchvision.models.alexnet(weights=None, num_classes=n_classes), in_shape[0])


def vgg16(in_shape: Sequence[int], n_classes: int) -> nn.Module:
    """VGG-16: images [B, C, H, W] to logits. Source: Simonyan and Zisserman 2015, as in torchvision."""
    return _of_channels(torchvision.models.vgg16(weights=None, num_classes=n_classes), in_shape[0])


def vgg19(in_shape: Sequence[int], n_classes: int) -> nn.Module:
    """VGG-19: images [B, C, H, W] to logits. Source: Simonyan and Zisserman 2015, as in torchvision."""
    return _of_channels(torchvision.models.vgg19(weights=None, num_classes=n_classes), in_shape[0])


def inception_v3(in_shape: Sequence[int], n_classes: int) -> nn.Module:
    """Inception v3 without its auxiliary classifier: images [B, 3, H, W] to logits, and nothing else, in any mode.

    Source: Szegedy et al. 2016, as in torchvision. The weights of torchvision are for inputs in [-1, 1].
    """
    made = torchvision.models.inception_v3(
        weights=None, num_classes=n_classes, aux_logits=False, transform_input=False, init_weights=False
    )
    return _of_channels(made, in_shape[0])


def resnet50(in_shape: Sequence[int], n_classes: int) -> nn.Module:
    """ResNet-50: images [B, C, H, W] to logits. Source: He et al. 2016, as in torchvision."""
    return _of_channels(torchvision.models.resnet50(weights=None, num_classes=n_classes), in_shape[0])


def _of_channels(model: nn.Module, channels: int) -> nn.Module:
    """The network, its first convolution made for another number of channels."""
    name, first = next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != channels:
        parent, _, last = name.rpartition(".")
        size: tuple[int, int] = (first.kernel_size[0], first.kernel_size[1])
        other = nn.Conv2d(
            channels, first.out_channels, size, (first.stride[0], first.stride[1]), first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )  # fmt: skip
        setattr(model.get_submodule(parent), last, other)
    return model
