"""Trained weights in files: a cache of what was trained here, and files that users give."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import UsageError, first_line
from . import preparation, training
from .networks.architecture import Architecture
from .samples import Dataset
from .settings import Settings
from .training import Trained

FOLDER = "ATTRIBCHECK_CACHE"
_ENDINGS = (".safetensors", ".pt", ".pth", ".bin")


def folder() -> Path:
    """Where trained weights are kept: $ATTRIBCHECK_CACHE, else attribcheck in the user's cache folder."""
    given = os.environ.get(FOLDER)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attribcheck"


def trained(
    architecture: Architecture,
    dataset: Dataset,
    settings: Settings,
    seed: int = 0,
    progress: bool = True,
    device: str = "cpu",
) -> Trained:
    """A trained network from the cache, or trained now and kept there.

    A file that is damaged, and a folder that cannot be written to, are told in a warning; neither ends a run.

    Args:
        architecture, dataset, settings, seed, progress, device: as in `training.train`.

    Returns:
        The network on the CPU.
    """
    path = folder() / _file_name(architecture, dataset, settings, seed)
    if path.exists():
        try:
            return _read(path, architecture, dataset)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            warnings.warn(f"{path} is damaged ({first_line(error)}); training again", stacklevel=2)
    made = training.train(architecture, dataset, settings, seed, progress, device)
    try:
        _write(path, made, architecture, dataset, settings, seed)
    except OSError as error:
        warnings.warn(f"the trained weights are not kept: {first_line(error)} (set {FOLDER})", stacklevel=2)
    return made


def _file_name(architecture: Architecture, dataset: Dataset, settings: Settings, seed: int) -> str:
    """A name that changes with whatever the weights depend on."""
    factory = inspect.getmodule(architecture.factory)
    assert factory is not None
    parts = [inspect.getsource(module) for module in (factory, training, preparation)]
    parts += [architecture.name, repr(architecture.preparation), repr(sorted(architecture.options.items()))]
    parts += [dataset.fingerprint, json.dumps(settings.to_json(), sort_keys=True), str(seed), _torch()]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    plain = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in architecture.name)
    return f"{plain}--{dataset.name}--{digest}.safetensors"


def _torch() -> str:
    return torch.__version__.split(".", maxsplit=1)[0]


def _write(
    path: Path, made: Trained, architecture: Architecture, dataset: Dataset, settings: Settings, seed: int
) -> None:
    """Write the file beside its place and move it there, so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in made.model.state_dict().items()}
    about = {
        "model": architecture.name,
        "data": dataset.name,
        "source": dataset.source,
        "inputs": architecture.preparation.describe(),
        "accuracy": repr(made.accuracy),
        "training": repr(made.training),
        "epochs": str(made.epochs),
        "settings": json.dumps(settings.to_json()),
        "seed": str(seed),
        "torch": torch.__version__,
    }
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, name, metadata=about)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _read(path: Path, architecture: Architecture, dataset: Dataset) -> Trained:
    with safe_open(path, framework="pt") as file:
        about: dict[str, str] = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    figures = float(about["accuracy"]), float(about["training"]), int(about["epochs"])
    return Trained(training.filled(training.blank(architecture, dataset), weights), *figures)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights of a user's file by name: safetensors, or a state dict that torch.save wrote.

    A state dict under the key "state_dict" or "model", and names that begin with "module.", as training scripts write
    them, are understood. Nothing in a file is ever executed (weights_only=True).

    Raises:
        UsageError: there is no such file, or no weights are in it.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"--weights {path}: there is no such file")
    if file.suffix not in _ENDINGS:
        raise UsageError(f"--weights {path}: expected a file of {', '.join(_ENDINGS)}")
    found: Any
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError(f"--weights {path} cannot be read as weights: {first_line(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise UsageError(f"--weights {path} holds no state dict, a mapping from names to tensors")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def classes_of(weights: Mapping[str, Tensor], model: nn.Module) -> int | None:
    """How many classes weights are for, by the bias of the model's last layer; None where they have no such tensor."""
    last = list(model.state_dict())[-1]
    return len(weights[last]) if last in weights and weights[last].dim() == 1 else None


def fit(model: nn.Module, weights: Mapping[str, Tensor], architecture: Architecture, where: str) -> nn.Module:
    """A blank model with the weights of a user's file.

    Args:
        model: an architecture without weights.
        weights: by name.
        architecture: of the model; names of weights that it ignores are left out.
        where: the file, for errors.

    Raises:
        UsageError: names are missing or unknown, or shapes differ; one line that names the first of them.
    """
    own = model.state_dict()
    given = {name: value for name, value in weights.items() if not name.startswith(architecture.ignored)}
    what = f"--weights {where} does not fit {architecture.name}"
    for wrong, names in (("has no", own.keys() - given.keys()), ("has the unknown", given.keys() - own.keys())):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UsageError(f"{what}: it {wrong} {min(names)}{more}")
    for name, value in own.items():
        if given[name].shape != value.shape:
            raise UsageError(f"{what}: {name} is {tuple(given[name].shape)}, expected {tuple(value.shape)}")
    return training.filled(model, given)
