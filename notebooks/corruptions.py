"""Pictures made worse in thirteen ways and five severities, in the manner of MedMNIST-C (Di Salvo
et al. 2024, arXiv 2406.17536: its ways and factors for PneumoniaMNIST), and the errors it reports.

Two are ours, for images of 28 px: the blur, in pixels (theirs is for 224 px and not seen here), and
the sides of coarse pixels (of their 0.6 the grid fits worse than of 0.5). Noise is drawn once for
all severities, so that a higher one is the same picture, worse."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pandas
from numpy.typing import NDArray
from PIL import Image

from effml.machine import choose

SEVERITIES = (1, 2, 3, 4, 5)
UP, DOWN = (1.1, 1.2, 1.3, 1.4, 1.6), (0.9, 0.8, 0.7, 0.6, 0.4)


def _noise(x: NDArray, amount: float, rng: np.random.Generator) -> NDArray:
    return x + amount * rng.standard_normal(x.shape)


def _speckle(x: NDArray, amount: float, rng: np.random.Generator) -> NDArray:
    return x + amount * x * rng.standard_normal(x.shape)


def _impulse(x: NDArray, amount: float, rng: np.random.Generator) -> NDArray:
    """A share `amount` of the pixels becomes black or white, half of it each."""
    drawn = rng.random(x.shape)
    return np.where(drawn < amount / 2, 0, np.where(drawn > 1 - amount / 2, 1, x))


def _shot(x: NDArray, photons: float, rng: np.random.Generator) -> NDArray:
    return rng.poisson(x * photons) / photons


def _blur(x: NDArray, sigma: float, rng: np.random.Generator) -> NDArray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest")


def _brightness(x: NDArray, factor: float, rng: np.random.Generator) -> NDArray:
    return x * factor


def _contrast(x: NDArray, factor: float, rng: np.random.Generator) -> NDArray:
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return mean + factor * (x - mean)


def _gamma(x: NDArray, power: float, rng: np.random.Generator) -> NDArray:
    return x**power


def _pixelate(x: NDArray, share: float, rng: np.random.Generator) -> NDArray:
    height, width = x.shape[-2:]
    small = int(width * share), int(height * share)

    def coarse(picture: Image.Image) -> Image.Image:
        return picture.resize(small, Image.BOX).resize((width, height), Image.BOX)

    return _each(x, coarse)


def _jpeg(x: NDArray, quality: int, rng: np.random.Generator) -> NDArray:
    def again(picture: Image.Image) -> Image.Image:
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _each(x, again)


def _each(x: NDArray, change: Callable[[Image.Image], Image.Image]) -> NDArray:
    """`change` of each picture of x (N, C, H, W), grey or in colour."""
    grey = x.shape[1] == 1
    rows = np.moveaxis((x * 255).round().astype(np.uint8), 1, -1)
    made = np.stack(
        [np.asarray(change(Image.fromarray(row[..., 0] if grey else row))) for row in rows]
    )
    return (made[:, None] if grey else np.moveaxis(made, -1, 1)) / 255


CORRUPTIONS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    "pixelate": (_pixelate, (0.8, 0.7, 0.5, 0.4, 0.3)),
    "jpeg": (_jpeg, (50, 30, 15, 10, 7)),
    "gaussian noise": (_noise, (0.04, 0.05, 0.06, 0.07, 0.08)),
    "speckle noise": (_speckle, (0.05, 0.07, 0.10, 0.15, 0.20)),
    "impulse noise": (_impulse, (0.005, 0.01, 0.013, 0.017, 0.02)),
    "shot noise": (_shot, (300, 200, 150, 100, 80)),
    "blur": (_blur, (0.4, 0.6, 0.8, 1.0, 1.3)),
    "brightness up": (_brightness, (1.1, 1.2, 1.3, 1.4, 1.5)),
    "brightness down": (_brightness, (0.9, 0.8, 0.7, 0.6, 0.5)),
    "contrast up": (_contrast, UP),
    "contrast down": (_contrast, DOWN),
    "gamma up": (_gamma, UP),
    "gamma down": (_gamma, DOWN),
}
"""By name the function of images in [0, 1], and what it is given at each severity."""


def corrupt(images: NDArray, name: str, severity: int, *, seed: int = 0) -> NDArray:
    """uint8 images (N, C, H, W) made worse; at severity 0 as they are. ValueError for another name
    or severity, or other images."""
    change, amounts = CORRUPTIONS[choose("corruption", name, CORRUPTIONS)]
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        given = f"{images.dtype} {images.shape}"
        raise ValueError(f"images are {given}: give uint8 (N, 1, H, W), or (N, 3, H, W) in colour.")
    if severity not in (0, *SEVERITIES):
        raise ValueError(f"severity={severity}: give 0 (none) or one of 1 to 5.")
    if not severity:
        return images.copy()
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name)])
    worse = change(images / 255, amounts[severity - 1], rng)
    return (np.clip(worse, 0, 1) * 255).round().astype(np.uint8)


def relative_errors(
    errors: pandas.DataFrame, clean: pandas.Series, reference: str
) -> pandas.DataFrame:
    """MedMNIST-C's two numbers for each model: `errors` has a row for each model and corruption
    (index levels of these names) and a column for each severity, `clean` each model's error without
    corruption; all are balanced errors.

    Columns: BE, the error averaged over severities relative to the reference's, averaged over the
    kinds; rBE, what corruption adds to the clean error, relative to what it adds to the
    reference's. rBE divides the means over all kinds: a kind that does the reference no harm
    would divide by next to nothing."""
    mean = errors.mean(axis=1).unstack("corruption")
    added = mean.mean(axis=1) - clean
    found = {"BE": (mean / mean.loc[reference]).mean(axis=1), "rBE": added / added[reference]}
    return pandas.DataFrame(found).loc[errors.index.unique("model")]
