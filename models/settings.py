"""How a network is trained: the optimiser, how long, and when to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Settings:
    """The settings of one training.

    optimizer  "sgd", "adadelta" or "adam"
    rate       its learning rate
    batch      samples of one step
    epochs     passes over the training samples at most, as the papers train on their data
    steps      at least so many steps, whatever `epochs` says: the embedded data sets are small, so their epochs are short
    held_out   the share of the training samples that early stopping watches; 0: no early stopping
    patience   epochs without a lower loss on the held-out samples before training ends; the best weights are kept
    shift      images are moved by up to so many pixels, anew in each epoch
    dropout    False: dropout layers do nothing
    stop_at    training ends as soon as the training accuracy is above this; None: it does not look
    samples    at most so many training samples; None: all
    """

    optimizer: str
    rate: float
    batch: int = 64
    epochs: int = 10
    steps: int = 0
    held_out: float = 0.1
    patience: int = 5
    shift: int = 0
    dropout: bool = True
    stop_at: float | None = None
    samples: int | None = None

    def for_permuted_labels(self) -> Settings:
        """The same for labels that have nothing to do with the samples: learning them by heart, to above 98 %.

        Nothing may stand in the way of learning by heart, so no early stopping, no dropout, no shifts; and Adam, since
        other optimisers need many times the steps. Source of the 98 %: Gupta and Arora 2019, section 5.
        """
        rate = self.rate if self.optimizer == "adam" else 1e-3
        return replace(
            self, optimizer="adam", rate=rate, epochs=100, steps=0, held_out=0.0, shift=0, dropout=False, stop_at=0.98
        )

    def quick(self) -> Settings:
        """A few steps on a few samples: for tests of the machinery, which take any weights."""
        return replace(
            self, optimizer="adam", rate=2e-3, batch=32, epochs=4, steps=min(self.steps, 40), shift=0, samples=256
        )

    def to_json(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)
