"""What a full-model check found of one method: a statistic with its interval, held against a stated rule. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..results import Observed

if TYPE_CHECKING:
    from .study import Study

UNJUDGED = (Observed.INCONCLUSIVE, Observed.NOT_APPLICABLE)
"""What may be observed where a rule is not asked."""


class NotApplicable(Exception):
    """A check that says nothing of this method or this model; the message says why, in one line."""


@dataclass(frozen=True)
class Rule:
    """When a property holds: where a statistic is below a limit, or where it is above one. At the limit it does not hold.

    below, above  the limit; one of the two
    scope         the words that follow the limit ("for each control")

    Raises:
        ValueError: no limit, two of them, or one that is not finite.
    """

    below: float | None = None
    above: float | None = None
    scope: str = ""

    def __post_init__(self) -> None:
        if len(self.limit) != 1 or not all(map(math.isfinite, self.limit.values())):
            raise ValueError(f"a rule has one finite limit, not {self.limit}")

    @property
    def limit(self) -> dict[str, float]:
        """The limit by its side, as results.json has it: {"below": 0.5} or {"above": 0.0}."""
        sides = {"below": self.below, "above": self.above}
        return {side: float(limit) for side, limit in sides.items() if limit is not None}

    def judge(self, found: float | tuple[float, float]) -> Observed:
        """Whether a figure is on the side of the limit on which the property holds.

        Args:
            found: the figure, or its interval (lower end, upper end); "inconclusive" where the interval is around the limit.
        """
        low, high = found if isinstance(found, tuple) else (found, found)
        if self.below is not None:
            holds, violated = high < self.below, low >= self.below
        else:
            assert self.above is not None
            holds, violated = low > self.above, high <= self.above
        return Observed.HOLDS if holds else Observed.VIOLATED if violated else Observed.INCONCLUSIVE

    def __str__(self) -> str:
        """The rule in words, the limit to six digits: "below 0.5"."""
        ((side, limit),) = self.limit.items()
        return " ".join(filter(None, (f"{side} {limit:g}", self.scope)))


@dataclass(frozen=True)
class Outcome:
    """One finding.

    check       "name" or "name/variant", the property that is checked
    statistic   what `value` is, in words
    value       the statistic
    interval    its 95 % confidence interval, None where the figure is exact
    rule        when the property holds
    figures     curves and tables: numbers, texts, lists of numbers (a list of three or more is drawn as a curve), and
                mappings of these
    paper       {"source": paper and figure or table, "value": what it reports} where it reports one
    note        what a reader must know
    unjudged    what is observed where the rule is not asked, because there is no value or it tells nothing; None: it is asked

    Raises:
        ValueError: there is nothing to judge, or a judgement stands where only the rule has one.
    """

    check: str
    statistic: str
    value: float | None
    interval: tuple[float, float] | None
    rule: Rule
    figures: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] | None = None
    note: str | None = None
    unjudged: Observed | None = None

    def __post_init__(self) -> None:
        if self.unjudged is None and self.value is None:
            raise ValueError(f"{self.check}: no value to judge")
        if self.unjudged is not None and self.unjudged not in UNJUDGED:
            raise ValueError(f"{self.check}: only the rule says {str(self.unjudged)!r}")

    @property
    def observed(self) -> Observed:
        """What the rule says of the interval, or of the value where that is exact; `unjudged` where there is one."""
        if self.unjudged is not None:
            return self.unjudged
        assert self.value is not None
        return self.rule.judge(self.value if self.interval is None else self.interval)


@dataclass(frozen=True)
class Check:
    """One experiment.

    name       after --check
    summary    one line for `attribcheck list checks`
    variants   the findings that it makes ("" where there is one without a variant), in order
    subject    the "model:data" that it looks at by default
    run        yields the findings of a study; raises NotApplicable, or the method's own Unsupported
    doc        statement, statistic, rule, source, preconditions: what `explain` prints
    permutes   whether it looks at a second model too, which is trained on permuted labels
    """

    name: str
    summary: str
    variants: tuple[str, ...]
    subject: str
    run: Callable[[Study], Iterator[Outcome]] | Callable[[Study], Iterable[Outcome]]
    doc: str
    permutes: bool = False

    @property
    def full_names(self) -> tuple[str, ...]:
        """The names under which findings stand and claims are made: name/variant."""
        return tuple(f"{self.name}/{variant}" if variant else self.name for variant in self.variants)
