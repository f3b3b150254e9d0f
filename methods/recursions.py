"""epsilon-LRP and DeepLIFT (Rescale) as the papers' recursions from layer to layer, unit by unit; no derivative is taken.

Both start from a relevance of the target unit and hand it on from the units j of a layer to the units i of the layer below,
in proportion to the contributions z_ji = w_ji x_i (of their differences from a reference, for DeepLIFT). They are slow, and
refuse a network where an equation is 0/0.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..claims import fails, holds, method
from ..errors import Unsupported, first_line

EPSILON = 1e-6
"""The stabiliser of the epsilon rule, unless the caller gives another."""


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
    "hardsigmoid hardswish tanhshrink softshrink hardshrink"
)
_POOLS = _names("maxpool1d maxpool2d maxpool3d adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d")

# What is asked of a value here is the same at every input of its shape.
_ABOUT_SHAPE = _names("shape ndim dtype device size dim numel len")
_LIKE = _names("to reshapeas viewas")


# -- the network as a list of calls ----------------------------------------------------------------------------


class _Calls:
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


def _flat(nodes: list[fx.Node], values: dict[fx.Node, Any]) -> Tensor:
    """Several values of one sample as one vector."""
    return torch.cat([values[node].reshape(-1) for node in nodes])


# -- one node --------------------------------------------------------------------------------------------------


def _role(calls: _Calls, node: fx.Node) -> str:
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


def _must_be_fixed(calls: _Calls, node: fx.Node) -> None:
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


def _matrix(calls: _Calls, node: fx.Node, values: dict[fx.Node, Any]) -> tuple[Tensor, Tensor]:
    """The weights [out, in] and biases [out] of an affine node at one sample, from its answers to unit vectors."""
    inputs = calls.inputs(node)
    probe = {**values, **{n: torch.zeros_like(values[n]) for n in inputs}}
    bias = calls.run(node, probe).reshape(-1)
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


def _as_one_batch(calls: _Calls, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor | None:
    """The answer to many samples in one call; None where the call has the number of samples written in."""
    try:
        answer = calls.run(node, values)
    except (RuntimeError, IndexError, ValueError):
        return None
    return answer if isinstance(answer, Tensor) else None


def _winners(calls: _Calls, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor:
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


def _tied(calls: _Calls, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor:
    """Whether the two values of a maximum are equal [out]; of pooling, the first of equals wins."""
    if calls.name(node) != "maximum":
        return torch.zeros_like(values[node], dtype=torch.bool).reshape(-1)
    a, b = calls.read(node)
    return (torch.as_tensor(values[a]) == torch.as_tensor(values[b])).expand(values[node].shape).reshape(-1)


# -- the recursion ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Flow:
    """What reaches the units of a node: their relevance r [K], and whether anything above listens to them at all [K].

    A unit that nobody listens to has r = 0 whatever its value is. Where a unit is listened to and has r = 0 because its
    own value (or difference) is zero, how much of that zero its inputs carry is 0/0.
    """

    r: Tensor
    heard: Tensor

    def __add__(self, other: _Flow) -> _Flow:
        return _Flow(self.r + other.r, self.heard | other.heard)


def _shared(node: fx.Node, matrix: Tensor, entering: Tensor, bias: Tensor, above: _Flow, epsilon: float) -> _Flow:
    """r_i = sum_j z_ji / (z_j + epsilon sign(z_j)) r_j, with z_ji = w_ji x_i, z_j = sum_i z_ji + b_j and sign(0) = 1.

    Args:
        matrix: w [out, in]; entering: x [in]; bias: b [out].
        above: what reaches the outputs.

    Raises:
        Unsupported: z_j = 0 without an epsilon, so that the equation is 0/0.
    """
    result, heard = torch.zeros_like(entering), torch.zeros_like(entering, dtype=torch.bool)
    for j in range(len(matrix)):
        if not above.heard[j]:
            continue
        terms, r = matrix[j] * entering, above.r[j]
        total = terms.sum() + bias[j]
        heard |= matrix[j] != 0
        if epsilon:
            result += terms / (total + (epsilon if total >= 0 else -epsilon)) * r
        elif int((matrix[j] != 0).sum()) == 1 and bias[j] == 0:
            # One input makes the whole of the output, at zero too.
            result[matrix[j] != 0] += r
        elif not _vanishes(total, terms, bias[j]):
            result += terms / total * r
        elif r != 0 or (terms != 0).any():
            raise Unsupported(f"{node.name}: the contributions to a unit add up to zero, so their shares are 0/0")
    return _Flow(result, heard)


def _vanishes(total: Tensor, terms: Tensor, bias: Tensor) -> bool:
    """Whether a sum is zero but for the rounding of its terms."""
    rounding = torch.finfo(total.dtype).eps * len(terms)
    return bool(total.abs() <= rounding * (terms.abs().sum() + bias.abs()))


def _won(winners: Tensor, above: _Flow, n: int) -> _Flow:
    """r_i = sum of the r_j of the outputs j that input i won (-1: nobody)."""
    result, heard = torch.zeros(n, dtype=above.r.dtype, device=above.r.device), torch.zeros(n, dtype=torch.bool)
    heard = heard.to(above.heard.device)
    for j, i in enumerate(winners.tolist()):
        if i >= 0:
            result[i] += above.r[j]
            heard[i] |= above.heard[j]
    return _Flow(result, heard)


def _relevance(
    calls: _Calls, target: int, here: dict[fx.Node, Any], there: dict[fx.Node, Any] | None, epsilon: float
) -> Tensor:
    """The relevance of the input units of one sample, from the output down.

    Args:
        here: every value at the sample.
        there: every value at the reference; None: epsilon-LRP, which has none.
    """

    def amount(nodes: list[fx.Node]) -> Tensor:
        """The values, or their differences from the reference."""
        return _flat(nodes, here) if there is None else _flat(nodes, here) - _flat(nodes, there)

    outputs = amount([calls.output])
    chosen = torch.arange(len(outputs), device=outputs.device) == target
    flows = {calls.output: _Flow(torch.where(chosen, outputs, torch.zeros_like(outputs)), chosen)}
    for node in reversed(calls.nodes):
        if node not in flows or node is calls.input or node not in calls.dependent:
            continue
        above, inputs, role = flows.pop(node), calls.inputs(node), _role(calls, node)
        entering, leaving = amount(inputs), amount([node])
        if role == "activation":
            closed = (leaving == 0) & (entering != 0) & (above.r == 0)
            below = _Flow(above.r, above.heard & ~closed)
        elif role == "maximum":
            winners = _winners(calls, node, here)
            if there is not None:
                winners = torch.where(leaving >= 0, winners, _winners(calls, node, there))
                # Equal maxima with a winner that moved: it carries nothing. One that did not move is 0/0, as an activation's.
                moved = (winners >= 0) & (entering[winners.clamp(min=0)] != 0)
                winners = torch.where((leaving == 0) & moved, -1, winners)
                if bool((above.heard & (_tied(calls, node, here) | _tied(calls, node, there))).any()):
                    raise Unsupported(f"{node.name}: two values are equal and the largest; neither is the winner")
            below = _won(winners, above, len(entering))
        else:
            matrix, bias = _matrix(calls, node, here)
            # In a difference of two outputs the bias cancels.
            bias = bias if there is None else torch.zeros_like(bias)
            below = _shared(node, matrix, entering, bias, above, epsilon if role == "weighted" else 0.0)
        start = 0
        for n in inputs:
            part = slice(start, start + here[n].numel())
            flow = _Flow(below.r[part], below.heard[part])
            flows[n] = flows[n] + flow if n in flows else flow
            start += here[n].numel()
    flow_in = flows.get(calls.input)
    return torch.zeros_like(here[calls.input]).reshape(-1) if flow_in is None else flow_in.r


def _recursion(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None, epsilon: float) -> Tensor:
    """The relevance [B, *shape] of each sample; a baseline makes it DeepLIFT, none epsilon-LRP."""
    rows = []
    with torch.no_grad():
        calls = _Calls(model)
        for node in calls.nodes:
            _must_be_fixed(calls, node)
        for b in range(len(x)):
            here = calls.values(x[b : b + 1])
            there = None if baseline is None else calls.values(baseline[b : b + 1])
            rows.append(_relevance(calls, int(target[b]), here, there, epsilon))
    return torch.stack(rows).reshape(x.shape)


# -- the methods -----------------------------------------------------------------------------------------------

# How much of f the stabilisers absorb where there are no biases and |a(z)| <= |z|. A unit j loses r_j eps / (|z_j| + eps),
# where r_j = a_j g_j and |g_j| is at most the sum G_j over all paths from the unit of absolute weights: at most eps G_j, and
# eps at the output. A residual is divided by 1.1e-3 A or more (see axioms/tolerances.py), and A >= sum_j G_j, since A adds 1
# at every activation; so it is at most eps (1 + 1 / A) / 1.1e-3, and A >= 1 but for networks whose weights are all small.
_ABSORBED = 2e-3

_EULER = "proved here: sum_i w_ji x_i = z_j without a bias, so every layer hands on what it gets, but for O(epsilon)"
_BIAS = "the share of the bias b_j / z_j reaches no feature: f = ReLU(x - 1) at x = 2 gives 2, but f(x) - f(0) = 1"
_LINEAR_BIAS = "the share of the bias b_j / z_j reaches no feature"
_SUM = "proved here: the shares z_ji / z_j of a unit do not see"
_SMOOTH = "f(0) is shared out too: sigmoid(x) at x = 1 gives 0.73, but f(x) - f(0) = 0.23"
_ABSORBS = (
    "epsilon is absorbed once for each layer, in proportion to 1 / z: x at 1 against 1 * 1 * x with epsilon = 0.1"
)
_SHIFT = "z_ji = w_ji x_i has the input as a factor, which the shift moved (Kindermans et al. 2019, section 3.2)"


@method(
    name="lrp-epsilon-recursion",
    claims=[
        holds("completeness/output", on="relu-nobias", tol=_ABSORBED, source=_EULER),
        holds("completeness/delta", on="relu-nobias", tol=_ABSORBED, source=f"{_EULER}; f(0) = 0"),
        holds("completeness/output", on="odd-nobias", tol=_ABSORBED, source=_EULER),
        holds("completeness/delta", on="odd-nobias", tol=_ABSORBED, source=f"{_EULER}; f(0) = 0"),
        holds("implementation-invariance/permute", on="relu", source=f"{_SUM} the order of the units"),
        holds("implementation-invariance/split", on="relu", source=f"{_SUM} that w a = (s w) a + (1 - s) w a"),
        holds("implementation-invariance/dead", on="relu", source=f"{_SUM} a unit with w_ji = 0"),
        holds("implementation-invariance/never-active", on="relu", source=f"{_SUM} a unit with x_i = 0"),
        fails("implementation-invariance/rescale", on="relu", reason=_ABSORBS),
        fails("implementation-invariance/split-linear", on="linear", reason=_ABSORBS),
        fails("implementation-invariance/fuse-linear", on="linear", reason=_ABSORBS),
        fails("completeness/output", on="linear", reason=_LINEAR_BIAS),
        fails("completeness/output", on="relu", reason=_LINEAR_BIAS),
        fails("completeness/delta", on="relu", tol=_ABSORBED, reason=_BIAS),
        fails("completeness/delta", on="conv", tol=_ABSORBED, reason=_BIAS),
        fails("completeness/delta", on="maxpool", tol=_ABSORBED, reason=_BIAS),
        fails("completeness/delta", on="smooth", tol=_ABSORBED, reason=_SMOOTH),
        fails("input-invariance/constant", on="any", reason=_SHIFT),
        fails("input-invariance/arbitrary", on="linear", reason=_SHIFT),
    ],
)
def lrp_epsilon_recursion(
    model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None, *, epsilon: float = EPSILON
) -> Tensor:
    """Layer-wise relevance propagation with the epsilon rule, layer by layer.

    r_i = sum_j z_ji / (z_j + epsilon sign(z_j)) r_j, with z_ji = w_ji x_i, z_j = sum_i z_ji + b_j, sign(0) = 1

    from r = f(x) at the target unit and 0 at the others. Sums of two values, pooling by means, and what only moves or scales
    values share without epsilon; activations hand r on as it is; the winner of a maximum (the first of equals) takes all.

    Source: Bach et al. 2015, equation 56 with its stabiliser; Ancona et al. 2018, equations 1 and 2 (where a layer's
    activation and its weights are one step). With ReLU and maxima only it tends to gradient * input as epsilon goes to 0.

    What holds: sum R = f(x) without biases, but for what epsilon absorbs. What fails: completeness with biases; input
    invariance; invariance under rewrites that change the number or the scale of the z_j, by O(epsilon).

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode; torch.fx must be able to list its calls.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: not used.
        epsilon: the stabiliser of linear, convolutional and normalising layers.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: an operation without an equation (a product of two values that depend on x), or a sum without
            epsilon that is zero, so that the shares are 0/0.
    """
    return _recursion(model, x, target, None, epsilon)


_RESCALE = "Shrikumar et al. 2017, equation 1 (summation to delta); proved here: the shares of each unit add up to 1"
_MAXIMUM = f"{_RESCALE}, and a maximum hands all it gets to one input"
_MOVES = "proved here: only differences from the baseline enter, which moves with the input"
_SLOPES = "proved here: r_i / (x_i - x'_i) of a linear graph is its weight"
_UNITS = (
    "proved here: the ratio (a - a') / (z - z') of a unit is that of its copies, of its multiples and behind identities"
)
_ON_UNITS = (
    "permute",
    "rescale",
    "split",
    "relu-identity",
    "split-linear",
    "batchnorm-folding",
    "dead",
    "never-active",
)
_NESTED = "ReLU(ReLU(x1) - 1 - ReLU(x2)) = ReLU(ReLU(x1 - 1) - ReLU(x2)) at (3, 1): (1.5, -0.5) against (2, -1)"


@method(
    name="deeplift-recursion",
    baseline="given",
    claims=[
        *(
            holds("completeness/delta", on=family, source=_RESCALE)
            for family in ("linear", "relu", "relu-nobias", "smooth", "odd-nobias", "conv")
        ),
        *(holds("completeness/delta", on=family, source=_MAXIMUM) for family in ("maxpool", "maximum")),
        holds("sensitivity-n", on="linear", source="Ancona et al. 2018, Proposition 4"),
        *(holds(axiom, on="linear", source=_SLOPES) for axiom in ("implementation-invariance", "dummy", "symmetry")),
        holds("input-invariance", on="relu", source=_MOVES),
        holds("input-invariance", on="conv", source=_MOVES),
        *(holds(f"implementation-invariance/{kind}", on="relu", source=_UNITS) for kind in _ON_UNITS),
        fails("implementation-invariance/nested", on="relu", reason=_NESTED),
        fails(
            "sensitivity-n/1", on="relu", reason="ReLU(x1 + x2 - 1) at (1, 1): R = (1/2, 1/2), removing either costs 1"
        ),
    ],
)
def deeplift_recursion(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """DeepLIFT with the Rescale rule, layer by layer.

    r_i = sum_j (z_ji - z'_ji) / (sum_k z_jk - sum_k z'_jk) r_j, with z_ji = w_ji x_i and z'_ji = w_ji x'_i

    from r = f(x) - f(x') at the target unit and 0 at the others; x' is the baseline. Activations hand r on as it is. A
    maximum that rose hands all to the input that is largest at x, one that fell to the one that is largest at x': their
    differences have the sign of the maximum's and are at least as large.

    Source: Ancona et al. 2018, equations 3 and 4; Shrikumar et al. 2017, section 3.5. Neither has an equation for maxima.

    What holds: completeness on graphs of affine layers, activations and maxima; input invariance, with a baseline that moves.
    What fails: invariance to the implementation; sensitivity-n.

    Args:
        model: maps [B, *shape] to logits [B, C], in eval mode; torch.fx must be able to list its calls.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape]; zeros where None.

    Returns:
        [B, *shape], in units of the output.

    Raises:
        Unsupported: an operation without an equation (a product of two values that depend on x), or a unit that does not
            change though what it adds up does, so that the shares are 0/0.
    """
    return _recursion(model, x, target, torch.zeros_like(x) if baseline is None else baseline, 0.0)
