"""Subjects by name: what is trained, read from a file or the user's own, and which samples are looked at."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from attribcheck.errors import UsageError
from attribcheck.models import checkpoints, subjects, training
from attribcheck.models.architectures import ARCHITECTURES, architecture, fitting
from attribcheck.models.datasets import SOURCES, Asked, dataset
from attribcheck.models.preparation import Preparation
from attribcheck.models.samples import Dataset, Samples
from attribcheck.models.subject import Subject
from attribcheck.models.subjects import split, subject
from attribcheck.models.views import View, in_turn
from torch import Tensor, nn


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTRIBCHECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def quick(name: str, **options: Any) -> Subject:
    return subject(name, quick=True, progress=False, **options)


# -- trained here ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("mnist-mlp:digits", (1, 28, 28), 0),
        ("mnist-mlp(tanh):digits", (1, 28, 28), 0),
        ("mlp-3x1024:digits", (1, 28, 28), 0),
        ("small-vgg:scenes", (3, 64, 64), 0),
        ("imdb-mlp:sentiment", (24, 32), -1),
        ("imdb-lstm:sentiment", (24, 32), -1),
    ],
)
def test_a_subject_is_what_the_checks_expect(name: str, shape: tuple[int, ...], axis: int) -> None:
    found = quick(name, images=6)
    model, data = name.split(":")
    assert (found.model_name, found.data_name, found.group_axis) == (model, data, axis)
    assert found.x.shape == (6, *shape)
    assert found.data.shape[1:] == shape
    assert 0 <= found.accuracy <= 1
    assert found.needed == dataset(data).needed
    assert not found.model.training
    assert not found.x.requires_grad
    assert not any(parameter.requires_grad for parameter in found.model.parameters())
    logits = found.model(found.x)
    assert logits.shape == (6, len(found.classes))
    # All are classified correctly, and the label is in the sample.
    assert found.present.gather(1, logits.argmax(1, keepdim=True)).all()
    assert found.present.gather(1, found.labels[:, None]).all()
    assert torch.equal(found.labels, logits.argmax(1))
    assert found.features(found.x).shape == (6, found.n_features)
    assert (found.masks is not None) == (data == "scenes")
    low, high = (0, 1) if model == "mlp-3x1024" else (-1, 1)
    assert axis == -1 or (float(found.x.min()) >= low and float(found.x.max()) <= high)


def test_masks_are_those_of_the_samples() -> None:
    found = quick("small-vgg:scenes", images=5)
    assert found.masks is not None
    assert torch.equal(found.masks.flatten(2).any(2), found.present)


def test_no_sample_was_seen_in_training() -> None:
    found = quick("mnist-mlp:digits", images=400)
    seen = {tuple(row.tolist()) for row in dataset("digits").train.x.flatten(1)}
    assert not any(tuple(row.tolist()) in seen for row in ((found.x + 1) / 2).flatten(1))
    assert len(found.x) == min(400, round(found.accuracy * 500))
    learnt = ((found.data + 1) / 2).flatten(1)
    assert len(learnt) == 1000
    nearest = torch.cdist(learnt[:50], dataset("digits").train.x.flatten(1)).min(1).values
    assert float(nearest.max()) < 1e-2


def test_the_seed_says_which_samples_are_looked_at() -> None:
    one, more = quick("mnist-mlp:digits", images=4), quick("mnist-mlp:digits", images=9)
    assert torch.equal(one.x, more.x[:4])
    assert not torch.equal(one.x, quick("mnist-mlp:digits", images=4, seed=1).x)
    assert len(set(quick("mnist-mlp:digits", images=10).labels.tolist())) == 10


def test_groups_are_taken_in_turn() -> None:
    groups = torch.tensor([0] * 6 + [1] * 3 + [3])
    drawn = groups[in_turn(groups, 0)].tolist()
    assert sorted(drawn[:3]) == [0, 1, 3]
    assert sorted(drawn[3:5]) == sorted(drawn[5:7]) == [0, 1]
    assert drawn[7:] == [0, 0, 0]
    assert sorted(in_turn(groups, 0).tolist()) == list(range(10))


def test_labels_of_scenes_are_the_highest_logit_among_the_present() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0], [0.0, 1.0, 3.0]])
    present = torch.tensor([[True, True, False], [False, True, True], [True, False, True]])
    samples = Samples.of_classes(torch.arange(3.0)[:, None], present)
    data = Dataset("d", ("a", "b", "c"), (1,), (0, 2), "scene", None, samples, samples, "", 0.5, "")
    model = nn.Linear(1, 1)
    model.forward = lambda x: logits[x[:, 0].long()]  # type: ignore[method-assign]
    chosen = View("m", model, data, Preparation(), "cpu").choose(5, 0)
    assert chosen.accuracy == pytest.approx(2 / 3)  # the second one's highest logit is not in it
    assert dict(zip(chosen.places.tolist(), chosen.labels.tolist(), strict=True)) == {0: 1, 2: 2}


def test_permuted_labels_make_a_second_network_of_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    found = quick("mnist-mlp:digits", images=5)
    assert found.permuted is not None
    other = found.permuted()
    assert found.permuted() is other
    assert torch.equal(other.x, found.x)
    assert torch.equal(other.labels, found.labels)
    assert other.needed == 0.98
    assert other.permuted is None
    assert not torch.equal(found.model(found.x), other.model(other.x))
    monkeypatch.setattr(training, "train", None)  # from the cache from now on
    again = quick("mnist-mlp:digits", images=5)
    assert again.permuted is not None
    assert again.permuted().accuracy == other.accuracy
    assert isinstance(pickle.loads(pickle.dumps(again)).x, Tensor)


def test_of_texts_each_network_has_its_own_embedding() -> None:
    found = quick("imdb-mlp:sentiment", images=5)
    assert found.permuted is not None
    other = found.permuted()
    assert other.x.shape == found.x.shape
    assert not torch.equal(other.x, found.x)
    assert torch.equal((other.x == 0).all(2), (found.x == 0).all(2))  # the same words are missing


def test_the_usual_data_of_an_architecture_is_embedded_and_fits() -> None:
    usual = {name: found.data for name, found in ARCHITECTURES.items() if found.data is not None}
    assert usual == {
        "mlp-3x1024": "digits", "mnist-mlp": "digits", "mnist-cnn": "digits", "small-vgg": "scenes",
        "imdb-mlp": "sentiment", "imdb-lstm": "sentiment",
    }  # fmt: skip
    for name, data in usual.items():
        assert not SOURCES[data].files
        fitting(ARCHITECTURES[name], dataset(data, Asked(quick=True)))


def test_names() -> None:
    assert split("mnist-cnn:digits") == ("mnist-cnn", "digits")
    assert split("mnist-cnn", "digits") == ("mnist-cnn", "digits")
    assert split("mnist-mlp(tanh):package.module:batch") == ("mnist-mlp(tanh)", "package.module:batch")
    assert split("package.module:factory:digits") == ("package.module:factory", "digits")
    assert split("own:factory:own:batch") == ("own:factory", "own:batch")
    assert {name for name, _ in subjects.models()} == set(ARCHITECTURES)
    assert {name for name, _ in subjects.data_sets()} == set(SOURCES)
    assert all(line and "\n" not in line for _, line in [*subjects.models(), *subjects.data_sets()])


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("mnist-cnn", {}, "name a model and its data"),
        ("mnist-cnm:digits", {}, "unknown model 'mnist-cnm'"),
        ("mnist-cnn:digit", {}, "unknown data 'digit'"),
        ("mnist-cnn:sentiment", {}, "mnist-cnn takes images"),
        ("mnist-cnn:mnist", {}, "--data-root DIR"),
        ("mnist-cnn:digits", {"images": 0}, "--images must be a positive whole number"),
        ("mnist-cnn:digits", {"weights": "no.pt"}, "there is no such file"),
        ("mnist-cnn:given:batch", {}, "needs --weights FILE"),
        ("given:factory:digits", {"weights": "no.pt"}, "--weights is for named models"),
        ("given:nothing:digits", {}, "has no 'nothing'"),
        ("given:batch:digits", {}, "returned tuple, expected an nn.Module"),
        ("given:factory:scenes", {}, "does not take samples of shape"),
        ("given:five:digits", {}, "--model given:five has 5 classes, --data digits has 10"),
        ("given:factory:sentiment", {}, "has the parts .embedding and .behind"),
        ("given:factory:given:unlabelled", {}, "is no \\(inputs, labels\\)"),
        ("given:factory:given:wrong_labels", {}, "labels are whole numbers"),
        ("given:factory:given:too_many", {}, "has 10 classes, --data given:too_many has 12"),
        ("given:factory:given:unfinished", {}, "values that are not finite"),
        ("given:contrary:given:batch", {}, "classifies none of 12 samples"),
    ],
)
@pytest.mark.usefixtures("given")
def test_what_is_wrong_is_told_in_one_line(name: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line) as raised:
        quick(name, **options)
    assert "\n" not in str(raised.value)


# -- from files -----------------------------------------------------------------------------------------------------


def test_weights_of_a_file_are_those_that_are_looked_at(tmp_path: Path) -> None:
    found = architecture("mnist-mlp")
    model = training.build(found, dataset("digits"))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    made = quick("mnist-mlp:digits", weights=tmp_path / "w.pt", images=3)
    assert torch.equal(made.model(made.x), model(made.x))
    assert made.permuted is not None
    with pytest.raises(UsageError, match="is for 10 classes, --data scenes has 6"):
        quick("mnist-mlp:scenes", weights=tmp_path / "w.pt")
    with pytest.raises(UsageError, match="does not fit mnist-cnn: it has no"):
        quick("mnist-cnn:digits", weights=tmp_path / "w.pt")


@pytest.mark.usefixtures("given")
def test_weights_of_a_file_with_samples_of_the_user(tmp_path: Path) -> None:
    model = ARCHITECTURES["mnist-cnn"].factory((1, 28, 28), 17)
    with torch.no_grad():
        model[-1].weight.zero_()
        model[-1].bias.copy_(-torch.arange(17.0))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    made = quick("mnist-cnn:given:batch", weights=tmp_path / "w.pt")
    assert len(made.classes) == 17
    assert made.present.shape == (2, 17)
    assert (made.labels == 0).all()
    assert made.permuted is None
    shown = BATCH[0][BATCH[1] == 0]
    assert {float(x[0, 0, 0]) for x in made.x} == {float(x[0, 0, 0]) for x in shown}


# -- the user's own -------------------------------------------------------------------------------------------------


BATCH = (torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 6)


class Tuple(nn.Module):
    """Returns logits and something else."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(784, classes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x), x


class Sign(nn.Module):
    """One logit [B]: whether the mean is above one half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x.flatten(1).mean(1) - 0.5)


class Words(nn.Module):
    def __init__(self, honest: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, 3)
        self.behind = nn.Sequential(nn.Flatten(), nn.Linear(72, 2))
        self.factor = 1.0 if honest else 2.0

    def forward(self, tokens: Tensor) -> Tensor:
        return self.behind(self.factor * self.embedding(tokens))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the user's."""
    module = types.ModuleType("given")
    torch.manual_seed(0)
    everything: dict[str, Any] = {
        "factory": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        "five": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 5)),
        "pair": Tuple(),
        "sign": Sign,
        "words": Words,
        "dishonest": lambda: Words(False),
        "contrary": lambda: _constant(7),
        "batch": lambda: BATCH,
        "unlabelled": BATCH[0],
        "wrong_labels": (BATCH[0], BATCH[1] + 0.5),
        "too_many": (BATCH[0], torch.arange(12)),
        "unfinished": (BATCH[0] / 0, BATCH[1]),
        "bright": (torch.tensor([0.9, 0.8, 0.1, 0.7])[:, None].expand(4, 5), torch.tensor([1, 1, 0, 0])),
        "several": (
            BATCH[0].numpy(),
            torch.tensor([[1, 1, 0]] * 12).numpy(),
            torch.ones(12, 3, 28, 28).numpy(),
        ),
        "three": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 3)),
    }
    for name, value in everything.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "given", module)
    return module


def _constant(label: int) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with torch.no_grad():
        model[1].weight.zero_()  # type: ignore[operator]
        model[1].bias.copy_(torch.eye(10)[label])  # type: ignore[operator]
    return model


def test_a_model_of_the_user_on_named_data(given: Any) -> None:
    found = subject("given:pair", "digits", images=3, progress=False)
    assert found.model_name == "given:pair"
    assert found.model(found.x).shape == (3, 10)
    assert (float(found.x.min()), found.permuted) == (0, None)
    assert not given.pair.inner[1].weight.is_meta
    assert given.pair.inner[1].weight.requires_grad  # the user's own object stays as it was
    assert given.pair.training


@pytest.mark.usefixtures("given")
def test_a_batch_of_the_user() -> None:
    found = subject("given:factory", "given:batch", images=12, progress=False)
    assert len(found.classes) == 10
    assert found.needed == 0.5
    assert torch.equal(found.model(found.x).argmax(1), found.labels)
    assert len(found.data) == 12


@pytest.mark.usefixtures("given")
def test_several_classes_and_masks_of_the_user() -> None:
    found = subject("given:three", "given:several", images=12, progress=False)
    assert found.masks is not None
    assert found.masks.shape == (len(found.x), 3, 28, 28)
    assert (found.labels < 2).all()
    with pytest.raises(UsageError, match="has 10 classes, --data given:several has 3"):
        subject("given:factory", "given:several")


@pytest.mark.usefixtures("given")
def test_one_logit_says_by_its_sign_whether_its_class_is_there() -> None:
    found = subject("given:sign", "given:bright", images=4, progress=False)
    assert found.accuracy == 0.75
    assert found.x.dtype == torch.float64
    assert found.classes == ("1",)
    assert found.labels.tolist() == [0, 0, 0]
    assert found.model(found.x).shape == (3, 1)
    assert torch.equal(found.model(found.x)[:, 0] > 0, found.present[:, 0])


@pytest.mark.usefixtures("given")
def test_a_text_model_of_the_user_is_attributed_behind_its_embedding() -> None:
    found = subject("given:words", "sentiment", images=3, quick=True, progress=False)
    assert found.x.shape == (3, 24, 3)
    assert isinstance(found.model, nn.Sequential)
    with pytest.raises(UsageError, match="is not .behind of .embedding"):  # noqa: RUF043
        subject("given:dishonest", "sentiment", quick=True)


def test_the_summary_of_a_subject_survives_a_smaller_cut() -> None:
    found = quick("small-vgg:scenes", images=5)
    assert len(found.first(2).x) == 2
    assert replace(found, accuracy=0.1).accuracy == 0.1
    assert checkpoints.folder().is_dir()
