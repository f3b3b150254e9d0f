"""Pictures of any size from files, as tensors of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import UsageError, first_line

# The papers' networks see the middle 224 of 256 pixels.
_MARGIN = 256 / 224


def whole(picture: Image.Image, size: int) -> Tensor:
    """A picture [3, size, size] as bytes, squeezed to a square so that nothing at its edges is lost."""
    return _bytes(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def middle(picture: Image.Image, size: int) -> Tensor:
    """The middle [3, size, size] of a picture as bytes, whose shorter side is brought to size * 256 / 224 first."""
    short = round(size * _MARGIN)
    width, height = (max(size, round(side * short / min(picture.size))) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return _bytes(resized.crop((left, top, left + size, top + size)))


def opened(name: str, path: str | Path) -> Image.Image:
    """The picture in a file.

    Raises:
        UsageError: the file cannot be read as a picture.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except OSError as error:
        raise UsageError(f"{name}: {path} cannot be read as a picture: {first_line(error)}") from error


def _bytes(picture: Image.Image) -> Tensor:
    return torch.tensor(np.asarray(picture, np.uint8).transpose(2, 0, 1).copy())
