"""Phantoms: medical images simulated from a seed; everything runs without data or network.
A phantom is a line of `PHANTOMS` and a drawing function, which gets the labels of a block of images
(zeros where there are no classes); `effml.phantoms.brushes` says in which coordinates it draws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from effml.machine import choose
from effml.phantoms.ct import nodule
from effml.phantoms.dermoscopy import skin
from effml.phantoms.devices import SITES, YEARS, as_seen_at
from effml.phantoms.histology import tissue
from effml.phantoms.mri import brain, brain_volume
from effml.phantoms.photograph import wound
from effml.phantoms.xray import chest

Array = np.ndarray
SPLITS = ("train", "val", "test")
DRAWING = 1
"""Raised by hand when any phantom may look different; a test of the pixels forces it."""
BLOCK = 50  # images drawn at once: few enough for a laptop's memory at 224 px


@dataclass(frozen=True)
class Phantom:
    """Calling it draws "images", uint8 (N, H, W[, 3]) or (N, D, H, W), of labels (N,) and, where
    something is to be outlined, "masks" uint8 {0, 1}."""

    draw: Callable[[Array, int, float, np.random.Generator], dict[str, Array]]
    modality: str
    counts: tuple[int, int, int]  # images in train, val, test
    classes: dict[str, float]  # name -> frequency, in the labels' order; {}: the task is the mask
    positive: int | None = None  # label of the disease; binary sets only
    structure: str = ""  # what the mask outlines

    def __call__(
        self, labels: Array, size: int, difficulty: float, rng: np.random.Generator
    ) -> dict[str, Array]:
        return self.draw(labels, size, difficulty, rng)


_SKIN = dict(akiec=0.06, bcc=0.08, bkl=0.11, df=0.025, mel=0.10, nv=0.60, vasc=0.025)
_NODULE = {"benign": 0.6, "malignant": 0.4}
_CT, _MRI = "chest CT, patch around a nodule", "T1-weighted MRI of the head"
_HE = "histology, haematoxylin and eosin"
_MANY, _SOME = (1200, 200, 400), (300, 50, 100)
PHANTOMS: dict[str, Phantom] = {
    "phantom-chest": Phantom(
        chest, "chest X-ray, frontal", _MANY, {"normal": 0.6, "opacity": 0.4}, 1
    ),
    "phantom-nodule": Phantom(nodule, _CT, _MANY, _NODULE, 1, "nodule"),
    "phantom-skin": Phantom(skin, "dermoscopy", (1400, 280, 700), _SKIN),
    "phantom-brain": Phantom(brain, f"{_MRI}, axial", (600, 100, 200), {}, structure="brain"),
    "phantom-brain3d": Phantom(brain_volume, _MRI, (60, 10, 20), {}, structure="brain"),
    "phantom-tissue": Phantom(tissue, _HE, _SOME, {}, structure="glands"),
    "phantom-wound": Phantom(wound, "photograph of a wound", _SOME, {}, structure="ulcer"),
}


def make_phantom(
    name: str,
    *,
    size: int = 28,
    seed: int = 0,
    difficulty: float = 0.5,
    label_noise: float = 0.0,
    shift: float = 0.0,
    counts: tuple[int, int, int] | None = None,
) -> dict[str, Array]:
    """Draw the data set `name` in the MedMNIST layout.

    Args:
        name: an entry of `PHANTOMS`.
        size: of the images, in pixels.
        seed: gives the same bytes on one machine; another CPU may round a pixel differently.
        difficulty: from 0 to 1: makes the findings fainter and the classes more alike.
        label_noise: the fraction of wrong training labels; `train_true_labels` has the right ones.
        shift: from 0 to 1: how far sites (gain, contrast, blur, noise, stain) and years differ.
        counts: images in train, val and test.

    Returns:
        `{split}_images`, `{split}_labels` (N, 1), `{split}_masks`, `{split}_site`, `{split}_year`
        (N,), `label_names` (K,) and, for binary sets, the scalar `positive`. Train and val come
        from the first sites and years only: the rest of test is out of sample and out of time.
    """
    phantom, counts = _checked(name, size, counts, label_noise)
    for what, value in (("difficulty", difficulty), ("label_noise", label_noise), ("shift", shift)):
        if not 0 <= value <= 1:
            raise ValueError(f"Give {what} from 0 (none) to 1 (all), not {value}.")
    names = list(phantom.classes) or ["background", phantom.structure]
    data: dict[str, Array] = {"label_names": np.array(names)}
    if phantom.positive is not None:
        data["positive"] = np.array(phantom.positive)
    frequencies = np.array(list(phantom.classes.values()) or [1.0])
    for index, (split, count) in enumerate(zip(SPLITS, counts)):
        rng = np.random.default_rng([seed, index, crc32(name.encode())])
        labels = _labels(count, frequencies, rng)
        blocks = [
            phantom(labels[i : i + BLOCK], size, difficulty, rng.spawn(1)[0])
            for i in range(0, count, BLOCK)
        ]
        part = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
        site, year = _site_and_year(labels == phantom.positive, split == "test", shift, rng)
        if shift:
            part["images"] = as_seen_at(part["images"], site, year, shift, rng)
        if phantom.classes:
            part["labels"] = labels.astype(np.uint8)[:, None]
        if label_noise and split == "train":
            part["true_labels"] = part["labels"]
            part["labels"] = _confuse(labels, label_noise, len(names), rng)[:, None]
        part |= {"site": np.array(SITES)[site], "year": year}
        data |= {f"{split}_{key}": value for key, value in part.items()}
    return data


def _checked(
    name: str, size: int, counts: tuple[int, int, int] | None, label_noise: float
) -> tuple[Phantom, tuple[int, int, int]]:
    choose("phantom", name, PHANTOMS)
    if size < 16:
        raise ValueError(f"Give size >= 16 pixels: at {size} findings are smaller than a pixel.")
    phantom = PHANTOMS[name]
    counts = phantom.counts if counts is None else counts
    kinds = max(len(phantom.classes), 1)
    if len(counts) != len(SPLITS) or min(counts) < kinds:
        raise ValueError(f"Give three counts, of train, val and test, of at least {kinds}.")
    if label_noise and not phantom.classes:
        raise ValueError(f"{name} has no labels, so no label_noise.")
    return phantom, counts


OPTIONS = "seed", "difficulty", "label_noise", "shift"


def phantom_options(name: str) -> tuple[str, dict[str, float]]:
    """The name and the numbers in, for instance, `phantom-chest:label_noise=0.2:shift=1`."""
    base, *words = name.split(":")
    choose("phantom", base, PHANTOMS)
    options: dict[str, float] = {}
    for word in words:
        key, _, value = word.partition("=")
        choose(f"option of {base}:", key, OPTIONS, f", as in {base}:shift=1")
        try:
            options[key] = int(value) if key == "seed" else float(value)
        except ValueError:
            raise ValueError(f"{name}: {key} must be a number, not {value!r}.") from None
    return base, options


def _labels(count: int, frequencies: Array, rng: np.random.Generator) -> Array:
    """Shuffled labels in these proportions, but 5 of the rarest class where `count` allows it."""
    least = min(5, count // len(frequencies))
    numbers = np.maximum(np.floor(frequencies * count).astype(int), least)
    while numbers.sum() > count:  # the commonest class pays for the rare ones
        numbers[numbers.argmax()] -= 1
    numbers[frequencies.argmax()] += count - numbers.sum()
    return rng.permutation(np.repeat(np.arange(len(numbers)), numbers))


def _site_and_year(
    ill: Array, everywhere: bool, shift: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Index of the site (N,) and year (N,); with a shift the ill are likelier to come late."""
    sites, years = (len(SITES), len(YEARS)) if everywhere else (len(SITES) - 1, len(YEARS) - 2)
    late = np.linspace(-1, 1, years)
    weights = np.exp(0.6 * shift * np.where(ill[:, None], late, -late)).cumsum(1)
    year = (rng.random((len(ill), 1)) * weights[:, -1:] > weights).sum(1)
    return rng.integers(sites, size=len(ill)), np.array(YEARS)[year]


def _confuse(labels: Array, fraction: float, classes: int, rng: np.random.Generator) -> Array:
    """Labels (N,) uint8 of which exactly round(fraction N) are replaced by another class."""
    wrong = rng.permutation(len(labels))[: round(fraction * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return noisy.astype(np.uint8)
