"""ImageNet, or any pictures in folders of classes: val/<class>/*.JPEG, and train/<class>/*.JPEG where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...errors import UsageError, first_line
from ..samples import Dataset, Samples
from . import files, pictures

DATA = 250


def load(data_root: str | Path | None, size: int = 224, limit: int = 200) -> Dataset:
    """The first `limit` pictures of val in a fixed random order, and 250 of train, their middle of size x size.

    Classes are the folders of val in alphabetical order, as torchvision numbers them. Where there is no train, the
    samples to learn means and patterns from are other pictures of val. The training pictures are a small part, so no
    network can be trained on them here.

    Source: Russakovsky et al. 2015.

    Raises:
        UsageError: there is no val, or a picture cannot be read.
    """
    from torchvision.datasets import ImageFolder

    root = files.root_of("imagenet", data_root)
    val = files.find("imagenet", root, ("", "imagenet", "ImageNet"), ("val",))
    try:
        found = ImageFolder(val)
    except (OSError, ValueError) as error:
        raise UsageError(f"imagenet: {val} has no folders of classes with pictures: {first_line(error)}") from error
    if len(found.classes) < 2:
        raise UsageError(f"imagenet: {val} has {len(found.classes)} folder of a class, expected two or more")
    chosen = _drawn(found.samples)
    test, rest = chosen[:limit], chosen[limit:]
    train_folder = val.parent / "train"
    if train_folder.is_dir():
        try:
            others = ImageFolder(train_folder)
        except (OSError, ValueError) as error:
            raise UsageError(f"imagenet: {train_folder} is not complete: {first_line(error)}") from error
        if others.classes != found.classes:
            raise UsageError(f"imagenet: {train_folder} and {val} have different folders of classes")
        rest = _drawn(others.samples)
    return Dataset(
        name="imagenet",
        classes=tuple(found.classes),
        shape=(3, size, size),
        bounds=(0.0, 1.0),
        kind="image",
        group_axis=0,
        train=_read((rest or test)[:DATA], size, len(found.classes)),
        test=_read(test, size, len(found.classes)),
        source="ImageNet (Russakovsky et al. 2015), pictures from folders of classes",
        needed=0.5,
        why="AlexNet, the weakest of the networks, is right on 56 %",
        partial=True,
    )


def _drawn(samples: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Files with their class, in a fixed random order."""
    return [samples[k] for k in np.random.default_rng(0).permutation(len(samples))]


def _read(samples: list[tuple[str, int]], size: int, n_classes: int) -> Samples:
    x = torch.stack([pictures.middle(pictures.opened("imagenet", path), size) for path, _ in samples])
    return Samples.of_one_class(x, torch.tensor([label for _, label in samples]), n_classes)
