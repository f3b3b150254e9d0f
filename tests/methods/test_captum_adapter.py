"""Captum's methods as subjects: what they are called with, what is refused, and what a TARGET may say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from attribcheck.claims import Method
from attribcheck.errors import Unsupported, UsageError
from attribcheck.methods.adapters.captum import adapt, claimed_methods
from torch import Tensor, nn

captum_attr = pytest.importorskip("captum.attr")

CLAIMED = (
    "IntegratedGradients",
    "InputXGradient",
    "Saliency",
    "DeepLift",
    "FeatureAblation",
    "ShapleyValueSampling",
    "LRP",
    "GuidedBackprop",
    "Deconvolution",
)
SURROGATES = ("KernelShap", "Lime") if importlib.util.find_spec("sklearn") else ()  # Captum fits them with scikit-learn
OTHERS = (
    "ShapleyValues",
    "Occlusion(sliding_window_shapes=(2,))",
    *SURROGATES,
)
DISTRIBUTION = ("GradientShap(n_samples=3)", "DeepLiftShap")


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


X = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.25, 1.0, -1.0, 2.0], [2.0, 0.0, 1.5, -0.5]], dtype=torch.float64)
BASELINE = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.0, 1.0], [-1.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
TARGET = torch.tensor([2, 0, 1])


def seeded(method: Method, *arguments: Tensor | nn.Module | None) -> Tensor:
    torch.manual_seed(0)
    return method(*arguments)


def directly(spec: str, model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None) -> Tensor:
    """The call as one writes it with Captum alone."""
    torch.manual_seed(0)
    name = spec.partition("(")[0]
    options = {"sliding_window_shapes": (2,)} if name == "Occlusion" else {}
    given = {} if baseline is None else {"baselines": baseline}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(captum_attr, name)(model).attribute(x, target=target, **given, **options)


@pytest.mark.parametrize("spec", [*CLAIMED, *OTHERS])
def test_a_batch_with_its_own_targets_and_baselines_gives_what_captum_gives(spec: str) -> None:
    method, model = adapt(spec), network()
    baseline = BASELINE if method.baseline else None
    expected = directly(spec, model, X, TARGET, baseline)
    obtained = seeded(method, model, X, TARGET, baseline)
    assert obtained.shape == X.shape
    assert obtained.dtype == X.dtype
    assert torch.equal(obtained, expected.to(X.dtype))
    assert not X.requires_grad


@pytest.mark.parametrize("spec", ["IntegratedGradients", "DeepLift", "FeatureAblation", "DeepLiftShap"])
def test_rows_use_their_own_target_and_baseline(spec: str) -> None:
    method, model = adapt(spec), network()
    together = method(model, X, TARGET, BASELINE)
    alone = [method(model, X[b : b + 1], TARGET[b : b + 1], BASELINE[b : b + 1]) for b in range(3)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_a_distribution_of_baselines_is_the_one_of_the_sample() -> None:
    model = network()
    shap, lift = (adapt(spec)(model, X, TARGET, BASELINE) for spec in ("DeepLiftShap", "DeepLift"))
    assert torch.allclose(shap, lift, rtol=1e-12, atol=1e-12)


def test_without_a_baseline_it_is_zero() -> None:
    model = network()
    for spec in ("IntegratedGradients", "DeepLift", "DeepLiftShap", "FeatureAblation"):
        method = adapt(spec)
        assert torch.equal(method(model, X, TARGET), method(model, X, TARGET, torch.zeros_like(X)))


@pytest.mark.parametrize(
    "spec", [*CLAIMED, *OTHERS, *DISTRIBUTION, "IntegratedGradients(n_steps=7, method=riemann_left)"]
)
def test_the_source_for_scripts_gives_the_same_map(spec: str) -> None:
    method, model = adapt(spec), network()
    baseline = BASELINE if method.baseline else None
    assert method.imports is not None
    assert "attribcheck" not in method.imports
    names: dict[str, object] = {}
    exec(method.imports, names)
    attribute = names["attribute"]
    assert callable(attribute)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.random.seed(0)
        torch.manual_seed(0)
        by_source = attribute(model, X, TARGET, baseline)
        np.random.seed(0)
        assert torch.equal(by_source.to(X.dtype), seeded(method, model, X, TARGET, baseline))


def test_captum_is_quiet_in_the_call_and_warnings_are_as_before() -> None:
    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for spec in CLAIMED:
            adapt(spec)(network(), X, TARGET)
        with pytest.raises(UserWarning):
            adapt("Saliency")(Outspoken(), X, TARGET)
    assert list(warnings.filters) == filters


class Outspoken(nn.Module):
    """A model with something to say: its warnings are not Captum's."""

    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("the model's own", stacklevel=1)
        return x


# -- options ----------------------------------------------------------------------------------------------------


def test_options_go_to_the_constructor_or_to_attribute() -> None:
    model = network()
    spec = "IntegratedGradients(multiply_by_inputs=False, n_steps=200, method=riemann_middle)"
    explainer = captum_attr.IntegratedGradients(model, multiply_by_inputs=False)
    expected = explainer.attribute(X, baselines=BASELINE, target=TARGET, n_steps=200, method="riemann_middle")
    method = adapt(spec)
    assert method.name == f"captum:{spec}"
    assert torch.equal(method(model, X, TARGET, BASELINE), expected)


def test_options_at_their_defaults_change_no_claim() -> None:
    assert (
        adapt("IntegratedGradients(n_steps=50, method='gausslegendre')").claims == adapt("IntegratedGradients").claims
    )
    assert adapt("FeatureAblation(perturbations_per_eval=4)").claims == adapt("FeatureAblation").claims


@pytest.mark.parametrize(
    ("spec", "dropped", "kept"),
    [
        ("IntegratedGradients(n_steps=10)", ("completeness/delta", "smooth"), ("completeness/delta", "linear")),
        (
            "IntegratedGradients(method=riemann_left)",
            ("completeness/delta", "smooth"),
            ("completeness/delta", "linear"),
        ),
        ("IntegratedGradients(multiply_by_inputs=False)", ("completeness/delta", "linear"), ("dummy", "any")),
        ("ShapleyValueSampling(n_samples=4)", ("symmetry", "product"), ("completeness/delta", "any")),
    ],
)
def test_options_drop_the_claims_that_they_make_untrue(
    spec: str, dropped: tuple[str, str], kept: tuple[str, str]
) -> None:
    default, changed = ({(c.axiom, c.on) for c in adapt(s).claims} for s in (spec.partition("(")[0], spec))
    assert dropped in default - changed
    assert kept in changed


def test_options_that_change_the_map_leave_no_claims() -> None:
    assert adapt("DeepLift(eps=0.1)").claims == ()
    assert adapt("DeepLift(multiply_by_inputs=False)").claims == ()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("DeepLft", "did you mean 'DeepLift'"),
        ("visualization", "known: DeepLift"),
        ("LayerGradCam", r"needs more than a model \(layer\)"),
        ("NoiseTunnel", r"needs more than a model \(attribution_method\)"),
        ("Occlusion", r"write captum:Occlusion\(sliding_window_shapes="),
        ("DeepLift(epsi=1)", "has no option 'epsi'; did you mean 'eps'"),
        ("DeepLift(baselines=0)", "leave out 'baselines'"),
        ("DeepLift(return_convergence_delta=True)", "the map alone"),
        ("DeepLift(eps=1, eps=2)", "cannot be read"),
        ("InputXGradient(eps=1)", "it takes none"),
        ("DeepLift(eps=1e-6", "cannot be read"),
        ("DeepLift(0.1)", "cannot be read"),
        ("DeepLift(**{})", "cannot be read"),
        ("Deep Lift", "cannot be read"),
        ("", "cannot be read"),
        ("DeepLift(eps=2 ** 3)", "no Python literal and no word"),
        ("DeepLift(eps=__import__('os'))", "no Python literal and no word"),
    ],
)
def test_what_cannot_be_understood_is_one_clear_line(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        adapt(spec)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"captum:{spec}")


# -- refusals ---------------------------------------------------------------------------------------------------


class Reused(nn.Module):
    """One ReLU module at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(4, 4).double(), nn.Linear(4, 3).double(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.relu(self.first(self.relu(x)))) + 0.0


@pytest.mark.parametrize(
    ("spec", "model"),
    [
        ("DeepLift", Reused()),
        ("DeepLiftShap", Reused()),
        ("LRP", nn.Sequential(nn.Linear(4, 3), nn.GELU()).double()),
        ("Occlusion(sliding_window_shapes=(9,))", network()),
        ("Occlusion(sliding_window_shapes=(1, 1))", network()),
    ],
)
def test_a_refusal_of_captum_is_unsupported(spec: str, model: nn.Module) -> None:
    with pytest.raises(Unsupported, match="Captum: "):
        adapt(spec)(model.eval(), X.clone(), TARGET, BASELINE)


def test_an_error_is_not_a_refusal() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        adapt("DeepLift")(nn.Linear(7, 3).double(), X.clone(), TARGET, BASELINE)


# -- claims and imports -----------------------------------------------------------------------------------------


def test_the_claimed_methods_have_claims_with_sources() -> None:
    methods = claimed_methods()
    assert [m.name for m in methods] == [f"captum:{name}" for name in CLAIMED]
    for method in methods:
        assert method.claims
        assert all(claim.source or claim.kind == "fails" for claim in method.claims)
    assert [m.name for m in methods if m.stochastic] == ["captum:ShapleyValueSampling"]


class Branches(nn.Module):
    """Functions of two features, as the reasons of the claims write them; one module for each layer."""

    def __init__(self, **layers: list[list[float]] | None) -> None:
        super().__init__()
        for name, weight in layers.items():
            module: nn.Module = nn.ReLU() if weight is None else nn.Linear(len(weight[0]), len(weight), bias=False)
            if isinstance(module, nn.Linear):
                module.weight.data = torch.tensor(weight)
            self.add_module(name, module)
        self.double().eval()


class Sum(Branches):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


class Mirrored(Branches):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.a(x) - self.b(-1.0 * x))


class Difference(Branches):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(1.0 * x) - self.b(1.0 * x)


class Unequal(Branches):
    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, :1], x[:, 1:]
        return self.a(1.0 * first) + 2 * self.b(1.0 * second) - self.c(1.0 * second)


class Threshold(Branches):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(1.0 * x) + self.b(x - 9.0)


MINUS, RELUS = [[-1.0]], {"a": None, "b": None}


@pytest.mark.parametrize(
    ("spec", "model", "x", "expected"),
    [
        # The reasons of claims that something fails.
        ("LRP", Sum(a=[[1.0, 0.0]], b=[[0.0, 1.0]]), [1.0, 2.0], [3.0, 3.0]),
        ("GuidedBackprop", Difference(**RELUS), [1.0], [1.0]),
        ("Deconvolution", Difference(**RELUS), [1.0], [1.0]),
        ("GuidedBackprop", Unequal(**RELUS, c=None), [1.0, 1.0], [1.0, 2.0]),
        ("Deconvolution", Unequal(**RELUS, c=None), [1.0, 1.0], [1.0, 2.0]),
        ("Deconvolution", Threshold(**RELUS), [1.0], [2.0]),
        ("GuidedBackprop", Mirrored(**RELUS, out=MINUS), [1.0], [0.0]),
        # By the documented rule this is ReLU(-1) - ReLU(1) = -1, the gradient of the linear function that it is.
        ("Deconvolution", Mirrored(**RELUS, out=MINUS), [1.0], [0.0]),
    ],
)
def test_the_witnesses_that_claims_name(spec: str, model: nn.Module, x: list[float], expected: list[float]) -> None:
    obtained = adapt(spec)(model, torch.tensor([x]).double(), torch.tensor([0]))
    assert obtained[0].tolist() == pytest.approx(expected, abs=1e-7)


def test_lrp_absorbs_no_more_than_its_claims_allow() -> None:
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)).double().eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    output = model(X).gather(1, TARGET[:, None])[:, 0]
    assert torch.allclose(adapt("LRP")(model, X, TARGET).sum(1), output, rtol=0, atol=1e-7)
    assert adapt("LRP(verbose=True)").claims == adapt("LRP").claims


def test_importing_the_adapter_does_not_import_captum(tmp_path: Path) -> None:
    code = (
        "import sys; import attribcheck.methods.adapters.captum as adapter; assert 'captum' not in sys.modules;"
        "adapter.adapt('Saliency'); assert 'captum' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_without_captum_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "captum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(UsageError, match=r"pip install 'attribcheck\[captum\]'"):
        claimed_methods()
