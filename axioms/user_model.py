"""The user's own trained network and data as the family "model"."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .. import loading
from ..errors import UsageError, first_line
from ..loading import LogitsOnly
from .case import GivenModel, UserModel, weights_hash


def load(model: str, data: str | None) -> GivenModel:
    """Import a model factory and a batch of inputs.

    The model is copied, put into eval mode and converted to float64: residuals are then rounding of the method's
    arithmetic and not of the model's, and kinks are met with probability 1e-13 and not 1e-4.

    Args:
        model: `package.module:factory`, a callable without arguments that returns a trained nn.Module (or a module).
        data: `package.module:batch`, a tensor or array [M, *shape], or a callable without arguments that returns one;
            of a tuple (inputs, labels) the inputs are taken.

    Raises:
        UsageError: one of them is not found, is of the wrong kind, or they do not fit together.
    """
    if data is None:
        raise UsageError("--model needs --data package.module:batch, inputs [M, *shape] to draw cases from")
    module = load_module(model)
    batch = _batch(data)
    try:
        with torch.no_grad():
            logits = module(torch.tensor(batch[:2]))
    except Exception as error:
        raise UsageError(f"--model {model} does not take the inputs of --data {data}: {first_line(error)}") from error
    if logits.dim() != 2 or len(logits) != len(batch[:2]):
        raise UsageError(f"--model {model} maps {batch[:2].shape} to {tuple(logits.shape)}, expected logits [B, C]")
    return GivenModel(UserModel(model, weights_hash(module)), module, batch, logits.shape[1])


def load_module(model: str) -> nn.Module:
    """The user's network by its factory, in eval mode, float64, returning logits [B, C].

    Raises:
        UsageError: it is not found, cannot be made, or is no nn.Module.
    """
    return LogitsOnly(loading.network(model).double()).eval()


def for_case(reference: UserModel, shape: tuple[int, ...]) -> GivenModel:
    """The model that a witness refers to, imported again.

    Raises:
        UsageError: it is not found, or its weights are not those of the witness.
    """
    module = load_module(reference.factory)
    found = weights_hash(module)
    if reference.sha256 and found != reference.sha256:
        raise UsageError(
            f"{reference.factory} has other weights now (sha256 {found[:12]}) than the witness ({reference.sha256[:12]})"
        )
    return GivenModel(UserModel(reference.factory, found), module, np.zeros((1, *shape)), 0)


def _batch(data: str) -> np.ndarray:
    made = loading.made(data, "--data", Tensor, np.ndarray)
    if isinstance(made, tuple | list) and made and isinstance(made[0], Tensor | np.ndarray):
        made = made[0]
    try:
        batch = torch.as_tensor(made).detach().cpu().double().numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"--data {data} is not a tensor or array of inputs [M, *shape]") from error
    if batch.ndim < 2 or not len(batch):
        raise UsageError(f"--data {data} has shape {batch.shape}, expected inputs [M, *shape] with M >= 1")
    if not np.isfinite(batch).all():
        raise UsageError(f"--data {data} holds values that are not finite")
    return batch
