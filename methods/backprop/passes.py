"""Forward passes whose operations are seen one by one: which values depend on the input, and who computes them.

A torch function mode sees each operation of a forward pass, whatever the form of the code: module, function, method and
in-place forms, reused modules, residual sums. A subclass of Pass says what is done with an operation on values that
depend on the input; the engine of modified backpropagation is one, and so is whatever follows values in another way.

Fail closed: an operation without a rule, on values that depend on the input, raises Unsupported. Nothing stays behind:
parameters stop requiring gradients for the duration of `undisturbed` only, so that whatever requires one depends on the
input; marks sit on the tensors of this forward pass and die with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...compat.torch_parts import base, compiler_is_used, operator_name, version
from ...errors import Unsupported
from .operations import (
    FIRST,
    FRESH,
    QUIET,
    in_place,
    operation_name,
    out_of_place,
    overwrites,
    random_or_training,
    tensors,
)


@dataclass(frozen=True)
class Reference:
    """What an operation saw at the reference.

    inputs: copies of its tensor arguments that depend on the input (the model may overwrite them). result: what it
    computed, for its shape and kind only: its values may have been overwritten since.
    """

    name: str
    inputs: tuple[Tensor, ...]
    result: Any


class Operation:
    """One call of a torch function on values that depend on the input.

    name, function, args, kwargs: the call, out of place. inputs: the tensor arguments that depend on the input.
    """

    __slots__ = ("_reference", "args", "function", "inputs", "kwargs", "name")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[Tensor],
    ) -> None:
        self.name, self.function, self.args, self.kwargs, self.inputs = name, function, args, kwargs, inputs
        self._reference: Reference | None = None

    def run(self) -> Any:
        """The operation itself, with its own gradient."""
        return self.function(*self.args, **self.kwargs)

    def value(self) -> Any:
        """What the operation computes, without a gradient."""
        with torch.no_grad():
            return self.run()

    def run_on(self, *inputs: Tensor) -> Any:
        """The operation on other values in the place of `inputs`, one for each (a tensor may stand there twice)."""
        replacement = iter(inputs)
        mine = {id(t) for t in self.inputs}
        return self._swapped(lambda t: next(replacement) if id(t) in mine else t)

    def run_with(self, others: Mapping[int, Tensor | None]) -> Any:
        """The operation with other values in the place of some tensors: id of the tensor -> value."""
        return self._swapped(lambda t: others.get(id(t), t))

    def _swapped(self, other: Callable[[Tensor], Tensor | None]) -> Any:
        def swap(value: Any) -> Any:
            if isinstance(value, Tensor):
                return other(value)
            if isinstance(value, dict):
                return {key: swap(item) for key, item in value.items()}
            return type(value)(map(swap, value)) if type(value) in (tuple, list) else value

        args, kwargs = swap(self.args), swap(self.kwargs)
        return self.function(*args, **kwargs)

    @property
    def reference(self) -> Reference:
        """What the same call saw at the reference, for methods that have one."""
        if self._reference is None:
            raise RuntimeError(f"the method computes no reference, but its rule for {self.name} asks for it")
        return self._reference


_NOTES = "_attribcheck_notes"


def note(value: Tensor, name: str, what: Any) -> None:
    """Let a rule know something of a value: until something is written into it, it is found by `noted`."""
    known = dict(getattr(value, _NOTES, {}))
    known[name] = (version(value), what)
    setattr(value, _NOTES, known)


def noted(value: Tensor, name: str) -> Any:
    """What a rule noted of a value; None where nothing is known of what it holds by now."""
    written, what = getattr(value, _NOTES, {}).get(name, (None, None))
    return what if written == version(value) else None


def _same_notes(value: Tensor, of: Tensor) -> None:
    """A value that holds what another one does: what is known of that one is known of it, and nothing else."""
    valid = {name: what for name, (written, what) in getattr(of, _NOTES, {}).items() if written == version(of)}
    setattr(value, _NOTES, {name: (version(value), what) for name, what in valid.items()})


Rule = Callable[[Operation], Any]
Rules = Mapping[str, Rule]


def keep(operation: Operation) -> Any:
    """The rule that changes nothing: the operation has its own gradient."""
    return operation.run()


class Pass(TorchFunctionMode):
    """A forward pass that follows which tensors depend on the input, by a mark on them."""

    mark = "_attribcheck_depends"

    def __init__(self, method: str, rules: Rules) -> None:
        super().__init__()
        self.method, self.rules = method, rules
        # What tensors are marked with. Not the pass itself: it may hold tensors, and a circle through the base of a view is
        # one that no garbage collector sees.
        self.token = object()

    def watch(self, value: Tensor) -> Tensor:
        setattr(value, self.mark, self.token)
        return value

    def overwritten(self, value: Tensor) -> Tensor:
        """A tensor that the input was written into, and what it is a view of."""
        viewed = base(value)
        if viewed is not None:
            self.watch(viewed)
        return self.watch(value)

    def depends(self, tensor: Tensor) -> bool:
        return getattr(tensor, self.mark, None) is self.token

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        involved = tensors((args, kwargs))
        inputs = [t for t in involved if self.depends(t)]
        name = operation_name(func)
        if not args and "input" in kwargs and name != "where":  # the one function that takes it second
            kwargs = dict(kwargs)
            args = (kwargs.pop("input"),)
        if name in QUIET or (name in FIRST and not self.depends(args[0])):
            return func(*args, **kwargs)
        if name in FRESH and all(t is args[0] for t in inputs):
            return func(*args, **kwargs)
        if any(t.requires_grad and not self.depends(t) for t in involved):
            self.unseen(name)
        if not inputs:
            return func(*args, **kwargs)
        if kwargs.get("out") is not None or kwargs.get("reduce") is not None or random_or_training(name, args, kwargs):
            raise Unsupported(f"{name}: cannot be followed with out=..., reduce=... or in training mode")
        if not all(t.is_floating_point() for t in inputs):
            raise Unsupported(f"{name}: an index, a condition or a rounded number depends on the input")
        result = self.computed(name, func, args, kwargs, inputs)
        for t in tensors(result):
            setattr(t, self.mark, self.token)
        return result

    def unseen(self, name: str) -> None:
        """Called where a value has a gradient that no operation seen so far explains."""

    def rule(self, name: str) -> Rule:
        """The rule of an operation on values that depend on the input."""
        rule = self.rules.get(name)
        if rule is None:
            raise Unsupported(f"{self.method} has no rule for {name}")
        return rule

    def apply(self, rule: Rule, operation: Operation) -> Any:
        raise NotImplementedError

    def computed(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor]
    ) -> Any:
        rule = self.rule(name)
        if rule is keep:
            result = func(*args, **kwargs)
            if overwrites(func) and isinstance(args[0], Tensor):
                self.overwritten(args[0])  # item assignment returns nothing
            return result
        if not in_place(func, args, kwargs):
            return self.apply(rule, Operation(name, func, args, kwargs, inputs))
        # The rule works out of place, on a copy; the result is then written where the model expects it.
        target = args[0]
        copy = self.watch(target.clone())
        _same_notes(copy, target)
        if overwrites(func):
            func = _out_of_place(name, func)
        else:
            args, kwargs = out_of_place(args, kwargs)
        args = tuple(copy if value is target else value for value in args)
        operation = Operation(name, func, args, kwargs, [copy if t is target else t for t in inputs])
        result = self.apply(rule, operation)
        target.copy_(result)
        _same_notes(target, result)
        return self.overwritten(target)


# Activations that torch.Tensor has no method for.
_OUT_OF_PLACE: dict[str, Callable[..., Any]] = {
    name: getattr(nn.functional, name)
    for name in ("leaky_relu", "elu", "celu", "selu", "hardtanh", "threshold", "rrelu", "relu6", "silu", "mish")
}


def _out_of_place(name: str, func: Callable[..., Any]) -> Callable[..., Any]:
    """The function that computes what one ending in _ writes; an aten operation keeps its own order of arguments."""
    written = operator_name(func)
    if written.startswith("aten::"):
        found: Callable[..., Any] = getattr(torch.ops.aten, written.removeprefix("aten::").rstrip("_"))
        return found
    return _OUT_OF_PLACE.get(name) or getattr(torch.Tensor, name)


@contextmanager
def undisturbed(method: str, model: nn.Module) -> Iterator[None]:
    """For passes over a model: its parameters frozen, compiled modules run as their Python, inference mode off.

    Raises:
        Unsupported: the model has a scripted module, whose operations no pass can see.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise Unsupported(f"{method} cannot follow the input into a scripted module")
    with _frozen(model), _uncompiled(), torch.inference_mode(False):
        yield


def _uncompiled() -> AbstractContextManager[Any]:
    """Compiled modules run as the Python they were made of; the compiler would trace the rules into their graphs."""
    stance: AbstractContextManager[Any] = (
        torch.compiler.set_stance("force_eager") if compiler_is_used() else nullcontext()
    )
    return stance


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Parameters that require no gradient, for the duration: what requires one then depends on the input."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in parameters:
            p.requires_grad_(False)
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
