"""Subjects by name: a model trained here, from a file, or the user's own, with samples that it classifies correctly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ..errors import UsageError
from . import checkpoints, datasets, own
from .architectures import ARCHITECTURES, architecture, fitting
from .datasets import SOURCES, Asked
from .networks.architecture import Architecture
from .preparation import Preparation
from .samples import Dataset
from .subject import Subject
from .training import blank, with_permuted_labels
from .views import Chosen, View

PERMUTED_NEEDED = 0.98


def subject(
    model: str,
    data: str | None = None,
    *,
    images: int = 16,
    data_root: str | Path | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    quick: bool = False,
) -> Subject:
    """A trained model with samples.

    Named architectures are trained on the data, or taken from the cache of what was trained before (see
    checkpoints.folder); networks for data of which only a part is read (VOC, ImageNet, the user's own) need a file.

    Args:
        model: an architecture, or the user's `package.module:factory`; or both names at once, "mnist-cnn:digits".
        data: a data set, or the user's `package.module:batch`; None where `model` names both.
        images: how many samples: the first that the model classifies correctly, in a random order that takes the
            classes in turn. Fewer where there are not so many.
        data_root: the folder of the files of a data set that is read from files.
        weights: a file of weights (safetensors, or a state dict of torch.save) for a named architecture.
        seed: of training and of the order of the samples.
        device: "cpu" or "cuda", where the subject lies.
        progress: whether training shows a bar on stderr.
        quick: much less training, for tests of the machinery.

    Returns:
        The subject. Of texts, `model` is the part behind the embedding and `x` the embedded words. Where samples show
        several classes, `labels` is the one of the highest logit among them, and a sample counts as correct where the
        class of the highest logit is in it. `permuted` is None where nothing can be trained.

    Raises:
        UsageError: a name is unknown, files are missing, or model, weights and data do not fit together.
    """
    model, data = split(model, data)
    if images < 1:
        raise UsageError(f"--images must be a positive whole number, not {images}")
    asked = Asked(None if data_root is None else str(data_root), limit=max(datasets.LIMIT, 2 * images), quick=quick)
    if ":" in model:
        if weights is not None:
            raise UsageError("--weights is for named models; a factory of your own loads its weights itself")
        view = _of_own(model, data, asked, device)
        return view.subject(view.choose(images, seed), seed)
    found, dataset = _named(model, data, asked)
    accuracy = None
    if weights is not None:
        network, dataset = _from_file(found, dataset, str(weights))
    elif dataset.partial:
        raise UsageError(
            f"{model} on --data {data} needs --weights FILE: only a part of the data is read, not enough to train"
        )
    else:
        settings = found.settings.quick() if quick else found.settings
        trained = checkpoints.trained(found, dataset, settings, seed, progress, device)
        network, accuracy = trained.model, trained.accuracy
    view = View(found.name, network.to(device), dataset, found.preparation, device)
    chosen = view.choose(images, seed, accuracy)
    made = view.subject(chosen, seed)
    return made if dataset.partial else replace(made, permuted=_ByHeart(found, view, chosen, seed, progress, quick))


@dataclass
class _ByHeart:
    """Makes the subject of the same samples whose network was trained on permuted labels, once."""

    architecture: Architecture
    view: View
    chosen: Chosen
    seed: int
    progress: bool
    quick: bool
    made: Subject | None = None

    def __call__(self) -> Subject:
        if self.made is None:
            settings = self.architecture.settings.for_permuted_labels()
            other = checkpoints.trained(
                self.architecture,
                with_permuted_labels(self.view.dataset, self.seed),
                settings.quick() if self.quick else settings,
                self.seed,
                self.progress,
                self.view.device,
            )
            view = replace(self.view, network=other.model.to(self.view.device))
            found = view.subject(replace(self.chosen, accuracy=other.training), self.seed)
            self.made = replace(found, needed=PERMUTED_NEEDED)
        return self.made


def _named(model: str, data: str, asked: Asked) -> tuple[Architecture, Dataset]:
    """A named architecture and the data, brought to each other."""
    found = architecture(model)
    if ":" in data:
        dataset = own.batch(data)
        return replace(fitting(found, dataset), preparation=Preparation()), dataset
    dataset = datasets.dataset(data, replace(asked, size=found.preparation.size or asked.size))
    return fitting(found, dataset), dataset


def _from_file(found: Architecture, dataset: Dataset, path: str) -> tuple[nn.Module, Dataset]:
    """An architecture with the weights of a file; a batch of the user's gets all of its classes."""
    weights = checkpoints.read_weights(path)
    network = blank(found, dataset)
    count = checkpoints.classes_of(weights, network)
    if count is not None and count != dataset.n_classes:
        if ":" not in dataset.name:
            raise UsageError(f"--weights {path} is for {count} classes, --data {dataset.name} has {dataset.n_classes}")
        dataset = own.with_classes(dataset, count, found.name)
        network = blank(found, dataset)
    return checkpoints.fit(network, weights, found, path), dataset


def _of_own(model: str, data: str, asked: Asked, device: str) -> View:
    """The user's network on a named data set, whose images it gets in [0, 1], or on a batch of their own."""
    network = own.network(model)
    dataset = own.batch(data) if ":" in data else datasets.dataset(data, asked)
    view = View(model, network, dataset, Preparation(), "cpu")
    ready = own.text_model if dataset.kind == "text" else own.logits_only
    network, count = ready(network, view.prepared(dataset.test.x[:2]), f"--model {model}")
    dataset = own.with_classes(dataset, count, model)
    return View(model, network.to(device), dataset, Preparation(), device)


def split(model: str, data: str | None = None) -> tuple[str, str]:
    """The names of the model and of the data; either may be `package.module:object`.

    Raises:
        UsageError: one of them is missing.
    """
    if data is None:
        parts = model.split(":")
        at = 1 if parts[0].partition("(")[0].strip() in ARCHITECTURES or len(parts) < 3 else 2
        model, data = ":".join(parts[:at]), ":".join(parts[at:])
    if not model or not data:
        raise UsageError(f"name a model and its data, mnist-cnn:digits or --model and --data; known: {known()}")
    return model, data


def known() -> str:
    """The names of architectures and data sets, for errors."""
    return f"models {', '.join(ARCHITECTURES)}; data {', '.join(SOURCES)}"


def models() -> list[tuple[str, str]]:
    """The architectures, each with one line."""
    return [(found.name, f"{found.summary} ({found.source})") for found in ARCHITECTURES.values()]


def data_sets() -> list[tuple[str, str]]:
    """The data sets, each with one line."""
    return [
        (source.name, f"{source.summary} ({'--data-root' if source.files else 'embedded'})")
        for source in SOURCES.values()
    ]
