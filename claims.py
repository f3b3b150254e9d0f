"""What an author writes beside a method: its claims, and what it needs to be called. No torch here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal, overload

from .errors import UsageError

Baseline = Literal["zeros", "min", "min-per-feature", "mean", "given"]
BASELINES = ("zeros", "min", "min-per-feature", "mean", "given")
SANITY = "sanity"
"""What claims on full-model checks begin with: sanity/class-sensitivity."""


class Kind(StrEnum):
    """What a claim says of an axiom: it holds on all networks of a family, or there is one that shows that it fails."""

    HOLDS = "holds"
    FAILS = "fails"


@dataclass(frozen=True)
class Claim:
    """One claim: `axiom` ("name" or "name/variant") holds, or fails, on a family of networks.

    A claim on "sanity/check" or "sanity/check/variant" speaks of a full-model check, and `on` of a trained model: "any",
    "model:data", or a model's name.
    """

    kind: Kind
    axiom: str
    on: str = "any"
    tol: float | None = None
    reason: str | None = None
    source: str | None = None
    witness: str | None = None

    @property
    def name(self) -> str:
        """The axiom without its variant."""
        return self.axiom.partition("/")[0]

    @property
    def variant(self) -> str | None:
        """The variant, or None where the claim speaks of the axiom as a whole."""
        return self.axiom.partition("/")[2] or None

    @property
    def check(self) -> str | None:
        """The full-model check that it speaks of, "name" or "name/variant"; None for a claim on an axiom."""
        return self.axiom.partition("/")[2] if self.name == SANITY else None


def _spoken(kind: str, axiom: str, on: str, tol: float | None) -> None:
    """Raise UsageError for arguments that make no claim."""
    if not isinstance(axiom, str):
        raise UsageError(f"{kind}({axiom!r}): an axiom is a name, such as 'completeness/delta'")
    if not isinstance(on, str):
        raise UsageError(
            f"{kind}({axiom!r}, on={on!r}): a family is one name, such as 'relu'; make a claim for each family"
        )
    if tol is not None and not (isinstance(tol, int | float) and 0 < tol < float("inf")):
        raise UsageError(f"{kind}({axiom!r}): tol must be a positive finite number, not {tol!r}")


def holds(axiom: str, on: str = "any", tol: float | None = None, source: str | None = None) -> Claim:
    """Claim that an axiom holds for every network of a family on which the method is supported.

    Args:
        axiom: "name" (every variant; of completeness, delta) or "name/variant"; "sanity/name" or "sanity/name/variant" for a
            full-model check.
        on: a family of networks, see `attribcheck list families`; of a full-model check "any", "model:data" or a model.
        tol: the relative residual that is tolerated, for a method that approximates; None: rounding only.
        source: where the claim comes from (paper and proposition, documentation, or the argument).

    Raises:
        UsageError: the tolerance is not a positive finite number; the axiom or the family is no name.
    """
    _spoken("holds", axiom, on, tol)
    return Claim(Kind.HOLDS, axiom, on, tol=tol, source=source)


def fails(
    axiom: str,
    on: str = "any",
    reason: str = "",
    source: str | None = None,
    witness: str | None = None,
    tol: float | None = None,
) -> Claim:
    """Claim that there is a counterexample to an axiom in a family, and that it can be shown.

    Args:
        axiom: "name" (some variant) or "name/variant"; "sanity/name" or "sanity/name/variant" for a full-model check.
        on: a family of networks; of a full-model check "any", "model:data" or a model.
        reason: why it fails; mandatory.
        source: where the claim comes from.
        witness: path of a pinned witness, which is evaluated instead of searching for one.
        tol: the relative residual beyond which a case counts as a counterexample; None: rounding only.

    Raises:
        UsageError: the reason is missing; the tolerance is not a positive finite number; the axiom or the family is no name.
    """
    _spoken("fails", axiom, on, tol)
    if not reason:
        raise UsageError(f"fails({axiom!r}): a reason is mandatory; say why the axiom fails")
    return Claim(Kind.FAILS, axiom, on, tol=tol, reason=reason, source=source, witness=witness)


@dataclass(frozen=True)
class Method:
    """A method under test: `function(model, x, target, baseline=None) -> Tensor`, and what is known of it.

    name      as it stands in reports; a TARGET of the command line where there is one
    imports   Python source that defines `attribute` with the same signature, for scripts; None: not importable
    """

    name: str
    function: Callable[..., Any]
    baseline: Baseline | None = None
    stochastic: bool = False
    data: bool = False
    claims: tuple[Claim, ...] = ()
    imports: str | None = None
    doc: str = ""

    @property
    def short(self) -> str:
        """The name without the module it comes from."""
        return self.name.rpartition(":")[2] if not self.name.startswith("captum:") else self.name

    @property
    def needs_data(self) -> bool:
        """Whether cases for this method carry a batch of data."""
        return self.data or self.baseline in ("mean", "min-per-feature")

    def but(self, **changes: Any) -> Method:
        """The same method with some fields changed."""
        return replace(self, **changes)

    def __call__(self, model: Any, x: Any, target: Any, baseline: Any = None, **options: Any) -> Any:
        return self.function(model, x, target, baseline, **options)


@overload
def method(function: Callable[..., Any], /) -> Callable[..., Any]: ...
@overload
def method(
    *,
    name: str | None = None,
    baseline: Baseline | None = None,
    stochastic: bool = False,
    data: bool = False,
    claims: Iterable[Claim] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def method(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    baseline: Baseline | None = None,
    stochastic: bool = False,
    data: bool = False,
    claims: Iterable[Claim] = (),
) -> Any:
    """Declare an attribution method: decorate `attribute(model, x, target, baseline=None) -> Tensor`.

    Args:
        function: the attribution function (when the decorator is used without arguments).
        name: the name in reports; the function's own by default.
        baseline: which reference the method takes: "zeros", "min" (per-sample scalar minimum of x), "min-per-feature"
            and "mean" (over the case's data), "given" (drawn), or None (no reference; completeness refers to zeros).
        stochastic: the method draws random numbers; the runner reseeds torch before each call.
        data: the method is called with `data=batch` [M, *shape] to learn patterns or a mean from.
        claims: `holds(...)` and `fails(...)`.

    Returns:
        The function, unchanged to call, with its declaration attached.

    Raises:
        UsageError: an unknown kind of baseline, or a claim that is not one.
    """
    if baseline is not None and baseline not in BASELINES:
        raise UsageError(f"baseline must be one of {', '.join(map(repr, BASELINES))} or None, not {baseline!r}")
    claims = tuple(claims)
    for claim in claims:
        if not isinstance(claim, Claim):
            raise UsageError(f"claims must be made with holds(...) or fails(...), not {claim!r}")

    def declare(f: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(f):
            raise UsageError(f"@method decorates a callable attribute(model, x, target, baseline), not {f!r}")
        declared = name or str(getattr(f, "__name__", type(f).__name__))

        @functools.wraps(f)
        def call(*args: Any, **kwargs: Any) -> Any:
            return f(*args, **kwargs)

        call.__attribcheck__ = Method(  # type: ignore[attr-defined]
            declared, f, baseline, stochastic, data, claims, doc=(f.__doc__ or "").strip()
        )
        return call

    return declare if function is None else declare(function)


def declaration(target: Any) -> Method | None:
    """The declaration that `method` attached, or None for a bare callable."""
    if isinstance(target, Method):
        return target
    return getattr(target, "__attribcheck__", None)
