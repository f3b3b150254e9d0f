"""Ten broken attribution methods, each with one mistake of a kind that libraries have shipped.

Each is right in the situation in which its author tried it, and wrong in another ordinary one, which its first line
names. `breaks` holds the (axiom, family) pairs that the author would claim and that do not hold. They were written
without a look at the checks, from the contract of a method and the names of the axioms alone.
"""

import copy
from collections.abc import Callable
from typing import Any

import attribcheck as ac
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .right import Mutant

TEN: dict[str, Mutant] = {}


def mutant(
    kind: str, *, breaks: list[tuple[str, str]], baseline: str | None = None, stochastic: bool = False
) -> Callable[[Callable[..., Tensor]], Any]:
    """Make the function a method and enter it in TEN under its name."""

    def register(function: Callable[..., Tensor]) -> Any:
        name = function.__name__
        method = ac.method(baseline=baseline, stochastic=stochastic)(function)
        TEN[name] = Mutant(name, kind, tuple(breaks), method)
        return method

    return register


def selected(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The logit of each sample's target, [B]."""
    return model(x).gather(1, target[:, None]).squeeze(1)


def input_gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The gradient of each sample's target logit at that sample."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(selected(model, leaf, target).sum(), leaf)
    return gradient


def column(values: Tensor, like: Tensor) -> Tensor:
    """Values [B], shaped to multiply a tensor [B, *shape]."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


# 1. Batches and targets.


@mutant(
    "targets repeated in another order than the samples",
    breaks=[("batch-independence", "smooth"), ("completeness/delta", "smooth")],
    baseline="given",
)
def integrated_gradients_with_tiled_targets(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    """Wrong: points lie sample by sample, targets step by step; shows when targets differ within a batch."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    alphas = torch.as_tensor((nodes + 1) / 2, dtype=x.dtype, device=x.device)
    shares = torch.as_tensor(weights / 2, dtype=x.dtype, device=x.device)
    steps, batch = len(alphas), len(x)
    start = baseline.repeat_interleave(steps, dim=0)
    stop = x.repeat_interleave(steps, dim=0)
    points = start + column(alphas.repeat(batch), x) * (stop - start)
    gradients = input_gradient(model, points, target.repeat(steps))  # repeat_interleave was meant
    mean = (gradients * column(shares.repeat(batch), x)).reshape(batch, steps, *x.shape[1:]).sum(1)
    return (x - baseline) * mean


# 2. Quadrature.


@mutant(
    "the error of a coarse quadrature is hidden by a rescaling",
    breaks=[("linearity", "relu"), ("linearity", "smooth")],
    baseline="given",
)
def integrated_gradients_rescaled_to_the_sum(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    """Wrong: eight steps, stretched to the right sum; shows where the map of a sum of models is not the sum of maps."""
    steps = 8
    mean = torch.zeros_like(x)
    for step in range(steps):
        mean += input_gradient(model, baseline + (step + 0.5) / steps * (x - baseline), target) / steps
    result = (x - baseline) * mean
    with torch.no_grad():
        change = selected(model, x, target) - selected(model, baseline, target)
    total = result.flatten(1).sum(1)
    factor = torch.where(total != 0, change / torch.where(total != 0, total, 1), 1)
    return result * column(factor, x)


# 3. The type of numbers.


@mutant(
    "results gathered in a buffer of the default type",
    breaks=[("sensitivity-n/1", "smooth"), ("equivalence/occlusion-1", "smooth")],
    baseline="given",
)
def occlusion_in_a_single_precision_buffer(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    """Wrong: torch.zeros(shape) rounds every double to single precision on assignment; shows for float64 inputs."""
    with torch.no_grad():
        full = selected(model, x, target)
        scores = torch.zeros(x.flatten(1).shape, device=x.device)  # dtype=x.dtype was meant
        for feature in range(scores.shape[1]):
            occluded = x.flatten(1).clone()
            occluded[:, feature] = baseline.flatten(1)[:, feature]
            scores[:, feature] = full - selected(model, occluded.reshape(x.shape), target)
    return scores.reshape(x.shape).to(x.dtype)


# 4. Shapes.


@mutant(
    "pixels enumerated by columns, the map folded by rows",
    breaks=[("sensitivity-n/1", "conv"), ("equivalence/occlusion-1", "conv")],
    baseline="given",
)
def occlusion_with_the_grid_of_the_other_indexing(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor
) -> Tensor:
    """Wrong: meshgrid(indexing="xy") runs down the columns first; shows where the last two axes of x exceed one."""
    height, width = (1, *x.shape[1:])[-2:]
    images = x.reshape(len(x), -1, height, width)
    fill = baseline.reshape(images.shape)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="xy")  # "ij" was meant
    grid = list(zip(rows.flatten().tolist(), columns.flatten().tolist(), strict=True))
    with torch.no_grad():
        full = selected(model, x, target)
        scores = []
        for channel in range(images.shape[1]):
            for row, col in grid:
                occluded = images.clone()
                occluded[:, channel, row, col] = fill[:, channel, row, col]
                scores.append(full - selected(model, occluded.reshape(x.shape), target))
    return torch.stack(scores, dim=1).reshape(x.shape)


# 5. Pooling.


class WinnersOnly(torch.autograd.Function):
    """Max-pooling whose backward pass hands what arrives at an output to the winner of its window."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, pooled: Tensor, winners: Tensor, dims: int) -> Tensor:
        ctx.save_for_backward(winners)
        ctx.shape, ctx.dims = z.shape, dims
        return pooled.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (winners,) = ctx.saved_tensors
        lead = ctx.shape[: -ctx.dims]
        routed = gradients[0].new_zeros(ctx.shape).reshape(*lead, -1)
        routed.scatter_(-1, winners.reshape(*lead, -1), gradients[0].reshape(*lead, -1))  # scatter_add_ was meant
        return routed.reshape(ctx.shape), None, None, None


POOLING = {
    F.max_pool1d: (F.max_pool1d, 1),
    F.max_pool1d_with_indices: (F.max_pool1d, 1),
    torch.max_pool1d: (F.max_pool1d, 1),
    F.max_pool2d: (F.max_pool2d, 2),
    F.max_pool2d_with_indices: (F.max_pool2d, 2),
    torch.max_pool2d: (F.max_pool2d, 2),
}


class PoolingRule(TorchFunctionMode):
    """Replaces every max-pooling call by WinnersOnly."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func not in POOLING or kwargs.get("return_indices"):
            return func(*args, **kwargs)
        pool, dims = POOLING[func]
        z = args[0] if args else kwargs.pop("input")
        pooled, winners = pool(z.detach(), *args[1:6], **{**kwargs, "return_indices": True})
        return WinnersOnly.apply(z, pooled, winners, dims)


@mutant(
    "a pixel that wins several pooling windows is paid once",
    breaks=[("equivalence/gradient-times-input", "maxpool"), ("equivalence/lrp-0", "maxpool")],
)
def winner_take_all_overwriting_in_overlaps(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """Wrong: unpooling writes where it should add; shows where pooling windows overlap (stride below the kernel)."""
    with PoolingRule():
        return x * input_gradient(model, x, target)


# 6. Layers.


class FoldedNormalisation(TorchFunctionMode):
    """Replaces batch normalisation in eval mode by the affine map that it amounts to."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is not F.batch_norm:
            return func(*args, **kwargs)
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if given.get("training") or given.get("running_mean") is None:
            return func(*args, **kwargs)
        z, mean, variance = given["input"], given["running_mean"], given["running_var"]
        weight, bias = given.get("weight"), given.get("bias")
        scale = variance.rsqrt() if weight is None else weight * variance.rsqrt()  # variance + eps was meant
        shift = -mean * scale if bias is None else bias - mean * scale
        shape = (1, -1, *[1] * (z.dim() - 2))
        return z * scale.reshape(shape) + shift.reshape(shape)


@mutant(
    "a constant of a layer lost in a canonical form",
    breaks=[("implementation-invariance/batchnorm-folding", "relu"), ("equivalence/gradient", "normalised")],
)
def gradient_with_batchnorm_folded_without_eps(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """Wrong: folds BatchNorm with 1/sqrt(var), not 1/sqrt(var + eps); shows as a small relative error behind it."""
    with FoldedNormalisation():
        return input_gradient(model, x, target)


# 7. The caller's state.


@mutant(
    "cleans up what the caller had left there",
    breaks=[("purity", "relu"), ("purity", "conv")],
)
def gradient_times_input_by_backward_and_zero_grad(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """Wrong: backward() fills .grad of the parameters, zero_grad() drops it; shows when they held gradients before."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        selected(model, leaf, target).sum().backward()
    model.zero_grad()
    assert leaf.grad is not None
    return x * leaf.grad


# 8. The method's own state.

PREPARED: dict[tuple[Any, ...], nn.Module] = {}


@mutant(
    "a prepared copy of the model cached by its architecture",
    breaks=[("scale-equivariance", "relu"), ("class-sensitivity/logit-permutation", "relu")],
)
def gradient_times_input_on_a_cached_copy(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """Wrong: the key holds shapes, not weights; shows when a second model of the same architecture comes by."""
    shapes = tuple(tuple(value.shape) for value in model.state_dict().values())
    key = (shapes, tuple(x.shape[1:]), x.dtype, x.device)
    if key not in PREPARED:
        PREPARED[key] = copy.deepcopy(model).eval().requires_grad_(False)
    return x * input_gradient(PREPARED[key], x, target)


# 9. Hooks.


class GammaRule(torch.autograd.Function):
    """A linear layer whose backward pass follows LRP-gamma, in the form relevance divided by activation."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, out: Tensor, layer: nn.Linear, seen: dict[nn.Module, Tensor]) -> Tensor:
        ctx.layer, ctx.seen = layer, seen
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        a, weight, bias = ctx.seen[ctx.layer], ctx.layer.weight, ctx.layer.bias
        raised = weight + weight.clamp(min=0) / 4
        z = F.linear(a, weight, bias)
        z_raised = F.linear(a, raised, None if bias is None else bias + bias.clamp(min=0) / 4)
        ratio = torch.where(z_raised != 0, z / torch.where(z_raised != 0, z_raised, 1), 0)
        return (gradients[0] * ratio) @ raised, None, None, None


@mutant(
    "a hook remembers one input for each module",
    breaks=[("tying-invariance/layer", "shared")],
)
def lrp_gamma_with_the_last_input_of_a_layer(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """Wrong: a second call of a layer overwrites the input kept from the first; shows where a Linear is used twice."""
    seen: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        seen[layer] = inputs[0].detach().clone()
        return GammaRule.apply(inputs[0], out.detach(), layer, seen)

    handles = [layer.register_forward_hook(keep) for layer in model.modules() if isinstance(layer, nn.Linear)]
    try:
        return x * input_gradient(model, x, target)
    finally:
        for handle in handles:
            handle.remove()


# 10. Memory that two tensors share.


class Rescale(torch.autograd.Function):
    """ReLU whose backward pass multiplies by the quotient of differences between input and reference."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, kept: Tensor) -> Tensor:
        ctx.kept = kept
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        here, there = ctx.kept.chunk(2)
        step = here - there
        flat = step.abs() < 1e-9
        slope = (here.clamp(min=0) - there.clamp(min=0)) / torch.where(flat, 1, step)
        slope = torch.where(flat, (here > 0).to(slope.dtype), slope)
        return gradients[0] * torch.cat([slope, slope]), None


class RescaleRule(TorchFunctionMode):
    """Replaces every ReLU, in place or not, by Rescale."""

    plain = (F.relu, torch.relu, Tensor.relu)
    in_place = (F.relu_, torch.relu_, Tensor.relu_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func not in self.plain and func not in self.in_place:
            return func(*args, **kwargs)
        z = args[0] if args else kwargs["input"]
        out = Rescale.apply(z.clone(), z.detach())  # z.detach().clone() was meant
        overwrite = func in self.in_place or kwargs.get("inplace") or (func is F.relu and any(args[1:]))
        return z.copy_(out) if overwrite else out


@mutant(
    "a kept tensor that an in-place operation overwrites",
    breaks=[("form-invariance/in-place", "relu")],
    baseline="given",
)
def deeplift_keeping_a_view_of_the_activation(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor) -> Tensor:
    """Wrong: detach() shares memory, so an in-place ReLU leaves its output where its input was kept: slope one."""
    with RescaleRule(), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        scores = selected(model, torch.cat([leaf, baseline]), torch.cat([target, target]))
        (multipliers,) = torch.autograd.grad(scores[: len(x)].sum(), leaf)
    return (x - baseline) * multipliers
