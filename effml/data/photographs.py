"""Phantoms of photographs, in colour: dermoscopy."""
import numpy as np

from effml.data.drawing import Array, bump, grid, inside, smooth_noise, to_uint8, uniform

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


def skin(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> dict[str, Array]:
    """Dermoscopy, RGB, skin of all tones; the class sets the mean of colour, shape and structures of the lesion."""
    n = len(labels)
    u = uniform(rng, n)
    table = np.array(list(_SKIN.values()), np.float32)
    spread = 0.15 + 0.75 * difficulty  # in standard deviations of the whole table: above 1 the classes would drown
    alike = u(0, 0.7 * difficulty)[:, 0]  # how far this lesion resembles another class, as the difficult ones do
    mean = (1 - alike) * table[labels] + alike * table[rng.integers(len(table), size=n)]
    look = mean + spread * table.std(0) * rng.standard_normal((n, table.shape[1]), dtype=np.float32)
    darkness = u(1 - 0.8 * spread, 1 + 0.8 * spread)[:, 0]  # varies more than the hue does
    look[:, :3] = (look[:, :3] + mean[:, :3]) / 2 * darkness
    p = dict(zip(_LOOK, np.maximum(look, 0).T[:, :, None, None]))
    x, y = grid(size, u(0, 2 * np.pi), u(0.85, 1.15), u(-0.15, 0.15), u(-0.15, 0.15))
    radius, angle = np.sqrt((x * (1 + 0.5 * p["stretch"])) ** 2 + y ** 2), np.arctan2(y, x)
    lobes = sum(u(0.3, 1) * np.cos(k * angle + u(0, 6)) / k for k in (2, 3, 5, 8))
    rim = p["radius"] * u(0.85, 1.4) * (1 + 0.3 * p["lobes"] * lobes) + 0.05 * p["lobes"] * smooth_noise(rng, n, size, 10)
    lesion = 0.5 + 0.5 * np.tanh((rim - radius) / (0.03 + 0.12 * p["blur"] + 0.5 / size))
    deep = np.clip(1 - radius / np.maximum(rim, 0.05), 0, 1)  # 0 at the rim, 1 in the middle

    coarse, mid, fine = (smooth_noise(rng, n, size, cells) for cells in (4, 9, 30))
    mesh = bump((fine / 0.45) ** 2)  # the zero lines of smooth noise branch and join like vessels and networks
    tree = bump((smooth_noise(rng, n, size, 6) / 0.12) ** 2) + 0.5 * bump((mid / 0.14) ** 2)
    pale = inside(smooth_noise(rng, n, size, 19) - 1.3, 0.6, size) * p["pale_dots"]
    dark = inside(smooth_noise(rng, n, size, 14) - 1.2, 0.4, size) * p["dark_dots"]
    scar = bump(((1 - deep) / 0.4) ** 2) * p["scar"]
    blotch = 0.45 * p["patches"] * coarse + 0.12 * mid
    pigment = lesion * np.clip(0.85 + 0.15 * deep + blotch + 0.5 * p["network"] * (mesh - 0.4)
                               + 0.9 * dark - 0.8 * pale - 0.75 * scar, 0.05, 2.2)
    veil = lesion * p["patches"] * inside(mid + coarse - 1.0, 0.4, size)  # blue-grey: scatters blue, hides red

    tone = u(0, 1)
    images = np.empty((n, size, size, 3), np.float32)
    hair = _hairs(rng, n, size)
    off_centre = x * x + y * y
    tube = (u(0, 1) < 0.12) * inside(off_centre - 1.2, 0.05, size)  # the black frame of some dermatoscopes
    light_left = (1 - u(0.0, 0.4) * (off_centre / 2) ** 1.5) * (1 - tube)
    grain = 0.025 * coarse + 0.02 * mid + 0.03 * (bump((smooth_noise(rng, n, size, 26) / 0.4) ** 2) - 0.4)
    channels = (0.93, 0.30, 0.3, 0.02), (0.76, 0.19, 0.05, 0.35), (0.68, 0.14, -0.3, 0.28)
    for c, (light, black, tint, vein) in enumerate(channels):
        skin = light ** (1 - tone) * black ** tone * u(0.94, 1.06)
        density = p[("red", "green", "blue")[c]] * pigment * (1 - 0.35 * tone) + lesion * p["vessels"] * tree * vein
        colour = skin * np.exp(-density - tint * veil + grain) + lesion * (0.1 * pale + 0.06 * scar)
        images[..., c] = colour * light_left * (1 - hair * (0.7, 0.8, 0.85)[c])
    images += rng.standard_normal(images.shape, dtype=np.float32) * 0.012
    return {"images": to_uint8(images)}


def _hairs(rng: np.random.Generator, n: int, size: int) -> Array:
    """How much hairs cover each pixel (n, size, size): up to six arcs in a third of the images."""
    u = uniform(rng, n)
    cover, zero = np.zeros((n, size, size), np.float32), np.zeros((n, 1, 1), np.float32)
    hairy = u(0, 1) < 0.35
    for _ in range(6):
        x, y = grid(size, u(0, 2 * np.pi), 1 + zero, u(-0.8, 0.8), u(-0.8, 0.8))
        width = u(0.005, 0.012)
        blur = np.maximum(width, 0.8 / size)  # thinner than a pixel: wider and fainter
        cover += hairy * (u(0, 1) < 0.4) * width / blur * bump(((y - u(-0.3, 0.3) * x * x) / blur) ** 2)
    return np.minimum(cover, 1)


def through_lens(planes: Array, width: Array, size: int) -> Array:
    """Planes (N, C, F, F) out of focus by a Gaussian of `width` (N, 1, 1) half-widths, then seen by `size` x `size` pixels,
    F a multiple of `size`; the border repeats nothing: what lies outside is not seen."""
    f = planes.shape[-1]
    at = (np.arange(f, dtype=np.float32) + 0.5) * 2 / f
    lens = bump(((at - at[:, None]) / np.maximum(width, 0.5 / f)) ** 2)
    lens = (lens / lens.sum(-1, keepdims=True)).reshape(len(lens), size, f // size, f).mean(2)[:, None]
    return lens @ planes @ lens.transpose(0, 1, 3, 2)
