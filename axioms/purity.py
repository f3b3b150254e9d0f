"""Purity: a call leaves the model, the caller's tensors and the random numbers as they were.

Untouched: parameters, their gradients and requires_grad; buffers; hooks; attributes and the mode of every module; x, target,
baseline and data; settings of the process, such as the grad mode, the default dtype and hooks of all modules; the global
random numbers (of torch, numpy and random), which a stochastic method may consume but not reseed, and which others leave
alone. A module or a parameter that was replaced by an equal one is not the same one: an optimiser would hold the old one.

Source: the contract of a method. A library that leaves hooks behind changes every later gradient of that model.

Before the call one parameter gets a gradient, another one is frozen, and the model has a hook, as in the middle of a
fine-tuning: what sets gradients to None, unfreezes everything, or removes hooks that are not its own, shows.
Each figure counts what the call changed; the line above it names them.

Preconditions: none.

Holds: every method of the papers, as far as an implementation is careful. Fails: hooks that are not removed where the method
raises or returns; `loss.backward()`, which adds to the gradients of the parameters; `model.train()`; `torch.manual_seed`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..calling import Originals, kept_random_numbers, kept_settings, seed_all, settings
from ..compat.torch_parts import hook_counts, own_attributes
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_counts
from .setting import Setting
from .trial import Arguments, Trial

WHERE = (
    "parameters",
    "gradients",
    "buffers",
    "hooks",
    "attributes",
    "the caller's tensors",
    "settings of the process",
    "random numbers",
)


class _One:
    """An object, which is no other one, however equal."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _One) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    return bool(a == b)


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _plain(value: Any) -> Any:
    """An attribute as something to compare later: data by value, everything else by identity."""
    if isinstance(value, Tensor):
        return _copied(value)
    if isinstance(value, bool | int | float | str | tuple | type(None)):
        return value
    return (id(value), len(value)) if hasattr(value, "__len__") else id(value)


def _state(given: Arguments) -> dict[str, dict[str, Any]]:
    """Everything that a call must leave as it is, by place and name."""
    state: dict[str, dict[str, Any]] = {where: {} for where in WHERE}
    for name, parameter in given.module.named_parameters():
        state["parameters"][name] = _copied(parameter)
        state["parameters"][f"identity of {name}"] = _One(parameter)
        state["parameters"][f"requires_grad of {name}"] = parameter.requires_grad
        state["gradients"][f"gradient of {name}"] = _copied(parameter.grad)
    for name, buffer in given.module.named_buffers():
        state["buffers"][name] = _copied(buffer)
    for name, module in given.module.named_modules():
        at = name or "the model"
        state["attributes"][f"identity of {at}"] = _One(module)
        state["hooks"].update({f"{kind} of {at}": count for kind, count in hook_counts(module).items()})
        state["attributes"].update({f"{key} of {at}": _plain(value) for key, value in own_attributes(module).items()})
    for name in ("x", "target", "baseline", "data"):
        tensor = getattr(given, name)
        if tensor is not None:
            state["the caller's tensors"][name] = _copied(tensor)
            state["the caller's tensors"][f"requires_grad of {name}"] = (tensor.requires_grad, tensor.grad is None)
    state["settings of the process"] = settings()
    return state


def _random() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)  # what code without a generator of its own uses
    return {
        "torch": torch.get_rng_state(),
        "numpy": (kind, tuple(np.asarray(keys).tolist()), *rest),
        "random": random.getstate(),
    }


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name in before.keys() | after.keys():
        if name not in before or name not in after or not _same(before[name], after[name]):
            yield name


def _listening(module: nn.Module, inputs: Any, output: Any) -> None:
    """A hook of the caller's."""


def _fine_tuning(module: nn.Module) -> None:
    """One parameter has a gradient, another one is frozen, and somebody listens."""
    module.register_forward_hook(_listening)
    parameters = list(module.parameters())
    if parameters:
        parameters[0].grad = torch.full_like(parameters[0], 0.5)
        parameters[-1].requires_grad_(len(parameters) == 1)


def _residual(variant: str, trial: Trial) -> Comparison:
    given = trial.arguments(trial.case)
    _fine_tuning(given.module)
    changed: dict[str, list[str]] = {}
    with kept_settings(), kept_random_numbers(trial.device):
        ends = []
        for seed in (trial.case.seed, trial.case.seed + 1):
            seed_all(seed)
            before, numbers, functions = _state(given), _random(), Originals()
            trial.call(given)
            after = _state(given)
            changed.setdefault("settings of the process", []).extend(functions.replaced())
            functions.put_back()
            for where in WHERE:
                changed.setdefault(where, []).extend(sorted(_changes(before[where], after[where])))
            ends.append(_random())
            if not trial.method.stochastic:
                changed["random numbers"] += sorted(_changes(numbers, ends[-1]))
        # Two different beginnings end alike: somebody has set the seed in between.
        changed["random numbers"] += [f"{name}, reseeded" for name in ends[0] if _same(ends[0][name], ends[1][name])]
    names = {where: sorted(set(found)) for where, found in changed.items()}
    listed = ", ".join(name for found in names.values() for name in found)
    what = f"what two calls changed among {', '.join(WHERE)}: {listed or 'nothing'}"
    return compare_counts(what, [len(names[where]) for where in WHERE])


def _script(variant: str, case: Case) -> str:
    return f"""\
def state():
    hooks = [len(value) for m in model.modules() for name, value in vars(m).items() if name.endswith("_hooks")]
    names = [sorted(vars(m)) + [m.training] for m in model.modules()]
    tensors = [t for p in model.parameters() for t in (p, p.grad)] + [*model.buffers(), x, target, baseline]
    copies = [None if t is None else (t.detach().clone().tolist(), t.requires_grad) for t in tensors]
    parts = [id(part) for part in (*model.modules(), *model.parameters())]
    settings = [torch.is_grad_enabled(), str(torch.get_default_dtype()), torch.get_num_threads()]
    return {{"hooks": hooks, "attributes": names, "tensors": copies, "identity": parts, "settings": settings}}


parameters = list(model.parameters())
kept = [*model.modules(), *parameters]
model.register_forward_hook(lambda *given: None)
parameters[0].grad = torch.full_like(parameters[0], 0.5)
parameters[-1].requires_grad_(len(parameters) == 1)
torch.manual_seed({case.seed})
numbers = torch.get_rng_state()
before = state()
attribute(model, x, target, baseline)
after = state()
print("changed  ", [name for name in before if before[name] != after[name]])
print("torch's random numbers", "untouched" if torch.equal(numbers, torch.get_rng_state()) else "consumed or reseeded")
obtained = torch.tensor([float(before[name] != after[name]) for name in before])
expected = torch.zeros_like(obtained)
gap, scale = obtained, torch.ones_like(obtained)
"""


def _draw(variant: str, setting: Setting) -> Case:
    return setting.base()


AXIOM = Axiom(
    name="purity",
    doc=__doc__,
    variants={"": "a call leaves the model, the caller's tensors and the random numbers as they were"},
    draw=_draw,
    residual=_residual,
    script=_script,
    kinks="any",
    model=True,
)
