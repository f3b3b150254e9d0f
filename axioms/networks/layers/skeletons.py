"""Modules that wait for their weights: copies of one that was made once, since torch initialises new ones each time.

An initialiser writes numbers on the device "meta", too, where there is nothing to write into, and that takes most of the time
in which a layer is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from ....compat.torch_parts import copy_without_weights

# Modules of different sizes and settings that one process keeps: they hold no numbers, a few kilobytes each.
KEPT = 256


def skeleton(cls: Callable[..., nn.Module], *sizes: Any, **settings: Any) -> nn.Module:
    """A new module of that class and these arguments, without its weights (None in the place of each)."""
    return copy_without_weights(_first(cls, *sizes, **settings))


@functools.lru_cache(KEPT, typed=True)
def _first(cls: Callable[..., nn.Module], *sizes: Any, **settings: Any) -> nn.Module:
    return cls(*sizes, **settings, device="meta")  # (where no random number is drawn)
