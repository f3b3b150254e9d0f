"""One call of a method under test: what it is given, what its answer must be, and what is put back after it.

Every call that attribcheck makes goes through `call`, for axioms and for checks on trained models alike. What a call may
change outside of its arguments is told here too: settings of the process, and the global random numbers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .claims import Method
from .compat.python_parts import environment, put_environment
from .compat.torch_parts import hooks_of_all_modules, put_hooks_of_all_modules
from .errors import MethodError, Unsupported, UsageError, first_line

# -- the call --------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """Raised by a hook of ours inside a call, to end it; no Exception, so that no method takes it for its own."""


class Guard:
    """What stands around each call: nothing in this process; in a worker a watch, and a record of what is called on what.

    what    for what the calls are made, see `working_on`
    contained  whether this process is a worker's
    passes  what is no error of the method: Ctrl-C in this process, which a worker never hears
    """

    passes: tuple[type[BaseException], ...] = (KeyboardInterrupt, Stop)
    what: str | None = None
    contained: bool = False

    def around(self, about: object) -> contextlib.AbstractContextManager[None]:
        """The context of one call; `about`: the case, or what else tells it apart."""
        return contextlib.nullcontext()

    def copied(self) -> None:
        """Called in a copy of this process that came back from a call, which ends then."""


_GUARD = Guard()


def guard_with(guard: Guard) -> None:
    """Put a guard around every call of this process from now on: for workers."""
    global _GUARD
    _GUARD = guard


def must_have(device: str) -> None:
    """Refuse a device that there is not.

    Raises:
        UsageError: "cuda", where torch sees no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")


def working_on(what: str) -> None:
    """Say what the calls that follow are made for, an axiom's variant for instance: part of a worker's record."""
    _GUARD.what = what


def call(
    method: Method,
    module: nn.Module,
    x: Tensor,
    target: Tensor,
    baseline: Tensor | None,
    options: Mapping[str, Any] | None = None,
    about: object = None,
) -> Tensor:
    """The attribution of one call, held to the contract; what the call does to the process is the caller's to undo.

    Args:
        method: under test.
        module: maps [B, *shape] to logits [B, C].
        x: [B, *shape]; target: [B]; baseline: [B, *shape] or None.
        options: keyword arguments besides, `data` for instance.
        about: what the call is about, for the guard.

    Returns:
        The attribution [B, *shape]: a plain dense tensor without a graph, of the dtype of x, on its device.

    Raises:
        Unsupported: the method refuses the network.
        MethodError: it raises anything else, or returns something that is no attribution.
    """
    process = os.getpid()
    try:
        with _GUARD.around(about):
            try:
                answer = method.function(module, x, target, baseline, **(options or {}))
            finally:
                # A copy that the method has made of this process must not go on: there is one checker alone.
                if os.getpid() != process:
                    _GUARD.copied()
                    os._exit(0)
            return _held_to_contract(answer, x)
    except (Unsupported, UsageError, MethodError):
        raise
    except _GUARD.passes:
        raise
    except BaseException as error:  # whatever a method raises is its own
        raise MethodError(f"raised {type(error).__name__}: {first_line(error)}") from error


def _held_to_contract(answer: Any, x: Tensor) -> Tensor:
    if not isinstance(answer, Tensor):
        raise MethodError(f"returned {_a(type(answer).__name__)}, expected a torch.Tensor of the shape of x")
    if answer.shape != x.shape:
        raise MethodError(f"returned shape {tuple(answer.shape)} for an input of shape {tuple(x.shape)}")
    if answer.dtype != x.dtype:
        raise MethodError(f"returned dtype {_plain(answer.dtype)} for an input of dtype {_plain(x.dtype)}")
    if answer.layout != torch.strided:
        raise MethodError(f"returned a tensor of layout {_plain(answer.layout)}, expected a dense one")
    if answer.device != x.device:
        raise MethodError(f"returned a tensor on {answer.device} for an input on {x.device}")
    if type(answer) not in (Tensor, nn.Parameter):
        return _copied(answer)
    return answer.detach()


def _copied(answer: Tensor) -> Tensor:
    """A tensor of a class of somebody's own as a plain one: its code must not run in ours later on."""
    try:
        plain = torch.full(tuple(answer.shape), torch.nan, dtype=answer.dtype, device=answer.device)
        with torch.no_grad():
            plain.copy_(answer)
    except BaseException as error:
        raise MethodError(
            f"returned {_a(type(answer).__name__)} that cannot be read: {type(error).__name__}: {first_line(error)}"
        ) from error
    return plain


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _plain(of: torch.dtype | torch.layout) -> str:
    return str(of).removeprefix("torch.")


def baseline_for(kind: str | None, x: Tensor, given: Tensor | None, data: Tensor | None) -> Tensor:
    """The reference [B, *shape] that a kind of baseline means at x; zeros for none."""
    over = x if data is None else data
    match kind:
        case "given":
            return torch.zeros_like(x) if given is None else given
        case "min":
            return x.flatten(1).amin(1).reshape(-1, *[1] * (x.dim() - 1)).expand_as(x).clone()
        case "min-per-feature":
            return over.amin(0).expand_as(x).clone()
        case "mean":
            return over.mean(0).expand_as(x).clone()
        case _:
            return torch.zeros_like(x)


# -- what a call can change besides ----------------------------------------------------------------------------


class Switch(NamedTuple):
    """How a setting is read, and set."""

    read: Callable[[], Any]
    put: Callable[[Any], Any]


def _streams() -> tuple[Any, ...]:
    return tuple((stream, stream is None or stream.closed) for stream in (sys.stdin, sys.stdout, sys.stderr))


def _put_streams(streams: tuple[Any, ...]) -> None:
    for name, (stream, closed) in zip(("stdin", "stdout", "stderr"), streams, strict=True):
        if stream is not None and stream.closed and not closed:  # somewhere else to write to: the file is gone
            stream = open(os.devnull, "w" if name != "stdin" else "r")  # noqa: SIM115
        setattr(sys, name, stream)


def _put_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # (None: as if nobody had ever set one)


SETTINGS = {
    "grad mode": Switch(torch.is_grad_enabled, torch.set_grad_enabled),
    "default device": Switch(torch.get_default_device, _put_device),
    "default dtype": Switch(torch.get_default_dtype, torch.set_default_dtype),
    "number of threads": Switch(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": Switch(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "hooks of all modules": Switch(hooks_of_all_modules, put_hooks_of_all_modules),
    "numpy's error handling": Switch(np.geterr, lambda handling: np.seterr(**handling)),
    "standard streams": Switch(_streams, _put_streams),
    "working directory": Switch(os.getcwd, os.chdir),
    "environment variables": Switch(environment, put_environment),
}


def settings() -> dict[str, Any]:
    """The settings of the process, by name."""
    return {name: setting.read() for name, setting in SETTINGS.items()}


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """A context after which the settings of the process are as before."""
    before = settings()
    try:
        yield
    finally:
        for name, value in settings().items():
            if value != before[name]:
                SETTINGS[name].put(before[name])


@contextlib.contextmanager
def kept_random_numbers(device: str = "cpu") -> Iterator[None]:
    """A context after which the random numbers of torch, numpy and random go on as if nothing had been drawn."""
    numpys, pythons = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
            yield
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch, as workers have: sums are rounded otherwise with more, and figures would depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seed_all(seed: int) -> None:
    """Begin the random numbers of torch, numpy and random anew: a method may draw from any of them."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


class Originals:
    """The functions of torch as they are now, by name; told apart later from what somebody has put in their places."""

    PLACES = (torch, torch.nn.functional, torch.Tensor, torch.autograd, nn.Module)

    def __init__(self) -> None:
        self._functions = {place: dict(vars(place)) for place in self.PLACES}

    def replaced(self) -> list[str]:
        """The names of functions that are others now."""
        return [
            f"{place.__name__}.{name}"
            for place, known in self._functions.items()
            for name, function in known.items()
            if callable(function) and vars(place).get(name) is not function
        ]

    def put_back(self) -> None:
        """Put the functions back."""
        for place, known in self._functions.items():
            for name, function in known.items():
                if callable(function) and vars(place).get(name) is not function:
                    setattr(place, name, function)


@functools.cache
def _in_this_process() -> Originals:
    return Originals()


def originals() -> Originals:
    """What to compare with when a precheck fails: as torch was when this worker began, which has one method (or ours)."""
    return _in_this_process() if _GUARD.contained else Originals()
