"""MNIST from its four idx files, compressed or not."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError, first_line
from ..samples import Dataset, Samples
from . import files

_FOLDERS = ("", "mnist", "MNIST", "MNIST/raw")


def load(data_root: str | Path | None) -> Dataset:
    """60,000 digits to train on and 10,000 to test, 1x28x28.

    Looks for train-images-idx3-ubyte and the other three, or the same with .gz, in the folder and in its mnist,
    MNIST or MNIST/raw (torchvision's layout).

    Source: LeCun et al. 1998.

    Raises:
        UsageError: a file is missing, or is no idx file of that kind.
    """
    root = files.root_of("mnist", data_root)
    parts = []
    for part in ("train", "t10k"):
        x = _read(root, f"{part}-images-idx3-ubyte", 3)
        labels = _read(root, f"{part}-labels-idx1-ubyte", 1)
        if len(x) != len(labels) or int(labels.max()) > 9:
            raise UsageError(f"mnist: {len(x)} images and {len(labels)} labels of {part} do not fit together")
        parts.append(Samples.of_one_class(x[:, None], labels.long(), 10))
    return Dataset(
        name="mnist",
        classes=tuple(str(digit) for digit in range(10)),
        shape=tuple(parts[0].x.shape[1:]),
        bounds=(0.0, 1.0),
        kind="image",
        group_axis=0,
        train=parts[0],
        test=parts[1],
        source="MNIST (LeCun et al. 1998)",
        needed=0.95,
        why="the papers' networks are right on 97.9 % and more (Ancona et al. 2018, appendix C.1)",
    )


def _read(root: Path, name: str, dimensions: int) -> Tensor:
    """An idx file of bytes: 0 0 8 and the number of dimensions, each of these as four bytes, then the values."""
    path = files.find("mnist", root, _FOLDERS, (name, f"{name}.gz"))
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UsageError(f"mnist: {path} cannot be read: {first_line(error)}") from error
    start = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">i4")) if len(content) >= start else ()
    if content[:4] != bytes((0, 0, 8, dimensions)) or not all(shape) or len(content) != start + math.prod(shape):
        raise UsageError(f"mnist: {path} is no idx file of bytes with {dimensions} dimensions")
    return torch.tensor(np.frombuffer(content, np.uint8, offset=start).reshape(shape))
