"""Guided backpropagation, on the engine of modified backpropagation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..claims import fails, holds, method
from .backprop.engine import modified_gradient, on_gradient
from .backprop.operations import BILINEAR, LINEAR, MAXIMA, PIECEWISE, SMOOTH, argument
from .backprop.passes import Operation, Rules, keep


def rectifies(operation: Operation) -> bool:
    """Whether an operation is a ReLU under one of its names: relu, clamp(min=0), threshold(0, 0), maximum with zeros."""
    args, kwargs = operation.args, operation.kwargs
    match operation.name:
        case "relu":
            return True
        case "clamp":
            return _zero(argument(args, kwargs, 1, "min")) and argument(args, kwargs, 2, "max") is None
        case "clamp_min":
            return _zero(argument(args, kwargs, 1, "min"))
        case "threshold":
            return _zero(argument(args, kwargs, 1, "threshold")) and _zero(argument(args, kwargs, 2, "value"))
        case "maximum" | "max":
            other = [t for t in (args[0], argument(args, kwargs, 1, "other")) if t is not operation.inputs[0]]
            # (the second argument of max may be an axis)
            return len(operation.inputs) == 1 and len(other) == 1 and isinstance(other[0], Tensor) and _zero(other[0])
        case _:
            return False


def _zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return value is not None and value == 0


def guided(operation: Operation) -> Any:
    """A ReLU lets positive gradients pass only, in addition to its own gradient; other operations keep theirs."""
    result = operation.run()
    return on_gradient(result, lambda g: g.clamp(min=0)) if rectifies(operation) else result


RULES: Rules = {
    **dict.fromkeys(LINEAR | BILINEAR | SMOOTH | PIECEWISE | MAXIMA | {"dropout", "batch_norm", "div"}, keep),
    **dict.fromkeys(("softmax", "log_softmax", "layer_norm", "group_norm", "instance_norm"), keep),
    **dict.fromkeys(("relu", "clamp", "clamp_min", "threshold", "maximum", "max"), guided),
}


_LAYER = "proved here: the gradient that reaches each ReLU, and its sign, stay"
PARTS = "proved here: lambda g and (1 - lambda) g have the sign of g, so both are cut or none"
SIGNED = "-ReLU(x) = ReLU(x) - 2 ReLU(x) at 1: 0 against 1"
_IS_GRADIENT = "proved here: no ReLU, so it is the gradient"
_SIGNS = "Springenberg et al. 2015, section 3.4: negative gradients are cut at ReLUs"


@method(
    name="guided-backprop",
    claims=[
        *(holds("equivalence/gradient", on=family, source=_IS_GRADIENT)
          for family in ("linear", "smooth", "odd-nobias", "maximum")),
        fails("equivalence/gradient", on="relu", reason=_SIGNS),
        fails("equivalence/gradient", on="functional", reason=_SIGNS),
        *(holds(f"implementation-invariance/{rewrite}", on="any", source=_LAYER)
          for rewrite in ("permute", "rescale", "fuse-linear", "split-linear", "batchnorm-folding", "dead", "never-active")),
        holds("implementation-invariance/split", on="any", source=PARTS),
        fails("implementation-invariance/split-signed", on="relu", reason=SIGNED),
        fails("implementation-invariance/relu-identity", on="relu", reason="x = ReLU(x) - ReLU(-x) for f = -x at 1: -1, 0"),
        fails("implementation-invariance/max-as-relus", on="maximum", reason="-max(a, b) = -b - ReLU(a - b)"),
        fails("implementation-invariance/nested", on="relu", reason="a unit that others read too becomes two, as in a split"),
        fails("dummy", on="relu", reason="ReLU(x) - ReLU(x) = 0 gets 1"),
        fails("symmetry", on="relu", reason="ReLU(x1) + 2 ReLU(x2) - ReLU(x2) at (1, 1): (1, 2)"),
        holds("input-invariance", on="any", source="Kindermans et al. 2019, section 3.1"),
        holds("class-sensitivity/other-logits", on="any", source="proved here: no rule looks at other logits"),
        holds("class-sensitivity/logit-permutation", on="any", source="proved here: no rule looks at other logits"),
        fails("class-sensitivity/parity", on="relu", reason="the sign decides what is cut"),
        fails("class-sensitivity/collapse", on="relu", reason="h1 - h2 and h1 - 5 h2 (h = ReLU(x)) get one map, (1, 0)"),
        fails("linearity", on="relu", reason="2 ReLU(x) - ReLU(x) gets 2, not 1"),
        holds("scale-equivariance", on="any", source="proved here: max(c g, 0) = c max(g, 0) for c > 0"),
        holds("feature-permutation", on="any", source="proved here: a sum does not depend on the order of its terms"),
        fails("continuity", on="relu", reason="it jumps where a ReLU opens"),
    ],
)  # fmt: skip
def guided_backprop(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Guided backpropagation: the gradient, with negative gradients cut to zero at each ReLU.

    At a ReLU of z, g_z = 1[z > 0] max(g, 0); every other operation has its own gradient. A ReLU is one under any of its
    names: relu, clamp(min=0), threshold(0, 0), the maximum with zeros; in module, functional, method and in-place form.

    Source: Springenberg et al. 2015, section 3.4.

    What holds: rewrites that keep the gradient at each ReLU up to a positive factor, a split with shares in [0, 1] among
    them; input invariance; without ReLUs it is the gradient. What fails: two ReLUs with outgoing weights of both signs, in
    place of one, change it (and with it dummy, symmetry, linearity); it tells classes apart only by the positive part of
    their weights. h = ReLU(h) - ReLU(-h) cuts negative gradients; before a ReLU it changes nothing, since what passes there
    is positive and ReLU(-h) is off where h > 0. Likewise max(a, b) = b + ReLU(a - b) holds where the maximum's gradient is
    positive and fails for -max. The two forms of the nested identity agree, (1, 0) at (3, 1), unless others read the
    inner unit too: then one ReLU becomes two, whose gradients are cut one by one.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.

    Returns:
        [B, *shape], in units of output per input.

    Raises:
        Unsupported: operations that the engine does not know, and what hides its operations (fused recurrent cells,
            attention, scripted modules).
    """
    return modified_gradient("guided-backprop", RULES, model, x, target)
