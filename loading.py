"""What a user names as package.module:object, imported: a method, a trained network, a batch of samples."""

from __future__ import annotations

import copy
import importlib
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .errors import UsageError, first_line


def import_object(target: str, what: str = "target") -> Any:
    """The object that `package.module:object` names; the working directory is importable.

    Args:
        target: the name.
        what: what to call it in an error, "--model" for instance.

    Raises:
        UsageError: the module or the object is not found, or importing it fails.
    """
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise UsageError(f"{what} {target!r}: write it as package.module:object")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise UsageError(f"{what} {target!r}: there is no module {error.name!r} here or installed") from error
        raise UsageError(f"{what} {target!r}: importing {module_name} failed: {error}") from error
    except (Exception, SystemExit) as error:
        detail = f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(f"{what} {target!r}: importing {module_name} failed: {detail}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{what} {target!r}: {module_name} has no {path!r}")
        found = getattr(found, part)
    return found


def made(target: str, what: str, *kinds: type) -> Any:
    """The object that a name stands for: itself where it is of one of the kinds, or what it returns where it is a factory.

    Raises:
        UsageError: it is not found, or the factory raises.
    """
    found = import_object(target, what)
    if isinstance(found, kinds) or not callable(found):
        return found
    try:
        return found()
    except Exception as error:
        raise UsageError(f"{what} {target} raised {type(error).__name__}: {first_line(error)}") from error


def network(target: str) -> nn.Module:
    """A copy of the user's network by its factory `package.module:factory`, in eval mode.

    Raises:
        UsageError: it is not found, cannot be made, or is no nn.Module.
    """
    named = import_object(target, "--model")
    if not isinstance(named, nn.Module) and not callable(named):
        raise UsageError(f"--model {target} is neither an nn.Module nor a factory of one")
    found = made(target, "--model", nn.Module)
    if not isinstance(found, nn.Module):
        raise UsageError(f"--model {target} returned {type(found).__name__}, expected an nn.Module")
    return copy.deepcopy(found).eval()


class LogitsOnly(nn.Module):
    """A model that returns [B] or a tuple, as one that returns logits [B, C]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, *shape] to logits [B, C]."""
        output = self.model(x)
        if isinstance(output, tuple | list):
            output = output[0]
        return output.unsqueeze(1) if output.dim() == 1 else output
