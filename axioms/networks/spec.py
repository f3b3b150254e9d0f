"""A network as data: layers, weights and wiring, serializable, comparable and readable. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import UsageError

ARRAYS = frozenset({"weight", "bias", "mean", "var", "scale", "shift"})
"""The layer settings that hold weights; everything else (stride, form, order ...) is plain data."""


RETURNS = ("logits", "tuple", "single")


class Layer:
    """One layer: its kind (a key of `kinds.KINDS`) and its settings. Weights are read-only float64 arrays.

    >>> Layer("linear", weight=[[1.0]], bias=[-0.5])
    Layer('linear', weight=[[1.0]], bias=[-0.5])
    """

    __slots__ = ("kind", "settings")

    def __init__(self, kind: str, **settings: Any) -> None:
        self.kind = kind
        self.settings: dict[str, Any] = {}
        for name, value in settings.items():
            if value is None:
                continue
            if name in ARRAYS:
                value = np.array(value, dtype=np.float64)
                value.setflags(write=False)
            elif isinstance(value, list):
                value = tuple(value)
            self.settings[name] = value

    def get(self, name: str, default: Any = None) -> Any:
        """The setting of that name, or the default."""
        return self.settings.get(name, default)

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def but(self, **changes: Any) -> Layer:
        """The same layer with some settings changed (None removes one)."""
        return Layer(self.kind, **{**self.settings, **changes})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; arrays become nested lists."""
        return {"kind": self.kind, **{name: _plain(value) for name, value in self.settings.items()}}

    def __repr__(self) -> str:
        settings = "".join(f", {name}={_plain(value)!r}" for name, value in self.settings.items())
        return f"Layer({self.kind!r}{settings})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layer) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Call:
    """`value = layer(*inputs)`: one line of the forward pass. A layer that is called twice is a shared module."""

    value: str
    layer: str
    inputs: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Call({self.value!r}, {self.layer!r}, {self.inputs!r})"


@dataclass(frozen=True, eq=False)
class Network:
    """A feed-forward network as a small graph.

    `calls` are in the order of evaluation; the input is the value "x", the last call is the output [B, C].
    returns: what the module returns, before it is wrapped to return logits: "logits" | "tuple" | "single" ([B], C = 1).
    The repr is Python that evaluates to the same network.
    """

    input_shape: tuple[int, ...]
    layers: Mapping[str, Layer]
    calls: tuple[Call, ...]
    returns: str = "logits"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        object.__setattr__(self, "calls", tuple(self.calls))
        known = {"x"}
        for call in self.calls:
            if call.layer not in self.layers:
                raise UsageError(f"network: the call of {call.value!r} names an unknown layer {call.layer!r}")
            for name in call.inputs:
                if name not in known:
                    raise UsageError(f"network: {call.value!r} uses {name!r} before it is computed")
            if call.value in known:
                raise UsageError(f"network: the value {call.value!r} is computed twice")
            known.add(call.value)
        if not self.calls:
            raise UsageError("network: it has no calls, so no output")
        if self.returns not in RETURNS:
            raise UsageError(f"network: returns must be one of {', '.join(RETURNS)}, not {self.returns!r}")

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def n_features(self) -> int:
        """How many scalars one sample has."""
        return math.prod(self.input_shape)

    @property
    def output(self) -> str:
        """The name of the value that the network returns."""
        return self.calls[-1].value

    def call(self, value: str) -> Call:
        """The call that computes a value."""
        return next(call for call in self.calls if call.value == value)

    def layer_of(self, value: str) -> Layer:
        """The layer that computes a value."""
        return self.layers[self.call(value).layer]

    def consumers(self, value: str) -> list[Call]:
        """The calls that read a value."""
        return [call for call in self.calls if value in call.inputs]

    def calls_of(self, layer: str) -> list[Call]:
        """The calls of one layer: more than one where it is shared."""
        return [call for call in self.calls if call.layer == layer]

    def weighted_layers(self) -> int:
        """How many layers carry a weight matrix or kernel: the size that a reader of a witness sees."""
        return sum(layer.kind.startswith(("linear", "conv")) for layer in self.layers.values())

    # -- changing --------------------------------------------------------------------------------------------

    def with_layers(self, **layers: Layer) -> Network:
        """The same wiring with some layers replaced (or added)."""
        return replace(self, layers={**self.layers, **layers})

    def edit(self) -> Sketch:
        """A mutable copy of this network, to append to or to splice."""
        sketch = Sketch(self.input_shape, self.returns)
        sketch.layers, sketch.calls = dict(self.layers), list(self.calls)
        return sketch

    # -- writing ---------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, from which `from_json` makes an equal network."""
        return {
            "input_shape": list(self.input_shape),
            "layers": {name: layer.to_json() for name, layer in self.layers.items()},
            "calls": [{"value": call.value, "layer": call.layer, "inputs": list(call.inputs)} for call in self.calls],
            **({} if self.returns == "logits" else {"returns": self.returns}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Network:
        """Rebuild a network from `to_json`.

        Raises UsageError where the data is not a network.
        """
        try:
            layers = {
                name: Layer(settings["kind"], **{k: v for k, v in settings.items() if k != "kind"})
                for name, settings in data["layers"].items()
            }
            calls = tuple(Call(c["value"], c["layer"], tuple(c["inputs"])) for c in data["calls"])
            return Network(tuple(int(n) for n in data["input_shape"]), layers, calls, data.get("returns", "logits"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"network: the data does not describe a network ({error!r})") from error

    def __repr__(self) -> str:
        layers = "".join(f"        {name!r}: {layer!r},\n" for name, layer in self.layers.items())
        calls = "".join(f"        {call!r},\n" for call in self.calls)
        returns = "" if self.returns == "logits" else f"    returns={self.returns!r},\n"
        return (
            f"Network(\n    input_shape={self.input_shape!r},\n    layers={{\n{layers}    }},\n"
            f"    calls=[\n{calls}    ],\n{returns})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


class Sketch:
    """A network while it is being written: `add` appends one layer and its call and returns the value's name."""

    def __init__(self, input_shape: Sequence[int], returns: str = "logits") -> None:
        self.input_shape, self.returns = tuple(input_shape), returns
        self.layers: dict[str, Layer] = {}
        self.calls: list[Call] = []

    def fresh(self, prefix: str, taken: Iterable[str]) -> str:
        """A name that is not taken yet: prefix1, prefix2, ..."""
        used = set(taken)
        return next(name for name in (f"{prefix}{k}" for k in range(1, len(used) + 2)) if name not in used)

    def add(self, layer: Layer, *inputs: str, before: str | None = None) -> str:
        """Append a layer and its call (or put the call before the one that computes `before`)."""
        name = self.fresh(layer.kind, self.layers)
        self.layers[name] = layer
        return self.call(name, *inputs, before=before)

    def call(self, layer: str, *inputs: str, before: str | None = None) -> str:
        """Call an existing layer (a second call makes it a shared module)."""
        value = self.fresh("h", (call.value for call in self.calls))
        place = len(self.calls) if before is None else self._place(before)
        self.calls.insert(place, Call(value, layer, inputs))
        return value

    def rewire(self, old: str, new: str, *, only: Iterable[str] | None = None) -> None:
        """Let the calls (or only those that compute the given values) read `new` where they read `old`."""
        chosen = None if only is None else set(only)
        for k, call in enumerate(self.calls):
            if old in call.inputs and (chosen is None or call.value in chosen):
                inputs = tuple(new if name == old else name for name in call.inputs)
                self.calls[k] = Call(call.value, call.layer, inputs)

    def drop(self, value: str) -> None:
        """Remove the call that computes a value, and its layer where nobody else calls it."""
        call = self.calls.pop(self._place(value))
        if all(other.layer != call.layer for other in self.calls):
            del self.layers[call.layer]

    def network(self) -> Network:
        """The finished network."""
        return Network(self.input_shape, dict(self.layers), tuple(self.calls), self.returns)

    def _place(self, value: str) -> int:
        return next(k for k, call in enumerate(self.calls) if call.value == value)

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)


def _plain(value: Any) -> Any:
    """A setting as plain JSON data; a minus zero is written as zero, which no layer tells apart."""
    if isinstance(value, np.ndarray):
        return (value + 0.0).tolist()
    return list(value) if isinstance(value, tuple) else value
