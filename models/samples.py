"""What a data set is: samples with labels and masks, and what one must know to train on them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# image: one object of one class; scene: objects of several classes, which are learnt one by one; text: token ids.
Kind = Literal["image", "scene", "text"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in a fixed order.

    x        images [M, C, H, W], bytes or floats in [0, 1]; or token ids [M, L] int64, 0 where there is no word
    labels   [M] int64, one class of each sample
    present  [M, C] bool, which classes are in it
    masks    [M, C, H, W] bool, where the objects of each class are; None where that is not known
    """

    x: Tensor
    labels: Tensor
    present: Tensor
    masks: Tensor | None = None

    @classmethod
    def of_one_class(cls, x: Tensor, labels: Tensor, n_classes: int) -> Samples:
        """Samples that show one class each."""
        return cls(x, labels, torch.nn.functional.one_hot(labels, n_classes).bool())

    @classmethod
    def of_classes(cls, x: Tensor, present: Tensor, masks: Tensor | None = None) -> Samples:
        """Samples that show several classes; `labels` is the first of each."""
        return cls(x, present.int().argmax(1), present, masks)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, chosen: Tensor | slice) -> Samples:
        """The samples at these places."""
        masks = None if self.masks is None else self.masks[chosen]
        return Samples(self.x[chosen], self.labels[chosen], self.present[chosen], masks)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set.

    name        as it stands after --data
    classes     the names of the C classes
    shape       of a stored sample
    bounds      the lowest and the highest value that a stored sample takes, once bytes are taken to [0, 1]
    kind        "image", "scene" or "text"
    group_axis  the axis of a sample as a network sees it along which entries make one feature (see Subject)
    train, test samples to train on, and others that no training sees
    source      where it comes from
    needed      the accuracy that a network must have for checks to say anything of it
    why         the reason of `needed`
    vocabulary  of texts: the word of each token id
    partial     a part of the training samples was read: enough for means and patterns, not to train on
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    bounds: tuple[float, float]
    kind: Kind
    group_axis: int | None
    train: Samples
    test: Samples
    source: str
    needed: float
    why: str
    vocabulary: tuple[str, ...] = ()
    partial: bool = False

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.classes)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of the name, the classes and all samples with their labels."""
        digest = hashlib.sha256(repr((self.name, self.classes, self.vocabulary)).encode())
        for samples in (self.train, self.test):
            for part in (samples.x, samples.labels, samples.present):
                digest.update(repr((part.dtype, tuple(part.shape))).encode())
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()
