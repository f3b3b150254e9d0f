"""Difference quotients between an input and a reference: the multipliers of DeepLIFT, each made to add up exactly.

A Pair holds a value at the input, through which gradients flow, and the same value at the reference. Every function here
returns the pair of a result whose gradient is a multiplier m with sum_i m_i (input_i - reference_i) = result - reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .engine import replaced


@dataclass(frozen=True)
class Pair:
    """A value at the input (with its gradient) and at the reference (broadcastable to it)."""

    here: Tensor
    there: Tensor

    def linear(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """An affine function of both: its own gradient is the multiplier."""
        return Pair(function(self.here), function(self.there))


def secant(function: Callable[[Tensor], Tensor], z: Pair, value: Tensor | None = None) -> Pair:
    """The Rescale rule of an elementwise function: m = (a - a_ref) / (z - z_ref) (Shrikumar et al. 2017, section 3.5.1).

    Where the difference is lost in rounding, m is the derivative half way: where the quotient, with an error of u |a| / |dz|
    (u the unit roundoff), cannot be told from it. So a kink or a bend between z and z_ref never goes unseen, and
    the multipliers add up to rounding in any case.

    Args:
        function: elementwise; constants inside may broadcast z to a larger shape.
        value: function(z.here), where it is known.
    """
    with torch.no_grad():
        a = function(z.here) if value is None else value.detach()
    through = z.here.expand(a.shape)
    here, there = through.detach(), z.there
    with torch.no_grad():
        b = function(there)
        rise, step = a - b, here - there
        slope = rise / step
        heights, sizes = a.abs() + b.abs(), here.abs() + there.abs()
        # Here the quotient's relative error u / near reaches the derivative's, which is about near^2.
        near = torch.finfo(here.dtype).eps ** (1 / 3)
        same, close = here == there, step.abs() < near * sizes
        lost = same | close | (rise.abs() < near * heights)
    if bool(lost.any()):
        with torch.enable_grad():
            middle = ((here + there) / 2).requires_grad_()
            (derivative,) = torch.autograd.grad(function(middle).sum(), middle)
        # A function that cancels inside (GELU far out) has the rounding of its argument.
        noise = 4 * torch.finfo(here.dtype).eps * torch.where(close, heights + sizes, heights)
        slope = torch.where(same | (lost & ((derivative * step - rise).abs() <= noise)), derivative, slope)
    return Pair(replaced(a, through, lambda g: g * slope), b)


def product(multiply: Callable[[Tensor, Tensor], Tensor], a: Pair, b: Pair, value: Tensor | None = None) -> Pair:
    """A bilinear function of two values: each factor meets the mean of the other at input and reference.

    f(a, b) - f(a', b') = f(a - a', (b + b') / 2) + f((a + a') / 2, b - b'): complete, and the Shapley value of the two
    factors (the rule that Lundberg and Lee 2017 give DeepLIFT for products; Shrikumar et al. have none).
    """
    with torch.no_grad():
        exact = multiply(a.here, b.here) if value is None else value.detach()
        mean_a, mean_b = (a.here + a.there) / 2, (b.here + b.there) / 2
    through = multiply(a.here, mean_b) + multiply(mean_a, b.here)
    return Pair(replaced(exact, through, lambda g: g), multiply(a.there, b.there))


def reciprocal(z: Pair) -> Pair:
    """1 / z: m = -1 / (z z_ref), the secant in closed form."""
    slope = -1.0 / (z.here.detach() * z.there)
    return Pair(replaced(1.0 / z.here.detach(), z.here, lambda g: g * slope), 1.0 / z.there)


def selection(value: Pair, at_input: Pair, at_reference: Pair, larger: bool = True) -> Pair:
    """A maximum (or minimum): the whole difference goes to one candidate, by the Rescale rule.

    If the maximum grew, it is the one that is largest at the input: its value was no larger than the old maximum, so it grew
    at least as much. If it fell, it is the one that was largest at the reference. The multiplier lies in [0, 1], and
    nothing is ever divided by zero but 0 / 0, where the candidate did not move: there it is the operation's gradient, 1.

    Args:
        value: the maximum.
        at_input: the values of the candidate that is the largest at the input; at_reference: of the one that is the largest
            at the reference. Both with gradients.
        larger: False for a minimum.
    """
    here, there = value.here.detach(), value.there
    grew = here >= there if larger else here <= there
    through = torch.where(grew, at_input.here, at_reference.here)
    with torch.no_grad():
        step = through - torch.where(grew, at_input.there, at_reference.there)
        slope = torch.where(step == 0, torch.ones_like(here), (here - there) / step)
    return Pair(replaced(here, through, lambda g: g * slope), there)
