"""Attribution methods that are wrong on purpose: what the axioms must be able to refute.

Each is an ordinary attribute(model, x, target, baseline=None), as a user would write it, and its docstring says in one
line what is wrong. Some are right for other axioms: the rescale rule is complete on networks without products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from attribcheck import method
from torch import Tensor, nn

Attribute = Callable[..., Tensor]


def _gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        chosen = model(point).gather(1, target[:, None]).sum()
        return torch.autograd.grad(chosen, point)[0]


def _per_feature(x: Tensor, values: Tensor) -> Tensor:
    """A factor for each feature [N] in the shape of one sample."""
    return values.to(x).reshape(x.shape[1:])


def _path(model: nn.Module, x: Tensor, target: Tensor, start: Tensor, alphas: Tensor) -> Tensor:
    """The plain mean of the gradients at some points of the path."""
    return torch.stack([_gradient(model, start + a * (x - start), target) for a in alphas.tolist()]).mean(0)


def _middle(steps: int) -> Tensor:
    return (torch.arange(steps) + 0.5) / steps


# -- slips of the pen in integrated gradients ----------------------------------------------------------------------


@method(baseline="given")
def forgets_the_difference(model, x, target, baseline):
    """Wrong: the mean gradient along the path is not multiplied by x - baseline."""
    return _path(model, x, target, baseline, _middle(64))


@method(baseline="given")
def five_left_steps(model, x, target, baseline):
    """Wrong: a left Riemann sum of five steps is taken for the integral."""
    return (x - baseline) * _path(model, x, target, baseline, torch.arange(5) / 5)


@method(baseline="given")
def first_baseline_for_all(model, x, target, baseline):
    """Wrong: every sample is compared with the baseline of the first one."""
    return occlude(model, x, target, baseline[:1].expand_as(x))


@method(baseline="given")
def multiplies_by_the_input(model, x, target, baseline):
    """Wrong: x instead of x - baseline is multiplied with the mean gradient (Ancona et al. 2019, equation 19 as printed)."""
    return x * _path(model, x, target, baseline, _middle(64))


# -- the wrong output, the wrong feature, the wrong reference ------------------------------------------------------


def occlude(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor, shift: int = 0) -> Tensor:
    """Occlusion of one feature at a time; with a shift, each feature gets what another one causes."""
    flat, reference, result = x.flatten(1), baseline.flatten(1), torch.zeros_like(x.flatten(1))
    with torch.no_grad():
        here = model(x).gather(1, target[:, None])[:, 0]
        for i in range(flat.shape[1]):
            k = (i + shift) % flat.shape[1]
            without = flat.clone()
            without[:, k] = reference[:, k]
            result[:, i] = here - model(without.reshape(x.shape)).gather(1, target[:, None])[:, 0]
    return result.reshape(x.shape)


@method(baseline="given")
def explains_logit_zero(model, x, target, baseline):
    """Wrong: the first logit is explained for every sample, whatever its target."""
    return occlude(model, x, torch.zeros_like(target), baseline)


def explains_all_logits(model, x, target, baseline=None):
    """Wrong: the gradient of the sum of the logits instead of the target's."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        return x * torch.autograd.grad(model(point).sum(), point)[0]


@method(baseline="given")
def flips_the_first_sign(model, x, target, baseline):
    """Wrong: the first feature has the wrong sign."""
    result = occlude(model, x, target, baseline).flatten(1)
    result[:, 0] *= -1
    return result.reshape(x.shape)


@method(baseline="given")
def occludes_with_zeros(model, x, target, baseline):
    """Wrong: features are replaced by zero although a baseline is given."""
    return occlude(model, x, target, torch.zeros_like(x))


@method(baseline="given")
def occludes_the_neighbour(model, x, target, baseline):
    """Wrong: off by one, feature i gets what occluding feature i + 1 costs."""
    return occlude(model, x, target, baseline, shift=1)


def explains_the_softmax(model, x, target, baseline=None):
    """Wrong: the gradient of the target's probability, which depends on all logits."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        return torch.autograd.grad(model(point).softmax(1).gather(1, target[:, None]).sum(), point)[0]


def removes_the_sample_mean(model, x, target, baseline=None):
    """Wrong for arbitrary shifts: the input is centred by its own mean over features."""
    return (x - x.flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))) * _gradient(model, x, target)


def times_the_input(model, x, target, baseline=None):
    """Wrong where there are biases: gradient * input, here claimed to be complete and invariant to shifts."""
    return x * _gradient(model, x, target)


# -- what is done to the map afterwards ----------------------------------------------------------------------------


@method(baseline="given")
def divides_by_the_maximum(model, x, target, baseline):
    """Wrong: the map is normalised for display, so its sum means nothing."""
    result = occlude(model, x, target, baseline)
    largest = result.flatten(1).abs().amax(1).clamp(min=1e-300)
    return result / largest.reshape(-1, *[1] * (x.dim() - 1))


@method(baseline="given")
def forgets_the_sign(model, x, target, baseline):
    """Wrong: evidence against the class counts as evidence for it."""
    return occlude(model, x, target, baseline).abs()


@method(baseline="given")
def drops_small_entries(model, x, target, baseline):
    """Wrong: what is below an absolute threshold is set to zero."""
    result = occlude(model, x, target, baseline)
    return result.where(result.abs() >= 0.75, 0.0)


@method(baseline="given")
def spreads_over_all(model, x, target, baseline):
    """Wrong: every feature gets half of its own and half of the mean; the sum is kept."""
    result = occlude(model, x, target, baseline)
    return (result + result.flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))) / 2


def weighs_by_position(model, x, target, baseline=None):
    """Wrong: the map depends on where a feature stands."""
    return _gradient(model, x, target) * _per_feature(x, 1.0 + torch.arange(x[0].numel()))


@method(baseline="given")
def smooths_over_the_batch(model, x, target, baseline):
    """Wrong: each sample's map is averaged with that of its neighbour in the batch."""
    result = occlude(model, x, target, baseline)
    return (result + result.roll(1, 0)) / 2


def divides_by_the_input(model, x, target, baseline=None):
    """Wrong: a division by x that is undone later gives NaN at zero."""
    return (x * _gradient(model, x, target)) / x


@method(baseline="given")
def rounds_to_single(model, x, target, baseline):
    """Wrong: the map of float64 inputs goes through float32."""
    return occlude(model, x, target, baseline).float().to(x)


# -- what looks at the implementation ------------------------------------------------------------------------------


def _weights(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            yield module.weight.detach()


def counts_parameters(model, x, target, baseline=None):
    """Wrong: the gradient divided by the number of parameters."""
    return _gradient(model, x, target) / (1 + sum(p.numel() for p in model.parameters()))


def counts_modules(model, x, target, baseline=None):
    """Wrong: the gradient divided by the number of submodules."""
    return _gradient(model, x, target) / len(list(model.modules()))


def sees_activations(model, x, target, baseline=None):
    """Wrong: the gradient times the largest absolute output of any activation module."""
    found = [torch.zeros(())]

    def rule(g: Tensor, z: Tensor, a: Tensor) -> Tensor:
        found.append(a.abs().max())
        return g

    gradient = _by_rule(model, x, target, rule)
    return gradient * (1 + max(float(a) for a in found))


def sees_first_weights(model, x, target, baseline=None):
    """Wrong: the gradient times the mean absolute weight of the first layer."""
    return _gradient(model, x, target) * (1 + next(_weights(model)).abs().mean())


def sees_all_weights(model, x, target, baseline=None):
    """Wrong: the gradient times the sum of squares of all weights (a penalty that is not a function's property)."""
    return _gradient(model, x, target) * (1 + sum((w**2).sum() for w in _weights(model)))


def sees_first_unit(model, x, target, baseline=None):
    """Wrong: the gradient times one plus the first weight vector's norm in each layer."""
    return _gradient(model, x, target) * (1 + sum((w[0] ** 2).sum() for w in _weights(model)))


def sees_order_of_units(model, x, target, baseline=None):
    """Wrong: the gradient times the weights summed with the number of their unit as a factor."""
    ranks = (torch.arange(1.0, 1 + len(w), dtype=w.dtype) @ w.flatten(1).abs().sum(1) for w in _weights(model))
    return _gradient(model, x, target) * (1 + sum(ranks))


class _Rule(torch.autograd.Function):
    """The output of an activation as it is; what goes back to its input is rule(gradient, z, a)."""

    @staticmethod
    def forward(ctx, x, z, a, rule):
        ctx.rule, ctx.seen = rule, (z, a)
        return a.clone()

    @staticmethod
    def backward(ctx, g):
        return ctx.rule(g, *ctx.seen), None, None, None


def _by_rule(model: nn.Module, x: Tensor, target: Tensor, rule: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Backpropagation in which activation modules pass back rule(gradient, input, output).

    The input is read after the call, so a module that works in place has overwritten it by then.
    """
    before: dict[nn.Module, Tensor] = {}

    def copied(module, inputs):
        before[module] = inputs[0]
        return (inputs[0].clone(),)

    def replaced(module, inputs, output):
        return _Rule.apply(before[module], inputs[0].detach(), output.detach(), rule)

    handles = []
    for module in model.modules():
        if isinstance(module, nn.ReLU | nn.Tanh | nn.Sigmoid | nn.Softplus | nn.GELU):
            handles += [module.register_forward_pre_hook(copied), module.register_forward_hook(replaced)]
    try:
        return _gradient(model, x, target)
    finally:
        for handle in handles:
            handle.remove()


def guided(model, x, target, baseline=None):
    """Wrong for invariance: guided backpropagation on nn.ReLU modules."""
    return _by_rule(model, x, target, lambda g, z, a: g.clamp(min=0) * (z > 0))


def deconvolution(model, x, target, baseline=None):
    """Wrong for invariance: every nn.ReLU module passes positive gradients back, active or not."""
    return _by_rule(model, x, target, lambda g, z, a: g.clamp(min=0))


def output_over_input(model, x, target, baseline=None):
    """Wrong for invariance: x times a gradient whose activations have the slope a(z) / z (LRP-0)."""
    return x * _by_rule(model, x, target, lambda g, z, a: g * a / torch.where(z == 0, 1.0, z))


@method(baseline="given")
def rescale_rule(model, x, target, baseline):
    """Wrong for invariance, right for completeness without products: DeepLIFT's rescale rule, slope da / dz."""

    def rule(g: Tensor, z: Tensor, a: Tensor) -> Tensor:
        (z1, z0), (a1, a0), (g1, _) = z.chunk(2), a.chunk(2), g.chunk(2)
        moved = z1 != z0
        g1 = torch.where(moved, g1 * (a1 - a0) / torch.where(moved, z1 - z0, 1.0), g1 * (z1 > 0))
        return torch.cat([g1, torch.zeros_like(g1)])

    both = torch.cat([x, baseline])
    return (x - baseline) * _by_rule(model, both, torch.cat([target, target]), rule).chunk(2)[0]


BROKEN: dict[str, Attribute] = {
    f.__name__: f
    for f in (
        forgets_the_difference,
        five_left_steps,
        first_baseline_for_all,
        multiplies_by_the_input,
        explains_logit_zero,
        explains_all_logits,
        explains_the_softmax,
        flips_the_first_sign,
        occludes_with_zeros,
        occludes_the_neighbour,
        removes_the_sample_mean,
        times_the_input,
        divides_by_the_maximum,
        forgets_the_sign,
        drops_small_entries,
        spreads_over_all,
        weighs_by_position,
        smooths_over_the_batch,
        divides_by_the_input,
        rounds_to_single,
        counts_parameters,
        counts_modules,
        sees_activations,
        sees_first_weights,
        sees_all_weights,
        sees_first_unit,
        sees_order_of_units,
        guided,
        deconvolution,
        output_over_input,
        rescale_rule,
    )
}
