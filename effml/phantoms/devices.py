"""What simulated sites and years do to an image: gain, contrast, blur, noise, stain."""

import numpy as np

Array = np.ndarray
SITES = ("A", "B", "C", "D")  # D only in test: a hospital that gave no training images
YEARS = tuple(range(2016, 2024))  # the last two only in test
#                  A       B       C       D
_GAIN = np.array([1.00, 0.90, 1.08, 0.70])
_GAMMA = np.array([1.00, 1.15, 0.90, 1.60])
_BLUR = np.array([0.00, 0.010, 0.005, 0.025])  # standard deviation, in widths of the image
_NOISE = np.array([0.00, 0.015, 0.005, 0.045])  # of full scale
_STAIN = np.array([[0, 0, 0], [0.1, -0.05, 0], [-0.05, 0.05, 0.05], [-0.1, 0.15, -0.1]])


def as_seen_at(
    images: Array, site: Array, year: Array, shift: float, rng: np.random.Generator
) -> Array:
    """uint8 images as the devices of `site` (N, index into SITES) and `year` (N,) show them."""
    from scipy.ndimage import gaussian_filter1d

    rgb = images.ndim == 4 and images.shape[-1] == 3
    axes = (-2, -3) if rgb else (-1, -2)
    out = np.empty_like(images)
    for i, (image, s) in enumerate(zip(images, site)):
        age = (year[i] - YEARS[0]) / (len(YEARS) - 1)  # gain fades and noise grows as devices age
        value = image.astype(np.float32) / 255
        if width := shift * _BLUR[s]:
            for axis in axes:
                sigma = width * value.shape[axes[0]]
                value = gaussian_filter1d(value, sigma, axis, mode="nearest")
        value = value ** (1 + shift * (_GAMMA[s] - 1)) * (1 + shift * (_GAIN[s] - 1 - 0.1 * age))
        if rgb:
            value = np.maximum(value, 1 / 255) ** (1 + shift * _STAIN[s])
        noise = rng.standard_normal(value.shape, dtype=np.float32)
        value += shift * (_NOISE[s] + 0.01 * age) * noise
        out[i] = np.clip(value * 255 + 0.5, 0, 255)
    return out
