"""The architectures by name."""

from __future__ import annotations

from dataclasses import replace

from ..errors import UsageError, suggestion
from .networks import convolutional, full_size, perceptrons, text
from .networks.activations import activation
from .networks.architecture import Architecture
from .preparation import AROUND_0, IMAGENET_MEAN, IMAGENET_STD, Preparation
from .samples import Dataset
from .settings import Settings

_ADADELTA = Settings("adadelta", rate=1.0, batch=64, epochs=12, steps=300, shift=1)
_TEXT = Settings("adam", rate=1e-3, batch=32, epochs=12, patience=2)
_FULL_SIZE = Settings("adam", rate=1e-4, batch=32, epochs=10, steps=500)
_IMAGENET = Preparation(IMAGENET_MEAN, IMAGENET_STD, 224)

ARCHITECTURES: dict[str, Architecture] = {
    made.name: made
    for made in (
        Architecture(
            "mlp-3x1024", "three hidden layers of 1024 ReLU units, images in [0, 1]",
            "Kindermans et al. 2017, section 2.1", perceptrons.mlp_3x1024,
            Settings("sgd", rate=0.1, batch=32, epochs=10, steps=1_000, held_out=0.0), data="digits",
        ),
        Architecture(
            "mnist-mlp", "512-512 units, images in [-1, 1]; mnist-mlp(tanh), (sigmoid), (softplus) for other activations",
            "Ancona et al. 2018, appendix C.1", perceptrons.mnist_mlp, _ADADELTA, preparation=AROUND_0,
            data="digits",
        ),
        Architecture(
            "mnist-cnn", "two convolutions, max-pooling, 128 units, images in [-1, 1]; activations as for mnist-mlp",
            "Ancona et al. 2018, appendix C.1", convolutional.mnist_cnn, _ADADELTA, preparation=AROUND_0, smallest=6,
            data="digits",
        ),
        Architecture(
            "cifar-cnn", "two blocks of two convolutions with dropout, 256 units, images in [-1, 1]",
            "Ancona et al. 2018, appendix C.2", convolutional.cifar_cnn, replace(_ADADELTA, epochs=50, patience=8),
            preparation=AROUND_0, smallest=10,
        ),
        Architecture(
            "small-vgg", "blocks of convolutions as in VGG with global average pooling, images in [-1, 1]",
            "after Simonyan and Zisserman 2015, and Lin et al. 2014", convolutional.small_vgg,
            Settings("adam", rate=2e-3, batch=32, epochs=14, patience=5, shift=2), preparation=AROUND_0, smallest=8,
            data="scenes",
        ),
        Architecture(
            "imdb-mlp", "embedded words of 32, 250 ReLU units on all words at once",
            "Ancona et al. 2018, appendix C.4", text.imdb_mlp, _TEXT, takes="text", data="sentiment",
        ),
        Architecture(
            "imdb-lstm", "embedded words of 32, a long short-term memory of 64 units with visible gates",
            "Ancona et al. 2018, appendix C.4", text.imdb_lstm, _TEXT, takes="text", data="sentiment",
        ),
        Architecture(
            "alexnet", "AlexNet, on one channel or three", "Krizhevsky 2014, as in torchvision", full_size.alexnet,
            _FULL_SIZE, preparation=_IMAGENET,
        ),
        Architecture(
            "vgg16", "VGG-16", "Simonyan and Zisserman 2015, as in torchvision", full_size.vgg16, _FULL_SIZE,
            preparation=_IMAGENET,
        ),
        Architecture(
            "vgg19", "VGG-19", "Simonyan and Zisserman 2015, as in torchvision", full_size.vgg19, _FULL_SIZE,
            preparation=_IMAGENET,
        ),
        Architecture(
            "inception-v3", "Inception v3 without its auxiliary classifier, images in [-1, 1]",
            "Szegedy et al. 2016, as in torchvision", full_size.inception_v3, _FULL_SIZE,
            preparation=replace(AROUND_0, size=299), ignored=("AuxLogits.",),
        ),
        Architecture(
            "resnet50", "ResNet-50", "He et al. 2016, as in torchvision", full_size.resnet50, _FULL_SIZE,
            preparation=_IMAGENET,
        ),
    )
}  # fmt: skip


def architecture(name: str) -> Architecture:
    """An architecture by its name, with an activation in brackets where it takes one: mnist-mlp(tanh).

    Raises:
        UsageError: there is none of that name, it takes no activation, or the activation is unknown.
    """
    head, bracket, rest = name.strip().partition("(")
    head = head.strip()
    if head not in ARCHITECTURES:
        raise UsageError(
            f"unknown model {head!r}; {suggestion(head, ARCHITECTURES)} (one of your own: package.module:factory)"
        )
    found = ARCHITECTURES[head]
    if not bracket:
        return found
    option = rest.removesuffix(")").strip()
    if not rest.endswith(")") or head not in ("mnist-mlp", "mnist-cnn"):
        raise UsageError(f"{name!r}: only mnist-mlp and mnist-cnn take an option, {head}(tanh)")
    activation(option)
    if option == "relu":
        return found
    return replace(found, name=f"{head}({option})", options={"activation": option})


def fitting(found: Architecture, dataset: Dataset) -> Architecture:
    """The architecture with its preparation made for the channels of the data.

    Raises:
        UsageError: it does not take such data.
    """
    if (found.takes == "text") != (dataset.kind == "text"):
        raise UsageError(f"{found.name} takes {found.takes}s, --data {dataset.name} is of {dataset.kind}s")
    if found.takes == "text":
        return found
    if len(dataset.shape) != 3:
        raise UsageError(f"{found.name} takes images [C, H, W], a sample of --data {dataset.name} is {dataset.shape}")
    made = replace(found, preparation=found.preparation.for_channels(dataset.shape[0]))
    if min(made.preparation.shape(dataset.shape)[1:]) < found.smallest:
        raise UsageError(
            f"{found.name} takes images of {found.smallest} pixels or more, {dataset.name} has {dataset.shape}"
        )
    return made
