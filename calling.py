"""What a call can change outside of its arguments: settings of the process, and the global random numbers.

A trial puts the settings back after each call, so that no case sees what an earlier one did; purity looks at them before.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.modules import module as modules


class Switch(NamedTuple):
    """How a setting is read, and set."""

    read: Callable[[], Any]
    put: Callable[[Any], Any]


def _put_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _put_hooks(hooks: dict[str, dict[int, Any]]) -> None:
    for name, registered in hooks.items():
        every = getattr(modules, name)
        every.clear()
        every.update(registered)


_GLOBAL_HOOKS = tuple(name for name in vars(modules) if name.startswith("_global_") and name.endswith("_hooks"))

SETTINGS = {
    "grad mode": Switch(torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": Switch(torch.get_default_dtype, torch.set_default_dtype),
    "number of threads": Switch(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": Switch(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "hooks of all modules": Switch(lambda: {name: dict(getattr(modules, name)) for name in _GLOBAL_HOOKS}, _put_hooks),
    "numpy's error handling": Switch(np.geterr, lambda handling: np.seterr(**handling)),
    "working directory": Switch(os.getcwd, os.chdir),
    "environment variables": Switch(lambda: dict(os.environ), _put_environment),
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


def seed_all(seed: int) -> None:
    """Begin the random numbers of torch, numpy and random anew: a method may draw from any of them."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
