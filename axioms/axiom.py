"""What an axiom is: a statement, the strategy that draws its cases, and one function that compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .case import Case
from .comparison import Comparison
from .networks.families import Family
from .setting import Setting
from .trial import Trial


def _only(variant: str, case: Case) -> list[Case]:
    return [case]


@dataclass(frozen=True)
class Axiom:
    """An axiom of attribution methods; it decides nothing.

    name       as claims write it
    doc        the module's docstring: statement, formula, source, preconditions, who satisfies it
    variants   each variant with its one-line statement; "" where there is only one
    draw       a case for a variant, or None where the draw has no site for it
    residual   expected against obtained, on a trial
    script     the lines of a plain PyTorch script that show the check; they may use `model`, `x`, `target`, `baseline`,
               `attribute(...)`, `f(model, x)` and what the case drew, and end by setting `gap` and `scale` [K]
    evaluated  the cases on which the method is called: the case itself and its rewritten, shifted ... companions
    kinks      "off": cases must not touch a kink; "at x": x may lie on one, but no piece of the segment from the baseline;
               "any": they may
    within     the box |x_i| <= b on which what the axiom says of a case's networks is true; None: everywhere
    default    what "name" alone claims; None: every variant
    fails_only variants of which a counterexample says something and its absence nothing: for `fails` claims alone
    others     what a variant stands for, where there is one for each of something and no list: "<other method>"
    draws      what `draw` puts into case.drawn, which a witness must hold
    applies    whether a variant makes sense for a family
    model      whether it can be checked on the user's own model
    single     whether it can be checked in single precision
    own_form   the axiom itself decides how the layers of its networks are written, so that the draw does not
    """

    name: str
    doc: str
    variants: Mapping[str, str]
    draw: Callable[[str, Setting], Case | None]
    residual: Callable[[str, Trial], Comparison]
    script: Callable[[str, Case], str]
    evaluated: Callable[[str, Case], list[Case]] = _only
    kinks: str = "off"
    within: Callable[[Case], float | None] = lambda case: None
    default: tuple[str, ...] | None = None
    fails_only: tuple[str, ...] = ()
    others: str | None = None
    draws: tuple[str, ...] = ()
    applies: Callable[[str, Family], bool] = lambda variant, family: True
    model: bool = False
    single: bool = True
    own_form: bool = False

    def full(self, variant: str) -> str:
        """ "name/variant", or "name" for an axiom without variants."""
        return f"{self.name}/{variant}" if variant else self.name
