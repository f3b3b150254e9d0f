"""A network and the samples of a data set as it sees them: which ones a subject is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .networks.text import EMBEDDING
from .preparation import Preparation
from .samples import Dataset
from .subject import Subject
from .training import is_correct

_TESTED = 1_000
_MOST_DATA = 1_000
_MOST_VALUES = 2**25  # of all samples to learn from together: 128 MiB
_ROWS = 64


@dataclass(frozen=True)
class Chosen:
    """The samples that are looked at.

    places    among the test samples [M]
    labels    the class of each [M]
    accuracy  the share of unseen samples that the network classifies correctly
    """

    places: Tensor
    labels: Tensor
    accuracy: float


@dataclass(frozen=True)
class View:
    """A network (with its embedding, for texts) on a device, and a data set brought into its range and size."""

    name: str
    network: nn.Module
    dataset: Dataset
    preparation: Preparation
    device: str

    def choose(self, images: int, seed: int, accuracy: float | None = None) -> Chosen:
        """The first `images` correctly classified test samples, in a random order that takes the classes in turn.

        Where samples show several classes, one is correct if the class of the highest logit is in it, and its label
        is the class in it of the highest logit. A single logit says by its sign whether its class is there.

        Args:
            images: how many; there are fewer where not so many are classified correctly.
            seed: of the order, and of which samples are looked at where there are many.
            accuracy: on all test samples, where it is known; measured on those that are looked at otherwise.

        Raises:
            UsageError: not one sample is classified correctly.
        """
        order = torch.randperm(len(self.dataset.test), generator=torch.Generator().manual_seed(seed))
        seen = order[: max(_TESTED, 4 * images)]
        test = self.dataset.test.take(seen)
        with torch.no_grad():
            logits = torch.cat([self.network(self.prepared(part)).cpu() for part in test.x.split(_ROWS)])
        if logits.shape[1] == 1:
            correct, labels, groups = (logits > 0)[:, 0] == test.present[:, 0], test.labels, test.present[:, 0].long()
        else:
            correct = is_correct(logits, test.present)
            labels = groups = logits.masked_fill(~test.present, -torch.inf).argmax(1)
        if not correct.any():
            raise UsageError(f"{self.name} classifies none of {len(test)} samples of {self.dataset.name} correctly")
        known = correct.nonzero()[:, 0]
        places = known[in_turn(groups[known], seed)][:images]
        share = float(correct.double().mean()) if accuracy is None else accuracy
        return Chosen(seen[places], labels[places], share)

    def subject(self, chosen: Chosen, seed: int) -> Subject:
        """The subject of chosen samples, with training samples in a random order."""
        dataset, test = self.dataset, self.dataset.test.take(chosen.places)
        order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(seed))
        values = math.prod(self.preparation.shape(dataset.shape)) * (EMBEDDING if dataset.kind == "text" else 1)
        data = dataset.train.x[order[: min(_MOST_DATA, max(_ROWS, _MOST_VALUES // values))]]
        masks = None if test.masks is None else self.preparation.masks(test.masks).to(self.device)
        return Subject(
            model_name=self.name,
            data_name=dataset.name,
            model=self._attributed,
            x=self._entered(test.x),
            labels=chosen.labels.to(self.device),
            present=test.present.to(self.device),
            masks=masks,
            data=self._entered(data),
            classes=dataset.classes,
            group_axis=dataset.group_axis,
            accuracy=chosen.accuracy,
            needed=dataset.needed,
        )

    def prepared(self, x: Tensor) -> Tensor:
        """Stored samples as the whole network takes them, in its dtype and on its device."""
        prepared = self.preparation(x.to(self.device))
        parameter = next(self.network.parameters(), None)
        return prepared.to(parameter.dtype) if parameter is not None and prepared.is_floating_point() else prepared

    @property
    def _attributed(self) -> nn.Module:
        """The part of the network whose input is attributed."""
        return self.network.get_submodule("behind") if self.dataset.kind == "text" else self.network

    def _entered(self, x: Tensor) -> Tensor:
        """Stored samples as that part takes them."""
        prepared = self.prepared(x)
        if self.dataset.kind != "text":
            return prepared
        with torch.no_grad():
            embedded: Tensor = self.network.get_submodule("embedding")(prepared)
        return embedded


def in_turn(groups: Tensor, seed: int) -> Tensor:
    """Places [M] in a random order that takes the groups in turn: one of each, then a second of each, and so on.

    Args:
        groups: [M] whole numbers.
        seed: of the order within and between groups.
    """
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))
    drawn = groups[order]
    # How many of its own group come before each.
    rank = nn.functional.one_hot(drawn).cumsum(0).gather(1, drawn[:, None])[:, 0]
    return order[rank.argsort(stable=True)]
