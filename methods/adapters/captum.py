"""Captum's attribution classes as methods under test; `captum_claims` has claims for nine of them.

Captum is called as its users call it, and imported only when one of its methods is asked for. Three things are added: its
own refusals of a network become `Unsupported`; a map that it returns in single precision for inputs in double
(Shapley values, LIME, kernel SHAP) is converted back, since its figures can be checked all the same; and what perturbs
the input does so in batches, which changes the cost of a call and not its map, unless the TARGET says how many at once.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...claims import Method
from ...errors import Unsupported, UsageError, suggestion
from ..perturbation import ROWS
from .captum_claims import CLAIMS

# They draw random numbers; the runner seeds torch before each call.
_STOCHASTIC = frozenset({"FeaturePermutation", "GradientShap", "KernelShap", "Lime", "ShapleyValueSampling"})

# They read `baselines` as one distribution for the whole batch, where a case has one baseline for each sample: they are
# called sample by sample, with that baseline twice (DeepLiftShap asks for more than one).
_DISTRIBUTION = frozenset({"DeepLiftShap", "GradientShap"})

# What Captum raises on purpose where it cannot treat a network or the shape of an input. Anything else is an error.
_REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (RuntimeError, "being used more than once"),  # DeepLift, DeepLiftShap, LRP: a reused module
    (TypeError, "has no rule defined"),  # LRP: a layer without a default rule
    (AssertionError, "maxpool modul's backward pass"),  # DeepLift: gradients of a part of a pooling layer's inputs
    (AssertionError, "Backward hooks not supported for module with >1"),  # all that hook modules
    (AssertionError, "cannot permute features with batch_size = 1"),  # FeaturePermutation
    (AssertionError, "Occlusion shape for input index"),  # Occlusion: a window of another dimension
    (AssertionError, "Sliding window dimensions"),  # Occlusion: a window larger than the input
    (AssertionError, "is invalid for input with shape"),  # Occlusion: strides of another dimension
)

# Warnings that come with every call: Captum's own, and those that it attributes to its caller.
_WARNINGS: tuple[dict[str, Any], ...] = (
    {"module": r"captum(\.|$)"},
    {"message": r"\s*Setting (forward, )?backward hooks"},
    {"message": r"Input Tensor \d+ did not already require gradients"},
)

# Options that change the cost of a call and not its map.
_AT_ONCE = "perturbations_per_eval"
_COST = frozenset({"internal_batch_size", _AT_ONCE, "show_progress"})

_OURS = ("self", "inputs", "baselines", "target")
_REFUSED_OPTIONS = {
    **dict.fromkeys((*_OURS, "model", "forward_func"), "it is given by the case"),
    "additional_forward_args": "the model takes x alone",
    "return_convergence_delta": "the method must return the map alone; completeness/delta checks the delta",
}


# -- from the text of a TARGET to a method ---------------------------------------------------------------------


def adapt(spec: str) -> Method:
    """A class of captum.attr as a method.

    Args:
        spec: the name of the class, with options for its constructor or its `attribute` in brackets; values are Python
            literals, and bare words are strings: "IntegratedGradients(n_steps=200, method=riemann_trapezoid)".

    Raises:
        UsageError: Captum is not installed, or the class or an option is unknown, malformed or missing.
    """
    spec = spec.strip()
    name, options = _parsed(spec)
    cls = _class(spec, name)
    constructor, attribute = (_parameters(f) for f in (cls.__init__, cls.attribute))
    known = [p for p in {**constructor, **attribute} if p not in _REFUSED_OPTIONS]
    for option in options:
        if option in _REFUSED_OPTIONS:
            raise UsageError(f"captum:{spec}: leave out {option!r}: {_REFUSED_OPTIONS[option]}")
        if option not in known:
            others = suggestion(option, known) if known else "it takes none"
            raise UsageError(f"captum:{spec}: {name} has no option {option!r}; {others}")
    for option, parameter in attribute.items():
        if parameter.default is parameter.empty and option not in (*_OURS, *options):
            raise UsageError(f"captum:{spec}: {name} needs {option}: write captum:{name}({option}=...)")
    made = {option: value for option, value in options.items() if option in constructor}
    called = {option: value for option, value in options.items() if option not in constructor}
    takes_baselines = "baselines" in attribute
    defaults = {option: p.default for option, p in {**attribute, **constructor}.items()}
    changed = {option: v for option, v in options.items() if v != defaults[option] and option not in _COST}
    return Method(
        name=f"captum:{spec}",
        function=_function(cls, made, called, takes_baselines),
        baseline="given" if takes_baselines else None,
        stochastic=name in _STOCHASTIC,
        claims=CLAIMS[name](changed) if name in CLAIMS else (),
        imports=_source(name, made, called, takes_baselines),
        doc=inspect.getdoc(cls) or "",
    )


def claimed_methods() -> list[Method]:
    """The methods of Captum that come with claims.

    Raises:
        UsageError: Captum is not installed.
    """
    return [adapt(name) for name in CLAIMS]


def _parsed(spec: str) -> tuple[str, dict[str, Any]]:
    """The name of the class and the options of a spec."""
    if spec.isidentifier():
        return spec, {}
    unreadable = UsageError(f"captum:{spec}: cannot be read; write captum:Class or captum:Class(option=value, ...)")
    try:
        call = ast.parse(spec, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise unreadable from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise unreadable
    options: dict[str, Any] = {}
    for name, value in ((keyword.arg, keyword.value) for keyword in call.keywords):
        if name is None or name in options:  # **mapping, or twice the same
            raise unreadable
        try:
            options[name] = value.id if isinstance(value, ast.Name) else ast.literal_eval(value)
        except (ValueError, TypeError) as error:
            written = f"{name}={ast.unparse(value)}"
            raise UsageError(f"captum:{spec}: {written} is no Python literal and no word; quote strings") from error
    return call.func.id, options


def _class(spec: str, name: str) -> type[Any]:
    """The class of captum.attr, if it can be built from a model alone."""
    try:
        attr = importlib.import_module("captum.attr")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "captum":
            raise UsageError(f"captum:{spec}: importing Captum failed: {error}") from error
        raise UsageError(f"captum:{spec} needs Captum: pip install 'attribcheck[captum]'") from error
    classes = {
        key: value
        for key, value in vars(attr).items()
        if inspect.isclass(value) and issubclass(value, attr.Attribution) and hasattr(value, "attribute")
    }
    needs = {key: _needs(value) for key, value in classes.items()}
    usable = [key for key, missing in needs.items() if not missing]
    if name not in classes:
        raise UsageError(f"captum:{spec}: captum.attr has no method {name!r}; {suggestion(name, usable)}")
    if needs[name]:
        raise UsageError(
            f"captum:{spec}: {name} needs more than a model ({', '.join(needs[name])}); wrap it in a function "
            "attribute(model, x, target, baseline) of your own and check package.module:function"
        )
    return classes[name]


def _needs(cls: type[Any]) -> list[str]:
    """What a class needs besides a model: further required arguments, or a first one that is not the model."""
    first, *others = _parameters(cls.__init__).values()
    needs = [p.name for p in others if p.default is p.empty]
    if first.name not in ("model", "forward_func"):
        needs.insert(0, first.name)
    return needs if needs or "target" in _parameters(cls.attribute) else ["a layer"]


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind not in variadic and name != "self"}


# -- the call --------------------------------------------------------------------------------------------------


def _function(
    cls: type[Any], made: Mapping[str, Any], called: Mapping[str, Any], takes_baselines: bool
) -> Callable[..., Tensor]:
    at_once = _AT_ONCE in _parameters(cls.attribute) and _AT_ONCE not in called

    def call(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None) -> Any:
        reference = {"baselines": baseline} if takes_baselines else {}
        cost = {_AT_ONCE: max(1, ROWS // max(1, len(x)))} if at_once else {}
        return cls(model, **made).attribute(x, target=target, **reference, **cost, **called)

    def attribute(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
        with _captum():
            if cls.__name__ in _DISTRIBUTION:
                given = torch.zeros_like(x) if baseline is None else baseline
                rows = [call(model, x[b : b + 1], target[b : b + 1], given[[b, b]]) for b in range(len(x))]
                result: Any = torch.cat(rows)
            else:
                result = call(model, x, target, baseline)
        return result.to(x.dtype) if isinstance(result, Tensor) else result

    return attribute


def _source(name: str, made: Mapping[str, Any], called: Mapping[str, Any], takes_baselines: bool) -> str:
    """The same call as Python that imports Captum only."""
    built = f"{name}({', '.join(['model', *_keywords(made)])})"
    reference = ["baselines=baseline"] if takes_baselines else []
    head, arguments = "", ["x", *reference, "target=target", *_keywords(called)]
    if name in _DISTRIBUTION:
        arguments[:3] = ["x[b : b + 1]", "baselines=baseline[[b, b]]", "target=target[b : b + 1]"]
    result = f"{built}.attribute({', '.join(arguments)})"
    if name in _DISTRIBUTION:
        head, result = "import torch\n", f"torch.cat([{result} for b in range(len(x))])"
    definition = f"def attribute(model, x, target, baseline=None):\n    return {result}"
    return f"{head}from captum.attr import {name}\n\n\n{definition}"


def _keywords(options: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in options.items()]


@contextmanager
def _captum() -> Iterator[None]:
    """Captum's warnings silenced, its refusals turned into Unsupported."""
    try:
        with warnings.catch_warnings():
            for pattern in _WARNINGS:
                warnings.filterwarnings("ignore", **pattern)
            yield
    except (RuntimeError, TypeError, AssertionError) as error:
        line = " ".join(str(error).split())
        if any(isinstance(error, kind) and text in line for kind, text in _REFUSALS):
            raise Unsupported(f"Captum: {line}") from error
        raise
