"""What every phantom is drawn with: coordinates, soft shapes, smooth noise, the detector.

x, y are in half-widths of the image, from -1 to 1, y downwards. Random numbers have shapes that do
not depend on the size, but for the pixel noise, which comes last: a seed shows the same patients at
every size. The order of the random numbers is part of the drawing."""

import numpy as np

Array = np.ndarray
Parts = dict[str, Array]  # what has been drawn so far, by name


class Canvas:
    """A block of `n` square images of `size` pixels, and the random numbers to draw them with."""

    def __init__(self, rng: np.random.Generator, n: int, size: int) -> None:
        self.rng, self.n, self.size = rng, n, size

    def u(self, low: float, high: float) -> Array:
        """One value per image (n, 1, 1), float32, ready to broadcast over pixels."""
        return self.rng.uniform(low, high, (self.n, 1, 1)).astype(np.float32)

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal((self.n, *shape), dtype=np.float32)

    def grid(self, angle: Array, zoom: Array, dx: Array, dy: Array) -> tuple[Array, Array]:
        """Pixel centres x, y (n, size, size), rotated by `angle` (radians), zoomed, shifted."""
        t = (np.arange(self.size, dtype=np.float32) + 0.5) * 2 / self.size - 1
        c, s = np.cos(angle) / zoom, np.sin(angle) / zoom
        return c * t + s * t[:, None] + dx, c * t[:, None] - s * t + dy

    def soft(self, distance: Array, width: float | Array) -> Array:
        """1 where `distance` is positive, else 0, over an edge of `width`, at least a pixel."""
        return 0.5 + 0.5 * np.tanh(distance / max(width, 1 / self.size))

    def noise(self, cells: int) -> Array:
        """Smooth noise (n, size, size) of unit variance, with `cells` grains across the image."""
        fine = 4 * self.size
        at = (np.arange(fine, dtype=np.float32) + 0.5)[:, None] * cells / fine
        weight = np.exp(-2 * (at - np.arange(-1, cells + 1, dtype=np.float32) - 0.5) ** 2)
        weight /= np.sqrt((weight**2).sum(1, keepdims=True))
        weight = weight.reshape(self.size, 4, -1).mean(1)  # a pixel sees the mean of its area
        return weight @ self.normal(cells + 2, cells + 2) @ weight.T

    def lobes(self, angle: Array, low: float, waves: tuple[int, ...]) -> Array:
        """A wavy outline: waves of random strength (from `low` to 1, fainter the finer)."""
        return sum(self.u(low, 1) * np.cos(k * angle + self.u(0, 6)) / k for k in waves)

    def photographed(
        self, planes: Array, mask: Array, blur: Array, size: int, grain: float
    ) -> Parts:
        """RGB planes (n, 3, F, F) and a mask (n, F, F) in [0, 1], F a multiple of `size`, through a
        lens out of focus by `blur`."""
        images = through_lens(planes, blur, size)
        masks = through_lens(mask[:, None], 0 * blur, size)[:, 0] > 0.5
        images = np.moveaxis(images, 1, -1) + grain * self.normal(size, size, 3)
        return {"images": to_uint8(images), "masks": masks.astype(np.uint8)}


def bump(squared: Array) -> Array:
    """Gaussian of a squared distance: 1 at 0."""
    return np.exp(-0.5 * squared)


def through_lens(planes: Array, width: Array, size: int) -> Array:
    """Planes (N, C, F, F), F a multiple of `size`, blurred by a Gaussian of standard deviation
    `width` (N, 1, 1), and averaged into size x size pixels."""
    fine = planes.shape[-1]
    at = (np.arange(fine, dtype=np.float32) + 0.5) * 2 / fine
    lens = bump(((at - at[:, None]) / np.maximum(width, 0.5 / fine)) ** 2)
    lens = lens / lens.sum(-1, keepdims=True)
    lens = lens.reshape(len(lens), 1, size, fine // size, fine).mean(3)
    return lens @ planes @ lens.swapaxes(2, 3)


def to_uint8(image: Array) -> Array:
    """From [0, 1], over- and underexposed pixels saturating, as on a detector."""
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
