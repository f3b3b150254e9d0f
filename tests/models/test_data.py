"""The data sets: what is embedded, and loaders on tiny files in their standard layouts."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from attribcheck.errors import UsageError
from attribcheck.models.data import handwritten_digits, scenes, sentiment
from attribcheck.models.datasets import SOURCES, Asked, dataset
from attribcheck.models.samples import Dataset
from numpy.random import default_rng
from PIL import Image

# -- embedded -------------------------------------------------------------------------------------------------------


def test_digits_are_enlarged_to_the_size_of_mnist() -> None:
    digits = handwritten_digits.load()
    assert (len(digits.train), len(digits.test)) == (1297, 500)
    assert digits.train.x.shape[1:] == digits.shape == (1, 28, 28)
    x = torch.cat([digits.train.x, digits.test.x])
    assert (float(x.min()), float(x.max())) == digits.bounds == (0, 1)
    assert not x[:, :, :2].any()
    assert not x[..., -2:].any()
    # The mean of each 3x3 block is close to the point of the 8x8 image that it was made of.
    blocks = torch.nn.functional.avg_pool2d(x[:, :, 2:-2, 2:-2], 3)
    from sklearn.datasets import load_digits

    small = torch.tensor(load_digits().images[np.random.default_rng(0).permutation(1797)] / 16).float()
    assert float((torch.cat([blocks[1297:], blocks[:1297]])[:, 0] - small).abs().mean()) < 0.05


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return scenes.load(64, train=30, test=60)


def test_a_scene_has_several_classes_with_exact_masks(drawn: Dataset) -> None:
    test = drawn.test
    assert test.masks is not None
    assert drawn.train.masks is None
    assert test.masks.shape == (60, 6, 64, 64)
    assert torch.equal(test.masks.any(3).any(2), test.present)
    assert set(test.present.sum(1).tolist()) <= {2, 3}
    assert int(test.masks.sum(1).max()) == 1  # no pixel belongs to two classes
    assert torch.equal(test.labels, test.present.int().argmax(1))
    border = torch.ones(64, 64, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert not (test.masks & border).any()  # objects are whole


def test_three_objects_are_apart_from_each_other() -> None:
    random = default_rng(0)
    placed = scenes._placed(500, 64, random)
    assert len(placed) == 3
    for k, one in enumerate(placed):
        assert (one.radius >= 0.11 * 64).all()
        assert (one.radius <= 0.16 * 64).all()
        for other in placed[:k]:
            assert (np.hypot(one.row - other.row, one.column - other.column) >= one.radius + other.radius + 1).all()


@pytest.mark.parametrize(
    ("kind", "area"),
    [("disc", np.pi), ("square", 1.96), ("triangle", 0.75 * 3**0.5), ("cross", 4 * 0.28 * (2 * 0.95 - 0.28)),
     ("ring", np.pi * 0.64), ("stripes", 1.96)],
)  # fmt: skip
def test_shapes_have_their_areas(kind: str, area: float) -> None:
    u, v = np.meshgrid(np.linspace(-1.2, 1.2, 1201), np.linspace(-1.2, 1.2, 1201))
    mask = scenes._shape(np.array([scenes.CLASSES.index(kind)]), u[None], v[None])[0]
    assert mask.sum() * 0.002**2 == pytest.approx(area, rel=0.01)
    assert not mask[np.hypot(u, v) > 1.001].any()


def test_an_object_is_painted_where_its_mask_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_crop", lambda photos, size, random: np.zeros((size, size, 3), np.uint8))
    x, masks = scenes.draw(20, 64, (), default_rng(0))
    assert np.array_equal(x.any(1), masks.any(1))


def test_the_seed_alone_says_what_is_drawn(drawn: Dataset) -> None:
    again, other = scenes.load(64, train=30, test=60), scenes.load(64, train=30, test=60, seed=1)
    assert drawn.fingerprint == again.fingerprint != other.fingerprint


def test_the_classes_are_told_by_shape_not_by_colour(drawn: Dataset) -> None:
    # The mean colour of the pixels of a class is about the same for all of them but the stripes, which are darker.
    assert drawn.test.masks is not None
    means = [drawn.test.x.permute(0, 2, 3, 1)[drawn.test.masks[:, k]].float().mean(0) for k in range(5)]
    assert float(torch.stack(means).std(0).max()) < 30


def test_scenes_have_another_size() -> None:
    large = scenes.load(224, train=2, test=2)
    assert large.name == "scenes-224"
    assert large.test.x.shape == (2, 3, 224, 224)
    assert large.test.masks is not None
    share = large.test.masks.float().mean((2, 3)).sum(1)
    assert (share > 0.02).all()


def meaning(words: list[str]) -> int:
    """The sentiment by the grammar, read from the words alone."""
    total, sign, weight = 0, 1, 1
    for word in words:
        if word in sentiment.NEGATIONS:
            sign = -1
        elif word in sentiment.INTENSIFIERS:
            weight = 2
        elif word in sentiment.GOOD + sentiment.BAD:
            total += sign * weight * (1 if word in sentiment.GOOD else -1)
            sign, weight = 1, 1
    return total


def test_sentences_mean_what_their_labels_say() -> None:
    found = sentiment.load(300, 100)
    assert found.test.x.shape == (100, 24)
    rows = torch.cat([found.train.x, found.test.x])
    labels = torch.cat([found.train.labels, found.test.labels])
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        words = [found.vocabulary[token] for token in row]
        assert words == sorted(words, key=lambda word: word != "(none)")  # padded in front
        assert (meaning(words) > 0) == bool(label)
    assert len(set(map(tuple, rows.tolist()))) == 400
    assert 0.4 < float(labels.float().mean()) < 0.6
    assert len(set(found.vocabulary)) == len(found.vocabulary)


# -- from files -----------------------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">i4").tobytes() + values.astype(np.uint8).tobytes()


def write_mnist(folder: Path, zipped: bool) -> np.ndarray:
    folder.mkdir(parents=True)
    images = default_rng(0).integers(256, size=(7, 28, 28))
    for part in ("train", "t10k"):
        for name, values in (("images-idx3", images), ("labels-idx1", np.arange(7) % 10)):
            content = idx(values)
            path = folder / f"{part}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
    return images


@pytest.mark.parametrize(("layout", "zipped"), [("", False), ("MNIST/raw", True)])
def test_mnist(tmp_path: Path, layout: str, zipped: bool) -> None:
    images = write_mnist(tmp_path / "root" / layout, zipped)
    found = dataset("mnist", Asked(str(tmp_path / "root")))
    assert np.array_equal(found.test.x[:, 0].numpy(), images)
    assert found.test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found.test.present[3].tolist() == [k == 3 for k in range(10)]


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03", b"not an idx file at all, but long enough", None])
def test_a_damaged_file_of_mnist_is_named(tmp_path: Path, content: bytes | None) -> None:
    write_mnist(tmp_path / "mnist", False)
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(UsageError, match="t10k-images-idx3-ubyte is no idx file"):
        dataset("mnist", Asked(str(tmp_path)))


def test_cifar10(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = default_rng(0).integers(256, size=(4, 3073)).astype(np.uint8)
    rows[:, 0] = [0, 9, 3, 3]
    for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    found = dataset("cifar10", Asked(str(tmp_path)))
    assert (len(found.train), len(found.test)) == (20, 4)
    assert found.test.labels.tolist() == [0, 9, 3, 3]
    assert np.array_equal(found.test.x[1].numpy().ravel(), rows[1, 1:])  # red rows first
    (folder / "test_batch.bin").write_bytes(rows.tobytes()[:-1])
    with pytest.raises(UsageError, match=r"test_batch\.bin is not made of records"):
        SOURCES["cifar10"].load(Asked(str(tmp_path)))


def test_pickles_of_cifar10_are_not_read_unless_published(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    with pytest.raises(UsageError, match="cifar-10-batches-py is not as published"):
        dataset("cifar10", Asked(str(tmp_path)))


def write_voc(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    # 100 wide, 50 high: a dog in the left half, a difficult car, a person in the lower right quarter.
    boxes = (("dog", 0, (1, 1, 50, 50)), ("car", 1, (1, 1, 9, 9)), ("person", 0, (51, 26, 100, 50)))
    objects = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, hard, b in boxes
    )
    size = "<size><width>100</width><height>50</height><depth>3</depth></size>"
    segments = np.zeros((50, 100), np.uint8)
    segments[:, :50], segments[:, 50:52] = 12, 255
    for name in ("000001", "000002"):
        Image.new("RGB", (100, 50), (10, 20, 30)).save(base / "JPEGImages" / f"{name}.jpg")
        (base / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        Image.fromarray(segments).save(base / "SegmentationClass" / f"{name}.png")
    for lists in ("Main", "Segmentation"):
        (base / "ImageSets" / lists / "trainval.txt").write_text("000001\n000002\n")
        (base / "ImageSets" / lists / "test.txt").write_text("000002\n")


def test_voc2007_with_boxes_and_with_segmentations(tmp_path: Path) -> None:
    write_voc(tmp_path)
    boxes = dataset("voc2007", Asked(str(tmp_path), size=32))
    names = np.array(boxes.classes)
    assert (len(boxes.train), len(boxes.test), boxes.partial) == (2, 1, True)
    assert boxes.test.x.shape == (1, 3, 32, 32)
    assert names[boxes.test.present[0].numpy()].tolist() == ["dog", "person"]
    assert boxes.test.masks is not None
    dog, person = (boxes.test.masks[0, boxes.classes.index(name)] for name in ("dog", "person"))
    assert dog[:, :16].all()
    assert not dog[:, 16:].any()
    assert person[16:, 16:].all()
    assert int(person.sum()) == 256
    segments = dataset("voc2007-segmentation", Asked(str(tmp_path), size=50))
    assert names[segments.test.present[0].numpy()].tolist() == ["dog"]
    assert segments.test.masks is not None
    assert int(segments.test.masks.sum()) == 50 * 25


def test_imagenet(tmp_path: Path) -> None:
    for part, count in (("val", 6), ("train", 3)):
        for k, name in enumerate(("n01", "n02")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (90, 60), (200 * k, 0, 0)).save(tmp_path / part / name / f"{number}.JPEG")
    found = dataset("imagenet", Asked(str(tmp_path), size=28, limit=8))
    assert found.classes == ("n01", "n02")
    assert (len(found.test), len(found.train)) == (8, 6)
    assert found.test.x.shape == (8, 3, 28, 28)
    assert torch.equal(found.test.labels == 1, found.test.x[:, 0].float().mean((1, 2)) > 100)
    (tmp_path / "train" / "n03").mkdir()
    with pytest.raises(UsageError, match="train"):
        SOURCES["imagenet"].load(Asked(str(tmp_path), size=28))


def test_imdb(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for kind, text in (
            ("pos", "Good, GOOD film!<br />It's"),
            ("neg", "bad film, unseen" if part == "test" else "bad film"),
        ):
            folder = tmp_path / "aclImdb" / part / kind
            folder.mkdir(parents=True)
            (folder / "0_1.txt").write_text(text)
    found = dataset("imdb", Asked(str(tmp_path)))
    assert found.vocabulary == ("(none)", "(unknown)", "film", "good", "bad", "it's")
    by_label = dict(zip(found.test.labels.tolist(), found.test.x.tolist(), strict=True))
    assert by_label[1][-5:] == [0, 3, 3, 2, 5]
    assert by_label[0][-4:] == [0, 4, 2, 1]
    assert found.test.x.shape == (2, 500)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte"),
        ("cifar10", "data_batch_1.bin"),
        ("voc2007", "VOCdevkit/VOC2007/ImageSets/Main"),
        ("voc2007-segmentation", "VOCdevkit/VOC2007/ImageSets/Segmentation"),
        ("imagenet", "val"),
        ("imdb", "train/pos"),
    ],
)
def test_what_is_missing_is_named_in_one_line(tmp_path: Path, name: str, file: str) -> None:
    for asked, line in (
        (Asked(), "--data-root DIR"),
        (Asked(str(tmp_path / "no")), "no such folder"),
        (Asked(str(tmp_path)), file),
    ):
        with pytest.raises(UsageError) as raised:
            dataset(name, asked)
        assert line in str(raised.value)
        assert "\n" not in str(raised.value)


def test_an_unknown_data_set_is_told() -> None:
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        dataset("digit")
