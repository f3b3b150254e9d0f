"""Names: a TARGET with options or another method in brackets, and the witnesses that built-in claims pin."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..claims import Claim, Method
from ..errors import UsageError


@dataclass(frozen=True)
class Written:
    """A name as it was written: `head(base, option=value, ...)`; the base is a TARGET of its own."""

    head: str
    base: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def read(target: str) -> Written:
    """Take a TARGET apart: lrp-epsilon(epsilon=0.1), smoothgrad(integrated-gradients, n_samples=10).

    Raises:
        UsageError: brackets that do not match, two bases, an option twice, or a value that is no Python literal.
    """
    head, bracket, rest = target.partition("(")
    if not bracket:
        return Written(target)
    if not rest.endswith(")"):
        raise UsageError(f"{target!r}: the bracket is not closed; write name(base, option=value)")
    base: str | None = None
    options: dict[str, Any] = {}
    for part in _parts(target, rest[:-1]):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or "(" in name:
            if base is not None:
                raise UsageError(f"{target!r}: one base method at most; options are written name=value")
            base = part
        elif name in options:
            raise UsageError(f"{target!r}: the option {name!r} stands twice")
        else:
            try:
                options[name] = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError) as error:
                raise UsageError(f"{target!r}: {value.strip()!r} is no Python literal; quote strings") from error
    return Written(head.strip(), base, options)


def _parts(target: str, text: str) -> list[str]:
    """The text at commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
            if depth < 0:
                break
            if character == "," and depth == 0:
                parts.append("")
                continue
        parts[-1] += character
    if depth or quote:
        raise UsageError(f"{target!r}: brackets or quotes do not match")
    return [part.strip() for part in parts if part.strip()]


WITNESSES = Path(__file__).parent / "witnesses"


def pinned(name: str) -> str:
    """The path of a witness that comes with the package, by its name without the ending."""
    return str(WITNESSES / f"{name}.json")


def pinned_for(method: str, claim: Claim) -> Path:
    """Where the witness of a built-in claim of failure stands: witnesses/<method>/<axiom>--<family>.json."""
    return WITNESSES / file_name(method) / f"{file_name(claim.axiom)}--{file_name(claim.on)}.json"


def with_witnesses(method: Method) -> Method:
    """A built-in method whose claims of failure are pinned to the witnesses that come with the package."""
    claims = []
    for claim in method.claims:
        if claim.kind == "fails" and claim.witness is None and pinned_for(method.name, claim).exists():
            claim = replace(claim, witness=str(pinned_for(method.name, claim)))
        claims.append(claim)
    return method.but(claims=tuple(claims))


def file_name(name: str) -> str:
    """A name with nothing in it that a file system minds."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
