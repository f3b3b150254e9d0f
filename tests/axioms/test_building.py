"""Built modules are ordinary ones, as their constructors make them, and no two of them share what can be changed."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.layers import skeletons
from attribcheck.axioms.networks.layers.kinds import KINDS
from attribcheck.axioms.networks.spec import Call, Layer, Network
from torch import nn

VECTOR, IMAGE = (3,), (2, 4, 4)
NORM = {"weight": [1.0, 2.0], "bias": [0.5, -1.0]}
STATISTICS = {"mean": [0.5, 1.0], "var": [1.0, 4.0], "eps": 1e-5}
# How each layer with weights is constructed in the ordinary way, and the shape [*shape] that it reads.
ORDINARY: dict[str, tuple[Layer, Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (Layer("linear", weight=[[1.0, 2.0, 3.0]], bias=[1.0]), lambda: nn.Linear(3, 1), VECTOR),
    "linear without bias": (Layer("linear", weight=[[1.0, 2.0, 3.0]]), lambda: nn.Linear(3, 1, bias=False), VECTOR),
    "conv1d": (Layer("conv1d", weight=[[[1.0, 2.0]]], bias=[1.0]), lambda: nn.Conv1d(1, 1, 2), (1, 4)),
    "conv2d": (
        Layer("conv2d", weight=[[[[1.0, 2.0]]], [[[3.0, 4.0]]]], groups=2, padding=1, stride=2),
        lambda: nn.Conv2d(2, 2, (1, 2), bias=False, groups=2, padding=1, stride=2),
        IMAGE,
    ),
    "conv3d": (Layer("conv3d", weight=[[[[[2.0]]]]], bias=[1.0]), lambda: nn.Conv3d(1, 1, (1, 1, 1)), (1, 2, 2, 2)),
    "batchnorm": (Layer("batchnorm", dims=2, **NORM, **STATISTICS), lambda: nn.BatchNorm2d(2, eps=1e-5), IMAGE),
    "groupnorm": (Layer("groupnorm", groups=1, eps=1.0, **NORM), lambda: nn.GroupNorm(1, 2, eps=1.0), IMAGE),
    "layernorm": (Layer("layernorm", eps=1.0, **NORM), lambda: nn.LayerNorm(2, eps=1.0), (2,)),
    "prelu": (Layer("prelu", weight=[0.25, 0.5]), lambda: nn.PReLU(2), IMAGE),
}


def network_of(layer: Layer, shape: tuple[int, ...]) -> Network:
    """A network that calls one layer, between activations that have modules too."""
    calls = (Call("a", "act", ("x",)), Call("y", "layer", ("a",)))
    return Network(shape, {"act": Layer("relu"), "layer": layer}, calls)


def built(name: str) -> nn.Module:
    """A module of the network of one of the layers."""
    layer, _, shape = ORDINARY[name]
    return build(network_of(layer, shape))


def changeable(value: Any) -> Iterator[int]:
    """The identities of the containers, tensors and modules that a module consists of."""
    if isinstance(value, torch.Tensor):
        yield from (id(value), value.data_ptr())
    elif isinstance(value, nn.Module):
        yield id(value)
        yield from changeable(vars(value))
    elif isinstance(value, dict | list | set):
        yield id(value)
        for each in value.values() if isinstance(value, dict) else value:
            yield from changeable(each)


def test_every_layer_with_weights_of_its_own_is_here() -> None:
    assert {name.split()[0] for name in ORDINARY} == {
        kind for kind, about in KINDS.items() if about.module is not None and _asks_for_weights(kind)
    }


def _asks_for_weights(kind: str) -> bool:
    try:
        KINDS[kind].module(Layer(kind, slope=0.1, low=0.0, high=1.0, kernel=2, size=1))  # type: ignore[misc]
    except KeyError:
        return True
    return False


@pytest.mark.parametrize("name", ORDINARY)
def test_a_layer_is_as_its_constructor_makes_it(name: str) -> None:
    _, make, shape = ORDINARY[name]
    whole = built(name)
    module, ordinary = whole.get_submodule("layer"), make().double().eval()
    assert type(module) is type(ordinary)
    assert repr(module) == repr(ordinary)
    assert vars(module).keys() == vars(ordinary).keys()
    for attribute, value in vars(ordinary).items():
        assert type(vars(module)[attribute]) is type(value), attribute
        if attribute not in ("_parameters", "_buffers"):
            assert vars(module)[attribute] == value, attribute
    for own, other in (
        (module.named_parameters, ordinary.named_parameters),
        (module.named_buffers, ordinary.named_buffers),
    ):
        assert [(n, t.shape, t.dtype, t.requires_grad, t.is_leaf) for n, t in own()] == [
            (n, t.shape, t.dtype, t.requires_grad, t.is_leaf) for n, t in other()
        ]
    assert list(module.state_dict()) == list(ordinary.state_dict())
    ordinary.load_state_dict(module.state_dict())
    x = torch.arange(1.0, 1.0 + torch.Size((2, *shape)).numel(), dtype=torch.float64).reshape(2, *shape)
    assert torch.equal(module(x), ordinary(x))
    assert torch.equal(whole(x), ordinary(x))
    assert [n for n, _ in whole.named_modules()] == ["", "act", "layer"]


@pytest.mark.parametrize("name", ORDINARY)
def test_no_two_modules_share_what_can_be_changed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[nn.Module] = []
    first_of = skeletons._first

    def recorded(*arguments: Any, **settings: Any) -> nn.Module:
        copied.append(first_of(*arguments, **settings))
        return copied[-1]

    monkeypatch.setattr(skeletons, "_first", recorded)
    one, other = built(name), built(name)
    assert copied[0] is copied[1]
    parts = [set(changeable(module)) - {0} for module in (one, other, copied[0])]  # 0: where nothing is stored
    assert all(len(part) > 10 for part in parts)
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


@pytest.mark.parametrize("name", ORDINARY)
def test_what_is_done_to_one_module_is_not_seen_on_another(name: str) -> None:
    expected = {n: t.clone() for n, t in built(name).state_dict().items()}
    spoilt = built(name)
    layer: Any = spoilt.get_submodule("layer")
    seen: list[str] = []
    layer.register_forward_hook(lambda *given: seen.append("forward"))
    layer.register_forward_pre_hook(lambda *given: seen.append("before"))
    layer.register_full_backward_hook(lambda *given: seen.append("backward"))
    layer.register_state_dict_pre_hook(lambda *given: seen.append("state"))
    layer.register_load_state_dict_post_hook(lambda *given: seen.append("loaded"))
    layer.register_buffer("mark", torch.ones(1), persistent=False)
    layer.register_parameter("more", nn.Parameter(torch.ones(1)))
    layer.add_module("part", nn.ReLU())
    layer.left_behind = [1]
    layer.train()
    layer.requires_grad_(False)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.zero_()
    for value in vars(layer).values():
        if isinstance(value, list):
            value.append(99)
    fresh = built(name)
    other = fresh.get_submodule("layer")
    shape = ORDINARY[name][2]
    x = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    fresh(x).sum().backward()
    assert {n: t.tolist() for n, t in fresh.state_dict().items()} == {n: t.tolist() for n, t in expected.items()}
    assert not seen
    assert not hasattr(other, "left_behind")
    assert (other.training, list(other.children()), hasattr(other, "mark"), hasattr(other, "more")) == (
        False, [], False, False,
    )  # fmt: skip
    assert all(parameter.requires_grad and parameter.grad is not None for parameter in other.parameters())
    assert all(99 not in value for value in vars(other).values() if isinstance(value, list))


@pytest.mark.parametrize("name", ORDINARY)
def test_a_module_can_be_copied_and_saved(name: str) -> None:
    module = built(name)
    copied = copy.deepcopy(module)
    assert not (set(changeable(module)) - {0}) & set(changeable(copied))
    assert repr(copied) == repr(module)
    saved = io.BytesIO()
    torch.save(module.get_submodule("layer"), saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=False)
    x = torch.ones(1, *ORDINARY[name][2], dtype=torch.float64)
    assert torch.equal(loaded(x), module(x))
    assert torch.equal(copied(x), module(x))


def test_sizes_and_settings_are_told_apart() -> None:
    def linear(*sizes: int) -> Any:
        return skeletons.skeleton(nn.Linear, *sizes, bias=True)

    assert (linear(1, 2).in_features, linear(2, 1).in_features) == (1, 2)
    eps = [skeletons.skeleton(nn.LayerNorm, 2, eps=value).eps for value in (1, 1.0, 2.0)]
    assert list(map(repr, eps)) == ["1", "1.0", "2.0"]
