"""What a call costs, in forward passes: all points of a batch go through the model together, in as few as the rows allow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from attribcheck import get_method
from attribcheck.axioms import continuity
from attribcheck.axioms.networks.families import FAMILIES
from attribcheck.axioms.networks.sources import Wide
from attribcheck.axioms.setting import Setting
from attribcheck.axioms.trial import Trial
from attribcheck.claims import Method
from attribcheck.errors import Unsupported
from attribcheck.methods.perturbation import ROWS
from attribcheck.methods.registry import BUILTIN
from torch import Tensor, nn

BATCH, FEATURES, DATA = 3, 6, 20
TARGET = torch.tensor([0, 2, 1])


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layered(activation: type[nn.Module]) -> nn.Module:
    """Two hidden layers of eight units, three logits."""
    model = nn.Sequential(nn.Linear(FEATURES, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(seeded(*parameter.shape, seed=seed) / 3)
    return model.eval()


@contextlib.contextmanager
def counted(model: nn.Module) -> Iterator[list[int]]:
    """The numbers of rows of the forward passes of a model."""
    rows: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        hook.remove()


def forwards(name: str, activation: type[nn.Module] = nn.ReLU, times: int = 1) -> list[int]:
    """The rows of each forward pass of one call with a batch of three, or of so many times the same three."""
    method, model = get_method(name), layered(activation)
    x, start = seeded(BATCH, FEATURES, seed=10), seeded(BATCH, FEATURES, seed=11)
    options: dict[str, Any] = {"data": seeded(DATA, FEATURES, seed=12)} if method.data else {}
    torch.manual_seed(0)
    with counted(model) as rows:
        method.function(model, x.repeat(times, 1), TARGET.repeat(times), start.repeat(times, 1), **options)
    return rows


def passes(rows: int) -> int:
    """In how many forward passes so many rows go."""
    return -(-rows // ROWS)


BOUNDS = [
    # A pass for each of two ReLUs, and gradients at two points of each piece.
    *((f"integrated-gradients{kind}", nn.ReLU, 2 + passes(2 * BATCH * 40)) for kind in ("", "-zero", "-min", "-mean")),
    # What the network is made of, the outputs at both ends, and rules of 24 and of 48 nodes.
    ("integrated-gradients", nn.Tanh, 2 + passes(24 * BATCH) + passes(48 * BATCH)),
    ("integrated-gradients(steps=50)", nn.ReLU, 1 + passes(50 * BATCH)),
    ("integrated-gradients(steps=300)", nn.ReLU, 1 + passes(300 * BATCH)),
    # The same for twenty times as many paths.
    ("expected-gradients", nn.ReLU, 2 * passes(BATCH * DATA * 10) + passes(2 * BATCH * DATA * 10)),
    ("expected-gradients", nn.Tanh, 2 + passes(24 * BATCH * DATA) + passes(48 * BATCH * DATA)),
    ("shapley", nn.Tanh, passes(BATCH * 2**FEATURES)),
    ("shapley-sampling", nn.Tanh, passes(BATCH * 25 * (FEATURES + 1))),
    ("shapley-sampling(n_samples=100)", nn.Tanh, passes(BATCH * 100 * (FEATURES + 1))),
    ("occlusion-1", nn.Tanh, 1 + passes(BATCH * FEATURES)),
    ("box-occlusion", nn.Tanh, 1 + passes(BATCH * (FEATURES - 1))),
    ("lime", nn.Tanh, passes(BATCH * 100)),
    ("kernel-shap", nn.Tanh, passes(BATCH * 100)),
    ("smoothgrad", nn.Tanh, passes(BATCH * 50)),
    ("dasp", nn.ReLU, 1),
    # What the logits are, and the base once for all three.
    ("cgi", nn.Tanh, 2),
    ("clrp", nn.ReLU, 2),
    ("cdasp", nn.ReLU, 2),
    ("competition(integrated-gradients)", nn.ReLU, 3 + passes(2 * 3 * BATCH * 40)),
]
# The papers' recursions, from layer to layer for one sample.
SAMPLE_BY_SAMPLE = ("lrp-epsilon-recursion", "deeplift-recursion")
# Passes of their own in one go each: of a large batch that is bounded by the size of its inputs.
UNCUT = ("dasp", "cdasp")


@pytest.mark.parametrize(("name", "activation", "most"), BOUNDS)
def test_a_call_takes_few_forward_passes(name: str, activation: type[nn.Module], most: int) -> None:
    rows = forwards(name, activation)
    assert 0 < len(rows) <= most
    assert max(rows) <= ROWS or name in UNCUT


@pytest.mark.parametrize("name", BUILTIN)
def test_no_method_asks_sample_by_sample(name: str) -> None:
    """A batch of six takes no more passes than a batch of three, as long as its rows go into one more."""
    if name in SAMPLE_BY_SAMPLE:
        return
    for activation in (nn.ReLU, nn.Tanh):
        with contextlib.suppress(Unsupported):
            few, many = forwards(name, activation), forwards(name, activation, times=2)
            assert len(many) <= len(few) + sum(few) // ROWS + 1


def test_a_competition_of_a_stochastic_base_draws_the_same_for_each_label() -> None:
    assert len(forwards("competition(smoothgrad)")) == 1 + 3


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("FeatureAblation", 1 + 1),
        ("FeatureAblation(perturbations_per_eval=2)", 1 + 3),
        ("Occlusion(sliding_window_shapes=(2,))", 1 + 1),
        ("ShapleyValueSampling(n_samples=10)", 2 + 10),
        ("KernelShap(n_samples=50)", BATCH * (1 + 1)),
    ],
)
def test_captum_perturbs_in_batches_unless_it_is_told_how_many_at_once(name: str, most: int) -> None:
    pytest.importorskip("captum.attr")
    rows = forwards(f"captum:{name}")
    assert len(rows) <= most
    assert max(rows) <= ROWS
    assert "perturbations_per_eval=2" not in name or max(rows) == 2 * BATCH


# -- the axiom that asks most -------------------------------------------------------------------------------------


def calls_of_continuity(method: Method) -> list[int]:
    """The batches of the calls that continuity makes on a network with a linear map."""
    sizes: list[int] = []

    def attribute(model: nn.Module, x: Tensor, *others: Any, **options: Any) -> Any:
        sizes.append(len(x))
        return method.function(model, x, *others, **options)

    case = continuity.AXIOM.draw("", Setting(Wide(0), FAMILIES["linear"]))
    assert case is not None
    compared = continuity.AXIOM.residual("", Trial(method.but(function=attribute), case))
    assert float(compared.gap.max()) == 0
    assert len(set(sizes[1:])) <= 1
    return sizes


def test_continuity_passes_its_grid_at_once() -> None:
    assert len(calls_of_continuity(get_method("occlusion-1"))) == 1


def test_continuity_calls_once_for_each_point_where_batches_may_matter() -> None:
    once = get_method("occlusion-1").but(claims=())
    assert len(calls_of_continuity(once)) == 9
