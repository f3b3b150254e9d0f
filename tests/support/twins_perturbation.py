"""Independent slow twins of the perturbation methods: explicit loops over coalitions, orders and boxes, in numpy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from attribcheck.axioms.networks.spec import Network

from . import slow_twins


def output(network: Network, x: np.ndarray, target: int) -> float:
    """One logit at one input [*shape]."""
    return float(slow_twins.derivative(network, x)[0][target])


def mixed(x: np.ndarray, start: np.ndarray, members: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The start with the members of a coalition taken from x."""
    other = start.copy()
    for at in members:
        other[at] = x[at]
    return other


def shapley(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
    """The mean gain over all orders for few features; over all coalitions, size by size, for more."""
    features = list(np.ndindex(*x.shape))
    values = {
        frozenset(members): output(network, mixed(x, start, members), target)
        for size in range(len(features) + 1)
        for members in itertools.combinations(features, size)
    }
    result = np.zeros_like(x)
    if len(features) <= 4:
        orders = list(itertools.permutations(features))
        for order in orders:
            for k, at in enumerate(order):
                result[at] += (values[frozenset(order[: k + 1])] - values[frozenset(order[:k])]) / len(orders)
        return result
    for at in features:
        others = [other for other in features if other != at]
        means = []
        for size in range(len(features)):
            gains = [values[frozenset((*s, at))] - values[frozenset(s)] for s in itertools.combinations(others, size)]
            means.append(sum(gains) / len(gains))
        result[at] = sum(means) / len(means)
    return result


def along_orders(
    network: Network, x: np.ndarray, target: int, start: np.ndarray, orders: Sequence[Sequence[int]]
) -> np.ndarray:
    """The mean gain of each feature along given orders of their flat numbers."""
    features = list(np.ndindex(*x.shape))
    result = np.zeros_like(x)
    for order in orders:
        now, before = start.copy(), output(network, start, target)
        for number in order:
            at = features[number]
            now[at] = x[at]
            after = output(network, now, target)
            result[at] += (after - before) / len(orders)
            before = after
    return result


def box_occlusion(
    network: Network, x: np.ndarray, target: int, start: np.ndarray, size: int = 2, stride: int = 1
) -> np.ndarray:
    """Each position's mean loss over the boxes that cover it; a box has all channels."""
    first = 0 if x.ndim == 1 else 1
    axes = []
    for length in x.shape[first:]:
        width = min(size, length)
        begin, corners = 0, []
        while begin + width <= length:
            corners.append(begin)
            begin += stride
        if corners[-1] + width != length:
            corners.append(length - width)
        axes.append([range(corner, corner + width) for corner in corners])
    here, total, count = output(network, x, target), np.zeros_like(x), np.zeros_like(x)
    for ranges in itertools.product(*axes):
        covered = [at for at in np.ndindex(*x.shape) if all(p in r for p, r in zip(at[first:], ranges, strict=True))]
        kept = [at for at in np.ndindex(*x.shape) if at not in covered]
        loss = here - output(network, mixed(x, start, kept), target)
        for at in covered:
            total[at] += loss
            count[at] += 1
    return total / count


def expected_gradients(network: Network, x: np.ndarray, target: int, data: np.ndarray) -> np.ndarray:
    """The mean of integrated gradients from each row of the data."""
    return np.mean([slow_twins.integrated_gradients(network, x, target, row) for row in data], axis=0)
