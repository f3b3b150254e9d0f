"""Outputs of a model with features removed: the forward passes that do not depend on the method, made once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..calling import baseline_for
from .study import Study

ROWS = 64
"""Rows of one forward pass: larger batches leave the allocator's heap and cost more for each row."""

LARGEST_SHARE = 0.8
"""Of the features, that the largest subsets have (Ancona et al. 2018, section 4.1)."""

BUDGET = 256 * 2**20
"""Bytes of results that are kept for other methods."""

_known: OrderedDict[tuple[Any, ...], tuple[nn.Module, Any]] = OrderedDict()

T = TypeVar("T", "Removals", np.ndarray)


@dataclass(frozen=True)
class Removals:
    """What removing random subsets of features changes in the output of one sample.

    sizes    [k], how many features a subset has
    changes  [k, subsets], f(x) - f(x with the subset at the baseline)
    output   f(x)
    """

    sizes: tuple[int, ...]
    changes: np.ndarray
    output: float
    packed: np.ndarray

    @property
    def nbytes(self) -> int:
        """What it takes to keep this."""
        return self.packed.nbytes + self.changes.nbytes

    def sums(self, scores: np.ndarray) -> np.ndarray:
        """The sums [k, subsets] of a figure for each feature [N] over the subsets."""
        steps, subsets, _ = self.packed.shape
        chosen = np.unpackbits(self.packed, axis=-1, count=len(scores)).reshape(-1, len(scores))
        found: np.ndarray = (chosen.astype(float) @ scores.astype(float)).reshape(steps, subsets)
        return found


def reference(study: Study, count: int) -> Tensor:
    """The baseline [count, *shape] that the method refers to, zeros for one without: what removed features are set to."""
    data = study.subject.data[: study.scale.data] if study.method.needs_data else None
    return baseline_for(study.method.baseline, study.subject.x[:count], None, data)


def sizes(n_features: int, steps: int) -> tuple[int, ...]:
    """At most `steps` subset sizes from 1 to 80 % of the features, evenly spaced on a logarithmic axis.

    All features at once are one subset alone, which correlates with nothing: the largest size stays below that.
    """
    top = min(n_features - 1, max(1, int(LARGEST_SHARE * n_features)))
    if top < 1:
        return ()
    return tuple(int(n) for n in np.unique(np.geomspace(1, top, steps).round()))


def random_subsets(n_features: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """Uniformly drawn subsets [count, n_features] of `size` features each, as a mask."""
    drawn = torch.rand(count, n_features, dtype=torch.float64, generator=generator)
    return drawn <= drawn.kthvalue(size, dim=1, keepdim=True).values


def removals(study: Study, index: int, at: Tensor) -> Removals:
    """Random subsets of one sample's features, and what removing them changes; made once for all methods.

    Args:
        study: gives the subset sizes (scale.steps), how many of each (scale.subsets) and the seed.
        index: of the sample; its subsets are the same whatever other samples are looked at.
        at: [*shape], what removed features are set to.
    """
    subject, scale = study.subject, study.scale

    def compute() -> Removals:
        generator = study.random(f"subsets:{index}")
        these = sizes(subject.n_features, scale.steps)
        masks = torch.cat([random_subsets(subject.n_features, n, scale.subsets, generator) for n in these])
        chosen = torch.cat([torch.zeros_like(masks[:1]), masks])
        found = outputs_without(study, index, at, subject.spread(chosen.to(at.device)))
        packed = np.packbits(masks.numpy(), axis=-1).reshape(len(these), scale.subsets, -1)
        return Removals(these, (found[0] - found[1:]).reshape(len(these), scale.subsets), float(found[0]), packed)

    return once(study, ("subsets", study.seed, scale.steps, scale.subsets, subject.group_axis), index, at, compute)


def outputs_without(study: Study, index: int, at: Tensor, removed: Tensor) -> np.ndarray:
    """The logit of a sample's label, in float64, with each of several sets of entries removed.

    Args:
        study: whose subject is looked at.
        index: of the sample.
        at: [*shape], what removed entries are set to.
        removed: [K, *shape], which are removed each time.

    Returns:
        [K].
    """
    subject = study.subject
    x, target = subject.x[index], int(subject.labels[index])
    found = []
    with torch.no_grad():
        for part in removed.split(ROWS):
            logits = forward(subject.model, torch.where(part, at, x))
            found.append(logits[:, target].double().cpu())
    return torch.cat(found).numpy()


def forward(model: nn.Module, inputs: Tensor) -> Tensor:
    """The logits, for images through the memory layout in which convolutions are fastest."""
    if inputs.dim() == 4 and any(isinstance(module, nn.Conv2d) for module in model.modules()):
        try:
            found: Tensor = model(inputs.contiguous(memory_format=torch.channels_last))
            return found
        except RuntimeError:  # a model that views its activations, which that layout does not allow
            pass
    found = model(inputs)
    return found  # noqa: RET504


def once(study: Study, key: tuple[Any, ...], index: int, at: Tensor, compute: Callable[[], T]) -> T:
    """A result for one sample of a model and one baseline, computed unless this process still has it."""
    subject = study.subject
    digest = hashlib.sha256()
    for tensor in (subject.x[index], at):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    full = (*key, id(subject.model), index, int(subject.labels[index]), tuple(at.shape), digest.digest())
    if full not in _known:
        # The model is kept with its result, so that no other model can get its id.
        _known[full] = (subject.model, compute())
        while sum(kept.nbytes for _, kept in _known.values()) > BUDGET and len(_known) > 1:
            _known.popitem(last=False)
    _known.move_to_end(full)
    result: T = _known[full][1]
    return result
