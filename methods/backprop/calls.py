"""A network as the list of its calls (torch.fx), and what one call does to a sample: its matrix, its winners.

Nothing here takes a derivative: an affine call's matrix is read off its answers to unit vectors.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...errors import Unsupported, first_line


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Operations by name, in small letters and without underscores: so nn.LeakyReLU and F.leaky_relu_ are one.
_WEIGHTED = _names("linear conv1d conv2d conv3d batchnorm batchnorm1d batchnorm2d batchnorm3d matmul mm")
_SUMS = _names("add iadd sub isub cat concat stack")
_FACTORS = _names("mul imul multiply div divide truediv itruediv")
_PLAIN = _names(
    "flatten unflatten reshape view permute transpose squeeze unsqueeze getitem contiguous clone identity to double float "
    "reshapeas viewas neg negative sum mean dropout dropout1d dropout2d dropout3d avgpool1d avgpool2d avgpool3d "
    "adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d zeropad1d zeropad2d zeropad3d"
)
_ACTIVATIONS = _names(
    "relu relu6 leakyrelu prelu elu selu celu gelu silu mish tanh sigmoid logsigmoid softplus softsign hardtanh "
    "hardsigmoid hardswish tanhshrink softshrink hardshrink exp abs clamp"
)
_POOLS = _names("maxpool1d maxpool2d maxpool3d adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d")

MOST_WEIGHTS = 2**24
"""Entries of the largest matrix that is written out: 128 MiB in float64, and its answers to unit vectors as many again."""

# What is asked of a value here is the same at every input of its shape.
_ABOUT_SHAPE = _names("shape ndim dtype device size dim numel len")
_LIKE = _names("to reshapeas viewas")


class Calls:
    """The calls of a network in order, and which of them depend on its input.

    Raises Unsupported where torch.fx cannot list them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        try:
            # A copy: tracing leaves the constants that it meets as attributes of what it traces.
            self.traced = fx.symbolic_trace(copy.deepcopy(model))
        except Exception as error:
            raise Unsupported(f"torch.fx cannot list the calls of the network: {first_line(error)}") from error
        self.nodes = list(self.traced.graph.nodes)
        inputs = [node for node in self.nodes if node.op == "placeholder"]
        returned = self.nodes[-1].args[0]
        if len(inputs) != 1 or not isinstance(returned, fx.Node):
            raise Unsupported("the network must take one tensor and return one")
        self.input, self.output = inputs[0], returned
        self.dependent: set[fx.Node] = {self.input}
        for node in self.nodes:
            if self.name(node) not in _ABOUT_SHAPE and any(n in self.dependent for n in self.read(node)):
                self.dependent.add(node)

    def name(self, node: fx.Node) -> str:
        """What a node does, by name; "" where it is no call."""
        if node.op == "call_module":
            name = type(self.traced.get_submodule(str(node.target))).__name__
        elif node.op == "call_method":
            name = str(node.target)
        elif node.op == "call_function" and node.target is getattr:
            name = str(node.args[1])
        elif node.op == "call_function":
            module = getattr(node.target, "__module__", None) or "torch"
            known = module.partition(".")[0] in ("torch", "_operator", "builtins")
            name = getattr(node.target, "__name__", "?") if known else f"{module}.{node.target!r}"
        else:
            return ""
        return name.replace("_", "").lower()

    def read(self, node: fx.Node) -> list[fx.Node]:
        """The values that a node computes with, as often as they stand in its arguments."""
        found: list[fx.Node] = []
        arguments = node.args[:1] if self.name(node) in _LIKE else (node.args, node.kwargs)
        fx.map_arg(arguments, found.append)
        return found

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """The values that depend on the network's input among those that a node reads, each once."""
        return list(dict.fromkeys(n for n in self.read(node) if n in self.dependent))

    def run(self, node: fx.Node, values: dict[fx.Node, Any], **options: Any) -> Any:
        """The value of a node, from the values that it reads; none of these is written to."""
        if node.op == "get_attr":
            value: Any = self.traced
            for part in str(node.target).split("."):
                value = getattr(value, part)
            return value
        given = {n: v.clone() if isinstance(v := values[n], Tensor) else v for n in node.all_input_nodes}
        args = fx.map_arg(node.args, given.__getitem__)
        kwargs = {**fx.map_arg(node.kwargs, given.__getitem__), **options}
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "call_module":
            module = self.traced.get_submodule(str(node.target))
            if options:
                module = copy.copy(module)
                vars(module).update(options)
                kwargs = {}
            return module(*args, **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def values(self, x: Tensor) -> dict[fx.Node, Any]:
        """Every value of the forward pass at one sample [1, *shape].

        Raises Unsupported where the calls give another output than the network.
        """
        values: dict[fx.Node, Any] = {self.input: x}
        for node in self.nodes:
            if node is not self.input and node.op != "output":
                values[node] = self.run(node, values)
        if not torch.equal(torch.as_tensor(values[self.output]), self.model(x.clone())):
            raise Unsupported(
                "the calls in order give another output than the network: does one overwrite what is read again?"
            )
        return values


def flat(nodes: list[fx.Node], values: dict[fx.Node, Any]) -> Tensor:
    """Several values of one sample as one vector."""
    return torch.cat([values[node].reshape(-1) for node in nodes])


def role_of(calls: Calls, node: fx.Node) -> str:
    """How relevance goes through a node: "weighted", "plain" (affine without epsilon), "activation" or "maximum".

    Raises Unsupported where no equation covers the operation.
    """
    name, read = calls.name(node), calls.read(node)
    places = [k for k, n in enumerate(read) if n in calls.dependent]
    if name in _SUMS:
        return "plain"
    if name == "maximum":
        return "maximum"
    if len(places) > 1:
        raise Unsupported(f"{node.name}: {name} of several values that depend on the input is not a sum")
    first = places == [0] and node.args[:1] == (read[0],)
    if name in ("matmul", "mm", "mul", "imul", "multiply") or first:
        for names, role in ((_WEIGHTED, "weighted"), (_FACTORS | _PLAIN, "plain"), (_ACTIVATIONS, "activation")):
            if name in names:
                return role
        if name in _POOLS:
            return "maximum"
    raise Unsupported(f"{node.name}: there is no equation for {name}")


def must_be_fixed(calls: Calls, node: fx.Node) -> None:
    """Raise Unsupported where a node draws random numbers or normalises by the batch, as in training."""
    name = calls.name(node)
    if not name.startswith(("dropout", "batchnorm")):
        return
    if node.op == "call_module":
        module = calls.traced.get_submodule(str(node.target))
        training: Any = module.training or getattr(module, "running_mean", module) is None
    else:
        place, default = (2, True) if name.startswith("dropout") else (5, False)
        training = node.args[place] if len(node.args) > place else node.kwargs.get("training", default)
    if training is not False:
        raise Unsupported(f"{node.name}: {name} is in training mode, or keeps no running statistics")


def matrix_of(calls: Calls, node: fx.Node, values: dict[fx.Node, Any]) -> tuple[Tensor, Tensor]:
    """The weights [out, in] and biases [out] of an affine node at one sample, from its answers to unit vectors.

    Raises Unsupported where that matrix has more than MOST_WEIGHTS entries.
    """
    inputs = calls.inputs(node)
    probe = {**values, **{n: torch.zeros_like(values[n]) for n in inputs}}
    bias = calls.run(node, probe).reshape(-1)
    entries = bias.numel() * sum(values[n].numel() for n in inputs)
    if entries > MOST_WEIGHTS:
        raise Unsupported(f"{node.name}: its matrix has {entries:,} entries; recursions are for small networks")
    columns = []
    for n in inputs:
        units = torch.eye(values[n].numel(), dtype=values[n].dtype, device=values[n].device)
        units = units.reshape(-1, *values[n].shape)
        together = _as_one_batch(calls, node, {**probe, n: units.flatten(0, 1)}) if len(inputs) == 1 else None
        if together is not None and together.shape[0] == len(units) and together[0].numel() == bias.numel():
            columns += list(together.reshape(len(units), -1) - bias)
        else:
            columns += [calls.run(node, {**probe, n: unit}).reshape(-1) - bias for unit in units]
    return torch.stack(columns, 1), bias


def _as_one_batch(calls: Calls, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor | None:
    """The answer to many samples in one call; None where the call has the number of samples written in."""
    try:
        answer = calls.run(node, values)
    except (RuntimeError, IndexError, ValueError):
        return None
    return answer if isinstance(answer, Tensor) else None


def winners_of(calls: Calls, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor:
    """For each output [out] of a maximum, which of the node's inputs [in] it is: the first of equals; -1: a constant."""
    inputs = calls.inputs(node)
    if calls.name(node) == "maximum":
        a, b = calls.read(node)
        shape = values[node].shape
        places = []
        for n in (a, b):
            start = sum(values[m].numel() for m in inputs[: inputs.index(n)]) if n in inputs else 0
            index = torch.arange(start, start + values[n].numel(), device=values[n].device).reshape(values[n].shape)
            places.append((index if n in inputs else torch.full_like(index, -1)).expand(shape))
        return torch.where(values[a] >= values[b], places[0], places[1]).reshape(-1)
    try:
        _, index = calls.run(node, values, return_indices=True)
    except TypeError as error:
        raise Unsupported(f"{node.name}: {calls.name(node)} does not say where its maxima are") from error
    # The index counts within a channel.
    value = values[inputs[0]]
    sizes = value.shape[2:].numel()
    channel = torch.arange(value.shape[1], device=value.device).reshape(1, -1, *[1] * (value.dim() - 2))
    return (index + channel * sizes).reshape(-1)


def tied_in(calls: Calls, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor:
    """Whether the two values of a maximum are equal [out]; of pooling, the first of equals wins."""
    if calls.name(node) != "maximum":
        return torch.zeros_like(values[node], dtype=torch.bool).reshape(-1)
    a, b = calls.read(node)
    return (torch.as_tensor(values[a]) == torch.as_tensor(values[b])).expand(values[node].shape).reshape(-1)
