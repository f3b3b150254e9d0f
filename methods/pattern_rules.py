"""The tables of PatternNet and PatternAttribution: patterns, call by call, in the place of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import Unsupported, UsageError
from .backprop.engine import modified_gradient, replaced
from .backprop.linear_units import KERNELS, POOLS, has_units, units_of
from .backprop.operations import MAXIMA
from .backprop.passes import Operation, Rules, keep
from .guided import rectifies
from .lrp import derivative
from .patterns import ROUTES, Pattern, fitted

Carried = Literal["signal", "relevance"]


def rules(method: str, carried: Carried, patterns: Iterator[Pattern]) -> Rules:
    """The table: the patterns, call by call, stand where the weights were."""

    def layer(operation: Operation) -> Any:
        if not has_units(operation):
            return _scaled(carried)(operation) if _mirrored(operation) else operation.run()
        value: Tensor = operation.run().detach()
        units, pattern = units_of(operation), next(patterns, None)
        if pattern is None or pattern.name != operation.name or pattern.shape != tuple(value.shape[1:]):
            raise Unsupported(
                f"{method}: the model takes another path on the data: {operation.name} has no counterpart there"
            )
        through = units.run(units.inputs, pattern.signal if carried == "signal" else pattern.relevance)

        def determined(g: Tensor) -> Tensor:
            if bool(((g != 0) & ~pattern.known).any()):
                raise Unsupported(
                    f"{method}: a unit of {operation.name} does not vary over the data, so it has no pattern there"
                )
            return g

        return replaced(value, through, determined)

    return {
        **dict.fromkeys(ROUTES, keep),
        **dict.fromkeys(KERNELS | POOLS | {"add", "sub"}, layer),
        **dict.fromkeys(("mul", "div", "neg", "rsub", "batch_norm"), _scaled(carried)),
        **dict.fromkeys(("relu", "clamp", "clamp_min", "threshold"), _rectifier),
        **dict.fromkeys(MAXIMA, _winner),
    }


def _mirrored(operation: Operation) -> bool:
    """Whether the input stands behind a minus: c - x."""
    return operation.name == "sub" and operation.inputs[0] is not operation.args[0]


def _scaled(carried: Carried) -> Callable[[Operation], Tensor]:
    """y = c x + d, entry by entry: a unit with one input, whose pattern is 1 / c whatever the data; none where c = 0."""

    def rule(operation: Operation) -> Tensor:
        constant_over = operation.name == "div" and operation.inputs[0] is not operation.args[0]
        if len(operation.inputs) > 1 or constant_over or operation.kwargs.get("rounding_mode") is not None:
            raise Unsupported(
                f"patterns belong to sums with constant weights; {operation.name} of these values is none"
            )
        value: Tensor = operation.run().detach()
        through = operation.inputs[0].expand(value.shape)
        slope = derivative(operation, through)
        scales = slope != 0
        factor = scales.to(slope)
        if carried == "signal":
            factor = factor / slope.where(scales, torch.ones_like(slope))
        return replaced(value, through, lambda g: g * factor)

    return rule


def _rectifier(operation: Operation) -> Any:
    if not rectifies(operation):
        raise Unsupported(f"patterns are defined for networks with ReLU; {operation.name} is another activation")
    return operation.run()


def _winner(operation: Operation) -> Any:
    """The largest input takes all; against a constant it is an activation."""
    others = (*operation.args[1:], *operation.kwargs.values())
    constant = any(isinstance(t, Tensor) for t in others) or operation.inputs[0] is not operation.args[0]
    return _rectifier(operation) if len(operation.inputs) == 1 and constant else operation.run()


def mapped(
    name: str, carried: Carried, printed: bool, model: nn.Module, x: Tensor, target: Tensor, data: Tensor | None
) -> Tensor:
    """The map of one of the methods: patterns are fitted to data, then f_target(x) goes back through them.

    Args:
        name: the method.
        carried: "signal" goes back through a, "relevance" through w a.
        printed: the formula for units before a ReLU as it is printed.
        model, x, target: as for the method.
        data: [M, *shape].

    Returns:
        [B, *shape].
    """
    if data is None:
        raise UsageError(f"{name} fits patterns to data: pass data=batch [M, *shape]")
    if data.shape[1:] != x.shape[1:] or not len(data):
        raise UsageError(f"{name}: data must be [M, *{tuple(x.shape[1:])}], not {tuple(data.shape)}")
    patterns = fitted(name, rules(name, carried, iter(())), model, data, printed)
    in_order = iter(patterns)
    back = modified_gradient(name, rules(name, carried, in_order), model, x, target)
    if next(in_order, None) is not None:
        raise Unsupported(f"{name}: the model takes another path on the data, with more operations")
    with torch.no_grad():
        start = model(x).gather(1, target[:, None])
    return back * start.reshape(-1, *[1] * (x.dim() - 1))
