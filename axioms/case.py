"""A case: one network with samples, baselines, targets and what an axiom drew besides; data that replays anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from .networks.build import build
from .networks.sources import Array
from .networks.spec import ARRAYS, Network

DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class UserModel:
    """A network that the user gave by name, with the hash of its weights; not data, but found again by import."""

    factory: str
    sha256: str
    shift: tuple[float, ...] | None = None
    """Subtracted from the input in an explicit first layer (for input invariance)."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "factory": self.factory,
            "sha256": self.sha256,
            **({} if self.shift is None else {"shift": list(self.shift)}),
        }


AnyNetwork = Network | UserModel


def network_from_json(data: Mapping[str, Any]) -> AnyNetwork:
    """A network spec or a reference to a user's model; raises UsageError where it is neither."""
    if isinstance(data, Mapping) and "factory" in data:
        shift = data.get("shift")
        return UserModel(data["factory"], data.get("sha256", ""), None if shift is None else tuple(shift))
    return Network.from_json(data)


@dataclass(frozen=True, eq=False)
class Case:
    """One example. Arrays are float64; dtype says in which arithmetic the method runs.

    network    the network under test, or the user's model
    x          samples [B, *shape]; target [B]: the logit of each; baseline [B, *shape] or None
    data       a batch [M, *shape] for methods that need one, or None
    seed       for stochastic methods
    options    how the case was drawn: tier, kinks, member family
    drawn      what the axiom drew besides: rewritten network, shift, subset ...
    """

    network: AnyNetwork
    x: Array
    target: tuple[int, ...]
    baseline: Array | None = None
    data: Array | None = None
    dtype: str = "float64"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> Case:
        """The same case with some fields changed."""
        return replace(self, **changes)

    def with_drawn(self, **drawn: Any) -> Case:
        """The same case with more of what the axiom drew."""
        return replace(self, drawn={**self.drawn, **drawn})

    def is_finite(self) -> bool:
        """Whether every number of the case is; those of a user's model are not looked at."""
        networks = [value for value in (self.network, *self.drawn.values()) if isinstance(value, Network)]
        arrays = [
            value for value in (self.x, self.baseline, self.data, *self.drawn.values()) if isinstance(value, np.ndarray)
        ]
        arrays += [
            layer[name]
            for each in networks
            for layer in each.layers.values()
            for name in ARRAYS & layer.settings.keys()
        ]
        return all(bool(np.isfinite(array).all()) for array in arrays)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, from which `from_json` makes an equal case."""
        return {
            "network": self.network.to_json(),
            "dtype": self.dtype,
            "x": self.x.tolist(),
            "target": list(self.target),
            "baseline": None if self.baseline is None else self.baseline.tolist(),
            "data": None if self.data is None else self.data.tolist(),
            "seed": self.seed,
            "options": dict(self.options),
            "drawn": {name: _encode(value) for name, value in self.drawn.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Case:
        """Rebuild a case; raises UsageError where the data is not one."""
        try:
            case = Case(
                network=network_from_json(data["network"]),
                x=np.array(data["x"], dtype=np.float64),
                target=tuple(int(t) for t in data["target"]),
                baseline=None if data.get("baseline") is None else np.array(data["baseline"], dtype=np.float64),
                data=None if data.get("data") is None else np.array(data["data"], dtype=np.float64),
                dtype=data["dtype"],
                seed=int(data["seed"]),
                options=dict(data.get("options", {})),
                drawn={name: _decode(value) for name, value in data.get("drawn", {}).items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"witness: the data does not describe a case ({error!r})") from error
        if case.dtype not in DTYPES:
            raise UsageError(f"witness: dtype must be one of {', '.join(DTYPES)}, not {case.dtype!r}")
        if len(case.target) != len(case.x):
            raise UsageError(f"witness: {len(case.x)} samples but {len(case.target)} targets")
        if case.baseline is not None and case.baseline.shape != case.x.shape:
            raise UsageError(f"witness: the baseline has shape {case.baseline.shape}, x has {case.x.shape}")
        if isinstance(case.network, Network) and case.x.shape[1:] != case.network.input_shape:
            raise UsageError(f"witness: x has shape {case.x.shape}, the network takes {case.network.input_shape}")
        return case

    def __repr__(self) -> str:
        parts = [f"network={self.network!r}", f"x={self.x.tolist()!r}", f"target={self.target!r}"]
        for name in ("baseline", "data"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name}={value.tolist()!r}")
        parts += [f"{name}={value!r}" for name, value in self.drawn.items()]
        return f"Case({', '.join(parts)})"


def _encode(value: Any) -> Any:
    if isinstance(value, Network | UserModel):
        return value.to_json()
    return value.tolist() if isinstance(value, np.ndarray) else value


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping) and ("calls" in value or "factory" in value):
        return network_from_json(value)
    return value


# -- the user's model ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenModel:
    """The user's own trained network and the batch of inputs its cases are drawn from."""

    reference: UserModel
    module: nn.Module
    batch: Array
    classes: int


class Shifted(nn.Module):
    """A model behind an explicit first layer that subtracts m [*shape]."""

    def __init__(self, model: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, *shape] to the model's logits at x - m."""
        return self.model(x - self.get_buffer("shift"))


def weights_hash(model: nn.Module) -> str:
    """The sha256 of a model's parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def realize(network: AnyNetwork, dtype: str, device: str, given: GivenModel | None) -> nn.Module:
    """The nn.Module of a network, in eval mode.

    Raises UsageError where a user's model is meant and none was given.
    """
    if isinstance(network, Network):
        return build(network, DTYPES[dtype], device)
    if given is None:
        raise UsageError(f"the case needs the model {network.factory!r}: it could not be imported")
    model = given.module.to(device)
    if network.shift is None:
        return model
    shape = given.batch.shape[1:]
    shift = torch.tensor(network.shift, dtype=DTYPES[dtype], device=device).reshape(shape)
    return Shifted(model, shift).eval()
