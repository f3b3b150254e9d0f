"""One method on one subject: the only place of the full-model checks that calls methods."""

from __future__ import annotations

import copy
import hashlib
import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import calling
from ..calling import Stop, baseline_for, kept_random_numbers, kept_settings, seed_all
from ..claims import Method
from ..errors import MethodError
from ..models.subject import Subject
from .outcome import NotApplicable

FEWEST_IMAGES = 4


@dataclass(frozen=True)
class Scale:
    """How much is computed.

    images     samples that a check looks at
    subsets    random subsets of features for each size
    steps      points of a curve (subset sizes, steps of a path)
    rows       rows of forward passes that one check may cost one method; a method that needs more gets fewer images, and
               below FEWEST_IMAGES the check does not apply
    data       training samples that methods learn means and patterns from
    path       nodes on the path of methods that integrate (their option `steps`, where nobody set it); 0: exact integrals,
               which are dear on trained models
    batch      samples in one call of a method: what bounds memory
    resamples  of the bootstrap
    """

    name: str
    images: int
    subsets: int
    steps: int
    rows: int
    data: int
    path: int
    batch: int
    resamples: int


SCALES = {
    scale.name: scale
    for scale in (
        Scale("tiny", images=4, subsets=20, steps=4, rows=1_000, data=16, path=16, batch=16, resamples=200),
        Scale("default", images=16, subsets=100, steps=12, rows=8_000, data=64, path=64, batch=32, resamples=1_000),
        Scale(
            "full", images=200, subsets=100, steps=12, rows=2_000_000, data=1_000, path=256, batch=64, resamples=10_000
        ),
    )
}


class _TooMany(Stop):
    """More rows than are allowed."""


def _integrates(method: Method) -> bool:
    """Whether a method has the option `steps`, and nobody gave it a number of them."""
    try:
        steps = inspect.signature(method.function).parameters.get("steps")
    except ValueError:  # not every callable tells its parameters
        return False
    return steps is not None and steps.default == 0


class Study:
    """A method and a subject, with what several checks need of both.

    Attributes:
        subject: with as many samples as the scale asks for.
        method, scale, seed, device: as given.
        path: the nodes on the path of a method that integrates and was given no number of them; None for others.
    """

    def __init__(self, subject: Subject, method: Method, scale: Scale, seed: int = 0, device: str = "cpu") -> None:
        self.subject, self.method, self.scale, self.seed, self.device = subject, method, scale, seed, device
        self._cost: tuple[int, int] | None = None
        self.path = scale.path if scale.path and _integrates(method) else None

    def exact(self) -> Study:
        """The same with exact integrals: a rule of nodes jumps wherever one of its nodes crosses a kink."""
        return Study(self.subject, self.method, replace(self.scale, path=0), self.seed, self.device)

    def images(self, maps: int) -> int:
        """How many samples a check may look at that needs `maps` maps of each.

        Raises:
            NotApplicable: the method needs more rows of forward passes than the scale allows.
            Unsupported: the method refuses the model.
        """
        fixed, each = self.cost()
        affordable = (self.scale.rows // maps - fixed) // each
        if affordable < min(FEWEST_IMAGES, self.scale.images):
            raise NotApplicable(
                f"one map takes {fixed + each} rows of forward passes; {maps} maps of {FEWEST_IMAGES} samples are more than "
                f"the {self.scale.rows} rows of --scale {self.scale.name}"
            )
        return min(self.scale.images, affordable, len(self.subject.x))

    def cost(self) -> tuple[int, int]:
        """Rows of forward passes of one call, and those of each sample besides: counted on one sample and on two.

        A method may take hours, or all memory, for a map, so it is stopped as soon as that is too much.

        Raises:
            NotApplicable: FEWEST_IMAGES maps take more rows of forward passes than the scale has.
            Unsupported, MethodError: see `maps`.
        """
        if self._cost is None:
            one = self._rows(1)
            # A method that learns from data looks at them once in each call, however many samples the call has.
            each = max(1, min(self._rows(2) - one, one))
            self._cost = one - each, each
        return self._cost

    def _rows(self, n: int) -> int:
        rows, limit = 0, self.scale.rows // min(FEWEST_IMAGES, self.scale.images)

        def count(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            nonlocal rows
            rows += len(inputs[0])
            if rows > n * limit:
                raise _TooMany

        model = copy.deepcopy(self.subject.model)  # what is stopped in the middle may leave anything behind
        model.register_forward_pre_hook(count)
        try:
            self.maps(self.subject.labels[:n], model=model)
        except _TooMany:
            raise NotApplicable(
                f"one map takes more than {limit} rows of forward passes; --scale {self.scale.name} has {self.scale.rows} "
                "for all maps"
            ) from None
        return rows

    def maps(
        self, target: Tensor, *, x: Tensor | None = None, model: nn.Module | None = None, baseline: Tensor | None = None
    ) -> Tensor:
        """The method's maps [B, *shape], a batch of the scale at a time, with the same random numbers on each call.

        Args:
            target: [B], the logit of each sample.
            x: [B, *shape]; the subject's first B samples by default.
            model: the subject's by default.
            baseline: [B, *shape] for a method that takes a given one; zeros by default.

        Raises:
            Unsupported: the method refuses the model.
            MethodError: it raised anything else, or returned something that is not an attribution.
        """
        x = self.subject.x[: len(target)] if x is None else x
        model = self.subject.model if model is None else model
        found = []
        for start in range(0, len(x), self.scale.batch):
            rows = slice(start, start + self.scale.batch)
            found.append(self._called(model, x[rows], target[rows], None if baseline is None else baseline[rows]))
        return torch.cat(found)

    def _called(self, model: nn.Module, x: Tensor, target: Tensor, given: Tensor | None) -> Tensor:
        method = self.method
        data = self.subject.data[: self.scale.data] if method.needs_data else None
        baseline = None if method.baseline is None else baseline_for(method.baseline, x, given, data)
        options: dict[str, Any] = {"data": data} if method.data else {}
        if self.path is not None:
            options["steps"] = self.path
        with kept_settings(), kept_random_numbers(self.device):
            seed_all(self.seed)
            found = calling.call(method, model, x.clone(), target.clone(), baseline, options, about=self.subject.id)
        if not torch.isfinite(found).all():
            raise MethodError("returned a map that is not finite")
        return found

    def logits(self, x: Tensor, model: nn.Module | None = None) -> Tensor:
        """The logits [B, C] at x [B, *shape], a batch of the scale at a time."""
        model = self.subject.model if model is None else model
        with torch.no_grad():
            return torch.cat([model(part) for part in x.split(self.scale.batch)])

    def random(self, purpose: str) -> torch.Generator:
        """Random numbers for one purpose, on the CPU: the same for every method, other ones for another seed."""
        digest = hashlib.sha256(f"{self.seed}:{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
