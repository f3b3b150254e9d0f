"""IMDB reviews of films from aclImdb: the 5000 most frequent words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ..samples import Dataset, Samples
from . import files

WORDS, LENGTH = 5_000, 500
NONE, UNKNOWN = "(none)", "(unknown)"
_WORD = re.compile(r"[a-z0-9']+")
_TAG = re.compile(r"<[^>]*>")


def load(data_root: str | Path | None, words: int = WORDS, length: int = LENGTH) -> Dataset:
    """25,000 reviews to train on and 25,000 to test, as ids of words padded in front to 500, or their last 500 words.

    Reads aclImdb/train/pos/*.txt, train/neg, test/pos and test/neg. Words are counted in the training reviews; id 0
    stands for no word, id 1 for every word that is not among the most frequent.

    Source: Maas et al. 2011; words and length: Ancona et al. 2018, appendix C.4.

    Raises:
        UsageError: a folder is missing or empty.
    """
    root = files.root_of("imdb", data_root)
    base = files.find("imdb", root, ("aclImdb", "", "imdb"), ("train/pos",)).parents[1]
    parts = {part: _reviews(base / part) for part in ("train", "test")}
    counts = Counter(word for words_of, _ in parts["train"] for word in words_of)
    # Equally frequent words in alphabetical order, so that ids do not depend on the order of the files.
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: words - 2]
    vocabulary = (NONE, UNKNOWN, *frequent)
    ids = {word: number for number, word in enumerate(vocabulary)}
    train, test = (
        Samples.of_one_class(_ids(found, ids, length), torch.tensor([label for _, label in found]), 2)
        for found in parts.values()
    )
    return Dataset(
        name="imdb",
        classes=("negative", "positive"),
        shape=(length,),
        bounds=(0, len(vocabulary) - 1),
        kind="text",
        group_axis=-1,
        train=train,
        test=test,
        source="IMDB reviews (Maas et al. 2011)",
        needed=0.8,
        why="the paper's networks are right on 87.3 % (Ancona et al. 2018, appendix C.4)",
        vocabulary=vocabulary,
    )


def _reviews(folder: Path) -> list[tuple[list[str], int]]:
    """The words and the class of each review, in a fixed random order."""
    found = []
    for label, name in enumerate(("neg", "pos")):
        paths = sorted((folder / name).glob("*.txt"))
        if not paths:
            raise UsageError(f"imdb: there is no {folder / name / '*.txt'}")
        found += [(_words(path.read_text(encoding="utf-8", errors="replace")), label) for path in paths]
    return [found[k] for k in np.random.default_rng(0).permutation(len(found))]


def _words(text: str) -> list[str]:
    return _WORD.findall(_TAG.sub(" ", text.lower()))


def _ids(found: list[tuple[list[str], int]], ids: dict[str, int], length: int) -> Tensor:
    x = torch.zeros(len(found), length, dtype=torch.int64)
    for row, (words, _) in enumerate(found):
        kept = [ids.get(word, ids[UNKNOWN]) for word in words[-length:]]
        if kept:
            x[row, length - len(kept) :] = torch.tensor(kept)
    return x
