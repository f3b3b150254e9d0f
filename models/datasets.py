"""The data sets by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UsageError, suggestion
from .data import cifar10, handwritten_digits, imagenet, imdb, mnist, scenes, sentiment, voc2007
from .samples import Dataset

LIMIT = 200


@dataclass(frozen=True)
class Asked:
    """What a data set is asked for.

    root   the folder of its files
    size   the height and width that the network wants pictures at, where files hold pictures of any size
    limit  the most pictures that are read of those
    quick  fewer samples, for tests
    """

    root: str | None = None
    size: int = 224
    limit: int = LIMIT
    quick: bool = False


@dataclass(frozen=True)
class Source:
    """Where a data set comes from: its name, one line, what loads it, and whether it is read from files."""

    name: str
    summary: str
    load: Callable[[Asked], Dataset]
    files: bool = False


def _scenes(size: int, train: int, test: int) -> Callable[[Asked], Dataset]:
    return lambda asked: scenes.load(size, 96 if asked.quick else train, 40 if asked.quick else test)


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("digits", "1797 handwritten digits of scikit-learn, 1x28x28", lambda _: handwritten_digits.load()),
        Source("scenes", "generated scenes of shapes over photographs, with masks, 3x64x64", _scenes(64, 2_000, 400)),
        Source("scenes-224", "the same in 3x224x224, fewer", _scenes(224, 600, 200)),
        Source(
            "sentiment", "generated sentences with a sentiment, 24 words",
            lambda asked: sentiment.load(1_000, 200) if asked.quick else sentiment.load(),
        ),
        Source("mnist", "handwritten digits, 1x28x28, from idx files", lambda asked: mnist.load(asked.root), True),
        Source("cifar10", "small photographs of ten classes, 3x32x32", lambda asked: cifar10.load(asked.root), True),
        Source(
            "voc2007", "photographs with objects of twenty classes, boxes as masks, from VOCdevkit",
            lambda asked: voc2007.load_boxes(asked.root, asked.size, asked.limit), True,
        ),
        Source(
            "voc2007-segmentation", "the same, segmentations as masks",
            lambda asked: voc2007.load_segmentation(asked.root, asked.size, asked.limit), True,
        ),
        Source(
            "imagenet", "photographs in folders of classes, val/<class>/*.JPEG",
            lambda asked: imagenet.load(asked.root, asked.size, asked.limit), True,
        ),
        Source("imdb", "reviews of films, 500 words, from aclImdb", lambda asked: imdb.load(asked.root), True),
    )
}  # fmt: skip


def dataset(name: str, asked: Asked | None = None) -> Dataset:
    """A data set by its name; the last few stay in memory.

    Raises:
        UsageError: there is none of that name, or its files are missing.
    """
    if name not in SOURCES:
        known = suggestion(name, SOURCES)
        raise UsageError(f"unknown data {name!r}; {known} (data of your own: package.module:batch)")
    asked = asked or Asked()
    return _loaded(name, asked if SOURCES[name].files else Asked(quick=asked.quick))


@functools.lru_cache(maxsize=4)
def _loaded(name: str, asked: Asked) -> Dataset:
    return SOURCES[name].load(asked)
