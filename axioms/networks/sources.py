"""Where the numbers of a drawn case come from: shrinkable small dyadic draws, or wide networks from one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st

T = TypeVar("T")
Array = np.ndarray[Any, np.dtype[np.float64]]

# In the order in which a counterexample prefers them. Zeros come late and once: a dead weight makes a case vacuous, and
# a unit that is not needed disappears by shrinking the width.
WEIGHTS = (1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.0)
SOFT_WEIGHTS = (1.0, -1.0, 0.5, -0.5, 0.25, -0.25, 0.0)  # smooth units saturate beyond
INPUTS = (1.0, 2.0, -1.0, 3.0, -2.0, 4.0, -3.0, 0.0)
SOFT_INPUTS = (1.0, 2.0, -1.0, 0.5, -0.5, 1.5, -2.0, 0.0)
REFERENCES = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0)
ODD = (-1.0, 1.0, -3.0, 3.0)
MOST_SAMPLES = 5
WHOLE = (0.0, -1.0, 1.0, -2.0, 2.0)


class Source(Protocol):
    """What families, rewrites and axioms draw from. Arrays are float64."""

    tier: str
    unit: float
    """What drawn weights are multiples of."""

    def pick(self, *options: T) -> T:
        """One of the options; the first is the simplest."""

    def rarely(self) -> bool:
        """True about once in ten."""

    def features(self, at_least: int = 1) -> int:
        """A number of input features."""

    def length(self, at_least: int = 2) -> int:
        """The length of one axis of an image or sequence."""

    def width(self) -> int:
        """A number of hidden units or channels."""

    def layers(self, at_least: int = 1) -> int:
        """A number of hidden layers."""

    def batch(self, at_least: int = 1) -> int:
        """A number of samples."""

    def classes(self) -> int:
        """A number of logits."""

    def weights(self, shape: Sequence[int], soft: bool = False) -> Array:
        """Weights of a layer [out, in, ...]; soft: small enough for units that saturate."""

    def bias(self, n: int, level: int, ladder: bool) -> Array:
        """Biases [n] of the level-th weighted layer. On the ladder no pre-activation is ever zero (see Small)."""

    def inputs(self, shape: Sequence[int], soft: bool = False, distinct: bool = False) -> Array:
        """Samples [B, *shape]; distinct: no two features of a sample are equal."""

    def references(self, shape: Sequence[int]) -> Array:
        """Baselines [B, *shape]."""

    def numbers(self, options: Sequence[float], n: int) -> Array:
        """n numbers out of a few (in the wide tier: any between the extremes)."""


class Small:
    """Shrinkable draws: one to three units, weights and inputs small integers, biases dyadic.

    The ladder: with integer weights and inputs, and biases odd * 2**-l in the l-th weighted layer, every pre-activation
    of layer l lies in 2**-(l-1) Z + odd * 2**-l, which does not contain zero. (Induction: ReLU, max and integer
    combinations keep the lattice 2**-l Z of the layer before.) So no ReLU is at its kink, at any integer input, nor
    anywhere on a piece of a segment between integer inputs on which its pre-activation is constant.
    """

    tier = "small"
    unit = 1.0

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def pick(self, *options: T) -> T:
        return options[self.draw(st.integers(0, len(options) - 1))] if len(options) > 1 else options[0]

    def rarely(self) -> bool:
        return bool(self.draw(st.integers(0, 9)) == 9)

    def features(self, at_least: int = 1) -> int:
        return int(self.draw(st.integers(at_least, max(4, at_least + 1))))

    def length(self, at_least: int = 2) -> int:
        return int(self.draw(st.integers(at_least, at_least + 2)))

    def width(self) -> int:
        return int(self.draw(st.integers(1, 3)))

    def layers(self, at_least: int = 1) -> int:
        return int(self.draw(st.integers(at_least, max(2, at_least))))

    def batch(self, at_least: int = 1) -> int:
        return int(self.draw(st.integers(at_least, MOST_SAMPLES)))

    def classes(self) -> int:
        return int(self.draw(st.integers(1, 3)))

    def numbers(self, options: Sequence[float], n: int) -> Array:
        index = st.integers(0, len(options) - 1)
        drawn = self.draw(st.lists(index, min_size=n, max_size=n))
        return np.array([options[k] for k in drawn], dtype=np.float64)

    def weights(self, shape: Sequence[int], soft: bool = False) -> Array:
        return self.unit * self.numbers(SOFT_WEIGHTS if soft else WEIGHTS, math.prod(shape)).reshape(shape)

    def bias(self, n: int, level: int, ladder: bool) -> Array:
        return self.numbers(ODD, n) * 2.0**-level if ladder else self.numbers(WHOLE, n)

    def inputs(self, shape: Sequence[int], soft: bool = False, distinct: bool = False) -> Array:
        options = SOFT_INPUTS if soft else INPUTS
        array = self.numbers(options, math.prod(shape)).reshape(shape)
        return _distinct(array) if distinct else array

    def references(self, shape: Sequence[int]) -> Array:
        return self.numbers(REFERENCES, math.prod(shape)).reshape(shape)


class Wide:
    """Networks of ordinary size from one seed: Gaussian weights that keep the scale of activations. Do not shrink."""

    tier = "wide"
    unit = 1.0

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, *options: T) -> T:
        return options[int(self.rng.integers(len(options)))]

    def rarely(self) -> bool:
        return False

    def features(self, at_least: int = 1) -> int:
        return int(self.rng.integers(max(8, at_least), max(8, at_least) + 17))

    def length(self, at_least: int = 2) -> int:
        return int(self.rng.integers(max(6, at_least), max(6, at_least) + 3))

    def width(self) -> int:
        return int(self.rng.integers(8, 33))

    def layers(self, at_least: int = 1) -> int:
        return int(self.rng.integers(max(2, at_least), 5))

    def batch(self, at_least: int = 1) -> int:
        return int(self.rng.integers(at_least, MOST_SAMPLES + 1))

    def classes(self) -> int:
        return int(self.rng.integers(2, 6))

    def numbers(self, options: Sequence[float], n: int) -> Array:
        return self.rng.uniform(min(options), max(options), n)

    def weights(self, shape: Sequence[int], soft: bool = False) -> Array:
        fan_in = max(1, math.prod(shape[1:]))
        return self.rng.normal(0.0, math.sqrt((1.0 if soft else 2.0) / fan_in), shape)

    def bias(self, n: int, level: int, ladder: bool) -> Array:
        return self.rng.normal(0.0, 0.3, n)

    def inputs(self, shape: Sequence[int], soft: bool = False, distinct: bool = False) -> Array:
        return self.rng.normal(0.0, 1.0, shape)

    def references(self, shape: Sequence[int]) -> Array:
        return self.rng.normal(0.0, 1.0, shape)


def _distinct(array: Array) -> Array:
    """Raise repeated values of a sample to the next whole number that is free, so that its maxima have no ties."""
    rows = array.reshape(len(array), -1).copy()
    for row in rows:
        seen: set[float] = set()
        for k, value in enumerate(row):
            while value in seen:
                value += 1.0
            seen.add(value)
            row[k] = value
    return rows.reshape(array.shape)


def reordering(source: Source, n: int) -> list[int]:
    """An order of n >= 2 things that is not their own: two exchanged, or all of them in equal steps from a drawn start."""
    if source.pick("exchanged", "in steps") == "exchanged":
        i = source.pick(*range(n - 1))
        j = source.pick(*range(i + 1, n))
        order = list(range(n))
        order[i], order[j] = j, i
        return order
    start = source.pick(*range(n))
    step = source.pick(*(k for k in range(1, n + 1) if math.gcd(k, n) == 1))
    order = [(start + k * step) % n for k in range(n)]
    return order if order != list(range(n)) else order[::-1]
