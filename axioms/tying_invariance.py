"""Tying invariance: a layer that is used twice and two copies of it have one map.

Source: implementation invariance (Sundararajan et al. 2017, section 2.2): the function does not know whether its weights are
shared. Methods that store activations by module overwrite those of the first call with those of the second.

Variants: one activation module in all places where a network has the same activation; one layer with weights in each place
where a network calls it (dense layers in a row, the cells of a recurrent network), against untied copies.

Preconditions: no kink at x, nor along the segment from the baseline.

Holds: every method that sees operations and not modules. Fails: DeepLIFT, LRP and guided backprop whose hooks keep one
activation for each module; methods that count or sum over modules.
"""

from __future__ import annotations

from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .networks.families import Family, Has
from .networks.spec import Call, Layer, Network
from .setting import Setting
from .trial import Trial


def _one_activation(network: Network) -> Network | None:
    """The network in which equal layers without weights that are called more than once altogether are one module."""
    first: dict[str, str] = {}
    names = {}
    for name, layer in network.layers.items():
        weighted = any(setting in layer.settings for setting in ("weight", "bias", "scale", "shift"))
        names[name] = name if weighted else first.setdefault(repr(layer), name)
    if all(name == other for name, other in names.items()):
        return None
    kept = {name: layer for name, layer in network.layers.items() if names[name] == name}
    calls = tuple(Call(call.value, names[call.layer], call.inputs) for call in network.calls)
    return Network(network.input_shape, kept, calls, network.returns)


def _untied(network: Network) -> Network | None:
    """The network in which every call has a layer of its own."""
    edit, layers, changed = network.edit(), dict(network.layers), False
    seen: set[str] = set()
    calls = []
    for call in network.calls:
        name = call.layer
        if name in seen:
            name = edit.fresh(f"{call.layer}_copy", layers)
            layers[name] = Layer(network.layers[call.layer].kind, **network.layers[call.layer].settings)
            changed = True
        seen.add(name)
        calls.append(Call(call.value, name, call.inputs))
    return Network(network.input_shape, layers, tuple(calls), network.returns) if changed else None


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base()
    assert isinstance(case.network, Network)
    other = _one_activation(case.network) if variant == "activation" else _untied(case.network)
    return None if other is None else case.with_drawn(tied_otherwise=other)


def _evaluated(variant: str, case: Case) -> list[Case]:
    return [case, case.but(network=case.drawn["tied_otherwise"])]


def _residual(variant: str, trial: Trial) -> Comparison:
    first, second = (trial.attribute(case) for case in _evaluated(variant, trial.case))
    return compare_maps("the map of the network that is tied otherwise against the map of the network", second, first)


def _script(variant: str, case: Case) -> str:
    return """\
expected = attribute(model, x, target, baseline)
obtained = attribute(tied_otherwise, x, target, baseline)
print("outputs  ", f(model, x).tolist(), f(tied_otherwise, x).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


def _applies(variant: str, family: Family) -> bool:
    if variant == "layer":
        return Has.SHARED in family.has
    return Has.ACTIVATED in family.has and Has.TIED not in family.has


AXIOM = Axiom(
    name="tying-invariance",
    doc=__doc__,
    variants={
        "activation": "one activation module in several places, against a module for each",
        "layer": "a layer with weights that is called several times, against copies of it",
    },
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    draws=("tied_otherwise",),
    applies=_applies,
)
