"""Small checks, subjects and methods for tests of the machinery of full-model checks; importable by worker processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import attribcheck as ac
import torch
from attribcheck.models.subject import Subject
from attribcheck.sanity.outcome import Check, NotApplicable, Outcome, Rule
from attribcheck.sanity.study import Study
from torch import Tensor, nn

CLASSES = 3
FEATURES = 5


def load(model_name: str, data_name: str) -> Subject:
    """A linear-ReLU network with seeded random weights; "weak" has not learnt enough."""
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    x = torch.randn(12, FEATURES, generator=generator)
    labels = torch.arange(len(x)) % CLASSES
    return Subject(
        model_name, data_name, model.eval().requires_grad_(False), x, labels,
        present=nn.functional.one_hot(labels, CLASSES).bool(),
        masks=None,
        data=torch.randn(20, FEATURES, generator=generator),
        classes=("a", "b", "c"),
        group_axis=None,
        accuracy=0.4 if model_name == "weak" else 0.99,
        needed=0.9,
    )  # fmt: skip


def _size(study: Study) -> Iterator[Outcome]:
    """How large the maps are, and by how much a random number moves them: seeded anew for each unit."""
    maps = study.maps(study.subject.labels[: study.images(2)])
    figure = float(maps.abs().mean())
    noise = float(torch.rand(()))
    yield Outcome(
        "sensitivity-n", "mean |R|", figure, (figure - 0.1, figure + 0.1), Rule(above=0.1),
        figures={"noise": noise, "sizes": [1, 2, 4], "curve": maps[0, :3], "not finite": float("nan")},
        paper={"source": "a paper, Table 1", "value": 0.5},
    )  # fmt: skip


def _signs(study: Study) -> Iterator[Outcome]:
    """Two variants, the second only where the first is above zero."""
    maps = study.maps(study.subject.labels)
    positive, negative = float(maps.clamp(min=0).sum()), float(maps.clamp(max=0).sum())
    yield Outcome("competition/kept", "sum R+", positive, None, Rule(above=0.0))
    if positive == 0:
        raise NotApplicable("there is nothing positive")
    yield Outcome("competition/randomization", "sum R-", negative, None, Rule(below=0.0), note="a remark")


def _broken(study: Study) -> Iterator[Outcome]:
    """A check with a defect."""
    yield Outcome("continuity", "a figure", float("inf"), None, Rule(below=1.0))


CHECKS = (
    Check("sensitivity-n", "sizes", ("",), "small:points", _size, "How large maps are."),
    Check("competition", "signs", ("kept", "randomization"), "small:points", _signs, "Which signs maps have."),
)
BROKEN = Check("continuity", "broken", ("",), "small:points", _broken, "Nothing.")


def on(subject: str) -> tuple[Check, ...]:
    """The checks, looking at another subject."""
    return tuple(replace(check, subject=subject) for check in CHECKS)


# -- methods ---------------------------------------------------------------------------------------------------------


def _gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    point = x.clone().requires_grad_()
    return torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]


@ac.method(
    claims=[
        ac.holds("sanity/sensitivity-n", source="this file"),
        ac.fails("sanity/competition", reason="none of it"),
        ac.holds("dummy", on="linear"),
    ]
)
def gradient(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """The gradient."""
    return _gradient(model, x, target)


@ac.method(claims=[ac.holds("sanity/competition"), ac.fails("sanity/sensitivity-n", reason="zero")])
def zero(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Zero everywhere."""
    return torch.zeros_like(x)


@ac.method(stochastic=True)
def noisy(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Random numbers, which no claim speaks of."""
    return torch.randn(x.shape)


def raises(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Never answers."""
    raise RuntimeError("no map today\nand a second line")


def refuses(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Takes no network."""
    raise ac.Unsupported("no network is good enough")


def costly(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """A million rows, of which only the first thousands must ever be asked for."""
    for count in range(100):
        assert count < 10, "nobody looks at what this costs"
        model(x[:1].expand(10_000, -1))
    return x


def interrupts(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Ctrl-C in the middle of a method."""
    raise KeyboardInterrupt


def sleeps(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Takes its time."""
    time.sleep(60)
    return x


def dies(model: nn.Module, x: Tensor, target: Tensor, baseline: Tensor | None = None) -> Tensor:
    """Kills its process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return x
