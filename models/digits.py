"""A small network trained on scikit-learn's handwritten digits (8x8 images): a trained model that needs no download."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from ..calling import one_thread
from ..errors import UsageError

SEED = 0
EPOCHS = 40
HIDDEN = 32


@functools.cache
def _data() -> tuple[Tensor, Tensor]:
    """Images [1797, 64] in [0, 1], and labels [1797], in a fixed random order."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("the digits need scikit-learn: pip install 'attribcheck[examples]'") from error
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(pixels))
    return torch.tensor(pixels[order] / 16.0, dtype=torch.float32), torch.tensor(labels[order])


def images() -> Tensor:
    """The test images [297, 64], pixel values in [0, 1]."""
    return _data()[0][1500:]


@functools.cache
def network() -> nn.Module:
    """A 64-32-32-10 ReLU network, trained on 1500 images with Adam; the same weights in every process of a machine.

    Returns:
        The network in eval mode, [B, 64] to logits [B, 10].

    Raises:
        UsageError: scikit-learn is not installed.
    """
    pixels, labels = _data()
    pixels, labels = pixels[:1500], labels[:1500]
    # One thread: the same weights in a worker and where its witness is replayed.
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(SEED)
        model = nn.Sequential(
            nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10)
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(pixels)).split(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(pixels[batch]), labels[batch]).backward()
                optimizer.step()
    return model.eval().requires_grad_(False)


def accuracy() -> float:
    """The share of test images that the network classifies correctly."""
    pixels, labels = _data()
    with torch.no_grad():
        return float((network()(pixels[1500:]).argmax(1) == labels[1500:]).float().mean())
