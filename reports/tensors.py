"""Nested lists of numbers as tensors: shapes, regularity and flat views, without NumPy or torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def shape_of(values: Any) -> list[int]:
    """The shape along the first elements; a number has the empty shape."""
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        if not values:
            break
        values = values[0]
    return shape


def is_rectangular(values: Any) -> bool:
    """Whether every row of every level has the same length."""
    return _fits(values, shape_of(values))


def _fits(values: Any, shape: list[int]) -> bool:
    if not shape:
        return not isinstance(values, list)
    if not isinstance(values, list) or len(values) != shape[0]:
        return False
    return all(_fits(value, shape[1:]) for value in values)


def flat(values: Any) -> Iterator[float | None]:
    """The numbers in row-major order; None stands for one that is not finite."""
    if isinstance(values, list):
        for value in values:
            yield from flat(value)
    else:
        yield values


def indices(shape: list[int]) -> Iterator[tuple[int, ...]]:
    """The index tuples of a shape in row-major order."""
    if not shape:
        yield ()
        return
    for first in range(shape[0]):
        for rest in indices(shape[1:]):
            yield (first, *rest)


def largest(values: Any) -> float:
    """The largest magnitude among the finite numbers, 0 without any."""
    return max((abs(value) for value in flat(values) if value is not None), default=0.0)
