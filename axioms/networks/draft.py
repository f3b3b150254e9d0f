"""A network while it is being drawn, layer by layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .layers.kinds import kind_of
from .sources import Array, Source
from .spec import Layer, Network, Sketch

# Rounding moves a pre-activation by at most 2**-16 of the values around it in single precision, and kinks within 2**-13 are
# not allowed there (see kinks.MARGIN).
NEARBY = 2.0**-12


class Draft:
    """A network while it is being drawn: knows the values at the samples, so that units can be kept alive.

    x: the samples [B, *shape] of the case. kinks: "off" puts biases on the ladder and moves pre-activations away from
    zero; "on" lets them fall where they fall. clear: every output of a layer with weights keeps this far away from zero.
    positive: no bias is positive, every layer has an active unit at every sample, and every target logit [B] is positive.
    """

    clear = 0.0
    positive = False

    def __init__(
        self,
        source: Source,
        x: Array,
        classes: int,
        kinks: str = "off",
        dead: bool = False,
        target: Sequence[int] = (),
        narrow: bool = False,
    ) -> None:
        self.source, self.classes, self.kinks, self.dead, self.target = source, classes, kinks, dead, target
        self.sketch = Sketch(x.shape[1:])
        self.at: dict[str, Tensor] = {"x": torch.tensor(x)}
        self.level = {"x": 0}
        self.at_output, self.narrow = False, narrow

    def put(self, layer: Layer, *inputs: str) -> str:
        """Append a layer and compute its value at the samples."""
        value = self.sketch.add(layer, *inputs)
        self.at[value] = kind_of(layer).apply(layer, *(self.at[name] for name in inputs))
        self.level[value] = max(self.level[name] for name in inputs) + ("weight" in layer.settings)
        return value

    def weighted(
        self,
        h: str,
        kind: str,
        shape: Sequence[int],
        *,
        bias: bool = True,
        soft: bool = False,
        before: Layer | None = None,
        **settings: Any,
    ) -> str:
        """Append a linear or convolutional layer with drawn weights [out, in, ...].

        before: the pooling that comes after its ReLU; no two entries of a window are equal and the largest at a sample.
        """
        ladder = self.kinks == "off"
        weight = self.source.weights(shape, soft)
        shift = self.source.bias(shape[0], self.level[h] + 1, ladder) if bias else None
        layer = Layer(kind, weight=weight, bias=shift, **settings)
        if self.positive:
            layer = self._raised(layer, h)
        elif self.source.tier == "small":
            layer = self._repaired(layer, h)
        if self.clear:
            layer = self._cleared(layer, h)
        if self.narrow and not self.at_output and layer.get("bias") is not None and not self.positive:
            layer, self.narrow = self._nearby(layer, h), False
        if before is not None and ladder:
            layer = self._untied(layer, h, before)
        return self.put(layer, h)

    def again(self, role: str, shared: dict[str, str], h: str, kind: str, shape: Sequence[int], **settings: Any) -> str:
        """Call the shared layer of a role, which the first call draws (see `weighted`)."""
        if role not in shared:
            value = self.weighted(h, kind, shape, **settings)
            shared[role] = self.sketch.calls[-1].layer
            return value
        return self.call(shared[role], h)

    def call(self, name: str, h: str) -> str:
        """Call a layer that is there already."""
        value, layer = self.sketch.call(name, h), self.sketch.layers[name]
        self.at[value] = kind_of(layer).apply(layer, self.at[h])
        self.level[value] = self.level[h] + ("weight" in layer.settings)
        return value

    def linear(self, h: str, width: int, *, bias: bool = True, soft: bool = False) -> str:
        """Append a dense layer (on the last axis: one for all words of a sequence)."""
        return self.weighted(h, "linear", (width, self.at[h].shape[-1]), bias=bias, soft=soft)

    def logits(self, h: str, *, bias: bool = True, soft: bool = False) -> Network:
        """Append the output layer (after flattening) and return the network."""
        if self.at[h].dim() > 2:
            h = self.put(Layer("flatten"), h)
        self.at_output = True
        self.linear(h, self.classes, bias=bias, soft=soft)
        return self.sketch.network()

    def _repaired(self, layer: Layer, h: str) -> Layer:
        """Keep units off their kinks, and the first unit active at the first sample (unless the case is to be dead)."""
        weight = np.array(layer["weight"])
        rows = weight.reshape(len(weight), -1)
        bias = None if layer.get("bias") is None else np.array(layer["bias"])

        def response() -> Array:
            z = kind_of(layer).apply(layer.but(weight=weight, bias=bias), self.at[h])
            z = z.movedim(-1, 1) if layer.kind == "linear" else z
            return z.reshape(z.shape[0], z.shape[1], -1).numpy()

        if self.kinks == "off" and bias is None:
            for attempt in range(rows.shape[1]):
                stuck = (response() == 0).any(axis=(0, 2))
                rows[stuck, attempt] += 1.0
        if not self.dead and response()[0, 0].max() < 0:
            rows[0] *= -1.0
            if bias is not None:
                bias[0] *= -1.0
        return layer.but(weight=weight, bias=bias)

    def _nearby(self, layer: Layer, h: str) -> Layer:
        """Move the bias of the first unit so that it is next to zero at the first sample, but outside of rounding."""
        z = kind_of(layer).apply(layer, self.at[h])
        unit = (z.movedim(-1, 1) if layer.kind == "linear" else z)[0, 0].reshape(-1)
        bias = np.array(layer["bias"])
        bias[0] += NEARBY * max(1.0, float(z.abs().max())) - float(unit[0])
        return layer.but(bias=bias)

    def _raised(self, layer: Layer, h: str) -> Layer:
        """A dense layer without positive biases, of which one unit is active at each sample: the target's at the output.

        What the unit reads is not negative, so a larger weight of the largest value there raises it at all samples alike.
        """
        weight = np.array(layer["weight"])
        layer = layer.but(bias=None if layer.get("bias") is None else -np.abs(layer["bias"]))
        for sample, read in enumerate(self.at[h].numpy()):
            z = kind_of(layer).apply(layer.but(weight=weight), self.at[h])[sample].numpy()
            unit = self.target[sample] if self.at_output else int(z.argmax())
            largest = int(read.argmax())
            lacking = NEARBY - z[unit] / read[largest]  # (what is above zero but for rounding is zero the next time)
            if lacking >= 0:
                weight[unit, largest] += np.floor(lacking) + 1.0
        return layer.but(weight=weight)

    def _untied(self, layer: Layer, h: str, pool: Layer) -> Layer:
        """Raise the first weights of a channel, one by one, while active entries of a window share its maximum."""
        weight, decide = np.array(layer["weight"]), kind_of(pool).deciders
        assert decide is not None
        places = range(weight[0].size)
        for place in (*places, *places):
            z = kind_of(layer).apply(layer.but(weight=weight), self.at[h])
            active = z.where(z > 0, -torch.inf)
            differences, gaps = decide(pool, active.flatten(0, 1).unsqueeze(1))
            near = 1e-9 * max(1.0, float(z.abs().max()))  # thirds tie but for rounding
            tied = ((differences.abs() <= near) & (gaps <= near)).any(1).reshape(z.shape[:2]).any(0).numpy()
            if not tied.any():
                break
            weight.reshape(len(weight), -1)[tied, place] += 1.0
        return layer.but(weight=weight)

    def _cleared(self, layer: Layer, h: str) -> Layer:
        """Move the bias of each unit by the smallest multiple of half the distance that clears it at all samples."""
        z = kind_of(layer).apply(layer, self.at[h]).transpose(0, 1).flatten(1)
        moves = torch.zeros(len(z), dtype=torch.float64)
        for unit, responses in enumerate(z):
            moves[unit] = next(
                move
                for k in itertools.count()
                for move in (k * self.clear / 2, -k * self.clear / 2)
                if float((responses + move).abs().min()) >= self.clear
            )
        return layer.but(bias=(0.0 if layer.get("bias") is None else layer["bias"]) + moves.numpy())
