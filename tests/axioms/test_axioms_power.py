"""The axioms have power: each variant refutes broken methods with a small witness and passes right ones, on every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import attribcheck as ac
import numpy as np
import pytest
from attribcheck import axioms
from attribcheck.axioms.case import Case, GivenModel, UserModel
from attribcheck.axioms.networks.build import build
from attribcheck.axioms.networks.families import ANY, FAMILIES, MODEL, SUMMARIES
from attribcheck.axioms.networks.sources import Small, Wide
from attribcheck.axioms.networks.spec import Call, Layer, Network
from attribcheck.axioms.search.bench import Bench
from attribcheck.axioms.search.falsify import search
from attribcheck.axioms.search.witnesses import evaluate, read_case
from attribcheck.axioms.setting import Setting
from attribcheck.claims import Method
from attribcheck.methods.registry import as_method, get_method
from hypothesis import given, settings
from hypothesis import strategies as st

from ..mutants import MUTANTS
from ..support import broken_methods

BROKEN = {**broken_methods.BROKEN, **{name: mutant.method for name, mutant in MUTANTS.items()}}

VARIANTS = [axiom.full(variant) for axiom in axioms.AXIOMS.values() for variant in axiom.variants]
FAILS_ONLY = {axiom.full(variant) for axiom in axioms.AXIOMS.values() for variant in axiom.fails_only}


class Row(NamedTuple):
    """What one variant must tell apart: "method:family" pairs, and the size of the witnesses it may need.

    Broken methods are looked for in 100 examples, or as many as a third part of the pair says.
    """

    broken: str
    right: str
    layers: int = 3
    features: int = 3


POWER = {
    "completeness/delta": Row(
        "times_the_input:relu forgets_the_difference:smooth five_left_steps:product first_baseline_for_all:linear "
        "explains_logit_zero:linear explains_all_logits:relu-nobias divides_by_the_maximum:linear "
        "divides_by_the_input:relu-nobias rounds_to_single:smooth rescale_rule:product",
        "integrated-gradients:any occlusion-1:linear gradient-times-input:relu-nobias",
    ),
    "completeness/output": Row(
        "times_the_input:relu explains_all_logits:relu-nobias divides_by_the_maximum:odd-nobias",
        "gradient-times-input:relu-nobias integrated-gradients-zero:odd-nobias",
    ),
    # The same on networks with batch normalisation, whose mean is a bias too.
    "approximate-completeness": Row(
        "explains_all_logits:relu guided:linear multiplies_by_the_input:conv rescale_rule:relu",
        "gradient-times-input:relu gradient-times-input:vgg lrp-0:maxpool gradient-times-input:any",
    ),
    "sensitivity-n/1": Row(
        "occludes_the_neighbour:relu occludes_with_zeros:smooth flips_the_first_sign:linear spreads_over_all:conv",
        "occlusion-1:any",
    ),
    # The subset needs three features in a row; explaining the wrong logit needs two samples to be seen.
    "sensitivity-n/n": Row("spreads_over_all:linear flips_the_first_sign:linear", "integrated-gradients:linear"),
    "sensitivity-n/N-1": Row(
        "smooths_over_the_batch:linear occludes_the_neighbour:linear multiplies_by_the_input:linear",
        "occlusion-1:linear",
    ),
    "sensitivity-n/N": Row(
        "flips_the_first_sign:linear multiplies_by_the_input:linear times_the_input:product",
        "integrated-gradients-mean:any",
    ),
    "implementation-invariance/permute": Row("sees_first_unit:relu sees_order_of_units:smooth", "occlusion-1:relu"),
    "implementation-invariance/rescale": Row("sees_all_weights:conv sees_activations:relu", "gradient:relu-nobias"),
    "implementation-invariance/split": Row(
        "counts_parameters:smooth sees_all_weights:relu", "gradient:any guided-backprop:any"
    ),
    "implementation-invariance/split-signed": Row("guided:relu counts_parameters:smooth", "gradient:any"),
    # Guided backpropagation needs an input of the other sign; its witnesses keep a feature that is not needed.
    "implementation-invariance/relu-identity": Row(
        "counts_modules:product guided:relu", "integrated-gradients:relu", features=4
    ),
    "implementation-invariance/fuse-linear": Row("counts_modules:linear sees_first_unit:smooth", "saliency:any"),
    "implementation-invariance/split-linear": Row("counts_parameters:linear sees_first_weights:relu", "gradient:any"),
    "implementation-invariance/batchnorm-folding": Row(
        "counts_modules:conv sees_all_weights:relu", "gradient-times-input:conv"
    ),
    "implementation-invariance/dead": Row("counts_parameters:relu sees_all_weights:conv", "occlusion-1:smooth"),
    "implementation-invariance/never-active": Row("deconvolution:relu counts_parameters:conv", "gradient:relu"),
    "implementation-invariance/max-as-relus": Row(
        "counts_modules:maxpool sees_activations:maxpool", "gradient:maxpool"
    ),
    # The identity joins two hidden layers and a skip: four weight matrices are its smallest form.
    "implementation-invariance/nested": Row(
        "rescale_rule:relu counts_parameters:relu", "integrated-gradients:relu", layers=4, features=4
    ),
    "implementation-invariance/activation-change": Row(
        "output_over_input:smooth sees_activations:odd-nobias", "gradient:smooth"
    ),
    "implementation-invariance/chain": Row("guided:relu sees_all_weights:linear", "gradient:any"),
    "input-invariance/constant": Row(
        "times_the_input:linear occludes_with_zeros:relu output_over_input:conv", "integrated-gradients-min:relu"
    ),
    # Centring by the sample's own mean survives a constant shift, and only that.
    "input-invariance/arbitrary": Row("removes_the_sample_mean:relu times_the_input:product", "gradient:any"),
    # A feature that is read and cancelled takes a network, a second one and its rewritten copy; guided backpropagation
    # needs an input of the other sign besides, and keeps a feature that is not needed.
    "dummy": Row(
        "spreads_over_all:relu guided:relu output_over_input:smooth:400",
        "integrated-gradients:any",
        layers=6,
        features=4,
    ),
    # Two mirror images of one network.
    "symmetry": Row(
        "weighs_by_position:smooth flips_the_first_sign:linear guided:relu:400",
        "occlusion-1:linear gradient:any",
        layers=4,
    ),
    "class-sensitivity/parity": Row(
        "forgets_the_sign:linear guided:relu explains_the_softmax:smooth", "gradient:any integrated-gradients:relu"
    ),
    "class-sensitivity/other-logits": Row(
        "explains_all_logits:relu explains_the_softmax:linear sees_all_weights:conv", "saliency:any occlusion-1:maxpool"
    ),
    "class-sensitivity/logit-permutation": Row(
        "explains_logit_zero:linear sees_order_of_units:relu", "gradient-times-input:any occlusion-1:product"
    ),
    "class-sensitivity/collapse": Row(
        "guided:relu deconvolution:relu-nobias", "gradient:relu occlusion-1:relu-nobias integrated-gradients:conv"
    ),
    # Two networks side by side.
    "linearity": Row(
        "forgets_the_sign:linear guided:relu sees_activations:smooth drops_small_entries:product",
        "gradient:any occlusion-1:maxpool integrated-gradients:relu",
        layers=6,
    ),
    "scale-equivariance": Row(
        "divides_by_the_maximum:linear drops_small_entries:relu sees_all_weights:conv", "saliency:any occlusion-1:any"
    ),
    "feature-permutation": Row(
        "weighs_by_position:smooth flips_the_first_sign:linear occludes_the_neighbour:conv",
        "gradient:any integrated-gradients-min:relu integrated-gradients-mean:linear occlusion-1:any",
        features=4,
    ),
    "continuity": Row(
        "times_the_input:relu five_left_steps:relu-nobias drops_small_entries:smooth",
        "gradient:smooth occlusion-1:any integrated-gradients:relu",
    ),
    "non-negativity": Row("guided:relu times_the_input:relu-positive occludes_with_zeros:linear", "saliency:any"),
    "batch-independence": Row(
        "smooths_over_the_batch:linear maximum_of_the_batch:relu units_of_the_first_sample:relu",
        "integrated-gradients:any smoothgrad:relu occlusion-1:any",
    ),
    "repeat-determinism": Row(
        "never_clears_its_workspace:relu goes_on_drawing_noise:smooth", "gradient:any smoothgrad:smooth"
    ),
    "purity": Row(
        "leaves_its_hooks_behind:relu seeds_the_global_generator:smooth freezes_the_parameters:conv "
        "draws_numbers_that_do_not_matter:linear occludes_in_the_callers_tensor:relu",
        "gradient:any lrp-0:relu smoothgrad:conv",
    ),
    "memory": Row("keeps_every_graph:conv leaves_its_hooks_behind:relu", "integrated-gradients:relu gradient:any"),
    "form-invariance/functional": Row("guides_modules_only:relu counts_modules:linear", "guided-backprop:any"),
    "form-invariance/method": Row("guides_modules_only:conv counts_modules:smooth", "deeplift:relu gradient:any"),
    "form-invariance/in-place": Row("reads_the_input_after_the_call:relu rescale_rule:relu", "lrp-0:relu deeplift:any"),
    "form-invariance/in-place-method": Row("guides_modules_only:relu counts_modules:relu", "lrp-gamma:relu lrp-0:conv"),
    "form-invariance/bare": Row("biases_of_layers_only:conv counts_modules:relu", "gradient:any lrp-0:relu"),
    "tying-invariance/activation": Row(
        "last_call_of_a_shared_activation:relu counts_modules:conv", "guided-backprop:any deeplift:relu", layers=4
    ),
    "tying-invariance/layer": Row(
        "last_call_of_a_shared_layer:recurrent counts_parameters:shared", "gradient:any lrp-0:shared", layers=4
    ),
}

REFUTED = [(name, *f"{pair}:100".split(":")[:3]) for name, row in POWER.items() for pair in row.broken.split()]
PASSED = [(name, *pair.split(":")) for name, row in POWER.items() for pair in row.right.split()]


def ids(cells: list[tuple[str, ...]]) -> list[str]:
    """Names as reports write them: axiom/variant[method-family]."""
    return [f"{axiom}[{method}-{family}]" for axiom, method, family, *_ in cells]


def checked(method: Any, axiom: str, family: str, max_examples: int = 100) -> ac.Result:
    """The one result of the claim that an axiom holds on a family (that it fails, where nothing else can be claimed)."""
    claim = ac.fails(axiom, on=family, reason="?") if axiom in FAILS_ONLY else ac.holds(axiom, on=family)
    report = ac.check(method, claims=[claim], max_examples=max_examples, seed=0)
    (result,) = report.results
    return result


def verdict(axiom: str, observed: str) -> str:
    """The verdict on the claim that `checked` makes."""
    return "pass" if (observed == "violated") == (axiom in FAILS_ONLY) else "fail"


def test_every_variant_has_two_broken_methods_and_a_right_one() -> None:
    assert list(POWER) == VARIANTS
    for name, row in POWER.items():
        methods = {pair.partition(":")[0] for pair in row.broken.split()}
        assert len(methods) >= 2, name
        assert methods <= BROKEN.keys(), name
        assert row.right, name
    shown = {method for _, method, _, _ in REFUTED}
    assert shown >= broken_methods.BROKEN.keys(), "a broken method that no axiom is shown to refute"


@pytest.mark.parametrize(
    ("axiom", "method", "family", "examples"),
    [
        pytest.param(*row, id=name, marks=[] if row[-1] == "100" else [pytest.mark.slow])
        for row, name in zip(REFUTED, ids(REFUTED), strict=True)
    ],
)
def test_a_broken_method_is_refuted(axiom: str, method: str, family: str, examples: str) -> None:
    result = checked(BROKEN[method], axiom, family, int(examples))
    assert (result.observed, result.verdict) == ("violated", verdict(axiom, "violated"))

    witness = result.witness
    assert witness is not None
    network = Network.from_json(witness["network"])
    assert network.weighted_layers() <= POWER[axiom].layers
    assert network.n_features <= POWER[axiom].features
    assert witness["options"]["tier"] == "small"

    figures = witness["figures"]
    assert figures["expected"] != figures["obtained"]
    assert figures["residual"] is None or figures["residual"] > figures["tolerance"]
    # The document alone shows it again.
    found, variant, case = read_case(witness)
    again, _, _ = evaluate(Bench(found, variant, as_method(BROKEN[method]), family), case)
    assert again.violated
    if axiom != "repeat-determinism":  # where the answer differs from call to call
        assert again.residual == figures["residual"]


@pytest.mark.parametrize("examples", [30, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("axiom", "method", "family"), PASSED, ids=ids(PASSED))
def test_a_right_method_passes(axiom: str, method: str, family: str, examples: int) -> None:
    result = checked(method, axiom, family, examples)
    assert (result.observed, result.verdict, result.witness) == ("holds", verdict(axiom, "holds"), None)
    assert result.examples >= examples  # (more where some say nothing)
    assert result.worst["residual"] <= result.worst["tolerance"]


def test_nan_is_refuted_without_a_figure() -> None:
    result = checked(lambda model, x, target, baseline=None: x / 0, "dummy", "linear")
    assert (result.observed, result.verdict) == ("violated", "fail")
    assert result.worst == {"residual": None, "tolerance": 1e-10, "nonfinite": True}
    assert result.witness is not None
    assert result.witness["figures"]["residual"] is None


# -- the families: each is drawn, and says enough -------------------------------------------------------------------

CELLS = [
    (axiom, variant, family)
    for axiom in axioms.AXIOMS.values()
    for variant in axiom.variants
    for family in FAMILIES
    if axioms.applies(axiom, variant, family)
]
EXAMPLES = 20
# On each change these variants on every family, and every variant on one family; all of them with `make slow`.
ALWAYS = {
    "completeness/delta", "sensitivity-n/n", "implementation-invariance/chain", "input-invariance/arbitrary", "dummy",
    "linearity", "continuity", "batch-independence", "form-invariance/functional", "tying-invariance/activation",
}  # fmt: skip
FIRST = {axiom.full(variant): family for axiom, variant, family in reversed(CELLS)}


@pytest.mark.parametrize(
    ("axiom", "variant", "family"),
    [
        pytest.param(
            a, v, f,
            id=f"{a.full(v)}[{f}]",
            marks=[] if a.full(v) in ALWAYS or FIRST[a.full(v)] == f else [pytest.mark.slow],
        )
        for a, v, f in CELLS
    ],
)  # fmt: skip
def test_a_cell_says_enough(axiom: axioms.Axiom, variant: str, family: str) -> None:
    """No residual exceeds 1, so with that tolerance every case counts, and only discards and empty maps remain."""
    # Occlusion has a baseline, so its cases are judged along the segment too.
    method = get_method("occlusion-1")
    tally = search(Bench(axiom, variant, method, family, tol=10.0), EXAMPLES, seed=0)
    assert tally.violated is None
    assert tally.error is None
    assert tally.examples - tally.vacuous >= EXAMPLES / 2
    # Of the wide networks (a fifth of all cases) too.
    assert tally.drawn["tier=wide"] >= EXAMPLES / 10


@settings(max_examples=5, derandomize=True, database=None, deadline=None)
@given(st.data())
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_draws_its_own_networks(family: str, data: st.DataObject) -> None:
    for source in (Small(data.draw), Wide(data.draw(st.integers(0, 99)))):
        case = Setting(source, FAMILIES[family]).base()
        assert (case.options["family"], case.options["tier"]) == (family, source.tier)


def test_every_printed_family_is_drawn() -> None:
    """The name that a case carries, over 200 draws from "any", and from a user's model."""
    axiom, gradient = axioms.AXIOMS["completeness"], get_method("gradient")

    def family(bench: Bench, seed: int) -> str:
        case = axiom.draw("delta", bench.origin.setting(Wide(seed)))
        assert case is not None
        return str(case.options["family"])

    drawn = {family(Bench(axiom, "delta", gradient, ANY), seed) for seed in range(200)}
    module = build(Network((2,), {"a": Layer("linear", weight=[[1.0, 2.0]])}, (Call("h", "a", ("x",)),)))
    model = GivenModel(UserModel("a:b", ""), module, np.eye(2), 1)
    drawn.add(family(Bench(axiom, "delta", gradient, MODEL, given=model), 0))
    assert drawn | {ANY} == set(SUMMARIES)


# -- nothing is recognised by its name ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradient-times-input", "guided", "sees_all_weights"])
@pytest.mark.parametrize("label", ["completeness/delta", "implementation-invariance/split", "dummy"])
def test_a_method_is_not_recognised_by_its_name(name: str, label: str) -> None:
    method = as_method(BROKEN[name]) if name in BROKEN else get_method(name)
    axiom, variant = axioms.find(label)

    def tally(named: Method) -> tuple[Any, ...]:
        seen = search(Bench(axiom, variant or "", named, "relu"), 25, seed=1)
        return seen.examples, seen.residual, seen.tolerance, seen.vacuous, repr(seen.violated)

    def anonymous(*arguments: Any) -> Any:
        return method.function(*arguments)

    first = tally(method)
    for other in ("gradient", "captum:Saliency"):
        assert tally(method.but(name=other, function=anonymous, doc="", claims=(), imports=None)) == first


def renamed(network: Network) -> Network:
    """The network with other names for its layers and values, in the same order."""
    layers = {name: f"part_{len(network.layers) - k}" for k, name in enumerate(network.layers)}
    values = {"x": "x", **{call.value: f"v{len(network.calls) - k}" for k, call in enumerate(network.calls)}}
    calls = tuple(Call(values[c.value], layers[c.layer], tuple(values[i] for i in c.inputs)) for c in network.calls)
    return Network(network.input_shape, {layers[name]: layer for name, layer in network.layers.items()}, calls)


def with_other_names(case: Case) -> Case:
    drawn = {name: renamed(v) if isinstance(v, Network) else v for name, v in case.drawn.items()}
    return case.but(network=renamed(case.network), options={}).with_drawn(**drawn)


@pytest.mark.parametrize("label", VARIANTS)
def test_a_network_is_not_recognised_by_its_names(label: str) -> None:
    axiom, variant = axioms.find(label)
    methods: list[Callable[..., Any] | str] = ["gradient-times-input", "occlusion-1", BROKEN["guided"]]
    compared = 0
    for seed in range(6):
        for target in methods:
            method = get_method(target) if isinstance(target, str) else as_method(target)
            bench = Bench(axiom, variant or "", method, ANY)
            case = axiom.draw(variant or "", bench.origin.setting(Wide(seed)))
            if case is None:
                continue
            cases = case, with_other_names(case)
            assert cases[0].network != cases[1].network
            first, second = (evaluate(bench, c)[0] for c in cases)
            assert first == second
            compared += 1
    assert compared >= 6
