"""Phantoms: simulated medical images made from a seed, so that everything runs without data or network.

A phantom is one drawing function and one line of `PHANTOMS`. A drawing function gets the labels of a block of images
and returns the arrays of that block; it draws in units of the image's half-width (x, y in [-1, 1], y downwards) and
takes from `rng` arrays whose shapes do not depend on `size`, but for the pixel noise, which comes last: the same seed
shows the same patients at every size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

Array = np.ndarray
SPLITS = ("train", "val", "test")
BLOCK = 50  # images drawn at once: small enough for the cache at 28 px and for a laptop's memory at 224 px


@dataclass(frozen=True)
class Phantom:
    """What a phantom is; calling it draws: (labels (N,), size, difficulty, rng) -> {"images": uint8 (N, H, W[, 3])}."""

    draw: Callable[[Array, int, float, np.random.Generator], dict[str, Array]]
    modality: str
    counts: tuple[int, int, int]  # images in train, val, test
    classes: dict[str, float]  # name -> frequency, in the order of the labels
    positive: int | None = None  # label of the disease; binary sets only
    source: str = "Simulated, not patients: drawn by effml.data.phantoms; no patient data, no third-party rights."

    def __call__(self, labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> dict[str, Array]:
        return self.draw(labels, size, difficulty, rng)


def make_phantom(name: str, *, size: int = 28, seed: int = 0, difficulty: float = 0.5,
                 counts: tuple[int, int, int] | None = None) -> dict[str, Array]:
    """Draw the data set `name` in the MedMNIST layout.

    `size` is in pixels; `difficulty` in [0, 1] makes the findings fainter and the classes more alike; `counts` are
    the images in train, val and test. Returns `{split}_images` uint8 (N, H, W) or (N, H, W, 3), `{split}_labels`
    uint8 (N, 1), `label_names` (K,) and, for binary sets, the scalar `positive`. The same arguments give the same
    bytes on one machine (another CPU may round a pixel differently).
    """
    if name not in PHANTOMS:
        raise ValueError(f"Unknown phantom {name!r}. Choose from: {', '.join(PHANTOMS)}")
    if size < 16:
        raise ValueError(f"Give size >= 16 pixels: at {size} the findings are smaller than a pixel.")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"Give a difficulty from 0 (easy) to 1 (hard), not {difficulty}.")
    phantom = PHANTOMS[name]
    counts = phantom.counts if counts is None else counts
    if len(counts) != len(SPLITS) or min(counts) < len(phantom.classes):
        raise ValueError(f"Give three counts (train, val, test) of at least {len(phantom.classes)}, one per class.")
    data: dict[str, Array] = {"label_names": np.array(list(phantom.classes))}
    if phantom.positive is not None:
        data["positive"] = np.array(phantom.positive)
    for index, (split, count) in enumerate(zip(SPLITS, counts)):
        rng = np.random.default_rng([seed, index, crc32(name.encode())])
        labels = _labels(count, np.array(list(phantom.classes.values())), rng)
        blocks = [phantom(labels[i:i + BLOCK], size, difficulty, rng.spawn(1)[0]) for i in range(0, count, BLOCK)]
        data |= {f"{split}_{key}": np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
        data[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
    return data


def _labels(count: int, frequencies: Array, rng: np.random.Generator) -> Array:
    """Shuffled labels (count,) in the given proportions, but 5 of the rarest class where `count` allows it."""
    numbers = np.maximum(np.floor(frequencies * count).astype(int), min(5, count // len(frequencies)))
    while numbers.sum() > count:  # the commonest class pays for the rare ones
        numbers[numbers.argmax()] -= 1
    numbers[frequencies.argmax()] += count - numbers.sum()
    return rng.permutation(np.repeat(np.arange(len(numbers)), numbers))


def _uniform(rng: np.random.Generator, n: int) -> Callable[[float, float], Array]:
    """A function (low, high) -> float32 (n, 1, 1): one value per image, ready to broadcast over pixels."""
    return lambda low, high: rng.uniform(low, high, (n, 1, 1)).astype(np.float32)


def _grid(size: int, angle: Array, zoom: Array, dx: Array, dy: Array) -> tuple[Array, Array]:
    """Pixel centres x, y (N, size, size) in patient coordinates: rotated by `angle` (radians), zoomed, shifted."""
    t = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    c, s = np.cos(angle) / zoom, np.sin(angle) / zoom
    return c * t + s * t[:, None] + dx, c * t[:, None] - s * t + dy


def _inside(distance: Array, width: float, size: int) -> Array:
    """1 where `distance` (half-widths) is positive, 0 where negative, over a soft edge never sharper than a pixel."""
    return 0.5 + 0.5 * np.tanh(distance / max(width, 1 / size))


def _bump(squared: Array) -> Array:
    """Gaussian of a squared distance: 1 at 0."""
    return np.exp(-0.5 * squared)


def _noise(rng: np.random.Generator, n: int, size: int, cells: int) -> Array:
    """Smooth noise (n, size, size), of unit variance before pixels average it, with `cells` grains across the image."""
    at = (np.arange(4 * size, dtype=np.float32) + 0.5)[:, None] * cells / (4 * size)
    weight = np.exp(-2 * (at - np.arange(-1, cells + 1, dtype=np.float32) - 0.5) ** 2)
    weight /= np.sqrt((weight ** 2).sum(1, keepdims=True))
    weight = weight.reshape(size, 4, -1).mean(1)  # each pixel sees the mean of its area, as a detector does
    return weight @ rng.standard_normal((n, cells + 2, cells + 2), dtype=np.float32) @ weight.T


def _to_uint8(image: Array) -> Array:
    """From [0, 1], over- and underexposed pixels saturating, as on a detector."""
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _chest(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> dict[str, Array]:
    """Frontal chest X-ray, grey; label 1 has one to three faint blurred opacities in a lung."""
    n = len(labels)
    u = _uniform(rng, n)
    x, y = _grid(size, u(-0.09, 0.09), u(0.9, 1.08), u(-0.06, 0.06), u(-0.06, 0.06))
    left, ax = _inside(x, 0.06, size), np.abs(x)  # the patient's left is on the right of the image

    def sides(low: float, high: float) -> Array:
        return u(low, high) * left + u(low, high) * (1 - left)

    # Soft tissue: neck and shoulders before black air; lungs closed below by the domes of the diaphragm.
    body = _inside(0.2 + 0.85 * _inside(y + 0.8 - 0.22 * ax, 0.12, size) - ax + u(-0.05, 0.1), 0.03, size)
    apex, base = u(-0.82, -0.74), sides(0.5, 0.6) + 0.07 * left - 0.02
    centre, half = 0.45 + 0.06 * y, u(0.34, 0.4) + 0.09 * y
    across = (ax - centre) / half
    oval = 1 - across ** 2 - (np.minimum(y + 0.1, 0) / (apex + 0.1)) ** 2
    dome = base + 0.4 * (ax - 0.38) ** 2 + 1.2 * np.maximum(ax - 0.5, 0) ** 2 - y
    lung = _inside(oval, 0.12, size) * _inside(dome, 0.02, size)
    tilt, wide = u(0.45, 0.75), u(0.85, 1.15)
    hx, hy = x - 0.12, y - 0.36
    long, short = hx * np.cos(tilt) + hy * np.sin(tilt), hy * np.cos(tilt) - hx * np.sin(tilt)
    heart = _inside(1 - (long / (0.43 * wide)) ** 2 - (short / (0.33 * wide)) ** 2, 0.18, size)
    below = 1 - _inside(dome, 0.02, size)
    stomach = _inside(1 - ((x - 0.42) / 0.16) ** 2 - ((y - base - 0.16) / 0.07) ** 2, 0.5, size) * (u(0, 1) < 0.5)
    knob = _inside(1 - ((x - 0.1) ** 2 + (y + 0.3) ** 2) / u(0.1, 0.14) ** 2, 0.3, size)
    middle = _inside(u(0.12, 0.17) + 0.1 * np.maximum(-0.5 - y, 0) - ax, 0.03, size)
    air = lung * (1 - 0.92 * heart) * (1 - 0.85 * middle) * (1 - 0.7 * knob)

    # Bone: vertebrae, clavicles, posterior ribs falling to the side and fainter anterior ones falling to the middle.
    spine = _bump((x / 0.09) ** 2) * (1 + 0.25 * np.cos(y * u(38, 46) + u(0, 6)))
    collar = y + 0.56 + 0.16 * ax - 0.05 * np.sin(7 * ax) + u(-0.04, 0.04)
    clavicle = _bump((collar / 0.045) ** 4) * _inside(ax - 0.1, 0.03, size) * _inside(0.8 - ax, 0.05, size)
    chest = _inside(oval + 0.2, 0.1, size) * (1 - 0.7 * below)
    pitch, phase = u(0.18, 0.22), u(0, 1)
    back = np.cos(2 * np.pi * ((y - 0.55 * ax + 0.75 * ax ** 2) / pitch + phase))
    front = np.cos(2 * np.pi * ((y + 0.75 * ax - 0.1 * ax ** 2) / (1.15 * pitch) + u(0, 1)))
    ribs = chest * (_inside(back - 0.2, 0.3, size)
                    + 0.5 * _inside(front - 0.3, 0.3, size) * _inside(ax - 0.3, 0.1, size))

    # Vessels fan out from the hila and thin out; a little interstitial texture.
    vx, vy = ax - 0.2, y - 0.02
    radius, angle = np.sqrt(vx ** 2 + vy ** 2), np.arctan2(vy, vx + 0.12)
    fan = sum(_inside(np.cos(k * angle + sides(0, 6) + sides(4, 9) * radius) - 0.6, 0.3, size) for k in (5, 9, 13))
    vessels = fan * np.exp(-radius / 0.25) * np.minimum(radius / 0.12, 1) \
        + sides(0.7, 1.3) * _bump((vx / 0.09) ** 2 + (vy / 0.15) ** 2)
    texture = _noise(rng, n, size, 14) + 0.7 * _noise(rng, n, size, 30)

    opacity = np.zeros_like(x)
    for k in range(3):
        flip, cy, blur = np.where(u(0, 1) < 0.5, -1, 1), u(-0.5, 0.3), u(0.07, 0.13)
        cx = flip * (0.46 + u(-0.16, 0.2) * (1 + 0.3 * cy))
        there = (u(0, 1) < (1, 0.4, 0.2)[k]) * labels[:, None, None]
        opacity += there * u(0.7, 1.3) * _bump(((x - cx) ** 2 + ((y - cy) * u(0.8, 1.2)) ** 2) / blur ** 2)

    solid = 1 - (1 - 0.75 * heart * (1 - 0.3 * lung)) * (1 - below)
    image = body * (0.58 - u(0.32, 0.46) * air + 0.16 * solid + 0.1 * middle + 0.05 * knob + 0.07 * spine
                    + 0.1 * clavicle + 0.07 * ribs - 0.16 * stomach
                    + u(0, 0.1) * _bump(((ax - 0.5) / 0.25) ** 2 + ((y - 0.35) / 0.22) ** 2)  # breast
                    - 0.09 * _bump((x / 0.06) ** 2) * _inside(-0.3 - y, 0.05, size)  # trachea
                    + air * (0.09 * vessels + 0.018 * texture)
                    + (0.36 - 0.27 * difficulty) * opacity * (0.25 + 0.75 * air))
    exposed = u(0.0, 0.1) + u(0.8, 1.15) * np.maximum(image, 0) ** u(0.8, 1.25)
    noise = u(0.008, 0.022) * rng.standard_normal(x.shape, dtype=np.float32)
    return {"images": _to_uint8(exposed + noise)}


# Per class: how much of red, green, blue the lesion absorbs (optical density), then its shape and structures in [0, 1].
_LOOK = "red green blue radius lobes stretch blur network pale_dots dark_dots scar vessels patches".split()
_SKIN = {
    "akiec": (0.12, 0.42, 0.36, 0.50, 0.5, 0.4, 0.9, 0.0, 0.6, 0.1, 0.1, 0.4, 0.2),
    "bcc":   (0.10, 0.36, 0.30, 0.42, 0.4, 0.3, 0.5, 0.0, 0.1, 0.3, 0.1, 1.0, 0.4),
    "bkl":   (0.38, 0.58, 0.72, 0.52, 0.4, 0.4, 0.2, 0.1, 0.8, 0.8, 0.0, 0.0, 0.2),
    "df":    (0.20, 0.44, 0.50, 0.36, 0.1, 0.1, 0.8, 0.5, 0.1, 0.0, 1.0, 0.1, 0.0),
    "mel":   (0.60, 0.85, 0.90, 0.58, 0.9, 0.5, 0.3, 0.5, 0.1, 0.5, 0.2, 0.2, 1.0),
    "nv":    (0.40, 0.68, 0.82, 0.40, 0.2, 0.3, 0.5, 0.7, 0.0, 0.2, 0.0, 0.0, 0.1),
    "vasc":  (0.25, 1.05, 0.85, 0.36, 0.3, 0.2, 0.2, 0.0, 0.0, 0.3, 0.0, 0.1, 0.5),
}


def _skin(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> dict[str, Array]:
    """Dermoscopy, RGB, skin of all tones; the class sets the mean of colour, shape and structures of the lesion."""
    n = len(labels)
    u = _uniform(rng, n)
    table = np.array(list(_SKIN.values()), np.float32)
    spread = 0.15 + 0.75 * difficulty  # in standard deviations of the whole table: above 1 the classes would drown
    alike = u(0, 0.7 * difficulty)[:, 0]  # how far this lesion resembles another class, as the difficult ones do
    mean = (1 - alike) * table[labels] + alike * table[rng.integers(len(table), size=n)]
    look = mean + spread * table.std(0) * rng.standard_normal((n, table.shape[1]), dtype=np.float32)
    darkness = u(1 - 0.8 * spread, 1 + 0.8 * spread)[:, 0]  # varies more than the hue does
    look[:, :3] = (look[:, :3] + mean[:, :3]) / 2 * darkness
    p = dict(zip(_LOOK, np.maximum(look, 0).T[:, :, None, None]))
    x, y = _grid(size, u(0, 2 * np.pi), u(0.85, 1.15), u(-0.15, 0.15), u(-0.15, 0.15))
    radius, angle = np.sqrt((x * (1 + 0.5 * p["stretch"])) ** 2 + y ** 2), np.arctan2(y, x)
    lobes = sum(u(0.3, 1) * np.cos(k * angle + u(0, 6)) / k for k in (2, 3, 5, 8))
    rim = p["radius"] * u(0.85, 1.4) * (1 + 0.3 * p["lobes"] * lobes) + 0.05 * p["lobes"] * _noise(rng, n, size, 10)
    lesion = 0.5 + 0.5 * np.tanh((rim - radius) / (0.03 + 0.12 * p["blur"] + 0.5 / size))
    deep = np.clip(1 - radius / np.maximum(rim, 0.05), 0, 1)  # 0 at the rim, 1 in the middle

    coarse, mid, fine = (_noise(rng, n, size, cells) for cells in (4, 9, 30))
    mesh = _bump((fine / 0.45) ** 2)  # the zero lines of smooth noise branch and join like vessels and networks
    tree = _bump((_noise(rng, n, size, 6) / 0.12) ** 2) + 0.5 * _bump((mid / 0.14) ** 2)
    pale = _inside(_noise(rng, n, size, 19) - 1.3, 0.6, size) * p["pale_dots"]
    dark = _inside(_noise(rng, n, size, 14) - 1.2, 0.4, size) * p["dark_dots"]
    scar = _bump(((1 - deep) / 0.4) ** 2) * p["scar"]
    blotch = 0.45 * p["patches"] * coarse + 0.12 * mid
    pigment = lesion * np.clip(0.85 + 0.15 * deep + blotch + 0.5 * p["network"] * (mesh - 0.4)
                               + 0.9 * dark - 0.8 * pale - 0.75 * scar, 0.05, 2.2)
    veil = lesion * p["patches"] * _inside(mid + coarse - 1.0, 0.4, size)  # blue-grey: scatters blue, hides red

    tone = u(0, 1)
    images = np.empty((n, size, size, 3), np.float32)
    hair = _hairs(rng, n, size)
    off_centre = x * x + y * y
    tube = (u(0, 1) < 0.12) * _inside(off_centre - 1.2, 0.05, size)  # the black frame of some dermatoscopes
    light_left = (1 - u(0.0, 0.4) * (off_centre / 2) ** 1.5) * (1 - tube)
    grain = 0.025 * coarse + 0.02 * mid + 0.03 * (_bump((_noise(rng, n, size, 26) / 0.4) ** 2) - 0.4)
    channels = (0.93, 0.30, 0.3, 0.02), (0.76, 0.19, 0.05, 0.35), (0.68, 0.14, -0.3, 0.28)
    for c, (light, black, tint, vein) in enumerate(channels):
        skin = light ** (1 - tone) * black ** tone * u(0.94, 1.06)
        density = p[("red", "green", "blue")[c]] * pigment * (1 - 0.35 * tone) + lesion * p["vessels"] * tree * vein
        colour = skin * np.exp(-density - tint * veil + grain) + lesion * (0.1 * pale + 0.06 * scar)
        images[..., c] = colour * light_left * (1 - hair * (0.7, 0.8, 0.85)[c])
    images += rng.standard_normal(images.shape, dtype=np.float32) * 0.012
    return {"images": _to_uint8(images)}


def _hairs(rng: np.random.Generator, n: int, size: int) -> Array:
    """How much hairs cover each pixel (n, size, size): up to six arcs in a third of the images."""
    u = _uniform(rng, n)
    cover, zero = np.zeros((n, size, size), np.float32), np.zeros((n, 1, 1), np.float32)
    hairy = u(0, 1) < 0.35
    for _ in range(6):
        x, y = _grid(size, u(0, 2 * np.pi), 1 + zero, u(-0.8, 0.8), u(-0.8, 0.8))
        width = u(0.005, 0.012)
        blur = np.maximum(width, 0.8 / size)  # thinner than a pixel: wider and fainter
        cover += hairy * (u(0, 1) < 0.4) * width / blur * _bump(((y - u(-0.3, 0.3) * x * x) / blur) ** 2)
    return np.minimum(cover, 1)


PHANTOMS: dict[str, Phantom] = {
    "phantom-chest": Phantom(_chest, "chest X-ray, frontal", (1200, 200, 400), {"normal": 0.6, "opacity": 0.4}, 1),
    "phantom-skin": Phantom(_skin, "dermoscopy", (1400, 280, 700), {
        "akiec": 0.06, "bcc": 0.08, "bkl": 0.11, "df": 0.025, "mel": 0.10, "nv": 0.60, "vasc": 0.025}),
}
