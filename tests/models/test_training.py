"""Training and checkpoints: the same weights for the same seed, files that survive damage and each other."""

from __future__ import annotations

import json
import multiprocessing
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attribcheck.errors import UsageError
from attribcheck.models import checkpoints, training
from attribcheck.models.architectures import ARCHITECTURES, architecture, fitting
from attribcheck.models.data import handwritten_digits, scenes
from attribcheck.models.networks.architecture import Architecture
from attribcheck.models.samples import Dataset, Samples
from attribcheck.models.settings import Settings
from attribcheck.models.training import is_correct, train, with_permuted_labels
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def tiny(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """A network with all that the papers' networks have, for 6x6 images."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, n_classes)
    )  # fmt: skip


TINY = Architecture("tiny", "a small one", "here", tiny, Settings("adam", rate=1e-2, batch=16, epochs=20))


def blobs(count: int = 120, kind: str = "image", seed: int = 0) -> Dataset:
    """Images 1x6x6 with a bright half: the upper one in class 0, the lower one in class 1, both or one in scenes."""
    random = np.random.default_rng(seed)
    present = np.zeros((count, 2), bool)
    present[np.arange(count), random.integers(2, size=count)] = True
    if kind == "scene":
        present |= random.random((count, 2)) < 0.3
    x = random.random((count, 1, 6, 6)) * 0.4
    x[:, 0, :3] += 0.6 * present[:, 0, None, None]
    x[:, 0, 3:] += 0.6 * present[:, 1, None, None]
    samples = Samples.of_classes(torch.tensor(x).float(), torch.tensor(present))
    return Dataset(
        "blobs", ("up", "down"), (1, 6, 6), (0, 1), kind, 0, samples.take(slice(80)),  # type: ignore[arg-type]
        samples.take(slice(80, None)), "here", 0.8, "easy",
    )  # fmt: skip


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("kind", ["image", "scene"])
@pytest.mark.parametrize("optimizer", ["sgd", "adadelta", "adam"])
def test_a_network_learns(kind: str, optimizer: str) -> None:
    rate = {"sgd": 0.3, "adadelta": 1.0, "adam": 1e-2}[optimizer]
    found = train(TINY, blobs(kind=kind), replace(TINY.settings, optimizer=optimizer, rate=rate, epochs=30), 0, False)
    assert found.accuracy >= 0.9
    assert found.training >= 0.9
    assert not found.model.training
    assert not any(parameter.requires_grad for parameter in found.model.parameters())


def test_the_seed_alone_says_the_weights() -> None:
    data, settings = blobs(), replace(TINY.settings, epochs=3)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = train(TINY, data, settings, 0, False)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(6)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    two, other = train(TINY, data, settings, 0, False), train(TINY, data, settings, 1, False)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert same(one.model, two.model)
    assert not same(one.model, other.model)


def test_early_stopping_keeps_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    kept: list[dict[str, Tensor]] = []
    evaluate = training._Run.evaluate

    def scripted(run: Any, samples: Samples) -> tuple[float, float]:
        if samples is run.held:
            kept.append({name: value.clone() for name, value in run.model.state_dict().items()})
            return next(losses), 0.5
        return evaluate(run, samples)

    monkeypatch.setattr(training._Run, "evaluate", scripted)
    found = train(TINY, blobs(), replace(TINY.settings, patience=3), 0, False)
    assert found.epochs == 5
    assert all(torch.equal(value, kept[1][name]) for name, value in found.model.state_dict().items())


def test_no_training_sees_what_is_held_out_or_tested() -> None:
    generator = torch.Generator().manual_seed(0)
    data = blobs().train
    fitted, held = training._parted(data, TINY.settings, generator)
    assert (len(fitted), len(held)) == (72, 8)
    rows = {tuple(row.tolist()) for row in torch.cat([fitted.x, held.x]).flatten(1)}
    assert len(rows) == len(data)
    assert len(training._parted(data, replace(TINY.settings, samples=40), generator)[0]) == 36


def test_short_epochs_become_more(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(TINY.settings, epochs=2, steps=23, held_out=0.0)
    assert train(TINY, blobs(), settings, 0, False).epochs == 5  # of 5 steps each


def test_permuted_labels_are_learnt_by_heart() -> None:
    data = blobs()
    permuted = with_permuted_labels(data, 3)
    assert torch.equal(permuted.train.labels.sort().values, data.train.labels.sort().values)
    assert not torch.equal(permuted.train.labels, data.train.labels)
    assert torch.equal(permuted.train.x, data.train.x)
    assert torch.equal(permuted.train.present.int().argmax(1), permuted.train.labels)
    assert permuted.test is data.test
    assert permuted.fingerprint != data.fingerprint
    settings = replace(TINY.settings.for_permuted_labels(), rate=1e-2, epochs=400)
    assert (settings.dropout, settings.held_out, settings.shift, settings.stop_at) == (False, 0, 0, 0.98)
    found = train(TINY, permuted, settings, 0, False)
    assert found.training > 0.98
    assert found.epochs < 400
    assert found.accuracy < 0.8
    few = train(TINY, permuted, replace(settings, epochs=1, steps=0), 0, False)  # what was reached is told
    assert few.training < 0.98


def test_dropout_is_off_where_it_is_to_be() -> None:
    seen: list[bool] = []

    class Watched(nn.Dropout):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.training)
            return super().forward(x)

    def factory(in_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Watched(0.5), nn.Linear(36, n_classes))

    for dropout in (True, False):
        seen.clear()
        train(replace(TINY, factory=factory), blobs(), replace(TINY.settings, epochs=1, dropout=dropout), 0, False)
        assert any(seen) is dropout


def test_shifts_move_images_whole() -> None:
    x = torch.zeros(50, 1, 9, 9)
    x[:, 0, 4, 4] = 1
    moved = training._shifted(x, 2, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape
    assert (moved.flatten(1).sum(1) == 1).all()
    places = {(int(i), int(j)) for i, j in zip(*moved[:, 0].nonzero(as_tuple=True)[1:], strict=True)}
    assert all(2 <= i <= 6 and 2 <= j <= 6 for i, j in places)
    assert len(places) > 15
    colours = torch.arange(3.0)[None, :, None, None].expand(4, 3, 5, 5)
    assert torch.equal(training._shifted(colours, 1, torch.Generator()), colours)


def test_a_sample_of_several_classes_is_correct_by_its_highest_logit() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    assert is_correct(logits, torch.tensor([[True, True, False], [True, False, True]])).tolist() == [True, False]


# -- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTRIBCHECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


SHORT = replace(TINY.settings, epochs=2)


def test_what_was_trained_is_read_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoints.trained(TINY, blobs(), SHORT, 0, False)
    (file,) = cache.iterdir()
    with safe_open(file, framework="pt") as opened:
        about = opened.metadata()
    assert float(about["accuracy"]) == made.accuracy
    assert json.loads(about["settings"])["epochs"] == 2
    assert about["inputs"] == "values in [0, 1]"
    monkeypatch.setattr(training, "train", None)
    before = torch.random.get_rng_state()
    again = checkpoints.trained(TINY, blobs(), SHORT, 0, False)
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(made.model, again.model)
    assert (again.accuracy, again.training, again.epochs) == (made.accuracy, made.training, made.epochs)
    assert not again.model.training
    assert not any(parameter.requires_grad for parameter in again.model.parameters())


def test_whatever_the_weights_depend_on_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(found: Architecture = TINY, data: Dataset | None = None, settings: Settings = SHORT, seed: int = 0) -> str:
        return checkpoints._file_name(found, data or blobs(), settings, seed)

    names = [
        name(),
        name(seed=1),
        name(settings=replace(SHORT, rate=0.1)),
        name(data=blobs(seed=1)),
        name(data=with_permuted_labels(blobs(), 0)),
        name(replace(TINY, options={"activation": "tanh"})),
        name(replace(TINY, preparation=ARCHITECTURES["mnist-mlp"].preparation)),
        name(replace(TINY, factory=ARCHITECTURES["mnist-mlp"].factory)),
    ]
    assert name() == names[0]
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert len({*names, name()}) == len(names) + 1
    assert checkpoints._file_name(architecture("mnist-mlp(tanh)"), blobs(), SHORT, 0).startswith(
        "mnist-mlp-tanh---blobs--"
    )


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_a_damaged_file_is_one_warning_and_is_trained_again(cache: Path, damage: str) -> None:
    made = checkpoints.trained(TINY, blobs(), SHORT, 0, False)
    (file,) = cache.iterdir()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    elif damage == "text":
        file.write_text("not weights")
    else:
        save_file({"a": torch.zeros(1)}, file, metadata={"accuracy": "1", "training": "1", "epochs": "1"})
    with pytest.warns(UserWarning, match="is damaged") as told:
        again = checkpoints.trained(TINY, blobs(), SHORT, 0, False)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert same(made.model, again.model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.trained(TINY, blobs(), SHORT, 0, False)


def test_a_folder_that_cannot_be_written_is_a_warning(cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="are not kept"):
        checkpoints.trained(TINY, blobs(), SHORT, 0, False)


def test_the_folder_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    assert checkpoints.folder() == cache
    monkeypatch.delenv("ATTRIBCHECK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert checkpoints.folder() == tmp_path / "attribcheck"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert checkpoints.folder() == Path.home() / ".cache" / "attribcheck"


def _train_elsewhere(queue: Any) -> None:
    torch.set_num_threads(1)
    made = checkpoints.trained(TINY, blobs(), SHORT, 0, False)
    queue.put([value.sum().item() for value in made.model.state_dict().values()])


def test_two_processes_at_once_do_no_harm(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_train_elsewhere, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    one, two = queue.get(timeout=60), queue.get(timeout=60)
    for process in processes:
        process.join(60)
    assert one == two
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]


# -- the user's weights -------------------------------------------------------------------------------------------------


def write(path: Path, weights: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.mark.parametrize("form", ["a.safetensors", "a.pt", "a.pth", "wrapped.pt", "parallel.pt"])
def test_weights_from_a_file(tmp_path: Path, form: str) -> None:
    model = training.build(TINY, blobs())
    weights: dict[str, Any] = dict(model.state_dict())
    if form == "wrapped.pt":
        weights = {"epoch": 3, "state_dict": weights}
    elif form == "parallel.pt":
        weights = {f"module.{name}": value for name, value in weights.items()}
    path = write(tmp_path / form, weights)
    found = checkpoints.fit(training.blank(TINY, blobs()), checkpoints.read_weights(path), TINY, str(path))
    assert same(found, model)
    assert not found.training


def test_weights_in_half_precision_and_unused_ones(tmp_path: Path) -> None:
    model = training.build(TINY, blobs())
    weights = {name: value.half() for name, value in model.state_dict().items()} | {"Aux.weight": torch.zeros(1)}
    path = write(tmp_path / "a.pt", weights)
    taking = replace(TINY, ignored=("Aux.",))
    found = checkpoints.fit(training.blank(TINY, blobs()), checkpoints.read_weights(path), taking, str(path))
    assert all(value.dtype == torch.float32 for value in found.state_dict().values())
    with pytest.raises(UsageError, match="has the unknown Aux.weight"):  # noqa: RUF043
        checkpoints.fit(training.blank(TINY, blobs()), checkpoints.read_weights(path), TINY, str(path))


class Evil:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("no.pt", None, "there is no such file"),
        ("a.txt", {}, "expected a file of"),
        ("a.safetensors", "text", "cannot be read as weights"),
        ("a.pt", "text", "cannot be read as weights"),
        ("a.pt", Evil(), "cannot be read as weights"),
        ("a.pt", {"epoch": 1}, "holds no state dict"),
        ("a.pt", {}, "holds no state dict"),
    ],
)
def test_what_are_no_weights_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: Any, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UsageError, match=line) as raised:
        checkpoints.read_weights(path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"1.weight": None}, "has no 1.weight"),
        ({"1.weight": None, "1.bias": None}, "has no 1.bias and 1 more"),
        ({"9.weight": torch.zeros(1)}, "has the unknown 9.weight"),
        ({"1.weight": torch.zeros(32, 35)}, r"1.weight is \(32, 35\), expected \(32, 36\)"),
    ],
)
def test_weights_that_do_not_fit_are_told(change: dict[str, Tensor | None], line: str) -> None:
    weights = {**training.build(TINY, blobs()).state_dict(), **change}
    given = {name: value for name, value in weights.items() if value is not None}
    with pytest.raises(UsageError, match=f"--weights w.pt does not fit tiny: .*{line}"):
        checkpoints.fit(training.blank(TINY, blobs()), given, TINY, "w.pt")


def test_the_embedded_data_can_be_learnt_from() -> None:
    digits = handwritten_digits.load()
    found = fitting(architecture("mnist-mlp"), digits)
    made = train(found, digits, found.settings.quick(), 0, False)
    assert made.accuracy > 0.8
    few = scenes.load(64, train=64, test=20)
    vgg = fitting(architecture("small-vgg"), few)
    assert train(vgg, few, replace(vgg.settings.quick(), epochs=1), 0, False).epochs == 1
