"""The private parts of torch that this package uses: an upgrade may take any of them away, and what is here has a test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn.modules import module as modules
from torch.utils.weak import WeakIdKeyDictionary

__all__ = [
    "WeakIdKeyDictionary",  # nobody promises torch.utils.weak: it has no documentation
    "base",
    "compiler_is_used",
    "copy_without_weights",
    "hook_counts",
    "hooks_of_all_modules",
    "operator_name",
    "overload_name",
    "own_attributes",
    "put_hooks_of_all_modules",
    "put_parameter",
    "unseen",
    "version",
]


def unseen() -> AbstractContextManager[Any]:
    """A context whose operations no function mode sees, neither one of ours nor one of a method under test."""
    context: AbstractContextManager[Any] = torch._C.DisableTorchFunction()
    return context


# -- operations ------------------------------------------------------------------------------------------------


def overload_name(function: Callable[..., Any]) -> str:
    """ "aten::relu_" for an overload of an operator (torch.ops.aten.relu_.default); "" for any other function."""
    return str(function._schema.name) if isinstance(function, OpOverload) else ""


def operator_name(function: Callable[..., Any]) -> str:
    """The same for an operator as a whole too (torch.ops.aten.relu_)."""
    if isinstance(function, OpOverloadPacket):
        return str(function._qualified_op_name)
    return overload_name(function)


def compiler_is_used() -> bool:
    """Whether anybody has compiled anything, and so loaded the compiler, in this process."""
    return "torch._dynamo" in sys.modules


# -- tensors ---------------------------------------------------------------------------------------------------


def version(tensor: Tensor) -> int:
    """How often something was written into a tensor, or into what it is a view of."""
    return tensor._version


def base(tensor: Tensor) -> Tensor | None:
    """What a tensor is a view of; None where it is no view."""
    return tensor._base


# -- modules ---------------------------------------------------------------------------------------------------

_HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))
_OF_EVERY_MODULE = frozenset({"_parameters", "_buffers", "_modules", *vars(nn.Module())}) - {"training"}


def hook_counts(module: nn.Module) -> dict[str, int]:
    """How many hooks of each kind a module has: forward_hooks, backward_hooks, state_dict_hooks ..."""
    return {name.strip("_"): len(getattr(module, name)) for name in _HOOKS}


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """What a module knows besides the parts, hooks and flags that torch keeps for every one: its settings, and its mode."""
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def copy_without_weights(module: nn.Module) -> nn.Module:
    """A copy of a module without parts that shares nothing with it that can be changed; each of its weights is None."""
    made = type(module).__new__(type(module))
    own = vars(made)
    for name, value in vars(module).items():
        own[name] = value.copy() if isinstance(value, dict | list | set) else value
    for weights in (own["_parameters"], own["_buffers"]):
        weights.update(dict.fromkeys(weights))
    return made


def put_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    """Let a tensor be a parameter of a module that has one of that name, without the questions that an assignment asks."""
    module._parameters[name] = nn.Parameter(value)


_GLOBAL_HOOKS = tuple(name for name in vars(modules) if name.startswith("_global_") and name.endswith("_hooks"))


def hooks_of_all_modules() -> dict[str, dict[int, Any]]:
    """The hooks that are called for every module, by kind."""
    return {name: dict(getattr(modules, name)) for name in _GLOBAL_HOOKS}


def put_hooks_of_all_modules(hooks: dict[str, dict[int, Any]]) -> None:
    """Put such hooks in the place of those that there are."""
    for name, registered in hooks.items():
        every = getattr(modules, name)
        every.clear()
        every.update(registered)
