"""One method on one case: calls it as the contract says, and holds its answer to the contract."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import calling
from ..calling import baseline_for, kept_random_numbers, kept_settings, seed_all
from ..claims import Method
from .case import DTYPES, AnyNetwork, Case, GivenModel, realize
from .networks.build import evaluate
from .networks.spec import Network


class Arguments(NamedTuple):
    """What a method is called with: x [B, *shape], target [B], baseline [B, *shape] and data [M, *shape] or None."""

    module: nn.Module
    x: Tensor
    target: Tensor
    baseline: Tensor | None
    data: Tensor | None


class Trial:
    """A method, a case, and the modules built for it.

    Raises (from `attribute`): Unsupported where the method refuses the network; MethodError where it raises anything
    else or returns something that is not an attribution.
    """

    def __init__(self, method: Method, case: Case, device: str = "cpu", given: GivenModel | None = None) -> None:
        self.method, self.case, self.device, self.given = method, case, device, given
        self.finite = True
        """Whether every attribution so far was finite, in entries that the axiom does not read too."""
        self._modules: dict[int, tuple[AnyNetwork, nn.Module]] = {}

    def tensor(self, array: Any, case: Case | None = None) -> Tensor:
        """An array of the case as a tensor in the case's dtype, on the device."""
        return in_dtype_of(case or self.case, array, self.device)

    def module(self, case: Case | None = None) -> nn.Module:
        """The network of a case as an nn.Module, built once for each trial."""
        case = case or self.case
        known = self._modules.get(id(case.network))
        if known is None:
            known = (case.network, realize(case.network, case.dtype, self.device, self.given))
            self._modules[id(case.network)] = known
        return known[1]

    def reference(self, case: Case | None = None) -> Tensor:
        """The baseline [B, *shape] that the method refers to; zeros for a method without one."""
        case = case or self.case
        return reference(self.method.baseline, case, self.device)

    def outputs(self, x: Tensor, case: Case | None = None) -> Tensor:
        """The target logits [B] of a case's network at x [B, *shape]."""
        case = case or self.case
        target = torch.tensor(case.target, device=self.device)
        with torch.no_grad():
            return self.module(case)(x).gather(1, target[:, None])[:, 0]

    def function(self, case: Case) -> Tensor:
        """The target logits [B] at the samples of a case, in float64 wherever the network is known as data.

        For prechecks: whether two networks are one function is no matter of the arithmetic of the method.
        """
        if not isinstance(case.network, Network):
            return self.outputs(self.tensor(case.x, case), case)
        logits = evaluate(case.network, torch.tensor(case.x))
        return logits.gather(1, torch.tensor(case.target)[:, None])[:, 0]

    def attribute(self, case: Case | None = None) -> Tensor:
        """The attribution [B, *shape] of a case (by default the trial's own), held to the contract."""
        case = case or self.case
        if not self.method.stochastic:
            return self.answer(self.arguments(case))
        with kept_random_numbers(self.device):
            seed_all(case.seed)
            return self.answer(self.arguments(case))

    def arguments(self, case: Case) -> Arguments:
        """What the method is called with on a case, in fresh tensors."""
        x = self.tensor(case.x, case)
        data = (x if case.data is None else self.tensor(case.data, case)) if self.method.data else None
        baseline = None if self.method.baseline is None else self.reference(case)
        return Arguments(self.module(case), x, torch.tensor(case.target, device=self.device), baseline, data)

    def answer(self, given: Arguments) -> Tensor:
        """The attribution [B, *shape], held to the contract; whatever the call does to the process is undone."""
        with kept_settings():
            return self.call(given)

    def call(self, given: Arguments) -> Tensor:
        """The same, with what the call does to the process."""
        options = {} if given.data is None else {"data": given.data}
        attribution = calling.call(
            self.method, given.module, given.x, given.target, given.baseline, options, about=self.case
        )
        self.finite = self.finite and bool(torch.isfinite(attribution).all())
        return attribution


def in_dtype_of(case: Case, array: Any, device: str = "cpu") -> Tensor:
    """An array of a case as a tensor in the case's dtype."""
    return torch.tensor(array, dtype=DTYPES[case.dtype], device=device)


def reference(kind: str | None, case: Case, device: str = "cpu") -> Tensor:
    """The reference [B, *shape] that a kind of baseline means in a case; zeros for none."""
    given = None if case.baseline is None else in_dtype_of(case, case.baseline, device)
    data = None if case.data is None else in_dtype_of(case, case.data, device)
    return baseline_for(kind, in_dtype_of(case, case.x, device), given, data)
