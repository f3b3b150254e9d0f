"""Handwritten digits that come with scikit-learn, at the size of MNIST."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from ..samples import Dataset, Samples

TEST = 500
_ORDER = 0


def load() -> Dataset:
    """1297 digits to train on and 500 to test, grey values in [0, 1], 1x28x28.

    The images are 8x8, counts of 0 to 16 dark points. They are enlarged to 24x24 by cubic interpolation and get a
    margin of 2 pixels, so that digits are about as large and as smooth as those of MNIST.

    Source: Alpaydin and Kaynak 1998, the test part of "Optical recognition of handwritten digits", as in scikit-learn.
    """
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_ORDER).permutation(len(pixels))
    small = torch.tensor(pixels[order].reshape(-1, 1, 8, 8) / 16.0, dtype=torch.float32)
    enlarged = nn.functional.interpolate(small, (24, 24), mode="bicubic", align_corners=False).clamp(0, 1)
    x = nn.functional.pad(enlarged, (2, 2, 2, 2))
    samples = Samples.of_one_class(x, torch.tensor(labels[order], dtype=torch.int64), 10)
    return Dataset(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        shape=(1, 28, 28),
        bounds=(0.0, 1.0),
        kind="image",
        group_axis=0,
        train=samples.take(slice(TEST, None)),
        test=samples.take(slice(TEST)),
        source="scikit-learn's handwritten digits (Alpaydin and Kaynak 1998), enlarged from 8x8 to 28x28",
        needed=0.9,
        why="a nearest-neighbour classifier is right on 98 %; a network far below has not learnt the digits",
    )
