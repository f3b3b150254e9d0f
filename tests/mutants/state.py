"""Mutants that leave something behind, or that depend on what was left behind.

Each is a right method of `right` with one slip. The docstring says what is wrong and, where it does not show on every
network, in which situation.
"""

from __future__ import annotations

import hashlib
import weakref

import torch
from torch import Tensor, nn

from .right import gradient, integrated, logit, mutant, occlusion, output, walk

# -- state and memory ----------------------------------------------------------------------------------------------

_LAST: dict[str, object] = {}


@mutant(
    "state: a cache that forgets the model",
    breaks=[("scale-equivariance", "relu"), ("class-sensitivity/parity", "relu")],
    baseline="given",
)
def caches_by_the_input_alone(model, x, target, baseline):
    """Wrong when another model explains the same inputs next: the last map is kept by x, target and baseline alone."""
    parts = (x, target, baseline)
    key = hashlib.sha256(b"|".join(part.detach().cpu().contiguous().numpy().tobytes() for part in parts)).hexdigest()
    if _LAST.get("key") != (key, x.shape, x.dtype, x.device):
        _LAST.update(key=(key, x.shape, x.dtype, x.device), map=walk(model, x, target, baseline))
    return _LAST["map"].clone()


_WORKSPACES: weakref.WeakKeyDictionary[nn.Module, dict[torch.Size, Tensor]] = weakref.WeakKeyDictionary()


@mutant(
    "state: a workspace that is not cleared",
    breaks=[("repeat-determinism", "relu"), ("repeat-determinism", "linear")],
    baseline="given",
)
def never_clears_its_workspace(model, x, target, baseline):
    """Wrong from the second call for a model on: the map is added to the one before, in a workspace kept by shape."""
    workspace = _WORKSPACES.setdefault(model, {}).setdefault(x.shape, torch.zeros_like(x))
    workspace += walk(model, x, target, baseline)
    return workspace.clone()


_NOISE = torch.Generator().manual_seed(0)


@mutant(
    "state: a generator of its own that goes on",
    breaks=[("repeat-determinism", "smooth")],
)
def goes_on_drawing_noise(model, x, target, baseline=None):
    """Wrong on curved functions: gradients are averaged over noise from a private generator, declared deterministic."""
    noises = [torch.randn(x.shape, generator=_NOISE, dtype=x.dtype).to(x) for _ in range(4)]
    return torch.stack([gradient(model, x + 0.1 * noise, target) for noise in noises]).mean(0)


@mutant(
    "state: the global generator reseeded",
    breaks=[("purity", "relu"), ("purity", "smooth")],
    stochastic=True,
)
def seeds_the_global_generator(model, x, target, baseline=None):
    """Wrong: to be reproducible, it seeds the generator that its caller draws from too."""
    torch.manual_seed(20240229)
    return torch.stack([gradient(model, x + 0.1 * torch.randn_like(x), target) for _ in range(4)]).mean(0)


@mutant(
    "state: the global generator consumed",
    breaks=[("purity", "relu"), ("purity", "linear")],
    baseline="given",
)
def draws_numbers_that_do_not_matter(model, x, target, baseline):
    """Wrong: features are occluded in a random order, which leaves the map as it is but moves the caller's generator."""
    order = torch.randperm(x[0].numel())
    flat, result = x.flatten(1), torch.zeros_like(x.flatten(1))
    here = output(model, x, target)
    for i in order.tolist():
        without = flat.clone()
        without[:, i] = baseline.flatten(1)[:, i]
        result[:, i] = here - output(model, without.reshape(x.shape), target)
    return result.reshape(x.shape)


@mutant(
    "state: the mode changed",
    breaks=[("purity", "relu")],
)
def leaves_training_mode_behind(model, x, target, baseline=None):
    """Wrong: it switches to eval mode and, when done, to training mode, whatever the mode was."""
    model.eval()
    result = gradient(model, x, target)
    model.train()
    return result


@mutant(
    "state: statistics of the batch",
    breaks=[("purity", "normalised"), ("equivalence/gradient", "normalised")],
)
def runs_in_training_mode(model, x, target, baseline=None):
    """Wrong for BatchNorm and two samples or more: it runs in training mode, which moves the running statistics."""
    before = model.training
    model.train(before or len(x) > 1)
    result = gradient(model, x, target)
    model.train(before)
    return result


@mutant(
    "state: parameters frozen",
    breaks=[("purity", "relu"), ("purity", "conv")],
)
def freezes_the_parameters(model, x, target, baseline=None):
    """Wrong: to save memory it switches off the gradients of the parameters, and does not switch them on again."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return gradient(model, x, target)


@mutant(
    "state: gradients of the parameters filled",
    breaks=[("purity", "relu"), ("purity", "linear")],
)
def fills_the_gradients_of_the_parameters(model, x, target, baseline=None):
    """Wrong: backward() adds to the .grad of every parameter."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        (logit(model, point, target).sum() + 0 * point.sum()).backward()
    return point.grad


@mutant(
    "state: the input's gradient not zeroed",
    breaks=[("repeat-determinism", "relu"), ("purity", "relu")],
)
def adds_to_the_inputs_gradient(model, x, target, baseline=None):
    """Wrong from the second call with one tensor on: the caller's x is the leaf, and its .grad is never zeroed."""
    with torch.enable_grad():
        x.requires_grad_()
        (logit(model, x, target).sum() + 0 * x.sum()).backward(inputs=[x])
    return x.grad.clone()


@mutant(
    "state: the caller's input changed",
    breaks=[("sensitivity-n/1", "relu"), ("purity", "relu")],
    baseline="given",
)
def occludes_in_the_callers_tensor(model, x, target, baseline):
    """Wrong: flatten returns a view, and so does what is kept to be put back: features stay at their baseline."""
    flat, result = x.flatten(1), torch.zeros_like(x.flatten(1))
    here = output(model, x, target)
    for i in range(flat.shape[1]):
        kept = flat[:, i]
        flat[:, i] = baseline.flatten(1)[:, i]
        result[:, i] = here - output(model, flat.reshape(x.shape), target)
        flat[:, i] = kept
    return result.reshape(x.shape)


@mutant(
    "state: the caller's baseline changed",
    breaks=[("purity", "smooth"), ("purity", "relu")],
    baseline="given",
)
def walks_in_the_callers_baseline(model, x, target, baseline):
    """Wrong where x and baseline differ: the point that walks along the path is the caller's baseline."""
    n = 20
    step, point, total = (x - baseline) / n, baseline, torch.zeros_like(x)
    point += step / 2
    for _ in range(n):
        total += step * gradient(model, point, target)
        point += step
    return total


@mutant(
    "state: a buffer registered",
    breaks=[("purity", "relu"), ("purity", "conv")],
    baseline="given",
)
def registers_its_baseline(model, x, target, baseline):
    """Wrong: it keeps the baseline as a buffer of the model, which is saved and loaded with it from then on."""
    model.register_buffer("attribution_baseline", baseline.clone())
    return integrated(model, x, target, model.attribution_baseline)


_GRAPHS: list[Tensor] = []


@mutant(
    "memory: every graph kept",
    breaks=[("memory", "relu"), ("memory", "conv")],
    baseline="given",
)
def keeps_every_graph(model, x, target, baseline):
    """Wrong: a log of the outputs, with their graphs, grows with each call."""
    with torch.enable_grad():
        _GRAPHS.append(logit(model, x.clone().requires_grad_(), target))
    return occlusion(model, x, target, baseline)
