"""Class sensitivity: the map turns with the sign of its logit, follows it to another place, and sees no other logit.

parity:             the map of -f_c is minus the map of f_c
other-logits:       f_c = g_c  implies  R_f^c = R_g^c, whatever the other logits of f and g are
logit-permutation:  g_k = f_order[k]  implies  R_g^k = R_f^order[k]
collapse:           two logits whose last weights have one positive part get one map, up to a factor

Source: Khakzar et al. 2020 (methods that pass on only positive parts are not class-sensitive); Nie et al. 2018 (guided
backprop and deconvolution show every class alike). For parity the last layer is negated, or its output is (drawn); for
the others it has other rows. The layers before it stay as they are.

Preconditions: for parity, other-logits and logit-permutation none; cases lie on kinks too (`kinks` is drawn), since
both networks pass through the same ones. All samples of other-logits explain one logit. That different logits have
different maps is not true of all networks: those of dead networks are equal, and those of logits that differ by a
constant. So collapse can only be claimed to fail. Its networks end in a linear layer on ReLUs; the weights of the
second logit are those of the first with the negative ones multiplied by drawn factors above 1; an active unit has a
positive weight, another a negative one. Precheck: the gradients of the two logits are not proportional, nor their
products with the input, nor what the logits lose when single features are set to the baseline.

Holds: all but collapse for what is defined by the target logit and odd in it: gradient, gradient * input, integrated
gradients, occlusion, Shapley values. Fails: parity for absolute values (saliency) and for what passes on positive parts
only; other-logits for maps of a softmax or of logits in competition; collapse is shown by guided backprop on h1 - h2
and h1 - 5 h2 with h = ReLU(x) at (3, 1): (1, 0) twice, and by alpha1-beta0: (2, 0) and (-2, 0).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .agreement import must_agree
from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_maps
from .networks.build import evaluate, values
from .networks.compose import last_linear, scaled
from .networks.families import Family, Has
from .networks.sources import Array, reordering
from .networks.spec import Layer, Network
from .setting import Setting
from .trial import Trial

# Two maps are one up to a factor where their normalised entries differ by less than SAME: what is computed in the same
# way but for a factor differs by rounding, below 2**8 u = 3e-14. Maps that follow the gradients, or what the logits lose
# without a feature, differ by APART at least.
SAME = 1e-9
APART = 1e-3


# Between the ReLU and the last layer, for collapse: what keeps each value's sign, and mixes no two units.
_NON_NEGATIVE = ("flatten", "gap", "mean", "amax", "maxpool1d", "maxpool2d")


def _draw(variant: str, setting: Setting) -> Case | None:
    if variant == "collapse":
        return _collapsing(setting)
    source = setting.source
    case = setting.base(kinks=source.pick("off", "on"))
    assert isinstance(case.network, Network)
    if variant == "parity":
        other = scaled(case.network, -1.0, source.pick("weights", "affine"))
        return case.with_drawn(other=other, logit=_identity(case.network, case))
    name = last_linear(case.network)
    if name is None:
        return None
    layer = case.network.layers[name]
    if len(layer["weight"]) == 1:
        layer = _redrawn(layer, case, setting, [0, 1])
    network = case.network.with_layers(**{name: layer})
    n = len(layer["weight"])
    if variant == "logit-permutation":
        order = reordering(source, n)
        bias = layer.get("bias")
        moved = layer.but(weight=layer["weight"][order], bias=None if bias is None else bias[order])
        other = network.with_layers(**{name: moved})
        return case.but(network=network).with_drawn(other=other, logit=np.argsort(order).tolist())
    target = case.target[0]
    others = [k for k in range(n) if k != target]
    changed = _redrawn(layer, case, setting, others)
    if changed == layer:
        # Rejected draws would stand in the way of shrinking.
        changed = changed.but(weight=changed["weight"] + np.isin(range(n), others)[:, None])
    case = case.but(network=network, target=(target,) * len(case.x))
    return case.with_drawn(other=network.with_layers(**{name: changed}), logit=list(range(n)))


def _identity(network: Network, case: Case) -> list[int]:
    return list(range(evaluate(network, torch.tensor(case.x)).shape[1]))


def _redrawn(layer: Layer, case: Case, setting: Setting, rows: list[int]) -> Layer:
    """A linear layer with new weights in some rows; a row beyond the last one is added."""
    assert isinstance(setting.family, Family) and isinstance(case.network, Network)
    source, n_in = setting.source, layer["weight"].shape[1]
    n = max(len(layer["weight"]), max(rows) + 1)
    rows = [k for k in rows if k > 0 or n == len(layer["weight"])]
    weight = np.zeros((n, n_in))
    weight[: len(layer["weight"])] = layer["weight"]
    weight[rows] = source.weights((len(rows), n_in), setting.family.soft)
    bias = None
    if layer.get("bias") is not None:
        bias = np.zeros(n)
        bias[: len(layer["bias"])] = layer["bias"]
        bias[rows] = source.bias(len(rows), case.network.weighted_layers(), case.options["kinks"] == "off")
    return layer.but(weight=weight, bias=bias)


def _collapsing(setting: Setting) -> Case | None:
    source = setting.source
    case = setting.base(at_least=2)
    network = case.network
    assert isinstance(network, Network)
    name = last_linear(network)
    if name is None:
        return None
    hidden = network.call(network.output).inputs[0]
    read = hidden
    while read != "x" and network.layer_of(read).kind in _NON_NEGATIVE:
        read = network.call(read).inputs[0]
    if read == "x" or network.layer_of(read).kind != "relu":
        return None
    x = case.x[:1]
    active = (values(network, torch.tensor(x))[hidden][0] > 0).nonzero()[:, 0].tolist()
    if len(active) < 2:
        return None
    k = source.pick(*range(len(active) - 1))
    layer = network.layers[name]
    first = np.array(layer["weight"][case.target[0]])
    first[active[k]] = abs(first[active[k]]) or 1.0
    first[active[k + 1]] = -abs(first[active[k + 1]]) or -1.0
    second = np.where(first < 0, first * (1.0 + source.numbers((1.0, 2.0, 4.0), len(first))), first)
    bias = None if layer.get("bias") is None else [layer["bias"][case.target[0]]] * 2
    network = network.with_layers(**{name: layer.but(weight=[first, second], bias=bias)})
    baseline = None if case.baseline is None else case.baseline[:1]
    if not _told_apart(network, x, np.zeros_like(x) if baseline is None else baseline):
        return None
    return case.but(network=network, x=x, target=(0,), baseline=baseline).with_drawn(logit=[1, 0])


def _told_apart(network: Network, x: Array, baseline: Array) -> bool:
    """Whether logits 0 and 1 at x [1, *shape] have different gradients, gradients times the input, and losses.

    A loss is what a logit loses when a feature is set to the baseline; different means by more than a factor.
    """
    point, n = torch.tensor(x), x[0].size
    without = point.flatten(1).repeat(n, 1)
    without[range(n), range(n)] = torch.tensor(baseline).flatten()
    lost = evaluate(network, point) - evaluate(network, without.reshape(-1, *x.shape[1:]))
    with torch.enable_grad():
        point.requires_grad_()
        output = evaluate(network, point)
        gradients = [torch.autograd.grad(output[0, k], point, retain_graph=True)[0].flatten(1) for k in (0, 1)]
    at = point.detach().flatten(1)
    pairs = [gradients, [gradient * at for gradient in gradients], [lost[None, :, 0], lost[None, :, 1]]]
    return all(float(_distance(*pair)) >= APART for pair in pairs)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """How far two maps [B, N] are from being one up to a factor: 0 where they are, and where either is zero."""
    largest = a.abs().amax(1, keepdim=True), b.abs().amax(1, keepdim=True)
    a, b = (m / size.where(size > 0, torch.ones_like(size)) for m, size in zip((a, b), largest, strict=True))
    apart = torch.minimum((a - b).abs().amax(1), (a + b).abs().amax(1))
    return apart.where((largest[0] > 0)[:, 0] & (largest[1] > 0)[:, 0], torch.zeros_like(apart))


def _evaluated(variant: str, case: Case) -> list[Case]:
    target = tuple(int(case.drawn["logit"][t]) for t in case.target)
    network = case.network if variant == "collapse" else case.drawn["other"]
    return [case, case.but(network=network, target=target)]


def _residual(variant: str, trial: Trial) -> Comparison:
    here, there = _evaluated(variant, trial.case)
    if variant != "collapse":
        sign = -1.0 if variant == "parity" else 1.0
        must_agree(sign * trial.function(here), trial.function(there), f"{variant}: the other network has other logits")
    first, second = trial.attribute(here), trial.attribute(there)
    if variant == "parity":
        return compare_maps("the map of the negated network against minus the map of the network", second, -first)
    if variant == "other-logits":
        return compare_maps("the map beside other logits against the map", second, first)
    if variant == "logit-permutation":
        return compare_maps("the map of the logit in its new place against the map in its old one", second, first)
    a, b = first.flatten(1), second.flatten(1)
    empty = (a.abs().amax(1) == 0) | (b.abs().amax(1) == 0)
    same = ((_distance(a, b) <= SAME) & ~empty).to(a)
    what = "whether two logits with different gradients have one map up to a factor (1: they have)"
    return Comparison(what, torch.zeros_like(same), same, same, torch.ones_like(same), empty)


def _script(variant: str, case: Case) -> str:
    if variant == "collapse":
        return f"""\
expected = torch.zeros(len(x))
maps = [attribute(model, x, torch.full_like(target, logit), baseline).flatten(1) for logit in (0, 1)]
print("maps     ", *(R.tolist() for R in maps))
a, b = (R / R.abs().amax(1, keepdim=True) for R in maps)
obtained = (torch.minimum((a - b).abs().amax(1), (a + b).abs().amax(1)) <= {SAME!r}).to(x)
gap, scale = obtained, torch.ones(len(x))
"""
    sign = "-" if variant == "parity" else ""
    moved = [int(case.drawn["logit"][t]) for t in case.target]
    return f"""\
expected = {sign}attribute(model, x, target, baseline)
obtained = attribute(other, x, torch.tensor({moved}), baseline)
print("outputs  ", model(x).tolist(), other(x).tolist())
gap = (obtained - expected).abs().flatten(1).amax(1)
scale = expected.abs().flatten(1).amax(1) + obtained.abs().flatten(1).amax(1)
"""


AXIOM = Axiom(
    name="class-sensitivity",
    doc=__doc__,
    variants={
        "parity": "the map of -f is minus the map of f",
        "other-logits": "changing the other logits leaves the map of the target",
        "logit-permutation": "the map follows its logit to another place",
        "collapse": "two logits with one positive part get one map (for `fails` claims)",
    },
    default=("parity", "other-logits", "logit-permutation"),
    fails_only=("collapse",),
    draw=_draw,
    residual=_residual,
    script=_script,
    evaluated=_evaluated,
    kinks="any",
    draws=("logit",),
    applies=lambda variant, family: variant != "collapse" or Has.RELU in family.has,
)
