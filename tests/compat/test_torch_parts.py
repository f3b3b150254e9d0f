"""What the package uses of torch without a promise: each part is there, and does what it is used for."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attribcheck.compat.torch_parts import (
    WeakIdKeyDictionary,
    base,
    compiler_is_used,
    copy_without_weights,
    hook_counts,
    hooks_of_all_modules,
    operator_name,
    overload_name,
    own_attributes,
    put_hooks_of_all_modules,
    put_parameter,
    unseen,
    version,
)
from attribcheck.methods.backprop.operations import operation_name, overwrites
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Recorder(TorchFunctionMode):
    """The functions that a mode sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Callable[..., Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_no_mode_sees_what_is_unseen() -> None:
    with Recorder() as recorder:
        x = torch.ones(2)
        with unseen():
            x = (x * 2).relu()
        x.abs()
    assert [operation_name(func) for func in recorder.seen] == ["ones", "abs"]
    assert x.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("compute", "name", "overwrites_it"),
    [
        (lambda x: torch.add(x, 1), "add", False),
        (lambda x: x + 1, "add", False),
        (lambda x: 1 - x, "rsub", False),
        (lambda x: x.add_(1), "add", True),
        (lambda x: x.__iadd__(1), "add", True),
        (lambda x: x.__setitem__(0, 1), "setitem", True),
        (lambda x: x.T, "T", False),
        (lambda x: x.data, "detach", False),
        (lambda x: x.shape, "property", False),
        (lambda x: setattr(x, "data", torch.ones(2)), "assignment of data", False),
        (lambda x: nn.functional.relu(x), "relu", False),
        (lambda x: torch.ops.aten.relu(x), "relu", False),
        (lambda x: torch.ops.aten.relu_.default(x), "relu", True),
    ],
)
def test_an_operation_is_known_by_what_a_mode_sees(
    compute: Callable[[Tensor], Any], name: str, overwrites_it: bool
) -> None:
    x = torch.ones(2, 2)
    with Recorder() as recorder:
        compute(x)
    assert (name, overwrites_it) in [(operation_name(func), overwrites(func)) for func in recorder.seen]


def test_operators_have_their_names_with_an_overload_and_without() -> None:
    whole = torch.ops.aten.relu_
    assert (overload_name(whole.default), operator_name(whole.default)) == ("aten::relu_", "aten::relu_")
    assert (overload_name(whole), operator_name(whole)) == ("", "aten::relu_")
    assert [operator_name(f) for f in (torch.relu, Tensor.relu_, nn.functional.relu, len)] == [""] * 4
    assert overload_name(torch.ops.aten.add.Tensor) == "aten::add"


def test_a_write_counts_in_a_tensor_and_in_its_views() -> None:
    x = torch.zeros(3, 2)
    view, copy = x[1], x.clone()
    before = version(x), version(view), version(copy)
    view.add_(1)
    assert (version(x), version(view), version(copy)) == (before[0] + 1, before[1] + 1, before[2])
    x.relu()
    assert version(x) == before[0] + 1


def test_a_view_knows_what_it_is_a_view_of() -> None:
    x = torch.zeros(3, 2)
    assert base(x[1].reshape(2, 1)) is x
    assert base(x) is None
    assert base(x + 1) is None


def test_a_compiled_function_shows_that_the_compiler_is_used() -> None:
    compiled: Callable[[Tensor], Tensor] = torch.compile(lambda x: x + 1, backend="eager")
    compiled(torch.ones(2))
    assert compiler_is_used()
    with torch.compiler.set_stance("force_eager"):
        assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("register", "kind"),
    [
        ("register_forward_hook", "forward_hooks"),
        ("register_forward_pre_hook", "forward_pre_hooks"),
        ("register_full_backward_hook", "backward_hooks"),
        ("register_full_backward_pre_hook", "backward_pre_hooks"),
        ("register_state_dict_pre_hook", "state_dict_pre_hooks"),
    ],
)
def test_hooks_of_every_kind_are_counted(register: str, kind: str) -> None:
    module = nn.Linear(1, 1)
    assert set(hook_counts(module).values()) == {0}
    getattr(module, register)(lambda *given: None)
    assert hook_counts(module) == {**hook_counts(nn.Linear(1, 1)), kind: 1}


def test_a_module_knows_its_settings_and_mode_beside_what_torch_keeps_for_every_one() -> None:
    layer = nn.Linear(2, 3).eval()
    layer.register_forward_hook(lambda *given: None)
    layer.register_buffer("mean", torch.zeros(2))
    assert own_attributes(layer) == {"training": False, "in_features": 2, "out_features": 3}
    assert own_attributes(nn.Sequential(layer)) == {"training": True}


def test_a_copy_without_weights_takes_new_ones_and_shares_nothing_that_can_be_changed() -> None:
    first = nn.BatchNorm1d(2)
    made: Any = copy_without_weights(first)
    assert list(vars(made)) == list(vars(first))
    assert (type(made), list(made.parameters()), list(made.buffers())) == (nn.BatchNorm1d, [], [])
    shared = [name for name, value in vars(first).items() if hasattr(value, "clear") and vars(made)[name] is value]
    assert not shared
    weight = torch.tensor([1.0, 2.0])
    put_parameter(made, "weight", weight)
    put_parameter(made, "bias", torch.zeros(2))
    made.register_buffer("running_mean", torch.zeros(2))
    made.register_buffer("running_var", torch.ones(2))
    assert isinstance(made.weight, nn.Parameter)
    assert repr(made) == repr(first)
    assert [name for name, _ in made.named_parameters()] == ["weight", "bias"]
    assert list(made.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert made.eval()(torch.ones(1, 2)).tolist()[0] == pytest.approx([1.0, 2.0], rel=1e-4)
    assert first.weight.tolist() == [1.0, 1.0]


def test_tensors_are_known_by_identity_as_long_as_they_live() -> None:
    known: Any = WeakIdKeyDictionary()
    x, equal = torch.ones(2), torch.ones(2)
    known[x] = True
    assert x in known
    assert equal not in known
    del x
    gc.collect()
    assert len(known) == 0


def test_hooks_of_all_modules_are_seen_and_put_back() -> None:
    before, called = hooks_of_all_modules(), []
    nn.modules.module.register_module_forward_hook(lambda *given: called.append(1))
    changed = hooks_of_all_modules()
    assert changed != before
    put_hooks_of_all_modules(before)
    assert hooks_of_all_modules() == before
    nn.Linear(1, 1)(torch.ones(1, 1))
    assert not called
    put_hooks_of_all_modules(changed)
    nn.Linear(1, 1)(torch.ones(1, 1))
    put_hooks_of_all_modules(before)
    assert called == [1]
