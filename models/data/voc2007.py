"""Pascal VOC 2007 from VOCdevkit/VOC2007, with boxes or segmentations as masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import UsageError, first_line
from ..samples import Dataset, Samples
from . import files, pictures

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def load_boxes(data_root: str | Path | None, size: int = 224, limit: int = 200) -> Dataset:
    """Pictures with the boxes of their objects as masks; see `_load`. Objects marked as difficult are left out."""
    from torchvision.datasets import VOCDetection

    return _load("voc2007", VOCDetection, "Main", data_root, size, limit, _boxes)


def load_segmentation(data_root: str | Path | None, size: int = 224, limit: int = 200) -> Dataset:
    """Pictures with the segmentation of their objects as masks; see `_load`. Pixels of borders belong to no class."""
    from torchvision.datasets import VOCSegmentation

    return _load("voc2007-segmentation", VOCSegmentation, "Segmentation", data_root, size, limit, _segments)


def _load(
    name: str,
    source: Callable[..., Any],
    lists: str,
    data_root: str | Path | None,
    size: int,
    limit: int,
    masks_of: Callable[[Any, int], Tensor],
) -> Dataset:
    """The first `limit` pictures of trainval and of test, in a fixed random order, squeezed to size x size.

    Source: Everingham et al. 2010; the pointing game on them: Zhang et al. 2018, Khakzar et al. 2020.

    Raises:
        UsageError: a folder, list or picture is missing.
    """
    root = files.root_of(name, data_root)
    base = files.find(name, root, ("", "voc2007"), (f"VOCdevkit/VOC2007/ImageSets/{lists}",)).parents[3]
    parts = []
    for split in ("trainval", "test"):
        try:
            found = source(base, year="2007", image_set=split, download=False)
            order = np.random.default_rng(0).permutation(len(found))[:limit]
            pairs = [found[int(k)] for k in order]
        except Exception as error:
            raise UsageError(f"{name}: {base / 'VOCdevkit/VOC2007'} is not complete: {first_line(error)}") from error
        if not pairs:
            raise UsageError(f"{name}: {split}.txt of {base / 'VOCdevkit/VOC2007/ImageSets' / lists} lists no picture")
        x = torch.stack([pictures.whole(picture, size) for picture, _ in pairs])
        masks = torch.stack([masks_of(target, size) for _, target in pairs])
        shown = masks.any(3).any(2)
        kept = shown.any(1)
        if not kept.any():
            raise UsageError(f"{name}: the pictures of {split} show no object")
        masks = masks[kept]
        parts.append(Samples.of_classes(x[kept], shown[kept], masks if split == "test" else None))
    return Dataset(
        name=name,
        classes=CLASSES,
        shape=(3, size, size),
        bounds=(0.0, 1.0),
        kind="scene",
        group_axis=0,
        train=parts[0],
        test=parts[1],
        source="Pascal VOC 2007 (Everingham et al. 2010)",
        needed=0.7,
        why='always saying "person" is right on about 40 %',
        partial=True,
    )


def _boxes(target: Any, size: int) -> Tensor:
    """The masks [C, size, size] of the boxes of an annotation."""
    masks = torch.zeros(len(CLASSES), size, size, dtype=torch.bool)
    annotation = target["annotation"]
    width, height = (int(annotation["size"][side]) for side in ("width", "height"))
    for thing in annotation["object"]:
        if thing.get("difficult", "0") == "1":
            continue
        # Boxes count pixels from 1, and their last pixel belongs to them.
        left, top, right, bottom = (float(thing["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax"))
        rows = slice(round((top - 1) * size / height), max(1, round(bottom * size / height)))
        columns = slice(round((left - 1) * size / width), max(1, round(right * size / width)))
        masks[CLASSES.index(thing["name"]), rows, columns] = True
    return masks


def _segments(target: Image.Image, size: int) -> Tensor:
    """The masks [C, size, size] of a segmentation: class k has the value k + 1."""
    values = np.asarray(target.resize((size, size), Image.Resampling.NEAREST))
    return torch.tensor(values[None] == np.arange(1, len(CLASSES) + 1)[:, None, None])
