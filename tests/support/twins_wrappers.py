"""Independent slow twins of the wrappers over the gradient and its like: plain loops over noise and labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attribcheck.axioms.networks.spec import Network

from . import slow_twins

Twin = Callable[[Network, np.ndarray, int, np.ndarray], np.ndarray]


def noisy_gradients(network: Network, x: np.ndarray, target: int, noise: np.ndarray) -> list[np.ndarray]:
    """The gradient at x plus 0.15 of its range times each noise [n, *shape]."""
    scale = 0.15 * (x.max() - x.min())
    return [slow_twins.gradient(network, x + scale * each, target) for each in noise]


def smoothgrad_squared(network: Network, x: np.ndarray, target: int, noise: np.ndarray) -> np.ndarray:
    """The mean of the squared gradients."""
    total = np.zeros_like(x)
    for each in noisy_gradients(network, x, target, noise):
        total += each * each
    return total / len(noise)


def vargrad(network: Network, x: np.ndarray, target: int, noise: np.ndarray) -> np.ndarray:
    """The variance of the gradients, by their mean first."""
    maps = noisy_gradients(network, x, target, noise)
    mean = sum(maps, np.zeros_like(x)) / len(maps)
    return sum(((each - mean) ** 2 for each in maps), np.zeros_like(x)) / len(maps)


def competition(base: Twin) -> Twin:
    """A feature keeps its score where no other label beats it on its own side."""

    def twin(network: Network, x: np.ndarray, target: int, start: np.ndarray) -> np.ndarray:
        labels = len(slow_twins.derivative(network, x)[0])
        maps = [base(network, x, label, start) for label in range(labels)]
        near = 1e-8 * max(float(np.abs(each).max()) for each in maps)
        result = np.zeros_like(x)
        for at in np.ndindex(*x.shape):
            score = maps[target][at]
            if score > 0 and all(score >= each[at] - near for each in maps):
                result[at] = score
            if score < 0 and all(score <= each[at] + near for each in maps):
                result[at] = score
        return result

    return twin
