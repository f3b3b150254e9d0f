"""How alike two maps are: rank correlations, structural similarity, histograms of oriented gradients; in batches.

All of them compare two batches of maps [B, ...] row by row and return float64 [B], never NaN:

- `spearman`: features share average ranks where they are equal. A constant map has no order: it is as unlike as can be (0)
  to a map that has one, and the same (1) as another constant map. A map of zeros is a constant one here; what it means, a
  check decides.
- `ssim`, `spearman_of_hog`: of images [B, H, W]. Maps have no common unit, so the size |R| of each map is taken to [0, 1] by
  its own least and largest value first; a constant map becomes 0 everywhere.

They are written out because a check compares thousands of maps, and SciPy and scikit-image go through one pair at a time:
on 224x224 these take a fourth (Spearman), two thirds (SSIM) and a fifth (HOG) of their time. The tests hold them to both
libraries.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

ORIENTATIONS = 9
BLOCK = 3
CELL = 8
WINDOW = 7
"""scikit-image's own choices: orientations, cells of a block along one axis, pixels of a cell, pixels of a window of SSIM."""

# hog: Dalal and Triggs' clipping of a normalised block (L2-Hys), and what keeps an empty block from division by zero.
_CLIP, _EPSILON = 0.2, 1e-5
# ssim: Wang et al. 2004, K1 and K2, for images in [0, 1].
_C1, _C2 = 0.01**2, 0.03**2


def average_ranks(values: Array) -> Array:
    """The ranks 1 to N along each row of [B, N]; equal values share the mean of their ranks."""
    rows, n = values.shape
    if not n:
        return np.zeros((rows, 0))
    order, tied = _ascending(values)
    ordered = np.tile(np.arange(1.0, n + 1), rows)
    edges = np.diff(tied.ravel(), prepend=False, append=False)
    bounds = np.flatnonzero(edges)
    # A run of values that equal the one before them makes a group with the value that it follows.
    begin, behind = bounds[::2] - 1, bounds[1::2]
    if len(begin):
        tied.ravel()[begin] = True
        ordered[tied.ravel()] = np.repeat((ordered[begin] + ordered[behind - 1]) / 2, behind - begin)
    if rows > 1:
        order += np.arange(rows)[:, None] * n
    ranks = np.empty(rows * n)
    ranks[order.ravel()] = ordered
    return ranks.reshape(rows, n)


def _ascending(values: Array) -> tuple[Array, Array]:
    """Where the values of each row stand in ascending order, and which of them equal the one before: [B, N] both."""
    tied = np.zeros(values.shape, dtype=bool)
    if values.dtype == np.float32:
        # Sorting whole numbers, each made of a value and its place, is three times as fast as an argsort. The bits of a
        # float are in the order of the values once those of negative ones are turned over; adding 0 makes -0 one with 0.
        bits = (values + np.float32(0)).view(np.int32)
        bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
        keys = bits.astype(np.int64)
        keys <<= 32
        keys |= np.arange(values.shape[1])
        keys.sort(axis=1)
        order = keys & 0xFFFFFFFF
        keys >>= 32
        np.equal(keys[:, 1:], keys[:, :-1], out=tied[:, 1:])
    else:
        order = np.argsort(values, axis=1)
        ordered = np.take_along_axis(values, order, axis=1)
        np.equal(ordered[:, 1:], ordered[:, :-1], out=tied[:, 1:])
    return order, tied


def spearman(a: Array, b: Array, keep: Array | None = None) -> Array:
    """Spearman's rank correlation of each row.

    Args:
        a, b: maps [B, N].
        keep: [B, N], the features that count; all by default.

    Returns:
        [B], in [-1, 1]; 1 where both rows are constant, 0 where one is.
    """
    first, second = (_centred_ranks(values, keep) for values in (a, b))
    sizes = np.sqrt(np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second))
    product = np.einsum("ij,ij->i", first, second)
    flat = ~first.any(axis=1) & ~second.any(axis=1)
    return np.where(flat, 1.0, np.clip(product / np.where(sizes == 0, 1.0, sizes), -1.0, 1.0))


def _centred_ranks(values: Array, keep: Array | None) -> Array:
    """Average ranks among the features that count, minus their mean; 0 for the others."""
    if keep is None:
        ranks = average_ranks(values)
        ranks -= (values.shape[1] + 1) / 2
        return ranks
    # What does not count goes behind everything else, where it does not move the ranks of the rest.
    ranks = average_ranks(np.where(keep, values, np.inf))
    return np.where(keep, ranks - (keep.sum(axis=1, keepdims=True) + 1) / 2, 0.0)


def normalised(maps: Array) -> Array:
    """The sizes of maps [B, H, W], each taken to [0, 1] by its least and largest value; a constant map to 0."""
    sizes = np.abs(maps).astype(np.float64)
    sizes -= sizes.min(axis=(1, 2), keepdims=True)
    largest = sizes.max(axis=(1, 2), keepdims=True)
    return sizes / np.where(largest == 0, 1.0, largest)


def ssim(a: Array, b: Array) -> Array:
    """The structural similarity of images [B, H, W] in [0, 1], windows of 7x7: [B], in [-1, 1].

    Source: Wang et al. 2004, with uniform windows and sample covariances, as `skimage.metrics.structural_similarity`.

    Raises:
        ValueError: the images are smaller than a window.
    """
    if min(a.shape[1:]) < WINDOW:
        raise ValueError(f"ssim needs images of at least {WINDOW}x{WINDOW}, not {a.shape[1]}x{a.shape[2]}")
    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_a, mean_b, squares, product = (_window_means(values) for values in (a, b, a * a + b * b, a * b))
    means, levels = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    above = (2 * means + _C1) * (2 * sample * (product - means) + _C2)
    below = (levels + _C1) * (sample * (squares - levels) + _C2)
    return np.asarray((above / below).mean(axis=(1, 2)))


def _window_means(values: Array) -> Array:
    """The means over all windows inside images [B, H, W]: sums of two, of four, then of seven rows, and so for columns."""
    for axis in (1, 2):
        moved = np.moveaxis(values, axis, 0)
        n = len(moved) - WINDOW + 1
        two = moved[:-1] + moved[1:]
        total = two[: n + 2] + two[2 : n + 4]
        total = total[:n]
        total += two[4 : n + 4]
        total += moved[6:]
        total *= 1 / WINDOW
        values = np.moveaxis(total, 0, axis)
    return values


def hog(images: Array, cell: int = CELL) -> Array:
    """Histograms of oriented gradients of images [B, H, W]: [B, F].

    Each cell has a histogram of 9 orientations over 180 degrees; 3x3 cells (fewer where there are fewer) are normalised
    together (L2-Hys). Gradients and their negatives have one orientation, so an image and its negative have equal features.

    Source: Dalal and Triggs 2005, as `skimage.feature.hog`.

    Raises:
        ValueError: the images are smaller than a cell.
    """
    n, height, width = images.shape
    rows, columns = height // cell, width // cell
    if not rows or not columns:
        raise ValueError(f"hog needs images of at least {cell}x{cell}, not {height}x{width}")
    down, right = np.zeros_like(images), np.zeros_like(images)
    down[:, 1:-1] = images[:, 2:] - images[:, :-2]
    right[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    down, right = (part[:, : rows * cell, : columns * cell] for part in (down, right))
    place = (np.arange(rows * cell) // cell)[:, None] * columns + np.arange(columns * cell) // cell
    place = (np.arange(n)[:, None, None] * (rows * columns) + place) * ORIENTATIONS + _orientations(down, right)
    strength = np.sqrt(down * down + right * right)
    sums = np.bincount(place.ravel(), strength.ravel(), minlength=n * rows * columns * ORIENTATIONS)
    cells = sums.reshape(n, rows, columns, ORIENTATIONS) / cell**2
    high, wide = min(BLOCK, rows), min(BLOCK, columns)
    blocks = np.lib.stride_tricks.sliding_window_view(cells, (high, wide), axis=(1, 2))
    blocks = np.moveaxis(blocks, 3, 5).reshape(n, -1, high * wide * ORIENTATIONS)
    clipped = np.minimum(_unit(blocks), _CLIP)
    return np.asarray(_unit(clipped).reshape(n, -1))


def _orientations(down: Array, right: Array) -> Array:
    """Which of the ORIENTATIONS equal parts of 180 degrees each gradient points to, or its negative."""
    # Eight comparisons with the tangents of the bounds are cheaper than one arc tangent. Gradients are turned upwards first.
    right = np.where((down < 0) | ((down == 0) & (right < 0)), -right, right)
    down = np.abs(down)
    line = np.empty_like(right)
    parts = np.zeros(down.shape, dtype=np.int8)
    for angle in np.arange(1, ORIENTATIONS) * (np.pi / ORIENTATIONS):
        np.multiply(right, np.tan(angle), out=line)
        parts += down >= line if angle < np.pi / 2 else down <= line
    return parts


def _unit(blocks: Array) -> Array:
    return np.asarray(blocks / np.sqrt((blocks * blocks).sum(axis=2, keepdims=True) + _EPSILON**2))


def spearman_of_hog(a: Array, b: Array) -> Array:
    """Spearman's rank correlation of the histograms of oriented gradients of maps [B, H, W]: [B].

    The sizes |R| of the maps are normalised. Cells have 8 pixels along each axis; in images of less than 56 pixels a
    seventh of the shorter side, so that there are at least 7x7 cells.

    Source: Adebayo et al. 2018, section 3 (with Pearson's correlation); Khakzar et al. 2020, Table 2 (with Spearman's).
    """
    cell = min(CELL, max(1, min(a.shape[1:]) // 7))
    return spearman(hog(normalised(a), cell), hog(normalised(b), cell))
