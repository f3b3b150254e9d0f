"""A witness as a short PyTorch script that imports torch and the method under test only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..claims import Method
from .axiom import Axiom
from .case import AnyNetwork, Case, UserModel
from .networks.layers.kinds import form_of, is_module, kind_of
from .networks.spec import ARRAYS, Layer, Network
from .tolerances import Judgement

_BUFFERS = {"mean": "running_mean", "var": "running_var"}


def network_source(network: Network, name: str) -> str:
    """A class definition and the lines that build the network under a variable name."""
    cls = "".join(part.capitalize() for part in name.split("_")) + "Network"
    made, weights, steps = [], [], []
    for key, layer in network.layers.items():
        if is_module(layer):
            made.append(f"        self.{key} = {kind_of(layer).source(layer)}")
            for setting in sorted(ARRAYS & layer.settings.keys()):
                at = f"{name}.{key}.{_BUFFERS.get(setting, setting)}"
                weights.append(f"    {at}.copy_(torch.tensor({_numbers(layer[setting])}))")
            continue
        for setting in _parameters(layer):
            made.append(f"        self.{key}_{setting} = nn.Parameter(torch.tensor({_numbers(layer[setting])}))")
    for call in network.calls:
        layer = network.layers[call.layer]
        if is_module(layer):
            expression = f"self.{call.layer}({', '.join(call.inputs)})"
        else:
            own = {setting: f"self.{call.layer}_{setting}" for setting in _parameters(layer)}
            expression = form_of(layer).source(layer).format(*call.inputs, **own)
        steps.append(f"        {call.value} = {expression}")
    init = ["    def __init__(self):", "        super().__init__()", *made, ""] if made else []
    returned = {"logits": network.output, "tuple": f"{network.output}, x", "single": f"{network.output}[:, 0]"}
    lines = [
        f"class {cls}(nn.Module):",
        *init,
        "    def forward(self, x):",
        *steps,
        f"        return {returned[network.returns]}",
        "",
        "",
        f"{name} = {cls}().eval()",
    ]
    if weights:
        lines += ["with torch.no_grad():", *weights]
    if network.returns != "logits":
        taken = "[0]" if network.returns == "tuple" else "[:, None]"
        lines += [
            "",
            "",
            f"class {cls}Logits(nn.Module):",
            "    def __init__(self, model):",
            "        super().__init__()",
            "        self.model = model",
            "",
            "    def forward(self, x):",
            f"        return self.model(x){taken}",
            "",
            "",
            f"{name} = {cls}Logits({name}).eval()",
        ]
    return "\n".join(lines)


def _numbers(array: Any) -> Any:
    return (np.asarray(array) + 0.0).tolist()


def _parameters(layer: Layer) -> list[str]:
    """The settings of a layer that are parameters of the network itself."""
    return [setting for setting in form_of(layer).parameters if layer.get(setting) is not None]


def _model_source(network: AnyNetwork, name: str) -> str:
    if isinstance(network, Network):
        return network_source(network, name)
    module, _, factory = network.factory.partition(":")
    title = name.capitalize()
    shift = "" if network.shift is None else f" - torch.tensor({list(network.shift)}).reshape(x.shape[1:])"
    lines = [
        # The model is made under the default it was written for: another dtype would train or initialise other weights.
        "torch.set_default_dtype(torch.float32)",
        f"from {module} import {factory.partition('.')[0]}",
        "",
        "",
        f"class {title}Network(nn.Module):",
        "    def __init__(self, inner):",
        "        super().__init__()",
        "        self.inner = inner",
        "",
        "    def forward(self, x):",
        f"        output = self.inner(x{shift})",
        "        output = output[0] if isinstance(output, (tuple, list)) else output",
        "        return output.unsqueeze(1) if output.dim() == 1 else output",
        "",
        "",
        f"made = {factory} if isinstance({factory}, nn.Module) else {factory}()",
        "torch.set_default_dtype(torch.float64)",
        f"{name} = {title}Network(copy.deepcopy(made).double()).eval()",
    ]
    return "\n".join(lines)


_REFERENCE = {
    None: "reference = torch.zeros_like(x)",
    "zeros": "reference = baseline = torch.zeros_like(x)",
    "given": "reference = baseline",
    "min": "reference = baseline = x.flatten(1).amin(1).reshape(-1, *[1] * (x.dim() - 1)).expand_as(x).clone()",
    "min-per-feature": "reference = baseline = data.amin(0).expand_as(x).clone()",
    "mean": "reference = baseline = data.mean(0).expand_as(x).clone()",
}


def script(axiom: Axiom, variant: str, method: Method, case: Case, outcome: Judgement | str) -> str:
    """The runnable script of a case: network, inputs, the method's calls, expected and obtained figures, the residual.

    Args:
        outcome: of the case; a text where the method erred, whose error the script raises.
    """
    lines = [
        method.imports or "# Define or import the method under test: attribute(model, x, target, baseline)",
        "",
        f"torch.set_default_dtype(torch.{case.dtype})",
        "",
        "",
        _model_source(case.network, "model"),
        "",
    ]
    others = [(name, value) for name, value in case.drawn.items() if isinstance(value, Network | UserModel)]
    for name, value in others:
        lines += ["", _model_source(value, name), ""]
    lines += [
        f"x = torch.tensor({case.x.tolist()})",
        f"target = torch.tensor({list(case.target)})",
    ]
    if case.data is not None:
        lines.append(f"data = torch.tensor({case.data.tolist()})")
    elif method.data:
        lines.append("data = x")
    given = None if case.baseline is None else case.baseline.tolist()
    lines.append("baseline = None" if method.baseline is None or given is None else f"baseline = torch.tensor({given})")
    if method.baseline == "given" and given is None:
        lines.append("reference = torch.zeros_like(x)")
    else:
        lines.append(_REFERENCE[method.baseline])
    if "moved" in case.drawn:
        lines.append(_moved_baseline(method, case))
    if method.data:
        lines += [
            "without_data = attribute",
            "",
            "",
            "def attribute(*arguments):",
            "    return without_data(*arguments, data=data)",
            "",
        ]
    if method.stochastic:
        lines += [
            "unseeded = attribute",
            "",
            "",
            "def attribute(*arguments):",
            *(f"    {line}" for line in seeded(case.seed)),
            "    return unseeded(*arguments)",
            "",
        ]
    if "end" in case.drawn:
        # A baseline that is computed from the input moves with it.
        moving = "point.flatten(1).amin(1).reshape(-1, *[1] * (x.dim() - 1)).expand_as(x).clone()"
        at = moving if method.baseline == "min" else "baseline"
        lines += ["", "", "def baseline_at(point):", f"    return {at}"]
    if isinstance(outcome, str):
        lines += _CONTRACT
    lines += [
        "",
        "",
        "def f(network, points):",
        "    with torch.no_grad():",
        "        return network(points).gather(1, target[:, None])[:, 0]",
        "",
        "",
        axiom.script(variant, case).rstrip(),
        *(_told(outcome) if isinstance(outcome, Judgement) else ['print("no error: every call was answered")']),
    ]
    body = "\n".join(lines) + "\n"
    standard = [f"import {name}" for name in ("copy", "random") if f"{name}." in body]
    head = [
        f"# {axiom.full(variant)}: {axiom.variants[variant]}",
        *([f"# Here an error is shown: {outcome}"] if isinstance(outcome, str) else []),
        *([*standard, ""] if standard else []),
        *(["import numpy"] if "numpy." in body else []),
        "import torch",
        "from torch import nn",
        *(["from torch.nn import functional as F"] if "F." in body else []),
    ]
    return "\n".join([*head, "", body])


def _told(judgement: Judgement) -> list[str]:
    """The lines that print the figures of a case."""
    least = "# The scale has a least value: below it a gap may be the rounding of sums along the network's paths."
    return [
        'print("expected ", expected.tolist())',
        'print("obtained ", obtained.tolist())',
        *([least] if judgement.floor else []),
        f'print("residual ", (gap.double() / scale.double().clamp(min={judgement.floor or 5e-324!r})).max().item(), '
        f'"tolerance", {judgement.tolerance!r})',
    ]


# An answer of another kind than x would only be met later, or never.
_CONTRACT = [
    "unchecked = attribute",
    "",
    "",
    "def attribute(model, x, *others):",
    "    answer = unchecked(model, x, *others)",
    '    assert isinstance(answer, torch.Tensor), f"returned {type(answer).__name__}, expected a torch.Tensor"',
    '    for kind in ("shape", "dtype", "layout", "device"):',
    '        assert getattr(answer, kind) == getattr(x, kind), f"{kind} {getattr(answer, kind)} for {getattr(x, kind)} of x"',
    "    return answer",
]


def seeded(seed: int) -> list[str]:
    """The lines that begin all random numbers anew."""
    return [f"torch.manual_seed({seed})", f"numpy.random.seed({seed})", f"random.seed({seed})"]


def _moved_baseline(method: Method, case: Case) -> str:
    """The baseline of the shifted input: a given one, and what is computed from the input or the data, moves along."""
    if method.baseline is None or (case.baseline is None and method.baseline == "given"):
        return "moved_baseline = None"
    if method.baseline == "zeros":
        return "moved_baseline = baseline"
    shift: Any = np.asarray(case.drawn["shift"]).tolist()
    if method.baseline == "min":
        return (
            f"moved_baseline = (x + torch.tensor({shift})).flatten(1).amin(1)"
            ".reshape(-1, *[1] * (x.dim() - 1)).expand_as(x).clone()"
        )
    return f"moved_baseline = baseline + torch.tensor({shift})"
