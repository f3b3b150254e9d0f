"""The similarities of maps against SciPy and scikit-image, by hand, and on maps that are constant or full of ties."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attribcheck.sanity.similarity import average_ranks, hog, normalised, spearman, spearman_of_hog, ssim
from scipy.stats import rankdata, spearmanr
from skimage.feature import hog as library_hog
from skimage.metrics import structural_similarity

Array = np.ndarray


def with_zeros(seed: int, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """Maps of which three features in ten are exactly zero."""
    random = np.random.default_rng(seed)
    maps = random.normal(size=shape)
    maps[random.random(shape) < 0.3] = 0
    return maps.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_are_those_of_scipy(dtype: Any) -> None:
    random = np.random.default_rng(0)
    for _ in range(500):
        values = random.integers(-2, 3, (random.integers(1, 5), random.integers(1, 12))).astype(dtype)
        values *= dtype(random.choice([1.0, -0.0, 1e-40, -3e30]))
        np.testing.assert_array_equal(average_ranks(values), rankdata(values, axis=1))
    assert average_ranks(np.zeros((2, 0), dtype)).shape == (2, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [50, 28 * 28, 224 * 224])
def test_spearman_is_that_of_scipy_with_ties(n: int, dtype: Any) -> None:
    a = with_zeros(0, (3, n), dtype)
    b = a + with_zeros(1, (3, n), dtype)
    expected = [spearmanr(one, other).statistic for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=1e-9)
    np.testing.assert_allclose(spearman(a, -b), -np.array(expected), atol=1e-9)


def test_spearman_by_hand() -> None:
    # d = (2, -1, -1): 1 - 6 * 6 / (3 * 8)
    assert spearman(np.array([[1.0, 2, 3]]), np.array([[3.0, 1, 2]])) == pytest.approx(-0.5)
    # ranks (1.5, 1.5, 3) and (1, 2, 3): 1.5 / sqrt(1.5 * 2)
    assert spearman(np.array([[0.0, 0, 5]]), np.array([[1.0, 2, 3]])) == pytest.approx(1.5 / 3**0.5)


def test_spearman_of_features_that_count_is_that_of_these_alone() -> None:
    a, b = with_zeros(0, (6, 40)), with_zeros(1, (6, 40))
    keep = np.random.default_rng(2).random((6, 40)) < 0.6
    expected = [spearmanr(one[k], other[k]).statistic for one, other, k in zip(a, b, keep, strict=True)]
    np.testing.assert_allclose(spearman(a, b, keep), expected, atol=1e-12)


def test_constant_maps_have_a_similarity() -> None:
    flat, other, rising = np.zeros((1, 9)), np.full((1, 9), 7.0), np.arange(9.0)[None]
    assert spearman(flat, other) == spearman(flat, flat) == 1
    assert spearman(flat, rising) == spearman(rising, other) == 0
    nothing_counts = np.zeros((1, 9), dtype=bool)
    assert spearman(rising, rising, nothing_counts) == 1
    images = [values.reshape(1, 3, 3).repeat(9, 1).repeat(9, 2) for values in (flat, other, rising)]
    for a in images:
        for b in images:
            assert np.isfinite(spearman_of_hog(a, b)).all()
            assert np.isfinite(ssim(normalised(a), normalised(b))).all()


def test_normalised_sizes_reach_from_0_to_1() -> None:
    maps = np.array([[[-4.0, 1.0], [2.0, 3.0]], [[5.0, 5.0], [-5.0, 5.0]]])
    np.testing.assert_allclose(normalised(maps), [[[1, 0], [1 / 3, 2 / 3]], [[0, 0], [0, 0]]])


@pytest.mark.parametrize("shape", [(7, 7), (28, 28), (9, 31), (64, 50)])
def test_ssim_is_that_of_scikit_image(shape: tuple[int, int]) -> None:
    a = normalised(with_zeros(0, (4, *shape)))
    b = normalised(with_zeros(1, (4, *shape)) + a)
    expected = [structural_similarity(one, other, data_range=1.0) for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b), expected, atol=1e-9)
    np.testing.assert_allclose(ssim(a, a), 1)


@pytest.mark.parametrize(
    ("shape", "cell"), [((28, 28), 4), ((64, 50), 8), ((23, 17), 3), ((224, 224), 8), ((12, 30), 5)]
)
def test_hog_is_that_of_scikit_image(shape: tuple[int, int], cell: int) -> None:
    images = normalised(with_zeros(0, (3, *shape)))
    block = (min(3, shape[0] // cell), min(3, shape[1] // cell))
    expected = [library_hog(image, pixels_per_cell=(cell, cell), cells_per_block=block) for image in images]
    np.testing.assert_allclose(hog(images, cell), expected, atol=1e-6)


def test_hog_has_one_orientation_for_both_directions() -> None:
    images = with_zeros(0, (2, 24, 24), np.float64)
    np.testing.assert_allclose(hog(images), hog(-images), atol=1e-12)
    down = np.broadcast_to(np.arange(24.0)[:, None], (1, 24, 24))
    assert hog(down).reshape(-1, 9)[:, 4].min() > 0  # 90 degrees is in the fifth of nine parts
    assert hog(down).reshape(-1, 9).sum(0).nonzero()[0].tolist() == [4]


def test_small_images_are_refused_where_no_window_fits() -> None:
    with pytest.raises(ValueError, match="at least 7x7"):
        ssim(np.zeros((1, 6, 9)), np.zeros((1, 6, 9)))
    with pytest.raises(ValueError, match="at least 8x8"):
        hog(np.zeros((1, 6, 9)))


@pytest.mark.slow
def test_a_large_pair_is_much_faster_than_with_the_libraries() -> None:
    """On a machine of its own the factors are above 4, 1.5 and 5; here they leave room for what else runs."""
    a, b = with_zeros(0, (1, 224, 224)), with_zeros(1, (1, 224, 224))
    one, other = normalised(a), normalised(b)
    pairs: list[tuple[float, Callable[[], Any], Callable[[], Any]]] = [
        (2.5, lambda: spearman(a.reshape(1, -1), b.reshape(1, -1)), lambda: spearmanr(a.ravel(), b.ravel())),
        (1.1, lambda: ssim(one, other), lambda: structural_similarity(one[0], other[0], data_range=1.0)),
        (2.5, lambda: hog(one), lambda: library_hog(one[0])),
    ]
    for factor, ours, theirs in pairs:
        spent: list[list[float]] = [[], []]
        for _ in range(25):
            for times, call in zip(spent, (ours, theirs), strict=True):
                start = time.process_time()
                call()
                times.append(time.process_time() - start)
        assert factor * min(spent[0]) < min(spent[1])
