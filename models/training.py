"""Trains a network on a data set: the same weights for the same seed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from .networks.architecture import Architecture
from .samples import Dataset, Samples
from .settings import Settings

# Up to so many training samples one thread trains: sums are then added in one order, whatever the number of cores.
_ONE_THREAD = 10_000
_ROWS = 128


@dataclass(frozen=True)
class Trained:
    """A trained network, in eval mode and without gradients of its parameters.

    model     the network
    accuracy  on the test samples, of which none was seen in training; None where they were not asked for
    training  the accuracy on the samples that it was trained on, in eval mode
    epochs    how many were made
    """

    model: nn.Module
    accuracy: float
    training: float
    epochs: int


def build(architecture: Architecture, dataset: Dataset) -> nn.Module:
    """An architecture with random weights, for the samples of a data set and its classes."""
    options = dict(architecture.options)
    if dataset.kind == "text":
        options["words"] = len(dataset.vocabulary)
    return architecture.factory(architecture.preparation.shape(dataset.shape), dataset.n_classes, **options)


def blank(architecture: Architecture, dataset: Dataset) -> nn.Module:
    """The same without weights, which costs nothing and draws no random numbers: `filled` gives it some."""
    with torch.device("meta"):
        return build(architecture, dataset)


def filled(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A blank model with weights for all of its names, in eval mode and without gradients of its parameters."""
    own = {name: value.to(model.state_dict()[name].dtype) for name, value in weights.items()}
    model.load_state_dict(own, assign=True)
    return model.eval().requires_grad_(False)


def train(
    architecture: Architecture,
    dataset: Dataset,
    settings: Settings,
    seed: int = 0,
    progress: bool = True,
    device: str = "cpu",
) -> Trained:
    """Train a network of an architecture on the training samples of a data set.

    Several classes in a sample are learnt by one logistic loss each (scenes), one class by the cross-entropy.

    Args:
        architecture, dataset: that fit together (see subjects).
        settings: optimiser, epochs, early stopping.
        seed: of the weights, the order of the samples, the shifts and dropout. The global random numbers are not touched.
        progress: whether a bar is shown on stderr.
        device: where it is trained; on the CPU the same seed gives the same weights, on a GPU up to rounding.

    Returns:
        The network on the CPU.
    """
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices), _threads(len(dataset.train)), torch.enable_grad():
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        fitted, held = _parted(dataset.train, settings, generator)
        model = build(architecture, dataset).to(device)
        run = _Run(architecture, dataset, settings, model, fitted, held, generator, device)
        with _bar(progress, f"training {architecture.name} on {dataset.name}", run.epochs) as advance:
            run.fit(advance)
        model.eval().requires_grad_(False)
        reached, accuracy = (run.evaluate(samples)[1] for samples in (fitted, dataset.test))
    return Trained(model.cpu(), accuracy, reached, run.made)


class _Run:
    """One training: the network, its optimiser and the best weights so far."""

    def __init__(
        self, architecture: Architecture, dataset: Dataset, settings: Settings, model: nn.Module, fitted: Samples,
        held: Samples, generator: torch.Generator, device: str,
    ) -> None:  # fmt: skip
        self.prepare, self.several, self.settings = architecture.preparation, dataset.kind == "scene", settings
        self.model, self.fitted, self.held, self.generator, self.device = model, fitted, held, generator, device
        self.optimizer = _optimizer(model, settings)
        self.epochs = max(settings.epochs, math.ceil(settings.steps / math.ceil(len(fitted) / settings.batch)))
        self.made = 0

    def fit(self, advance: Callable[[str], None]) -> None:
        """Train until the epochs are over, the held-out loss stops to fall, or the training accuracy is reached."""
        best, weights, waited = math.inf, copy.deepcopy(self.model.state_dict()), 0
        while self.made < self.epochs:
            self._epoch()
            self.made += 1
            if self.settings.held_out:
                loss, accuracy = self.evaluate(self.held)
                advance(f"held out {accuracy:.1%}")
                if loss < best:
                    best, weights, waited = loss, copy.deepcopy(self.model.state_dict()), 0
                else:
                    waited += 1
                if waited >= self.settings.patience:
                    break
            elif self.settings.stop_at is not None:
                accuracy = self.evaluate(self.fitted)[1]
                advance(f"training {accuracy:.1%}")
                if accuracy > self.settings.stop_at:
                    break
            else:
                advance("")
        if self.settings.held_out:
            self.model.load_state_dict(weights)

    def _epoch(self) -> None:
        self.model.train()
        if not self.settings.dropout:
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
        for chosen in torch.randperm(len(self.fitted), generator=self.generator).split(self.settings.batch):
            batch = self.fitted.take(chosen)
            x = _shifted(batch.x, self.settings.shift, self.generator).to(self.device)
            self.optimizer.zero_grad()
            self._loss(self.model(self.prepare(x)), batch).backward()
            self.optimizer.step()

    def _loss(self, logits: Tensor, batch: Samples) -> Tensor:
        if self.several:
            return nn.functional.binary_cross_entropy_with_logits(logits, batch.present.to(logits))
        return nn.functional.cross_entropy(logits, batch.labels.to(logits.device))

    def evaluate(self, samples: Samples) -> tuple[float, float]:
        """The mean loss and the accuracy on samples, in eval mode."""
        if not len(samples):
            return math.nan, math.nan
        self.model.eval()
        loss = correct = 0.0
        with torch.no_grad():
            for start in range(0, len(samples), _ROWS):
                batch = samples.take(slice(start, start + _ROWS))
                logits = self.model(self.prepare(batch.x.to(self.device)))
                loss += float(self._loss(logits, batch)) * len(batch)
                correct += float(is_correct(logits.cpu(), batch.present).sum())
        return loss / len(samples), correct / len(samples)


def is_correct(logits: Tensor, present: Tensor) -> Tensor:
    """[B], whether the class of the highest logit is in the sample."""
    return present.gather(1, logits.argmax(1, keepdim=True))[:, 0]


def with_permuted_labels(dataset: Dataset, seed: int) -> Dataset:
    """The data set whose training labels are permuted among the training samples.

    Source: Adebayo et al. 2018, section 4 (data randomization); Gupta and Arora 2019, section 5.
    """
    train_samples = dataset.train
    order = torch.randperm(len(train_samples), generator=torch.Generator().manual_seed(seed))
    permuted = Samples(train_samples.x, train_samples.labels[order], train_samples.present[order])
    return replace(dataset, train=permuted)


def _parted(samples: Samples, settings: Settings, generator: torch.Generator) -> tuple[Samples, Samples]:
    """The samples to train on and those held out."""
    order = torch.randperm(len(samples), generator=generator)[: settings.samples]
    held = round(len(order) * settings.held_out)
    return samples.take(order[held:]), samples.take(order[:held])


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=settings.rate)
    if settings.optimizer == "adadelta":
        return torch.optim.Adadelta(model.parameters(), lr=settings.rate, rho=0.95)
    assert settings.optimizer == "adam"
    return torch.optim.Adam(model.parameters(), lr=settings.rate)


def _shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W], each moved by up to `most` pixels in both directions; the border is repeated."""
    if not most or x.dim() != 4:
        return x
    height, width = x.shape[-2:]
    down, right = (torch.randint(-most, most + 1, (len(x), 1), generator=generator) for _ in range(2))
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return x[torch.arange(len(x))[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@contextmanager
def _threads(samples: int) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if samples <= _ONE_THREAD else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _bar(shown: bool, title: str, epochs: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr; yields what is called after each epoch with a word on how it stands."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[stands]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task: TaskID = bar.add_task(title, total=epochs, stands="")
        yield lambda stands: bar.update(task, advance=1, stands=stands)
