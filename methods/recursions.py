"""epsilon-LRP and DeepLIFT (Rescale) as the papers' recursions from layer to layer, unit by unit; no derivative is taken.

Both start from a relevance of the target unit and hand it on from the units j of a layer to the units i of the layer below,
in proportion to the contributions z_ji = w_ji x_i (of their differences from a reference, for DeepLIFT). They are slow, and
refuse a network where an equation is 0/0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from ..claims import fails, holds, method
from ..errors import Unsupported
from .backprop.calls import Calls, flat, matrix_of, must_be_fixed, role_of, tied_in, winners_of

EPSILON = 1e-6
"""The stabiliser of the epsilon rule, unless the caller gives another."""


@dataclass(frozen=True)
class _Flow:
    """What reaches the units of a node: their relevance r [K], and whether anything above listens to them at all [K].

    A unit that nobody listens to has r = 0 whatever its value is. Where a unit is listened to and has r = 0 because its
    own value (or difference) is zero, how much of that zero its inputs carry is 0/0.
    """

    r: Tensor
    heard: Tensor

    def __add__(self, other: _Flow) -> _Flow:
        return _Flow(self.r + other.r, self.heard | other.heard)


class _Sums(NamedTuple):
    """What a node's units add up: w [out, in] times x [in] (or its differences) and b [out] make z [out].

    sizes  [out], the sums of the absolute values that z is computed from: what its rounding is a share of. A difference is
           computed from two values that may be much larger.
    """

    matrix: Tensor
    entering: Tensor
    bias: Tensor
    totals: Tensor
    sizes: Tensor


def _shared(node: fx.Node, sums: _Sums, above: _Flow, epsilon: float) -> _Flow:
    """r_i = sum_j z_ji / (z_j + epsilon sign(z_j)) r_j, with z_ji = w_ji x_i, z_j = sum_i z_ji + b_j and sign(0) = 1.

    Args:
        above: what reaches the outputs.

    Raises:
        Unsupported: z_j = 0 without an epsilon, so that the equation is 0/0.
    """
    matrix, entering, bias, totals, sizes = sums
    # n roundings of at most eps / 2 add up as their square root: eight times that.
    rounding = 4 * torch.finfo(totals.dtype).eps * len(entering) ** 0.5 * sizes
    result, heard = torch.zeros_like(entering), torch.zeros_like(entering, dtype=torch.bool)
    for j in range(len(matrix)):
        if not above.heard[j]:
            continue
        terms, r = matrix[j] * entering, above.r[j]
        total = totals[j]
        heard |= matrix[j] != 0
        if epsilon:
            result += terms / (total + (epsilon if total >= 0 else -epsilon)) * r
        elif int((matrix[j] != 0).sum()) == 1 and bias[j] == 0:
            # One input makes the whole of the output, at zero too.
            result[matrix[j] != 0] += r
        elif total.abs() > rounding[j]:
            result += terms / total * r
        elif r != 0 or (terms != 0).any():
            raise Unsupported(f"{node.name}: the contributions to a unit add up to zero, so their shares are 0/0")
    return _Flow(result, heard)


def _won(winners: Tensor, above: _Flow, n: int) -> _Flow:
    """r_i = sum of the r_j of the outputs j that input i won (-1: nobody)."""
    result, heard = torch.zeros(n, dtype=above.r.dtype, device=above.r.device), torch.zeros(n, dtype=torch.bool)
    heard = heard.to(above.heard.device)
    for j, i in enumerate(winners.tolist()):
        if i >= 0:
            result[i] += above.r[j]
            heard[i] |= above.heard[j]
    return _Flow(result, heard)


def _relevance(
    calls: Calls, target: int, here: dict[fx.Node, Any], there: dict[fx.Node, Any] | None, epsilon: float
) -> Tensor:
    """The relevance of the input units of one sample, from the output down.

    Args:
        here: every value at the sample.
        there: every value at the reference; None: epsilon-LRP, which has none.
    """

    def amount(nodes: list[fx.Node]) -> Tensor:
        """The values, or their differences from the reference."""
        return flat(nodes, here) if there is None else flat(nodes, here) - flat(nodes, there)

    outputs = amount([calls.output])
    chosen = torch.arange(len(outputs), device=outputs.device) == target
    flows = {calls.output: _Flow(torch.where(chosen, outputs, torch.zeros_like(outputs)), chosen)}
    for node in reversed(calls.nodes):
        if node not in flows or node is calls.input or node not in calls.dependent:
            continue
        above, inputs, role = flows.pop(node), calls.inputs(node), role_of(calls, node)
        entering, leaving = amount(inputs), amount([node])
        if role == "activation":
            closed = (leaving == 0) & (entering != 0) & (above.r == 0)
            below = _Flow(above.r, above.heard & ~closed)
        elif role == "maximum":
            winners = winners_of(calls, node, here)
            if there is not None:
                winners = torch.where(leaving >= 0, winners, winners_of(calls, node, there))
                # Equal maxima with a winner that moved: it carries nothing. One that did not move is 0/0, as an activation's.
                moved = (winners >= 0) & (entering[winners.clamp(min=0)] != 0)
                winners = torch.where((leaving == 0) & moved, -1, winners)
                if bool((above.heard & (tied_in(calls, node, here) | tied_in(calls, node, there))).any()):
                    raise Unsupported(f"{node.name}: two values are equal and the largest; neither is the winner")
            below = _won(winners, above, len(entering))
        else:
            matrix, bias = matrix_of(calls, node, here)
            runs = [here] if there is None else [here, there]
            sizes = torch.stack([matrix.abs() @ flat(inputs, run).abs() + bias.abs() for run in runs]).sum(0)
            # In a difference of two outputs the bias cancels, but for its rounding.
            bias = bias if there is None else torch.zeros_like(bias)
            # What r_j is a multiple of is the output as it was computed: another sum of its terms, where they cancel to few
            # roundings, is another number.
            below = _shared(
                node, _Sums(matrix, entering, bias, leaving, sizes), above, epsilon if role == "weighted" else 0.0
            )
        start = 0
        for n in inputs:
            part = slice(start, start + here[n].numel())
            flow = _Flow(below.r[part], below.heard[part])
            flows[n] = flows[n] + flow if n in flows else flow
            start += here[n].numel()
    flow_in = flows.get(calls.input)
    return torch.zeros_like(here[calls.input]).reshape(-1) if flow_in is None else flow_in.r


def _recursion(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None, epsilon: float) -> Tensor:
    """The relevance [B, *shape] of each sample; a baseline makes it DeepLIFT, none epsilon-LRP."""
    rows = []
    with torch.no_grad():
        calls = Calls(model)
        for node in calls.nodes:
            must_be_fixed(calls, node)
        for b in range(len(x)):
            here = calls.values(x[b : b + 1])
            there = None if baseline is None else calls.values(baseline[b : b + 1])
            rows.append(_relevance(calls, int(target[b]), here, there, epsilon))
    return torch.stack(rows).reshape(x.shape)


# How much of f the stabilisers absorb where there are no biases and |a(z)| <= |z|. A unit j loses r_j eps / (|z_j| + eps),
# where r_j = a_j g_j and |g_j| is at most the sum G_j over all paths from the unit of absolute weights: at most eps G_j, and
# eps at the output. A residual is divided by 1.1e-3 A or more (see axioms/tolerances.py), and A >= sum_j G_j, since A adds 1
# at every activation; so it is at most eps (1 + 1 / A) / 1.1e-3, and A >= 1 but for networks whose weights are all small.
_ABSORBED = 2e-3

_EULER = "proved here: sum_i w_ji x_i = z_j without a bias, so every layer hands on what it gets, but for O(epsilon)"
_BIAS = "the share of the bias b_j / z_j reaches no feature: f = ReLU(x - 1) at x = 2 gives 2, but f(x) - f(0) = 1"
_LINEAR_BIAS = "the share of the bias b_j / z_j reaches no feature"
_SUM = "proved here: the shares z_ji / z_j of a unit do not see"
_SMOOTH = "f(0) is shared out too: sigmoid(x) at x = 1 gives 0.73, but f(x) - f(0) = 0.23"
_ABSORBS = (
    "epsilon is absorbed once for each layer, in proportion to 1 / z: x at 1 against 1 * 1 * x with epsilon = 0.1"
)
_SHIFT = "z_ji = w_ji x_i has the input as a factor, which the shift moved (Kindermans et al. 2019, section 3.2)"


@method(
    name="lrp-epsilon-recursion",
    claims=[
        holds("completeness/output", on="relu-nobias(magnitude=ordinary)", tol=_ABSORBED, source=_EULER),
        holds("completeness/delta", on="relu-nobias(magnitude=ordinary)", tol=_ABSORBED, source=f"{_EULER}; f(0) = 0"),
        holds("completeness/output", on="odd-nobias(magnitude=ordinary)", tol=_ABSORBED, source=_EULER),
        holds("completeness/delta", on="odd-nobias(magnitude=ordinary)", tol=_ABSORBED, source=f"{_EULER}; f(0) = 0"),
        holds("implementation-invariance/permute", on="relu", source=f"{_SUM} the order of the units"),
        *(
            holds(f"implementation-invariance/{kind}", on="relu", source=f"{_SUM} that w a = (s w) a + (1 - s) w a")
            for kind in ("split", "split-signed")
        ),
        holds("implementation-invariance/dead", on="relu", source=f"{_SUM} a unit with w_ji = 0"),
        holds("implementation-invariance/never-active", on="relu", source=f"{_SUM} a unit with x_i = 0"),
        fails("implementation-invariance/rescale", on="relu", reason=_ABSORBS),
        fails("implementation-invariance/split-linear", on="linear", reason=_ABSORBS),
        fails("implementation-invariance/fuse-linear", on="linear", reason=_ABSORBS),
        fails("completeness/output", on="linear", reason=_LINEAR_BIAS),
        fails("completeness/output", on="relu", reason=_LINEAR_BIAS),
        fails("completeness/delta", on="relu", tol=_ABSORBED, reason=_BIAS),
        fails("completeness/delta", on="conv", tol=_ABSORBED, reason=_BIAS),
        fails("completeness/delta", on="maxpool", tol=_ABSORBED, reason=_BIAS),
        fails("completeness/delta", on="smooth", tol=_ABSORBED, reason=_SMOOTH),
        fails("input-invariance/constant", on="any", reason=_SHIFT),
        fails("input-invariance/arbitrary", on="linear", reason=_SHIFT),
    ],
)
def lrp_epsilon_recursion(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, epsilon: float = EPSILON
) -> Tensor:
    """Layer-wise relevance propagation with the epsilon rule, layer by layer.

    r_i = sum_j z_ji / (z_j + epsilon sign(z_j)) r_j, with z_ji = w_ji x_i, z_j = sum_i z_ji + b_j, sign(0) = 1

    from r = f(x) at the target unit and 0 at the others. Sums of two values, pooling by means, and what only moves or scales
    values share without epsilon; activations hand r on as it is; the winner of a maximum (the first of equals) takes all.

    Source: Bach et al. 2015, equation 56 with its stabiliser; Ancona et al. 2018, equations 1 and 2 (where a layer's
    activation and its weights are one step). With ReLU and maxima only it tends to gradient * input as epsilon goes to 0.

    What holds: sum R = f(x) without biases, but for what epsilon absorbs. What fails: completeness with biases; input
    invariance; invariance under rewrites that change the number or the scale of the z_j, by O(epsilon).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode; torch.fx must be able to list its calls.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        epsilon: the stabiliser of linear, convolutional and normalising layers.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: an operation without an equation (a product of two values that depend on x), or a sum without
            epsilon that is zero, so that the shares are 0/0.
    """
    return _recursion(model, x, target, None, epsilon)


_RESCALE = "Shrikumar et al. 2017, equation 1 (summation to delta); proved here: the shares of each unit add up to 1"
_MAXIMUM = f"{_RESCALE}, and a maximum hands all it gets to one input"
_MOVES = "proved here: only differences from the baseline enter, which moves with the input"
_SLOPES = "proved here: r_i / (x_i - x'_i) of a linear graph is its weight"
_UNITS = (
    "proved here: the ratio (a - a') / (z - z') of a unit is that of its copies, of its multiples and behind identities"
)
_ON_UNITS = (
    "permute",
    "rescale",
    "split",
    "split-signed",
    "relu-identity",
    "split-linear",
    "batchnorm-folding",
    "dead",
    "never-active",
)
# A difference that cancels to a few rounding errors has shares with few correct digits. Whole numbers have none.
_EXACT = "weights=whole, dtype=float64"
_NESTED = "ReLU(ReLU(x1) - 1 - ReLU(x2)) = ReLU(ReLU(x1 - 1) - ReLU(x2)) at (3, 1): (1.5, -0.5) against (2, -1)"


@method(
    name="deeplift-recursion",
    baseline="given",
    claims=[
        *(
            holds("completeness/delta", on=family, source=_RESCALE)
            for family in ("linear", "relu", "relu-nobias", "smooth", "odd-nobias", "conv")
        ),
        *(holds("completeness/delta", on=family, source=_MAXIMUM) for family in ("maxpool", "maximum")),
        holds("sensitivity-n", on=f"linear({_EXACT})", source="Ancona et al. 2018, Proposition 4"),
        *(
            holds(axiom, on=f"linear({_EXACT})", source=_SLOPES)
            for axiom in ("implementation-invariance", "dummy", "symmetry")
        ),
        holds("input-invariance", on="relu", source=_MOVES),
        holds("input-invariance", on="conv", source=_MOVES),
        *(holds(f"implementation-invariance/{kind}", on=f"relu({_EXACT})", source=_UNITS) for kind in _ON_UNITS),
        fails("implementation-invariance/nested", on="relu", reason=_NESTED),
        fails(
            "sensitivity-n/1", on="relu", reason="ReLU(x1 + x2 - 1) at (1, 1): R = (1/2, 1/2), removing either costs 1"
        ),
    ],
)
def deeplift_recursion(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """DeepLIFT with the Rescale rule, layer by layer.

    r_i = sum_j (z_ji - z'_ji) / (sum_k z_jk - sum_k z'_jk) r_j, with z_ji = w_ji x_i and z'_ji = w_ji x'_i

    from r = f(x) - f(x') at the target unit and 0 at the others; x' is the baseline. Activations hand r on as it is. A
    maximum that rose hands all to the input that is largest at x, one that fell to the one that is largest at x': their
    differences have the sign of the maximum's and are at least as large.

    Source: Ancona et al. 2018, equations 3 and 4; Shrikumar et al. 2017, section 3.5. Neither has an equation for maxima.

    What holds: completeness on graphs of affine layers, activations and maxima; input invariance, with a baseline that moves.
    What fails: invariance to the implementation; sensitivity-n.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode; torch.fx must be able to list its calls.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape]; zeros where None.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: an operation without an equation (a product of two values that depend on x), or a unit that does not
            change though what it adds up does, so that the shares are 0/0.
    """
    return _recursion(model, x, target, torch.zeros_like(x) if baseline is None else baseline, 0.0)
