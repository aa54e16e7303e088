"""What every phantom is drawn with: coordinates, soft shapes, smooth noise, the detector.

Drawing functions work in units of the image's half-width (x, y in [-1, 1], y downwards) and take from `rng` arrays whose
shapes do not depend on `size`, but for the pixel noise, which comes last: the same seed shows the same patients at every
size.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def uniform(rng: np.random.Generator, n: int) -> Callable[[float, float], Array]:
    """A function (low, high) -> float32 (n, 1, 1): one value per image, ready to broadcast over pixels."""
    return lambda low, high: rng.uniform(low, high, (n, 1, 1)).astype(np.float32)


def grid(size: int, angle: Array, zoom: Array, dx: Array, dy: Array) -> tuple[Array, Array]:
    """Pixel centres x, y (N, size, size) in patient coordinates: rotated by `angle` (radians), zoomed, shifted."""
    t = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    c, s = np.cos(angle) / zoom, np.sin(angle) / zoom
    return c * t + s * t[:, None] + dx, c * t[:, None] - s * t + dy


def inside(distance: Array, width: float, size: int) -> Array:
    """1 where `distance` (half-widths) is positive, 0 where negative, over a soft edge never sharper than a pixel."""
    return 0.5 + 0.5 * np.tanh(distance / max(width, 1 / size))


def bump(squared: Array) -> Array:
    """Gaussian of a squared distance: 1 at 0."""
    return np.exp(-0.5 * squared)


def smooth_noise(rng: np.random.Generator, n: int, size: int, cells: int) -> Array:
    """Smooth noise (n, size, size), of unit variance before pixels average it, with `cells` grains across the image."""
    at = (np.arange(4 * size, dtype=np.float32) + 0.5)[:, None] * cells / (4 * size)
    weight = np.exp(-2 * (at - np.arange(-1, cells + 1, dtype=np.float32) - 0.5) ** 2)
    weight /= np.sqrt((weight**2).sum(1, keepdims=True))
    weight = weight.reshape(size, 4, -1).mean(
        1
    )  # each pixel sees the mean of its area, as a detector does
    return weight @ rng.standard_normal((n, cells + 2, cells + 2), dtype=np.float32) @ weight.T


def through_lens(planes: Array, width: Array, size: int) -> Array:
    """Planes (N, C, F, F), F a multiple of `size`, blurred by a Gaussian of standard deviation `width` (N, 1, 1), in
    half-widths, and averaged into size x size pixels."""
    fine = planes.shape[-1]
    at = (np.arange(fine, dtype=np.float32) + 0.5) * 2 / fine
    lens = bump(((at - at[:, None]) / np.maximum(width, 0.5 / fine)) ** 2)
    lens = (
        (lens / lens.sum(-1, keepdims=True)).reshape(len(lens), 1, size, fine // size, fine).mean(3)
    )
    return lens @ planes @ lens.swapaxes(2, 3)


def to_uint8(image: Array) -> Array:
    """From [0, 1], over- and underexposed pixels saturating, as on a detector."""
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
