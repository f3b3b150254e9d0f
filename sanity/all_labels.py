"""The maps of all labels of one method, before and after they compete, on trained and on re-initialised networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..claims import Method
from ..methods.competition import ALIASES, survivors
from .randomize import layers, randomised
from .study import Study


@dataclass(frozen=True)
class Maps:
    """All labels' maps of B samples, on one network or several.

    before  [k, B, entries]
    after   [k, B, entries], after competition
    labels  [B], each sample's own
    """

    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray

    def own(self) -> tuple[np.ndarray, np.ndarray]:
        """Before and after: the maps [B, entries] of each sample's own label."""
        rows = np.arange(len(self.labels))
        return self.before[self.labels, rows], self.after[self.labels, rows]

    @property
    def some(self) -> np.ndarray:
        """[B, entries], whether any label has a score there."""
        found: np.ndarray = (self.before != 0).any(0)
        return found

    @property
    def unmoved(self) -> bool:
        """Whether competition changes nothing, although the labels' maps differ: they have competed already."""
        differ = not np.allclose(self.before, self.before[:1], rtol=1e-3, atol=1e-6 * np.abs(self.before).max())
        return differ and bool((self.after == self.before).all())


def base_of(method: Method) -> Method | None:
    """The method under a competition, where the name tells; None for a method that is not one."""
    from ..methods.registry import get_method

    if method.short in ALIASES:
        return get_method(ALIASES[method.short])
    if method.short.startswith("competition(") and method.short.endswith(")"):
        return get_method(method.short.removeprefix("competition(")[:-1])
    return None


def all_maps(study: Study, networks: list[nn.Module], count: int, k: int) -> Maps:
    """The maps of the first `count` samples for all k labels, sample i on network i modulo their number.

    Competition is held here. Where the method is a competition itself, the maps before are its base's, and those after, for
    each sample's own label, its own.
    """
    base = base_of(study.method)
    plain = study if base is None else Study(study.subject, base, study.scale, study.seed, study.device)
    subject = study.subject
    before = torch.empty((k, *subject.x[:count].shape), dtype=torch.float64)
    after = torch.empty_like(before)
    for number, network in enumerate(networks):
        rows = torch.arange(number, count, len(networks), device=subject.x.device)
        x, labels, here = subject.x[rows], subject.labels[rows], rows.cpu()
        targets = [torch.full_like(labels, label) for label in range(k)]
        maps = torch.stack([plain.maps(target, x=x, model=network) for target in targets])
        before[:, here] = maps.double().cpu()
        after[:, here] = torch.stack([survivors(maps, target) for target in targets]).double().cpu()
        if base is not None:
            after[labels.cpu(), here] = study.maps(labels, x=x, model=network).double().cpu()
    return Maps(before.flatten(2).numpy(), after.flatten(2).numpy(), subject.labels[:count].cpu().numpy())


def reinitialised(model: nn.Module, x: Tensor, generator: torch.Generator) -> nn.Module:
    """A copy of which every layer has fresh parameters: the end of a cascade of randomisations.

    Args:
        model: left as it is.
        x: a sample [1, *shape].
        generator: of the draws, on the CPU.

    Raises:
        NotApplicable: the model has no parameters.
    """
    for layer in layers(model, x):
        model = randomised(model, layer, "own", generator)
    return model


def exchangeable(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scores [k, ...] whose labels, at each feature, have changed places and signs at random."""
    places = rng.random(scores.shape).argsort(0)
    found: np.ndarray = np.take_along_axis(scores, places, 0) * rng.choice([-1.0, 1.0], scores.shape)
    return found


def thinned(before: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Maps [B, entries] of which as many entries are left as competition leaves, but at random: a placebo for competition."""
    lots = np.where(before != 0, rng.random(before.shape), 2.0)
    ranks = lots.argsort(1).argsort(1)
    return np.where(ranks < (after != 0).sum(1, keepdims=True), before, 0.0)


def share_kept(left: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Of the features for which some label has a score, the share [B] that is left; samples without any are left out."""
    told = some.any(1)
    found: np.ndarray = ((left != 0) & some)[told].sum(1) / some[told].sum(1)
    return found


def purity(maps: np.ndarray) -> np.ndarray:
    """Sum R over sum |R| [B]: 1 where all is evidence for the label, -1 against; 0 for an empty map."""
    mass = np.abs(maps).sum(1)
    return np.divide(maps.sum(1), mass, out=np.zeros(len(maps)), where=mass > 0)
