"""What an architecture is: a name, how it is built, what it takes, and how the papers train it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..preparation import FROM_0, Preparation
from ..settings import Settings


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    name         as it stands after --model, with its options in brackets
    summary      one line
    source       the paper, or the library
    factory      (in_shape, n_classes, **options) -> nn.Module; of texts in_shape is (L,), and `words` says how many
    takes        "image" or "text"
    preparation  how stored images are brought into its range and to its size
    settings     how it is trained
    smallest     the least height and width of an image
    ignored      the beginnings of names of weights in files that the network does not use
    options      what the factory is called with besides
    data         the embedded data set that it is looked at on where none is named; None: one must be named
    """

    name: str
    summary: str
    source: str
    factory: Callable[..., nn.Module]
    settings: Settings
    takes: str = "image"
    preparation: Preparation = FROM_0
    smallest: int = 1
    ignored: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
