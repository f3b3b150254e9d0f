"""Scenes: several objects of several shapes over photographs, with the exact mask of each class."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
from numpy.random import Generator, default_rng
from PIL import Image
from skimage.color import hsv2rgb

from ...errors import UsageError
from ..samples import Dataset, Samples

CLASSES = ("disc", "square", "triangle", "cross", "ring", "stripes")
OBJECTS = 3
# Photographs inside scikit-image's wheel. What is behind the test scenes is in no training scene.
_TRAIN_PHOTOS = ("astronaut.png", "coffee.png", "motorcycle_left.png", "ihc.png", "hubble_deep_field.jpg", "retina.jpg")
_TEST_PHOTOS = ("chelsea.png", "rocket.jpg")
_AT_ONCE = 100
_SMALLEST, _LARGEST = 0.11, 0.16  # radii, as shares of the side


def load(size: int = 64, train: int = 2_000, test: int = 400, seed: int = 0) -> Dataset:
    """Scenes of three objects of at least two of six classes, each object whole and apart from the others.

    Colours, textures, sizes, angles and places are drawn apart from the class: only the shape tells it. Masks are of
    the test scenes.

    Args:
        size: height and width in pixels.
        train, test: how many scenes.
        seed: of all that is drawn.

    Raises:
        UsageError: a photograph is missing from the installed scikit-image.
    """
    parts = []
    for purpose, photos, count in ((0, _TRAIN_PHOTOS, train), (1, _TEST_PHOTOS, test)):
        x, masks = draw(count, size, photos, default_rng((seed, purpose)))
        present = torch.tensor(masks.any((2, 3)))
        parts.append(Samples.of_classes(torch.tensor(x), present, torch.tensor(masks) if purpose else None))
    return Dataset(
        name="scenes" if size == 64 else f"scenes-{size}",
        classes=CLASSES,
        shape=(3, size, size),
        bounds=(0.0, 1.0),
        kind="scene",
        group_axis=0,
        train=parts[0],
        test=parts[1],
        source=f"generated scenes of shapes over scikit-image's photographs, seed {seed}",
        needed=0.85,
        why="with two or three of six classes in each scene a guess is right on less than half",
    )


@dataclass(frozen=True)
class _Objects:
    """One object of each of N scenes: class [N], centre and radius in pixels [N], angle in radians [N]."""

    kind: np.ndarray
    row: np.ndarray
    column: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def draw(count: int, size: int, photos: tuple[str, ...], random: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scenes as bytes [count, 3, size, size] and the masks of their classes [count, C, size, size]."""
    x = np.empty((count, 3, size, size), np.uint8)
    masks = np.zeros((count, len(CLASSES), size, size), bool)
    for start in range(0, count, _AT_ONCE):
        n = min(_AT_ONCE, count - start)
        canvas = np.stack([_crop(photos, size, random) for _ in range(n)])
        for placed in _placed(n, size, random):
            scene, row, column, u, v = _pixels(placed, size)
            canvas[scene, row, column] = _painted(placed.kind, scene, u, v, random)
            masks[start + scene, placed.kind[scene], row, column] = True
        x[start : start + n] = canvas.transpose(0, 3, 1, 2)
    return x, masks


def _placed(n: int, size: int, random: Generator) -> list[_Objects]:
    """Three objects for each of n scenes: inside the scene, and apart from each other by a pixel or more."""
    kind = random.integers(len(CLASSES), size=(OBJECTS, n))
    kind[1] = (kind[0] + random.integers(1, len(CLASSES), size=n)) % len(CLASSES)  # two classes at least
    angle = random.uniform(0, 2 * np.pi, (OBJECTS, n))
    radius, row, column = np.empty((3, OBJECTS, n))
    open_ = np.arange(n)
    while len(open_):  # about one draw in four keeps three objects apart
        size_of = random.uniform(_SMALLEST, _LARGEST, (OBJECTS, len(open_))) * size
        place = size_of + 1 + random.random((2, OBJECTS, len(open_))) * (size - 2 * size_of - 3)
        radius[:, open_], (row[:, open_], column[:, open_]) = size_of, place
        gaps = (
            np.hypot(*(place[:, a] - place[:, b])) - size_of[a] - size_of[b]
            for a, b in itertools.combinations(range(OBJECTS), 2)
        )
        open_ = open_[np.minimum.reduce(list(gaps)) < 1]
    return [_Objects(kind[k], row[k], column[k], radius[k], angle[k]) for k in range(OBJECTS)]


def _pixels(placed: _Objects, size: int) -> tuple[np.ndarray, ...]:
    """The pixels of the objects, each with its scene, row, column, and place (u, v) along the object's own axes.

    u and v are in units of the radius. Only a patch around each object is looked at.
    """
    reach = int(np.ceil(_LARGEST * size)) + 1
    steps = np.arange(-reach, reach + 1)
    rows = (np.round(placed.row).astype(int)[:, None] + steps)[:, :, None]
    columns = (np.round(placed.column).astype(int)[:, None] + steps)[:, None, :]
    row, column, radius, angle = (
        part[:, None, None] for part in (placed.row, placed.column, placed.radius, placed.angle)
    )
    down, right = (rows - row) / radius, (columns - column) / radius
    u = right * np.cos(angle) + down * np.sin(angle)
    v = down * np.cos(angle) - right * np.sin(angle)
    scene, i, j = _shape(placed.kind, u, v).nonzero()
    return scene, rows[scene, i, 0], columns[scene, 0, j], u[scene, i, j], v[scene, i, j]


def _shape(kind: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Which pixels [N, P, P] belong to an object; every shape lies in the unit disc."""
    distance = np.hypot(u, v)
    a, b = np.abs(u), np.abs(v)
    square = np.maximum(a, b) <= 0.7
    shapes = {
        "disc": distance <= 1,
        "square": square,
        # Inside all three sides, which are at 1/2 from the centre.
        "triangle": (v <= 0.5) & (0.866 * u - 0.5 * v <= 0.5) & (-0.866 * u - 0.5 * v <= 0.5),
        "cross": (np.minimum(a, b) <= 0.28) & (np.maximum(a, b) <= 0.95),
        "ring": (distance <= 1) & (distance >= 0.6),
        "stripes": square,
    }
    return np.choose(kind[:, None, None], [shapes[name] for name in CLASSES])


def _painted(kind: np.ndarray, scene: np.ndarray, u: np.ndarray, v: np.ndarray, random: Generator) -> np.ndarray:
    """The colours [pixels, 3] of objects as bytes: a random one each, a faint random texture, dark bars on stripes."""
    n = len(kind)
    colour = hsv2rgb(np.stack([random.random(n), random.uniform(0.3, 1, n), random.uniform(0.6, 1, n)], -1))
    slope = random.uniform(-4, 4, (2, n))[:, scene]
    texture = 0.9 + 0.1 * np.sin(slope[0] * u + slope[1] * v)
    bars = np.where(np.sin(3.5 * np.pi * u) > 0, 1.0, 0.15)
    brightness = np.where(kind[scene] == CLASSES.index("stripes"), bars, texture)
    painted: np.ndarray = (colour[scene] * brightness[:, None] * 255).round().astype(np.uint8)
    return painted


def _crop(photos: tuple[str, ...], size: int, random: Generator) -> np.ndarray:
    """A random square of a photograph as bytes [size, size, 3], darkened, mirrored in half the cases."""
    photo = _photo(photos[random.integers(len(photos))], 3 * size)
    side = int(random.uniform(0.3, 1.0) * min(photo.size))
    left, top = (int(random.integers(whole - side + 1)) for whole in photo.size)
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.asarray(crop)[:, :: random.choice((-1, 1))]


@functools.cache
def _photo(name: str, short: int) -> Image.Image:
    """A photograph, darkened so that objects stand out, its shorter side brought down to `short`."""
    path = resources.files("skimage.data") / name
    if not path.is_file():
        raise UsageError(f"scenes: the installed scikit-image has no {path}")
    with path.open("rb") as file:
        photo = Image.open(file).convert("RGB").point(lambda value: 0.7 * value)
    photo.thumbnail(tuple(max(1, side * short // min(photo.size)) for side in photo.size))  # type: ignore[arg-type]
    return photo
