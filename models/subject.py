"""What the full-model checks look at: a trained model with samples of its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn


@dataclass(frozen=True)
class Subject:
    """A trained model, in eval mode and without gradients of its parameters, and samples that it has not seen.

    model_name   as it stands in reports and after --model
    data_name    as it stands in reports and after --data
    model        maps [B, *shape] to logits [B, C]; of a model with embeddings, the part behind the embedding
    x            samples [M, *shape]; words as embedded vectors [M, L, E]
    labels       [M], one class of each sample
    present      [M, C], which classes are in a sample (one-hot where there is one)
    masks        [M, C, H, W], where the objects of each class are; None where the data has no masks
    data         training samples [D, *shape], from which means and patterns are learnt
    classes      the names of the C classes
    group_axis   the axis of a sample along which entries make one feature (0: channels of a pixel, -1: a word's vector);
                 None: each entry is a feature
    accuracy     the share of unseen samples that are classified correctly
    needed       the accuracy below which a check says nothing
    permuted     makes the same architecture trained on permuted labels; its accuracy is that on its training data
    """

    model_name: str
    data_name: str
    model: nn.Module
    x: Tensor
    labels: Tensor
    present: Tensor
    masks: Tensor | None
    data: Tensor
    classes: tuple[str, ...]
    group_axis: int | None
    accuracy: float
    needed: float
    permuted: Callable[[], Subject] | None = None

    @property
    def id(self) -> str:
        """ "model:data"."""
        return f"{self.model_name}:{self.data_name}"

    def first(self, count: int) -> Subject:
        """The same subject with its first `count` samples."""
        masks = None if self.masks is None else self.masks[:count]
        return replace(self, x=self.x[:count], labels=self.labels[:count], present=self.present[:count], masks=masks)

    def features(self, maps: Tensor) -> Tensor:
        """Attributions [B, *shape] to features: grouped entries added up, [B, number of features]."""
        return (maps if self.group_axis is None else maps.sum(self._axis)).flatten(1)

    def spread(self, kept: Tensor) -> Tensor:
        """A value for each feature [B, number of features], laid over the entries: [B, *shape]."""
        shape = list(self.x.shape[1:])
        if self.group_axis is None:
            return kept.reshape(len(kept), *shape)
        axis = self._axis - 1
        grouped = kept.reshape(len(kept), *shape[:axis], 1, *shape[axis + 1 :])
        return grouped.expand(len(kept), *shape)

    @property
    def n_features(self) -> int:
        """How many features a sample has."""
        return self.features(self.x[:1]).shape[1]

    @property
    def _axis(self) -> int:
        assert self.group_axis is not None
        return self.group_axis + 1 if self.group_axis >= 0 else self.x.dim() + self.group_axis
