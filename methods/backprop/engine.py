"""The engine of modified backpropagation: one rule for each operation, whatever the form of the code.

A method of this kind is the gradient with another backward pass at some operations (Ancona et al. 2018, section 3.1 and
Propositions 1 and 2). A torch function mode sees each operation of a forward pass (module, function, method and in-place
forms, reused modules, residual sums alike) and lets a table `operation name -> rule` compute it. A rule returns the value
that the operation has; what it changes is the gradient that flows back.

What relevance is here: the gradient g that reaches a value a, times the value: R = g * a for LRP, g * (a - reference) for
DeepLIFT. Rules speak of g, so nothing is ever divided by an activation that may be zero, and a sum or a copy needs no
rule: gradients add up.

Fail closed: an operation without a rule, on values that depend on the input, raises Unsupported. So does a value that
depends on the input and came out of nothing that was seen: a scripted module, a custom autograd function, a fused kernel.

Nothing stays behind: parameters stop requiring gradients for the duration of the call only (so that whatever requires one
depends on the input), hooks and rules sit on the tensors of this forward pass and die with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import Unsupported
from .passes import Operation, Pass, Reference, Rule, Rules, undisturbed

# -- what rules are made of -------------------------------------------------------------------------------------


def on_gradient(value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The value, with the gradient that reaches it changed before it flows on."""
    value.register_hook(change)
    return value


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, through: Tensor, value: Tensor, backward: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.rule = backward
        # A copy: rules keep the value for the way back, and the model may overwrite what it goes on with.
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.rule(gradients[0]), None, None


def replaced(value: Tensor, through: Tensor, backward: Callable[[Tensor], Tensor]) -> Tensor:
    """The value of an operation, with its gradient replaced.

    Args:
        value: what the forward pass goes on with.
        through: the tensor of the same shape that the changed gradient flows into.
        backward: the gradient of `value` -> the gradient of `through`.
    """
    result: Tensor = _Replaced.apply(through, value, backward)
    return result


# -- the forward pass under rules ----------------------------------------------------------------------------------


class _ReferencePass(Pass):
    """Runs the model at the reference and keeps, in call order, what operations with a rule saw and computed."""

    def __init__(self, method: str, rules: Rules) -> None:
        super().__init__(method, rules)
        self.kept: list[Reference] = []

    def apply(self, rule: Rule, operation: Operation) -> Any:
        inputs = tuple(t.clone() for t in operation.inputs)
        result = operation.run()
        self.kept.append(Reference(operation.name, inputs, result))
        return result


class _RulePass(Pass):
    """Runs the model with every operation computed by its rule."""

    def __init__(self, method: str, rules: Rules, references: list[Reference] | None = None) -> None:
        super().__init__(method, rules)
        self.references = None if references is None else iter(references)

    def unseen(self, name: str) -> None:
        raise Unsupported(
            f"{self.method} cannot follow the input into {name}: a value came out of something that hides its operations "
            "(a scripted or compiled module, a custom autograd function), or has a gradient and is no parameter"
        )

    def rule(self, name: str) -> Rule:
        rule = super().rule(name)
        if not torch.is_grad_enabled():
            raise Unsupported(f"{self.method}: the model switches gradients off before {name}")
        return rule

    def apply(self, rule: Rule, operation: Operation) -> Any:
        if self.references is not None:
            operation._reference = _fitting(next(self.references, None), operation)
        return rule(operation)


class Misfit(Exception):
    """What the reference pass kept does not fit the operation."""


def _fitting(reference: Reference | None, operation: Operation) -> Reference:
    if reference is None or reference.name != operation.name or len(reference.inputs) != len(operation.inputs):
        raise Misfit(f"the model takes another path at the baseline: {operation.name} has no counterpart there")
    for there, here in zip(reference.inputs, operation.inputs, strict=True):
        if there.dim() != here.dim() or any(a not in (1, b) for a, b in zip(there.shape, here.shape, strict=True)):
            raise Misfit(f"{operation.name} sees {tuple(there.shape)} at the baseline, {tuple(here.shape)} at x")
    return reference


def modified_gradient(
    method: str, rules: Rules, model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None
) -> Tensor:
    """The gradient of each sample's target logit with respect to its input, with the rules in the place of derivatives.

    Args:
        method: the name that refusals mention.
        rules: operation name -> rule; what is not in the table is refused.
        model: maps [B, *shape] to logits [B, C], in eval mode.
        x: inputs [B, *shape].
        target: [B], the logit of each sample.
        baseline: [B, *shape] where rules ask for a reference.

    Returns:
        [B, *shape]; the model and its parameters' gradients are untouched.

    Raises:
        Unsupported: the model computes with something that has no rule, or hides what it does.
    """
    with undisturbed(method, model):
        if baseline is None:
            return _differentiated(model, x, target, _RulePass(method, rules))
        # One row serves where all samples have one reference; models whose layout does not broadcast need them all.
        rows = [baseline[:1], baseline] if len(x) > 1 and bool((baseline == baseline[:1]).all()) else [baseline]
        for reference in rows:
            try:
                kept = _at_reference(method, model, rules, reference)
                return _differentiated(model, x, target, _RulePass(method, rules, kept))
            except Unsupported:
                raise
            except Exception as error:
                if reference is rows[-1]:
                    if isinstance(error, Misfit):
                        raise Unsupported(f"{method}: {error}") from error
                    raise
        raise AssertionError("unreachable")


def _at_reference(method: str, model: nn.Module, rules: Rules, baseline: Tensor) -> list[Reference]:
    recorder = _ReferencePass(method, rules)
    with torch.no_grad(), recorder:
        model(recorder.watch(baseline.detach().clone()))
    return recorder.kept


def modified_relevance(
    method: str,
    rules: Rules,
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    prepare: Callable[[Tensor, Tensor], None] | None = None,
    begin: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """x times the modified gradient, as a gradient too: with x = share * x at share = 1, that of the logit by the share.

    So a rule may say what relevance an input gets where the input is zero: it lets the gradient flow into the share.

    Args:
        method, rules, model, x, target: as in `modified_gradient`.
        prepare: called with the model's input [B, *shape] and the share [B, *shape] that it depends on.
        begin: the target logits [B, 1] -> the gradient that starts from each; ones without.

    Returns:
        [B, *shape], in units of the output (times what `begin` says).

    Raises:
        Unsupported: as `modified_gradient`.
    """
    with undisturbed(method, model):
        return _differentiated(
            model, x, target, _RulePass(method, rules), prepare or (lambda start, share: None), begin
        )


def _differentiated(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    rules: _RulePass,
    prepare: Callable[[Tensor, Tensor], None] | None = None,
    begin: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The gradient by the input or, where the input is to be prepared, by the share of it (see modified_relevance)."""
    with torch.enable_grad():
        if prepare is None:
            point = x.detach().clone().requires_grad_()
            start = point.clone()  # the model may write into its input, which it may not into a leaf
        else:
            point = torch.ones_like(x).requires_grad_()
            start = point * x.detach()
            prepare(start, point)
        rules.watch(start)
        with rules, _no_saved_tensor_hooks(rules.method):
            output = model(start)
        if not output.requires_grad:
            return torch.zeros_like(x)  # a constant: whatever would cut the gradient has no rule and was refused
        if not rules.depends(output):
            rules.unseen("the output")
        chosen = output.gather(1, target[:, None])
        try:
            first = None if begin is None else begin(chosen.detach())
            (gradient,) = torch.autograd.grad(chosen, point, torch.ones_like(chosen) if first is None else first)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            raise Unsupported(f"{rules.method}: the model overwrites a value that its gradient needs") from error
    return gradient


@contextmanager
def _no_saved_tensor_hooks(method: str) -> Iterator[None]:
    """Refuses checkpointed blocks: they are computed again without the rules, and what the rules saved is replaced."""
    message = "a checkpointed block is computed again without the rules"
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(message):
            yield
    except RuntimeError as error:
        if message not in str(error):
            raise
        raise Unsupported(f"{method}: {message}") from error
