"""Deep approximate Shapley propagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..claims import fails, holds, method
from ..errors import Unsupported, UsageError
from .backprop.operations import in_place, out_of_place, overwrites
from .backprop.passes import Operation, Pass, Rule, undisturbed
from .dasp_layers import RULES, Coalitions, Gaussian, Inputs, Value

SIZES = 8
# Numbers in the input of one forward pass.
_NUMBERS = 2**20

_AFFINE = "proved here: means pass affine layers exactly, and the feature moves nothing but the mean"
_MEANS = "proved here: the last layer's mean is linear in its weights, and no other logit enters"
_NORMAL = "activations are not normal, nor independent of each other"
_VARIANCES = "the variance of a sum is taken as if its terms were independent"


class _Propagation(Pass):
    """A forward pass on random values: each tensor is the mean of one, which it carries."""

    value = "_attribcheck_random"

    def __init__(self, coalitions: Coalitions) -> None:
        super().__init__("dasp", {name: self._bound(rule) for name, rule in RULES.items()})
        self.coalitions = coalitions

    def _bound(self, rule: Callable[..., Any]) -> Rule:
        return lambda operation: rule(self.coalitions, operation, [getattr(t, self.value) for t in operation.inputs])

    def carried(self, value: Value | tuple[Any, ...]) -> Any:
        """The mean of a value as a tensor that carries it. It requires a gradient: where that turns up in a tensor that no
        rule computed, an operation was hidden from this pass."""
        if isinstance(value, tuple):
            return tuple(self.carried(part) for part in value)
        mean = value.mean if isinstance(value, Gaussian) else value.mean(self.coalitions)
        mean = mean.detach().clone().requires_grad_()
        setattr(mean, self.value, value)
        return self.watch(mean)

    def unseen(self, name: str) -> None:
        raise Unsupported(
            f"dasp cannot follow the input into {name}: a value came out of something that hides its operations"
        )

    def apply(self, rule: Rule, operation: Operation) -> Any:
        with torch.no_grad():
            return self.carried(rule(operation))

    def computed(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor]
    ) -> Any:
        rule = self.rule(name)
        if not in_place(func, args, kwargs):
            return self.apply(rule, Operation(name, func, args, kwargs, inputs))
        target = args[0]
        if (overwrites(func) and name not in _OUT_OF_PLACE) or not self.depends(target):
            raise Unsupported(f"dasp has no rule for {name} into an existing tensor")
        if overwrites(func):
            func = _OUT_OF_PLACE[name]
        else:
            args, kwargs = out_of_place(args, kwargs)
        result = self.apply(rule, Operation(name, func, args, kwargs, inputs))
        # What is written takes the place of what the tensor carried; the model goes on with that tensor.
        with torch.no_grad():
            target.copy_(result)
        setattr(target, self.value, getattr(result, self.value))
        return target


_OUT_OF_PLACE: dict[str, Callable[..., Any]] = {
    **{name: getattr(Tensor, name) for name in ("relu", "clamp", "clamp_min", "add", "sub", "mul", "div", "neg")},
    "threshold": nn.functional.threshold,
}


@method(
    baseline="given",
    claims=[
        *(holds(f"equivalence/{other}", on="linear", source=_AFFINE)
          for other in ("shapley", "occlusion-1", "integrated-gradients")),
        fails("equivalence/shapley", on="relu", reason=_NORMAL),
        holds("completeness/delta", on="linear", source=_AFFINE),
        holds("sensitivity-n", on="linear", source=_AFFINE),
        fails("completeness/delta", on="relu", reason=_NORMAL),
        fails("completeness/delta", on="relu-nobias", reason=_NORMAL),
        fails("completeness/delta", on="conv", reason=_NORMAL),
        fails("completeness/delta", on="maxpool", reason=_NORMAL),
        fails("sensitivity-n/1", on="relu", reason="ReLU(x1 + x2 - 1) at (1, 1): (1/2, 1/2), removing either costs 1"),
        fails("sensitivity-n/n", on="relu", reason="interactions: Ancona et al. 2018, Proposition 4"),
        holds("implementation-invariance/permute", on="any", source="proved here: sums do not depend on their order"),
        holds("implementation-invariance/rescale", on="any", source="proved here: max(c z, 0) = c max(z, 0)"),
        holds("implementation-invariance/batchnorm-folding", on="any", source="proved here: it is diagonal"),
        holds("implementation-invariance/dead", on="any", source="proved here: weight zero on mean and variance"),
        holds("implementation-invariance/max-as-relus", on="maximum",
              source="proved here: E max(a, b) = E b + E ReLU(a - b), and the head reads the means alone"),
        holds("implementation-invariance", on="linear", source=_AFFINE),
        fails("implementation-invariance/nested", on="relu", reason=_VARIANCES),
        fails("implementation-invariance/max-as-relus", on="maxpool", reason=f"{_VARIANCES}: three entries, taken in pairs"),
        fails("implementation-invariance/never-active", on="conv",
              reason="a unit that is never active is active in the tail of its normal distribution"),
        fails("implementation-invariance/split", on="relu", reason=f"{_VARIANCES}: (1/2)^2 + (1/2)^2 is not 1"),
        fails("implementation-invariance/split-signed", on="relu", reason=f"{_VARIANCES}: 2^2 + (-1)^2 is not 1"),
        fails("implementation-invariance/relu-identity", on="relu", reason=_VARIANCES),
        fails("implementation-invariance/fuse-linear", on="relu", reason=_VARIANCES),
        fails("implementation-invariance/split-linear", on="relu", reason=_VARIANCES),
        fails("dummy", on="relu", reason=f"x1 in a network minus its rewritten copy: {_VARIANCES}"),
        holds("dummy", on="linear", source=_AFFINE),
        fails("symmetry", on="relu", reason=f"a network plus its rewritten mirror image: {_VARIANCES}"),
        holds("symmetry", on="linear", source=_AFFINE),
        holds("class-sensitivity", on="any", source=_MEANS),
        holds("linearity", on="any", source=_MEANS),
        holds("scale-equivariance", on="any", source=_MEANS),
        holds("feature-permutation", on="any", source="proved here: sums over features do not depend on their order"),
        holds("input-invariance", on="any", source="proved here: the baseline moves with the input"),
        # (on any family; checked where a call is cheap, since the search calls the method some fifty times for each case)
        *(holds("continuity", on=family, source="proved here: moments of max(z, 0) are continuous, at variance 0 too")
          for family in ("relu", "relu-nobias", "residual", "maximum")),
    ],
)  # fmt: skip
def dasp(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, sizes: int = SIZES) -> Tensor:
    """Deep approximate Shapley propagation: Shapley values with normal distributions in the place of coalitions.

    R_i = mean over k of E f(S + i) - E f(S), S a random coalition of k of the other features

    The features in S have the values of x, the others those of the baseline. Behind the first layer the sum over S has the
    mean and variance of drawing k of N - 1 without replacement; from there on each unit is taken as normal and independent of
    the others: sums add variances, max(z, 0) of a normal z has known moments, and so has the maximum of two.
    At the logits the means are read. Values that depend on one feature alone are followed exactly, rectified or not.

    Source: Ancona et al. 2019 (ICML), sections 3 and 4; the moments of ReLU from Gast and Roth 2018 (lightweight
    probabilistic networks), the maximum from Clark 1961. As there, k runs over a few sizes in equal steps (the middles
    of equal parts of 0 .. N - 1), over all of them where N is not larger.

    What holds: Shapley values exactly on linear graphs, and for one or two features if all sizes are taken; linearity
    in the model, class sensitivity, continuity, input invariance; rewrites of single units: permuting, rescaling, folding a
    batch normalisation. What fails: completeness, by 5 to 20 per cent of the attributions; what changes which variances
    are added: a split unit, a linear layer fused with the next, ReLU(h) - ReLU(-h), and with them dummy and symmetry for
    functions that use a feature and cancel it (one with the weight 0 in every layer moves no moment and gets 0). A unit that
    is never active is active in the tail of a normal distribution. Sensitivity-n; input invariance from a baseline that stays
    (zeros): f = x gives x, and x + m after a shift.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape], the values of absent features; zeros where None.
        sizes: how many sizes of coalitions are taken.

    Returns:
        [B, *shape], in units of the output. Costs 2 N min(sizes, N) forward passes of mean and variance for each sample.

    Raises:
        UsageError: sizes is not a positive whole number.
        Unsupported: anything but affine layers, ReLU, max-pooling and maxima of two; what hides its operations.
    """
    if not isinstance(sizes, int) or isinstance(sizes, bool) or sizes < 1:
        raise UsageError(f"dasp: sizes must be a positive whole number, not {sizes!r}")
    baseline = torch.zeros_like(x) if baseline is None else baseline
    n = x[0].numel()
    taken = min(sizes, n)
    ks = torch.tensor([((2 * j + 1) * n) // (2 * taken) for j in range(taken)], device=x.device)
    rows = len(x) * n * taken * 2  # sample, feature, size, whether the feature is present
    step = max(2, _NUMBERS // n)
    means = []
    with undisturbed("dasp", model):
        for start in range(0, rows, step):
            row = torch.arange(start, min(start + step, rows), device=x.device)
            sample, feature, k, present = (
                row // (2 * taken * n),
                row // (2 * taken) % n,
                ks[row // 2 % taken],
                row % 2 == 1,
            )
            means.append(_mean_outputs(model, x[sample], target[sample], baseline[sample], feature, k, present))
    gains = torch.cat(means).reshape(len(x), n, taken, 2)
    return (gains[..., 1] - gains[..., 0]).mean(2).reshape(x.shape)


def _mean_outputs(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, feature: Tensor, k: Tensor, present: Tensor
) -> Tensor:
    """The mean target logits [rows] over coalitions of k features besides one that is present or absent."""
    n = x[0].numel()
    high, low = x.flatten(1).clone(), baseline.flatten(1).clone()
    index = torch.arange(len(x), device=x.device)
    own = torch.where(present, high[index, feature], low[index, feature])
    high[index, feature] = low[index, feature] = own
    numbers = torch.arange(1, n + 1, device=x.device, dtype=x.dtype).expand(len(x), n)
    share = k.to(x.dtype) / max(n - 1, 1)
    pass_ = _Propagation(Coalitions(share, n - 1))
    start = pass_.carried(Inputs(low.reshape(x.shape), high.reshape(x.shape), numbers.reshape(x.shape)))
    with torch.enable_grad(), pass_:
        output = model(start)
    if not isinstance(output, Tensor) or (output.requires_grad and not pass_.depends(output)):
        pass_.unseen("the output")
    return output.detach().gather(1, target[:, None])[:, 0]
