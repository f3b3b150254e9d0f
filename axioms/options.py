"""The named options of a case: in what numbers it is, and how its network is written. Each family has them all.

A family's name takes options in brackets: relu(form=module, dtype=float64) is the part of the family that has them. What is
not fixed is drawn, in the mix that stands here; the first of each is the simplest, to which a counterexample shrinks.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError
from .networks.forms import FORMS, MODULE, written
from .networks.sources import Source
from .networks.spec import Network

THIRD = 1 / 3
WIDE = ("wide",) * 6


@dataclass(frozen=True)
class Option:
    """One choice that every case makes: what it says, and its values, each as often as it stands there.

    (Hypothesis prefers the first ones: what stands there once in four times is drawn about once in ten.)
    """

    summary: str
    mix: tuple[str, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """The values, each once."""
        return tuple(dict.fromkeys(self.mix))


OPTIONS: dict[str, Option] = {
    "weights": Option(
        "whole numbers, or thirds of them, which no floating point number is", ("whole", "whole", "thirds")
    ),
    "magnitude": Option(
        "of inputs and outputs: ordinary, or times a large or a tiny power of two", (*["ordinary"] * 3, "large", "tiny")
    ),
    "start": Option("the baseline apart from x, or next to it (at a 1024th of the way)", (*["apart"] * 3, "close")),
    "margin": Option(
        "pre-activations where they fall, or one next to its kink (2^-12 of the values)", (*["wide"] * 3, "narrow")
    ),
    "form": Option("how layers are written", (MODULE, MODULE, *FORMS)),
    "returns": Option(
        "what the model returns: logits, a tuple, or [B] for one logit", (*["logits"] * 3, "tuple", "single")
    ),
    "dtype": Option("the arithmetic", (*["float64"] * 3, "float32")),
}

# What the magnitudes multiply: inputs by the first (by SATURATING at most where units saturate), outputs by the second.
FACTORS = {"ordinary": (1.0, 1.0), "large": (64.0, 2.0**10), "tiny": (2.0**-6, 2.0**-14)}
SATURATING = 4.0
CLOSE = 2.0**-10


def read_family(name: str) -> tuple[str, dict[str, str]]:
    """A family's name and the options that are fixed in its brackets.

    Raises:
        UsageError: brackets that do not match, or an option or a value that there is not.
    """
    head, bracket, rest = name.partition("(")
    if not bracket:
        return name, {}
    if not rest.endswith(")"):
        raise UsageError(f"family {name!r}: the bracket is not closed; write family(option=value)")
    fixed: dict[str, str] = {}
    for part in filter(None, map(str.strip, rest[:-1].split(","))):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        value = str(ast.literal_eval(value)) if value[:1] in "'\"" else value
        if option not in OPTIONS or not equals:
            raise UsageError(f"family {name!r}: unknown option {option!r}; options are {', '.join(OPTIONS)}")
        if value not in OPTIONS[option].values:
            raise UsageError(f"family {name!r}: {option} is one of {', '.join(OPTIONS[option].values)}, not {value!r}")
        fixed[option] = value
    return head.strip(), fixed


def choice(name: str, source: Source, fixed: Mapping[str, str], *allowed: str) -> str:
    """The fixed value of an option, or a drawn one; allowed: what fits the case (all without)."""
    if name in fixed:
        return fixed[name]
    mix = [value for value in OPTIONS[name].mix if not allowed or value in allowed]
    return source.pick(*mix)


def dressed(network: Network, form: str, returns: str) -> Network:
    """The network in a form, returning what it is said to; where no layer has that form, as it was."""
    other = network if form == MODULE else written(network, form) or network
    return other if returns == "logits" else Network(other.input_shape, other.layers, other.calls, returns)
