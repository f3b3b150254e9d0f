"""From stored samples to what a network takes: the range of the values, and the size of the images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Preparation:
    """How images are scaled before a network sees them; words pass unchanged.

    mean, std  of each channel, or one for all: the network sees (value - mean) / std of values in [0, 1]
    size       images are brought to size x size first; None: they stay as they are
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Stored samples [B, *shape] as a network takes them.

        Args:
            x: images [B, C, H, W] of bytes or of floats in [0, 1]; token ids [B, L], whole numbers.
        """
        if x.dtype == torch.int64:
            return x
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = nn.functional.interpolate(
                x, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        if (self.mean, self.std) == ((0.0,), (1.0,)):
            return x
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std

    def masks(self, masks: Tensor) -> Tensor:
        """Masks [B, C, H, W] at the size of the prepared images."""
        if self.size is None or masks.shape[-2:] == (self.size, self.size):
            return masks
        resized: Tensor = nn.functional.interpolate(masks.float(), (self.size, self.size), mode="nearest-exact")
        return resized > 0.5

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a prepared sample."""
        return stored if self.size is None or len(stored) != 3 else (stored[0], self.size, self.size)

    def for_channels(self, channels: int) -> Preparation:
        """The same for images of another number of channels: each is scaled as the colours are on average."""
        if len(self.mean) in (1, channels):
            return self
        mean, std = (round(sum(of) / len(of), 3) for of in (self.mean, self.std))
        return replace(self, mean=(mean,), std=(std,))

    def describe(self) -> str:
        """The range of the values in words, as reports and checkpoints record it."""
        if len(self.mean) == 1:
            low, high = (0 - self.mean[0]) / self.std[0], (1 - self.mean[0]) / self.std[0]
            return f"values in [{low:g}, {high:g}]"
        return f"channels of mean {list(self.mean)} and standard deviation {list(self.std)} taken to 0 and 1"


FROM_0 = Preparation()
AROUND_0 = Preparation((0.5,), (0.5,))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
