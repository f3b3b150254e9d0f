"""Networks of which a layer has lost what it learnt."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from .outcome import NotApplicable

Initialiser = Literal["own", "variance", "deviation"]

INITIALISERS: dict[Initialiser, str] = {
    "own": "own initialiser",
    "variance": "N(0, variance 0.01)",
    "deviation": "N(0, standard deviation 0.01)",
}
_DEVIATION = {"variance": 0.1, "deviation": 0.01}


def layers(model: nn.Module, x: Tensor) -> list[str]:
    """The modules that own parameters, from the output down to the input.

    They stand in the order in which they run on x: one that runs several times where it starts for the last time, and one
    that holds others where it starts. A module that never runs itself, because another one reads its parameters,
    stands just above the one that was registered before it. A normalisation with parameters is a layer of its own.

    Args:
        model: maps [B, *shape] to logits.
        x: a sample [1, *shape].

    Returns:
        Names as in `named_modules`; "" is the model itself.

    Raises:
        NotApplicable: the model has no parameters.
    """
    owners = {name: module for name, module in model.named_modules() if _own(module)}
    if not owners:
        raise NotApplicable("the model has no parameters that could be randomised")
    started: list[int] = []
    handles = [owner.register_forward_pre_hook(lambda m, _: started.append(id(m))) for owner in owners.values()]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    last = {module: step for step, module in enumerate(started)}
    place, places = -1, {}
    for name, module in owners.items():
        place = last.get(id(module), place)
        places[name] = place
    return sorted(owners, key=places.__getitem__)[::-1]


def randomised(model: nn.Module, layer: str, initialiser: Initialiser, random: torch.Generator) -> nn.Module:
    """A copy of a model in which one layer has new weights and biases; cascades are made by copies of copies.

    "own" is the layer's `reset_parameters` (of a module with children, for its own parameters only). A module without one
    gets the entries of each of its parameters in a random order. "variance" and "deviation" are the two readings of the
    literature's N(0, 0.01): entries with a standard deviation of 0.1, or of 0.01.

    Buffers stay: the running statistics of a normalisation belong to the data, not to what was learnt from labels.

    Args:
        model: left as it is.
        layer: a name that `layers` gave.
        initialiser: see INITIALISERS.
        random: of the draw, on the CPU; the same numbers on every device.
    """
    model = copy.deepcopy(model)
    module = model.get_submodule(layer)
    own = _own(module)
    seed = int(torch.randint(2**62, (), generator=random))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if initialiser != "own":
            for parameter in own:
                parameter.copy_(torch.randn(parameter.shape) * _DEVIATION[initialiser])
        elif not _reset(module, own):
            for parameter in own:
                order = torch.randperm(parameter.numel())
                parameter.copy_(parameter.flatten()[order.to(parameter.device)].view_as(parameter))
    return model


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _reset(module: nn.Module, own: list[nn.Parameter]) -> bool:
    """Whether the module has an initialiser, which is then run on the CPU for its own parameters alone."""
    twin = copy.deepcopy(module).cpu()
    reset = getattr(twin, "reset_parameters", None) or getattr(twin, "_reset_parameters", None)
    if not callable(reset):
        return False
    reset()
    for parameter, fresh in zip(own, _own(twin), strict=True):
        parameter.copy_(fresh)
    return True
