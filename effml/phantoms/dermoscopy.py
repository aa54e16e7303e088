"""Phantom of dermoscopy."""

import numpy as np

from effml.phantoms.brushes import Array, Canvas, Parts, bump, to_uint8

# Per class: how much of red, green, blue the lesion absorbs (optical density), then its shape and
# structures in [0, 1].
_TRAITS = """red green blue radius lobes stretch blur network pale_dots dark_dots scar vessels
patches""".split()
_SKIN = {
    "akiec": (0.12, 0.42, 0.36, 0.50, 0.5, 0.4, 0.9, 0.0, 0.6, 0.1, 0.1, 0.4, 0.2),
    "bcc": (0.10, 0.36, 0.30, 0.42, 0.4, 0.3, 0.5, 0.0, 0.1, 0.3, 0.1, 1.0, 0.4),
    "bkl": (0.38, 0.58, 0.72, 0.52, 0.4, 0.4, 0.2, 0.1, 0.8, 0.8, 0.0, 0.0, 0.2),
    "df": (0.20, 0.44, 0.50, 0.36, 0.1, 0.1, 0.8, 0.5, 0.1, 0.0, 1.0, 0.1, 0.0),
    "mel": (0.60, 0.85, 0.90, 0.58, 0.9, 0.5, 0.3, 0.5, 0.1, 0.5, 0.2, 0.2, 1.0),
    "nv": (0.40, 0.68, 0.82, 0.40, 0.2, 0.3, 0.5, 0.7, 0.0, 0.2, 0.0, 0.0, 0.1),
    "vasc": (0.25, 1.05, 0.85, 0.36, 0.3, 0.2, 0.2, 0.0, 0.0, 0.3, 0.0, 0.1, 0.5),
}
# Per channel: the palest and the darkest skin, what a veil, a vessel and a hair absorb.
_CHANNELS = {
    "red": (0.93, 0.30, 0.3, 0.02, 0.7),
    "green": (0.76, 0.19, 0.05, 0.35, 0.8),
    "blue": (0.68, 0.14, -0.3, 0.28, 0.85),
}


def skin(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> Parts:
    """Dermoscopy, RGB; the class sets the mean of colour, shape and structures of the lesion."""
    c = Canvas(rng, len(labels), size)
    u = c.u
    p = _traits(c, labels, difficulty)
    x, y = c.grid(u(0, 2 * np.pi), u(0.85, 1.15), u(-0.15, 0.15), u(-0.15, 0.15))
    lesion, deep = _lesion(c, x, y, p)
    coarse, mid, fine = (c.noise(cells) for cells in (4, 9, 30))
    # the zero lines of smooth noise branch and join like vessels and networks
    mesh = bump((fine / 0.45) ** 2)
    tree = bump((c.noise(6) / 0.12) ** 2) + 0.5 * bump((mid / 0.14) ** 2)
    pale = c.soft(c.noise(19) - 1.3, 0.6) * p["pale_dots"]
    dark = c.soft(c.noise(14) - 1.2, 0.4) * p["dark_dots"]
    scar = bump(((1 - deep) / 0.4) ** 2) * p["scar"]
    blotch = 0.45 * p["patches"] * coarse + 0.12 * mid
    pigment = 0.85 + 0.15 * deep + blotch + 0.5 * p["network"] * (mesh - 0.4) + 0.9 * dark
    pigment = lesion * np.clip(pigment - 0.8 * pale - 0.75 * scar, 0.05, 2.2)
    # blue-grey: scatters blue, hides red
    veil = lesion * p["patches"] * c.soft(mid + coarse - 1.0, 0.4)
    tone, hair, off_centre = u(0, 1), _hairs(c), x * x + y * y
    tube = (u(0, 1) < 0.12) * c.soft(off_centre - 1.2, 0.05)  # the frame of some dermatoscopes
    light_left = (1 - u(0.0, 0.4) * (off_centre / 2) ** 1.5) * (1 - tube)
    grain = 0.025 * coarse + 0.02 * mid + 0.03 * (bump((c.noise(26) / 0.4) ** 2) - 0.4)
    images = np.empty((c.n, size, size, 3), np.float32)
    for k, (channel, (light, black, tint, vein, cover)) in enumerate(_CHANNELS.items()):
        bare = light ** (1 - tone) * black**tone * u(0.94, 1.06)
        density = p[channel] * pigment * (1 - 0.35 * tone) + lesion * p["vessels"] * tree * vein
        colour = bare * np.exp(-density - tint * veil + grain)
        colour = colour + lesion * (0.1 * pale + 0.06 * scar)
        images[..., k] = colour * light_left * (1 - hair * cover)
    return {"images": to_uint8(images + c.normal(size, size, 3) * 0.012)}


def _traits(c: Canvas, labels: Array, difficulty: float) -> Parts:
    """Colour, shape and structures of each lesion, scattered round its class's."""
    table = np.array(list(_SKIN.values()), np.float32)
    # in standard deviations of the whole table: above 1 the classes would drown
    spread = 0.15 + 0.75 * difficulty
    # how far this lesion resembles another class, as the difficult ones do
    alike = c.u(0, 0.7 * difficulty)[:, 0]
    other = table[c.rng.integers(len(table), size=c.n)]
    mean = (1 - alike) * table[labels] + alike * other
    traits = mean + spread * table.std(0) * c.normal(table.shape[1])
    darkness = c.u(1 - 0.8 * spread, 1 + 0.8 * spread)[:, 0]  # varies more than the hue does
    traits[:, :3] = (traits[:, :3] + mean[:, :3]) / 2 * darkness
    return dict(zip(_TRAITS, np.maximum(traits, 0).T[:, :, None, None]))


def _lesion(c: Canvas, x: Array, y: Array, p: Parts) -> tuple[Array, Array]:
    """Where the lesion is, from 0 to 1, and how deep in it: 0 at the rim, 1 in the middle."""
    radius, angle = np.sqrt((x * (1 + 0.5 * p["stretch"])) ** 2 + y**2), np.arctan2(y, x)
    lobes = c.lobes(angle, 0.3, (2, 3, 5, 8))
    rim = p["radius"] * c.u(0.85, 1.4) * (1 + 0.3 * p["lobes"] * lobes)
    rim = rim + 0.05 * p["lobes"] * c.noise(10)
    lesion = 0.5 + 0.5 * np.tanh((rim - radius) / (0.03 + 0.12 * p["blur"] + 0.5 / c.size))
    return lesion, np.clip(1 - radius / np.maximum(rim, 0.05), 0, 1)


def _hairs(c: Canvas) -> Array:
    """How much hairs cover each pixel (n, size, size): up to six arcs in a third of the images."""
    u, cover = c.u, np.zeros((c.n, c.size, c.size), np.float32)
    straight, hairy = np.ones((c.n, 1, 1), np.float32), u(0, 1) < 0.35
    for _ in range(6):
        x, y = c.grid(u(0, 2 * np.pi), straight, u(-0.8, 0.8), u(-0.8, 0.8))
        width = u(0.005, 0.012)
        blur = np.maximum(width, 0.8 / c.size)  # thinner than a pixel: wider and fainter
        there = hairy * (u(0, 1) < 0.4) * width / blur
        cover += there * bump(((y - u(-0.3, 0.3) * x * x) / blur) ** 2)
    return np.minimum(cover, 1)
