"""A setting: what an axiom draws its cases from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .case import Case, GivenModel
from .networks.build import evaluate
from .networks.compose import scaled
from .networks.draft import Draft
from .networks.families import Family, Has
from .networks.forms import MODULE
from .networks.sources import Array, Source
from .networks.spec import Network
from .options import CLOSE, FACTORS, SATURATING, THIRD, choice, dressed


@dataclass(frozen=True)
class Setting:
    """What an axiom draws a case from: a source of numbers, and one family of networks (or the user's model)."""

    source: Source
    family: Family | GivenModel
    data: bool = False
    """Whether the method needs a batch of data."""
    features: int = 1
    """How many features the method needs to say something: from the minimum of one feature, every path is a point."""
    baseline: str | None = "given"
    """The kind of baseline that the method takes (see claims.method)."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """The options (see `options`) that the family's name fixes."""

    def points(self, family: Family, shape: tuple[int, ...], n: int) -> Array:
        """n samples [n, *shape] as this family has them."""
        points = self.source.inputs((n, *shape), family.soft, family.distinct)
        if family.positive:
            points = np.abs(points)
            rows = points.reshape(n, -1)
            rows[~rows.any(1), 0] = 1.0
        return points

    def base(self, at_least: int = 1, kinks: str = "off", samples: int = 1) -> Case:
        """A network of the family with samples, targets, baselines and (where needed) data.

        at_least: the number of features that the axiom needs; samples: that of samples. kinks: "off" or "on" (see
        families.Draft).
        """
        source, family = self.source, self.family
        if isinstance(family, GivenModel):
            return self._of_model(family, samples)
        shape = family.shape(source, max(at_least, self.features))
        small = source.tier == "small"
        options: dict[str, Any] = {"tier": source.tier, "kinks": kinks, "family": family.name}
        options["weights"] = choice("weights", source, self.fixed) if small else "any"
        source.unit = THIRD if options["weights"] == "thirds" else 1.0
        options["magnitude"] = choice("magnitude", source, self.fixed, *([] if family.scales else ["ordinary"]))
        inputs, outputs = FACTORS[options["magnitude"]]
        if family.soft:  # units saturate, and exponentials and products must not overflow
            inputs = SATURATING if inputs > 1.0 and Has.PRODUCT not in family.has else 1.0
        batch = source.batch(samples)
        x = inputs * self.points(family, shape, batch)
        baseline = inputs * source.references(x.shape)
        if family.positive:
            baseline = np.abs(baseline)
        options["start"] = choice("start", source, self.fixed)
        if options["start"] == "close":
            baseline = x + CLOSE * (baseline - x)
        classes = source.classes()
        target = tuple(source.pick(*range(classes)) for _ in range(batch))
        data = inputs * self.points(family, shape, source.pick(2, 4)) if self.data else None
        dead = source.rarely()
        if dead:
            options["dead"] = True
        near = kinks == "off" and family.scales
        options["margin"] = choice("margin", source, self.fixed, *([] if near else ["wide"]))
        network = family.write(Draft(source, x, classes, kinks, dead, target, options["margin"] == "narrow"))
        if outputs != 1.0:
            network = scaled(network, outputs, "weights")
        return Case(network, x, target, baseline, data, options=options, seed=source.pick(0, 1, 2, 3))

    def written(self, case: Case, own_form: bool, single: bool) -> Case:
        """The case with its networks in a drawn form, in a drawn arithmetic.

        own_form: the axiom decides how layers are written; single: it can be checked in single precision.
        """
        if not isinstance(case.network, Network):
            return case
        source, x = self.source, torch.tensor(case.x[:1])
        networks = [case.network, *(value for value in case.drawn.values() if isinstance(value, Network))]
        one = all(evaluate(each, x).shape[1] == 1 for each in networks)
        form = choice("form", source, self.fixed, *([MODULE] if own_form else []))
        returns = choice("returns", source, self.fixed, "logits", "tuple", *(["single"] if one else []))
        dtype = choice("dtype", source, self.fixed, *([] if single else ["float64"]))
        drawn = {
            name: dressed(value, form, returns) if isinstance(value, Network) else value
            for name, value in case.drawn.items()
        }
        network = dressed(case.network, form, returns)
        if all(layer == network.layers[name] for name, layer in case.network.layers.items()):
            form = MODULE  # no layer of this network has the form
        options = {**case.options, "form": form, "returns": returns, "dtype": dtype}
        return case.but(network=network, drawn=drawn, options=options, dtype=dtype)

    def sibling(self, case: Case) -> Network:
        """Another network of the same family on the same samples, with as many logits."""
        assert isinstance(self.family, Family) and isinstance(case.network, Network)
        classes = evaluate(case.network, torch.tensor(case.x)).shape[1]
        return self.family.write(Draft(self.source, case.x, classes, case.options["kinks"], target=case.target))

    def _of_model(self, given: GivenModel, samples: int) -> Case:
        source, rows = self.source, len(given.batch)
        batch = source.batch(samples)
        index = [source.pick(*range(rows)) for _ in range(batch)]
        x = given.batch[index]
        reference = source.pick("zeros", "row")
        baseline = np.zeros_like(x) if reference == "zeros" else given.batch[[source.pick(*range(rows))] * batch]
        target = tuple(source.pick(*range(given.classes)) for _ in range(batch))
        data = given.batch[: min(rows, 8)] if self.data else None
        return Case(given.reference, x, target, baseline, data, options={"tier": "model", "family": "model"})
