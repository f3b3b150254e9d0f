"""Approximate completeness: what the attributions do not add up to is the relevance of the biases.

f(x) - sum_i R_i = sum_b b df/db, over all biases b of the network

Source: Gupta and Arora 2019, Definition 2, in a form that can be tested. There a method is (alpha, beta)-approximately
complete if |sum R - alpha f(x)| <= beta, which every method is on bounded inputs (alpha = 0 and a large beta). With
alpha = 1 the rest of gradient * input is known: a piecewise linear network is, on its piece, homogeneous of degree one
in input and biases together, so f = sum_i x_i df/dx_i + sum_b b df/db (Euler; Srinivas and Fleuret 2019, Proposition
1), and beta = sup |sum_b b df/db|. Each bias counts once, wherever a shared layer uses it; that of a batch
normalisation in eval mode is beta - gamma mean / sqrt(var + eps). Without biases, sum R = f(x).

Preconditions: a piecewise linear network, at kinks too (`kinks` is drawn; with weights that are whole numbers, which do not
round): both sums take the slopes that automatic differentiation takes. One half of the cases have a batch normalisation.

Holds: gradient * input, LRP-0, FullGrad's input term. Fails: what is complete in another sense (integrated gradients
from zeros on f = ReLU(x - 1) at x = 2 add up to 1; f - sum_b b df/db = 1 - (-1) = 2); the gradient itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .axiom import Axiom
from .case import Case
from .comparison import Comparison, compare_sums
from .networks.families import Has
from .networks.rewrites import REWRITES, Context
from .networks.spec import Network
from .setting import Setting
from .trial import Trial


def _draw(variant: str, setting: Setting) -> Case | None:
    case = setting.base(kinks=setting.source.pick("off", "on"))
    assert isinstance(case.network, Network)
    if case.options["kinks"] == "on" and case.options["weights"] == "thirds":
        return None  # what is zero but for rounding has another sign in each batch: whole numbers are on their kinks exactly
    if setting.source.pick("plain", "normalised") == "normalised":
        network = REWRITES["batchnorm-folding"].prepare(case.network, Context(setting.source, case.x, 1.0))
        case = case.but(network=network or case.network)
    return case


def bias_relevance(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The sum [B] over the biases b of a network of b df/db, for the target logit of each sample.

    Args:
        model: of linear and convolutional layers and batch normalisation in eval mode, whose biases are their parameters.
        x: [B, *shape]. target: [B].
    """
    layers = [module for module in model.modules() if getattr(module, "bias", None) is not None]
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    biases = [layer.get_parameter("bias") for layer in layers]
    with torch.enable_grad():
        # On the whole batch: a batch of one is rounded otherwise, and on a kink rounding picks the slope.
        logits = model(x).gather(1, target[:, None])[:, 0]
    for b in range(len(x) if layers else 0):
        slopes = torch.autograd.grad(logits[b], biases, allow_unused=True, retain_graph=True)
        for layer, slope in zip(layers, slopes, strict=True):
            if slope is not None:
                total[b] += (_shift(layer) * slope).sum()
    return total.detach()


def _shift(layer: nn.Module) -> Tensor:
    """What a layer adds whatever it reads; in a batch normalisation that is also what its mean is turned into."""
    bias: Tensor = layer.get_parameter("bias").detach()
    if not hasattr(layer, "running_mean"):
        return bias
    mean, variance = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
    return bias - layer.get_parameter("weight").detach() * mean / (variance + float(layer.eps)).sqrt()  # type: ignore[arg-type]


def _residual(variant: str, trial: Trial) -> Comparison:
    x = trial.tensor(trial.case.x)
    target = torch.tensor(trial.case.target, device=x.device)
    output = trial.outputs(x)
    # On a module of its own: what the method does to its parameters is not ours to build on.
    biases = bias_relevance(Trial(trial.method, trial.case, trial.device).module(), x, target)
    attribution = trial.attribute()
    what = "sum of the attributions against f(x) without the relevance of the biases, sum b df/db"
    terms = output.abs() + biases.abs()
    return compare_sums(what, attribution.flatten(1).sum(1), output - biases, terms, attribution)


def _script(variant: str, case: Case) -> str:
    return """\
layers = [m for m in model.modules() if getattr(m, "bias", None) is not None]
biases = torch.zeros(len(x))
for b in range(len(x) if layers else 0):
    logit = model(x)[b, target[b]]
    slopes = torch.autograd.grad(logit, [m.bias for m in layers], allow_unused=True)
    for m, slope in zip(layers, slopes):
        bias = m.bias.detach()
        if hasattr(m, "running_mean"):
            bias = bias - m.weight.detach() * m.running_mean / (m.running_var + m.eps).sqrt()
        biases[b] += 0 if slope is None else (bias * slope).sum()
R = attribute(model, x, target, baseline)
obtained = R.flatten(1).sum(1)
expected = f(model, x) - biases
print("output   ", f(model, x).tolist(), "of which from biases", biases.tolist())
gap = (obtained - expected).abs()
scale = f(model, x).abs() + biases.abs() + R.abs().flatten(1).sum(1)
"""


AXIOM = Axiom(
    own_form=True,  # the biases are those of modules
    name="approximate-completeness",
    doc=__doc__,
    variants={"": "f(x) - sum R = sum over the biases of b df/db"},
    draw=_draw,
    residual=_residual,
    script=_script,
    kinks="any",
    applies=lambda variant, family: Has.PIECEWISE in family.has,
)
