"""What a full-model check found of one method: a statistic with its interval, held against a stated rule. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .study import Study


class NotApplicable(Exception):
    """A check that says nothing of this method or this model; the message says why, in one line."""


@dataclass(frozen=True)
class Outcome:
    """One finding.

    check       "name" or "name/variant", the property that is checked
    statistic   what `value` is, in words
    value       the statistic
    interval    its 95 % confidence interval, None where the figure is exact
    rule        when the property holds, in words ("below 0.5")
    observed    "holds" | "violated" | "inconclusive" | "not-applicable"
    figures     curves and tables: numbers, texts, lists of numbers (a list of three or more is drawn as a curve), and
                mappings of these
    paper       {"source": paper and figure or table, "value": what it reports} where it reports one
    note        what a reader must know
    """

    check: str
    statistic: str
    value: float | None
    interval: tuple[float, float] | None
    rule: str
    observed: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] | None = None
    note: str | None = None


def judged(interval: tuple[float, float], *, below: float | None = None, above: float | None = None) -> str:
    """Whether a figure is below, or above, a limit: "holds", "violated"; "inconclusive" where the interval is around it."""
    low, high = interval
    if below is not None:
        return "holds" if high < below else "violated" if low >= below else "inconclusive"
    assert above is not None
    return "holds" if low > above else "violated" if high <= above else "inconclusive"


@dataclass(frozen=True)
class Check:
    """One experiment.

    name       after --check
    summary    one line for `attribcheck list checks`
    variants   the findings that it makes ("" where there is one without a variant), in order
    subject    the "model:data" that it looks at by default
    run        yields the findings of a study; raises NotApplicable, or the method's own Unsupported
    doc        statement, statistic, rule, source, preconditions: what `explain` prints
    """

    name: str
    summary: str
    variants: tuple[str, ...]
    subject: str
    run: Callable[[Study], Iterator[Outcome]] | Callable[[Study], Iterable[Outcome]]
    doc: str

    @property
    def full_names(self) -> tuple[str, ...]:
        """The names under which findings stand and claims are made: name/variant."""
        return tuple(f"{self.name}/{variant}" if variant else self.name for variant in self.variants)
