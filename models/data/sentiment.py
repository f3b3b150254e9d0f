"""Sentences about films with a known sentiment, from a small grammar."""

from __future__ import annotations

from random import Random

import torch

from ..samples import Dataset, Samples

LENGTH = 24
TRAIN, TEST = 6_000, 1_000
_SEED = 0
_CLAUSES = (2, 3, 4)

GOOD = (
    "good", "great", "wonderful", "brilliant", "superb", "moving", "funny", "charming", "clever", "gripping",
    "beautiful", "delightful", "fresh", "elegant", "memorable", "splendid", "touching", "witty", "honest",
    "thrilling",
)  # fmt: skip
BAD = (
    "bad", "awful", "terrible", "boring", "dull", "weak", "clumsy", "silly", "bland", "tedious", "ugly", "annoying",
    "stale", "messy", "forgettable", "dreadful", "shallow", "flat", "pointless", "tiresome",
)  # fmt: skip
NEGATIONS = ("not", "never", "hardly")
INTENSIFIERS = ("very", "really", "truly", "utterly")
THINGS = (
    "film", "story", "plot", "acting", "music", "ending", "cast", "script", "camera", "dialogue", "director",
    "scenery", "pace", "humour", "opening", "lead", "villain", "costumes", "editing", "sound",
)  # fmt: skip
ARTICLES = ("the", "its", "this")
VERBS = ("is", "was", "seems", "feels", "looks")
LINKS = ("and", "but", "while", "yet")
ASIDES = ("today", "overall", "again", "somehow", "perhaps", "indeed", "here", "often")
VOCABULARY = (
    "(none)", *GOOD, *BAD, *NEGATIONS, *INTENSIFIERS, *THINGS, *ARTICLES, *VERBS, *LINKS, *ASIDES
)  # fmt: skip
_IDS = {word: number for number, word in enumerate(VOCABULARY)}


def sentence(random: Random) -> tuple[list[str], int]:
    """A sentence of two to four clauses, and its sentiment: the sum of its clauses', which is not zero.

    clause    = article thing verb [negation] [intensifier] adjective [aside]
    sentiment = +1 or -1 by the adjective, twice that behind an intensifier, turned round behind a negation
    """
    while True:
        words: list[str] = []
        total = 0
        for k in range(random.choice(_CLAUSES)):
            words += [random.choice(LINKS)] if k else []
            words += [random.choice(ARTICLES), random.choice(THINGS), random.choice(VERBS)]
            negated, strong, good = (random.random() < share for share in (0.25, 0.3, 0.5))
            words += [random.choice(NEGATIONS)] if negated else []
            words += [random.choice(INTENSIFIERS)] if strong else []
            words.append(random.choice(GOOD if good else BAD))
            words += [random.choice(ASIDES)] if random.random() < 0.2 else []
            total += (1 if good else -1) * (-1 if negated else 1) * (2 if strong else 1)
        if total and len(words) <= LENGTH:
            return words, total


def load(train: int = TRAIN, test: int = TEST) -> Dataset:
    """Sentences with the classes negative and positive, as token ids padded in front to 24 words.

    All are different from each other, so no test sentence was seen in training.
    """
    random = Random(_SEED)
    found: dict[tuple[str, ...], int] = {}
    while len(found) < train + test:
        words, total = sentence(random)
        found[tuple(words)] = int(total > 0)
    x = torch.zeros(len(found), LENGTH, dtype=torch.int64)
    for row, words_of in enumerate(found):
        x[row, LENGTH - len(words_of) :] = torch.tensor([_IDS[word] for word in words_of])
    samples = Samples.of_one_class(x, torch.tensor(list(found.values())), 2)
    return Dataset(
        name="sentiment",
        classes=("negative", "positive"),
        shape=(LENGTH,),
        bounds=(0, len(VOCABULARY) - 1),
        kind="text",
        group_axis=-1,
        train=samples.take(slice(train)),
        test=samples.take(slice(train, None)),
        source="generated sentences about films: words of either sentiment, negations, intensifiers, neutral words",
        needed=0.85,
        why="counting words of either sentiment is right on 67 %: above 85 % negations are understood too",
        vocabulary=VOCABULARY,
    )
