"""The names under which methods are found: built-in ones, groups, a library's, and the user's own."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..claims import Method, declaration
from ..errors import UsageError, suggestion
from ..loading import import_object
from . import naming
from .adapters import ADAPTERS
from .builtin import BUILTIN, WRAPPERS, named

GROUPS = {
    "builtin": "every built-in method",
    **{name: adapter.summary for name, adapter in ADAPTERS.items()},
}


def resolve(target: str) -> list[Method]:
    """The methods that a TARGET of the command line names.

    Args:
        target: a built-in method, with options or a base in brackets, a group, `captum:Class(option=value, ...)`, or
            `package.module:object`.

    Raises:
        UsageError: nothing is found under that name, or it is not callable; one line that says what to do.
    """
    target = target.strip()
    if target == "builtin":
        return list(BUILTIN.values())
    if target in ADAPTERS:
        return ADAPTERS[target].claimed_methods()
    if target in BUILTIN:
        return [BUILTIN[target]]
    written = target.partition("(")[0].strip()
    if "(" in target and (written in BUILTIN or written in WRAPPERS):
        return [_with_options(target, naming.read(target))]
    head, colon, rest = target.partition(":")
    if colon and head in ADAPTERS:
        return [ADAPTERS[head].adapt(rest)]
    if colon:
        return [_imported(target, head, rest)]

    raise UsageError(
        f"unknown target {target!r}; {suggestion(target, [*BUILTIN, *GROUPS])} "
        "(a method of your own is written package.module:object)"
    )


def _with_options(target: str, written: naming.Written) -> Method:
    """A built-in method with other options, or a wrapper over a base. Its claims were made for the defaults."""
    head = written.head
    wrapper = WRAPPERS.get(head)
    if written.base is not None and wrapper is None:
        raise UsageError(f"{target!r}: {head} takes no other method; options are written name=value")
    declared: Callable[..., Any] = BUILTIN[head].function if wrapper is None else wrapper
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(declared).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option, value in written.options.items():
        if option not in known:
            others = suggestion(option, known) if known else "it takes none"
            raise UsageError(f"{target!r}: {head} has no option {option!r}; {others}")
        like = known[option]  # where the default is None, the method itself says what it takes
        if like is not None and not isinstance(value, int | float if isinstance(like, float) else type(like)):
            raise UsageError(f"{target!r}: {option} must be like {known[option]!r}, not {value!r}")
    changed = {option: value for option, value in written.options.items() if value != known[option]}
    if wrapper is not None:
        made = wrapper(get_method(written.base or "gradient"), **written.options)
    else:
        made = BUILTIN[head].but(function=functools.partial(BUILTIN[head].function, **written.options))
    return named(made.but(claims=()) if changed else made, target)


def get_method(name: str) -> Method:
    """One method by its TARGET, to be called as attribute(model, x, target, baseline=None).

    Raises:
        UsageError: the name is unknown, or names a group.
    """
    methods = resolve(name)
    if len(methods) != 1 or name in GROUPS:
        raise UsageError(f"{name!r} is a group of {len(methods)} methods; name one of them")
    return methods[0]


def _imported(target: str, module_name: str, path: str) -> Method:
    found = import_object(target)
    imports = f"from {module_name} import {path.partition('.')[0]}\n\nattribute = {path}"
    return as_method(found, target, imports)


def as_method(found: Any, name: str | None = None, imports: str | None = None) -> Method:
    """A declared or bare callable as a Method.

    Raises:
        UsageError: it is not callable.
    """
    declared = declaration(found)
    if declared is not None:
        return declared.but(name=name or declared.name, imports=imports or declared.imports)
    if not callable(found):
        raise UsageError(f"{name or found!r} is not callable: a method is attribute(model, x, target, baseline=None)")
    own = name or str(getattr(found, "__name__", type(found).__name__))
    return Method(own, found, imports=imports, doc=(getattr(found, "__doc__", "") or "").strip())


def owner(target: str) -> str:
    """Whose code a TARGET runs: "" for ours, a library's name, or the target itself for a method of somebody's own."""
    with contextlib.suppress(UsageError):
        base = naming.read(target).base
        if base is not None:
            return owner(base)
    head, colon, _ = target.partition(":")
    if not colon:
        return ""
    return head if head in ADAPTERS else target


def unique(methods: Sequence[Method]) -> list[Method]:
    """The methods without repetition, in order."""
    return list({method.name: method for method in methods}.values())
