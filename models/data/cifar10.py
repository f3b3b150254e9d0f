"""CIFAR-10 from its binary files, or from its Python files by way of torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...errors import UsageError, first_line
from ..samples import Dataset, Samples
from . import files

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BINARY = ("cifar-10-batches-bin", "")
_ROW = 1 + 3 * 32 * 32


def load(data_root: str | Path | None) -> Dataset:
    """50,000 images to train on and 10,000 to test, 3x32x32.

    Looks for the folders cifar-10-batches-bin (data_batch_1.bin ... test_batch.bin) and cifar-10-batches-py. The
    latter holds pickles, which may do anything when they are read: torchvision reads them, after it has compared
    their checksums with those of the published files.

    Source: Krizhevsky 2009.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    root = files.root_of("cifar10", data_root)
    if (root / "cifar-10-batches-py").is_dir() and not (root / "cifar-10-batches-bin").is_dir():
        parts = [_by_torchvision(root, train) for train in (True, False)]
    else:
        parts = [_binary(root, [f"data_batch_{k}.bin" for k in range(1, 6)]), _binary(root, ["test_batch.bin"])]
    return Dataset(
        name="cifar10",
        classes=CLASSES,
        shape=(3, 32, 32),
        bounds=(0.0, 1.0),
        kind="image",
        group_axis=0,
        train=parts[0],
        test=parts[1],
        source="CIFAR-10 (Krizhevsky 2009)",
        needed=0.7,
        why="the paper's network is right on 80.5 % (Ancona et al. 2018, appendix C.2)",
    )


def _binary(root: Path, names: list[str]) -> Samples:
    """Records of a label and 3x32x32 bytes."""
    rows = []
    for name in names:
        path = files.find("cifar10", root, _BINARY, (name,))
        content = np.fromfile(path, np.uint8)
        if not len(content) or len(content) % _ROW or content[::_ROW].max() > 9:
            raise UsageError(f"cifar10: {path} is not made of records of a label and 3x32x32 bytes")
        rows.append(content.reshape(-1, _ROW))
    together = torch.tensor(np.concatenate(rows))
    return Samples.of_one_class(together[:, 1:].reshape(-1, 3, 32, 32), together[:, 0].long(), 10)


def _by_torchvision(root: Path, train: bool) -> Samples:
    from torchvision.datasets import CIFAR10

    try:
        found = CIFAR10(root, train=train, download=False)
    except Exception as error:
        folder = root / "cifar-10-batches-py"
        raise UsageError(f"cifar10: {folder} is not as published: {first_line(error)}") from error
    x = torch.tensor(np.asarray(found.data).transpose(0, 3, 1, 2))
    return Samples.of_one_class(x, torch.tensor(found.targets, dtype=torch.int64), 10)
