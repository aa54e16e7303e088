"""Phantoms of photographs, in colour: dermoscopy, ulcers of the skin."""

from collections.abc import Callable

import numpy as np

from effml.phantoms.drawing import (
    Array,
    bump,
    grid,
    inside,
    smooth_noise,
    through_lens,
    to_uint8,
    uniform,
)

# Per class: how much of red, green, blue the lesion absorbs (optical density), then its shape and structures in [0, 1].
_LOOK = "red green blue radius lobes stretch blur network pale_dots dark_dots scar vessels patches".split()
_SKIN = {
    "akiec": (0.12, 0.42, 0.36, 0.50, 0.5, 0.4, 0.9, 0.0, 0.6, 0.1, 0.1, 0.4, 0.2),
    "bcc": (0.10, 0.36, 0.30, 0.42, 0.4, 0.3, 0.5, 0.0, 0.1, 0.3, 0.1, 1.0, 0.4),
    "bkl": (0.38, 0.58, 0.72, 0.52, 0.4, 0.4, 0.2, 0.1, 0.8, 0.8, 0.0, 0.0, 0.2),
    "df": (0.20, 0.44, 0.50, 0.36, 0.1, 0.1, 0.8, 0.5, 0.1, 0.0, 1.0, 0.1, 0.0),
    "mel": (0.60, 0.85, 0.90, 0.58, 0.9, 0.5, 0.3, 0.5, 0.1, 0.5, 0.2, 0.2, 1.0),
    "nv": (0.40, 0.68, 0.82, 0.40, 0.2, 0.3, 0.5, 0.7, 0.0, 0.2, 0.0, 0.0, 0.1),
    "vasc": (0.25, 1.05, 0.85, 0.36, 0.3, 0.2, 0.2, 0.0, 0.0, 0.3, 0.0, 0.1, 0.5),
}


def skin(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> dict[str, Array]:
    """Dermoscopy, RGB, skin of all tones; the class sets the mean of colour, shape and structures of the lesion."""
    n = len(labels)
    u = uniform(rng, n)
    table = np.array(list(_SKIN.values()), np.float32)
    spread = (
        0.15 + 0.75 * difficulty
    )  # in standard deviations of the whole table: above 1 the classes would drown
    alike = u(0, 0.7 * difficulty)[
        :, 0
    ]  # how far this lesion resembles another class, as the difficult ones do
    mean = (1 - alike) * table[labels] + alike * table[rng.integers(len(table), size=n)]
    look = mean + spread * table.std(0) * rng.standard_normal((n, table.shape[1]), dtype=np.float32)
    darkness = u(1 - 0.8 * spread, 1 + 0.8 * spread)[:, 0]  # varies more than the hue does
    look[:, :3] = (look[:, :3] + mean[:, :3]) / 2 * darkness
    p = dict(zip(_LOOK, np.maximum(look, 0).T[:, :, None, None]))
    x, y = grid(size, u(0, 2 * np.pi), u(0.85, 1.15), u(-0.15, 0.15), u(-0.15, 0.15))
    radius, angle = np.sqrt((x * (1 + 0.5 * p["stretch"])) ** 2 + y**2), np.arctan2(y, x)
    lobes = sum(u(0.3, 1) * np.cos(k * angle + u(0, 6)) / k for k in (2, 3, 5, 8))
    rim = p["radius"] * u(0.85, 1.4) * (1 + 0.3 * p["lobes"] * lobes) + 0.05 * p[
        "lobes"
    ] * smooth_noise(rng, n, size, 10)
    lesion = 0.5 + 0.5 * np.tanh((rim - radius) / (0.03 + 0.12 * p["blur"] + 0.5 / size))
    deep = np.clip(1 - radius / np.maximum(rim, 0.05), 0, 1)  # 0 at the rim, 1 in the middle

    coarse, mid, fine = (smooth_noise(rng, n, size, cells) for cells in (4, 9, 30))
    mesh = bump(
        (fine / 0.45) ** 2
    )  # the zero lines of smooth noise branch and join like vessels and networks
    tree = bump((smooth_noise(rng, n, size, 6) / 0.12) ** 2) + 0.5 * bump((mid / 0.14) ** 2)
    pale = inside(smooth_noise(rng, n, size, 19) - 1.3, 0.6, size) * p["pale_dots"]
    dark = inside(smooth_noise(rng, n, size, 14) - 1.2, 0.4, size) * p["dark_dots"]
    scar = bump(((1 - deep) / 0.4) ** 2) * p["scar"]
    blotch = 0.45 * p["patches"] * coarse + 0.12 * mid
    pigment = lesion * np.clip(
        0.85
        + 0.15 * deep
        + blotch
        + 0.5 * p["network"] * (mesh - 0.4)
        + 0.9 * dark
        - 0.8 * pale
        - 0.75 * scar,
        0.05,
        2.2,
    )
    veil = (
        lesion * p["patches"] * inside(mid + coarse - 1.0, 0.4, size)
    )  # blue-grey: scatters blue, hides red

    tone = u(0, 1)
    images = np.empty((n, size, size, 3), np.float32)
    hair = _hairs(rng, n, size)
    off_centre = x * x + y * y
    tube = (u(0, 1) < 0.12) * inside(
        off_centre - 1.2, 0.05, size
    )  # the black frame of some dermatoscopes
    light_left = (1 - u(0.0, 0.4) * (off_centre / 2) ** 1.5) * (1 - tube)
    grain = (
        0.025 * coarse
        + 0.02 * mid
        + 0.03 * (bump((smooth_noise(rng, n, size, 26) / 0.4) ** 2) - 0.4)
    )
    channels = (0.93, 0.30, 0.3, 0.02), (0.76, 0.19, 0.05, 0.35), (0.68, 0.14, -0.3, 0.28)
    for c, (light, black, tint, vein) in enumerate(channels):
        skin = light ** (1 - tone) * black**tone * u(0.94, 1.06)
        density = (
            p[("red", "green", "blue")[c]] * pigment * (1 - 0.35 * tone)
            + lesion * p["vessels"] * tree * vein
        )
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
        cover += (
            hairy * (u(0, 1) < 0.4) * width / blur * bump(((y - u(-0.3, 0.3) * x * x) / blur) ** 2)
        )
    return np.minimum(cover, 1)


# Colours (red, green, blue) in neutral light: what lies around a patient, and what an ulcer is made of.
_CLOTHS = np.array(
    [
        (0.30, 0.55, 0.46),
        (0.24, 0.45, 0.68),
        (0.50, 0.68, 0.80),
        (0.88, 0.88, 0.85),
        (0.80, 0.70, 0.56),
        (0.52, 0.34, 0.19),
        (0.14, 0.14, 0.16),
        (0.58, 0.59, 0.60),
        (0.58, 0.13, 0.15),
        (0.45, 0.30, 0.38),
    ]
)
_THINGS = np.array(
    [
        (0.78, 0.10, 0.10),
        (0.70, 0.16, 0.12),
        (0.90, 0.74, 0.20),
        (0.08, 0.08, 0.09),
        (0.92, 0.92, 0.90),
        (0.15, 0.30, 0.65),
        (0.75, 0.45, 0.25),
    ]
)
_GLOVES = np.array(
    [
        (0.25, 0.42, 0.72),
        (0.42, 0.34, 0.66),
        (0.86, 0.85, 0.80),
        (0.86, 0.78, 0.60),
        (0.12, 0.12, 0.13),
    ]
)
_PAPERS = np.array([(0.93, 0.93, 0.91), (0.90, 0.85, 0.50), (0.85, 0.92, 0.95)])
_INKS = np.array(
    [(0.75, 0.12, 0.12), (0.90, 0.78, 0.20), (0.10, 0.10, 0.10), (0.20, 0.40, 0.70)], np.float32
)
_BED = np.array(
    [
        [(0.66, 0.13, 0.11), (0.50, 0.08, 0.09), (0.80, 0.27, 0.22)],  # granulation
        [(0.86, 0.73, 0.40), (0.76, 0.68, 0.50), (0.66, 0.60, 0.38)],  # slough
        [(0.09, 0.07, 0.07), (0.20, 0.13, 0.10), (0.14, 0.12, 0.12)],
    ]
)  # necrosis
_WHITE, _BLACK, _REDNESS, _BROWN = np.array(
    [  # the palest and the darkest skin; what redness and pigment absorb
        (0.96, 0.76, 0.66),
        (0.30, 0.19, 0.145),
        (0.06, 0.48, 0.40),
        (0.35, 0.52, 0.60),
    ],
    np.float32,
)[..., None, None]
_SITES = np.array(
    [(0, 0.62), (-0.2, -0.3), (0.2, -0.27), (0.05, 0.15), (0, -0.1)], np.float32
)  # on a foot: heel, ball, ...


def wound(
    labels: Array, size: int, difficulty: float, rng: np.random.Generator
) -> dict[str, Array]:
    """Photograph of an ulcer, one to an image, on a leg, a foot or close up, RGB, skin of all tones; the mask outlines it."""
    n = len(labels)
    u = uniform(rng, n)
    fine = size * max(
        1, 64 // size
    )  # drawn finer than seen: toes and the ticks of rulers are small
    view = u(0, 1)
    close, leg = view < 0.25, (view >= 0.25) & (view < 0.62)  # the rest are feet

    # The limb lies as it likes; the photographer aims at the ulcer, of which `edge` is the distance inside its rim.
    site = _SITES[rng.integers(len(_SITES), size=n)][..., None, None]
    cx = np.where(close | leg, u(-0.22, 0.22), site[:, 0] + u(-0.06, 0.06))
    cy = np.where(close | leg, 0, site[:, 1] + u(-0.06, 0.06))
    zoom = np.where(close | leg, u(0.85, 1.25), u(1.1, 1.7))
    px, py = grid(fine, u(0, 2 * np.pi), zoom, cx + u(-0.3, 0.3), cy + u(-0.3, 0.3))
    coarse, mid, small, pores = (smooth_noise(rng, n, fine, cells) for cells in (4, 9, 18, 34))
    calf = u(0.5, 0.8) + u(-0.15, 0.15) * py + 0.07 * np.cos(u(1, 2.5) * py + u(0, 6)) - np.abs(px)
    foot, nails = _foot(px / u(0.9, 1.1), py)
    limb = np.where(close, 1.2 - np.abs(px), np.where(leg, calf, foot))
    mean, stretch, tilt = (
        np.where(close, u(0.28, 0.5), np.where(leg, u(0.19, 0.36), u(0.16, 0.26))),
        u(1, 1.7),
        u(0, np.pi),
    )
    dx, dy = px - cx + 0.02 * mid, py - cy + 0.02 * small
    dx, dy = (
        (dx * np.cos(tilt) + dy * np.sin(tilt)) / stretch,
        dy * np.cos(tilt) - dx * np.sin(tilt),
    )
    angle = np.arctan2(dy, dx)
    lobes = sum(u(0.3, 1) * np.cos(k * angle + u(0, 6)) / k for k in (2, 3, 4, 6))
    edge = np.minimum(mean * (1 + 0.16 * lobes) - np.sqrt(dx * dx + dy * dy), limb - 0.01)
    ulcer, away = inside(edge, 0.012, fine), np.maximum(-edge, 0)

    # Skin of all tones: inflamed, stained and at times macerated around the ulcer; moles, healed ulcers, bruises, rashes.
    tone = u(0, 1)[:, None]
    tan = (
        _WHITE ** (1 - tone)
        * _BLACK**tone
        * np.exp(0.025 * rng.standard_normal((n, 3, 1, 1), dtype=np.float32))
    )
    red = 0.12 * coarse + 0.08 * mid + u(0, 1.3) * bump((away / (0.3 * mean + 0.04)) ** 2)
    brown = (
        u(-0.1, 0.3) * np.maximum(coarse, 0)
        + 0.03 * pores
        + u(-0.5, 0.8) * bump((away / u(0.1, 0.3)) ** 2)
    )
    brown += (u(0, 1) < 0.3) * inside(small - 2.2, 0.2, fine)
    pale = u(-0.5, 0.6) * bump(((away - 0.035) / 0.025) ** 2)
    for _ in range(3):
        old = _disc(
            px + 0.05 * mid,
            py + 0.05 * small,
            u(-0.8, 0.8),
            u(-0.8, 0.8),
            u(0.05, 0.3),
            u(0.05, 0.2),
        )
        old = (u(0, 1) < 0.2 + 0.3 * difficulty) * inside(np.minimum(old, away - 0.1), 0.03, fine)
        red, brown, pale = (
            red + u(-0.1, 1.6) * old,
            brown + u(-0.3, 1.3) * old,
            pale + u(-0.1, 0.4) * old,
        )
    absorbed = (
        red[:, None] * _REDNESS * (1 - 0.4 * tone) + brown[:, None] * _BROWN + 0.03 * pores[:, None]
    )
    skin = tan * np.exp(-absorbed) + 0.2 * pale[:, None]
    varnish = np.where(u(0, 1)[:, None] < 0.2, _pick(rng, n, _THINGS[:2]), tan + 0.12)
    _paint(skin, varnish, (view >= 0.62) * (u(0, 1) < 0.6) * 0.8 * inside(nails, 0.01, fine))

    # The ulcer in it: patches of three tissues, a wall lit from one side, wet.
    alike = 0.05 + 0.5 * difficulty  # how far it has the colour of red skin
    steep = u(0, 0.5) * bump((edge / 0.04) ** 2) * np.cos(angle - u(0, 2 * np.pi)) + u(
        0, 0.5
    ) * bump((edge / 0.025) ** 2)
    bed = _bed(rng, n, fine, 0.2 * pores + 0.05 * small) * np.exp(-steep)[:, None]
    _paint(skin, (1 - alike) * bed + alike * skin * np.exp(-0.4 * _REDNESS), ulcer)
    skin += (
        0.5
        * ((ulcer * u(0, 1) + u(0, 0.15)) * inside(small + 0.6 * pores - 2.0, 0.3, fine))[:, None]
    )
    skin *= 0.5 + 0.5 * np.tanh(np.maximum(limb, 0) / u(0.15, 0.4))[:, None]

    # Behind the limb cloths, things, gauze and a shade; before it fingers in a glove, a ruler, a card of colours.
    x, y = grid(fine, u(0, 2 * np.pi), np.ones_like(view), u(-0.4, 0.4), u(-0.4, 0.4))
    folds = u(0, 0.14) * (np.cos(6 * coarse + 4 * x) + mid) + u(0, 0.05) * pores
    picture = _pick(rng, n, _CLOTHS) * np.exp(folds)[:, None]
    _paint(
        picture,
        _pick(rng, n, _CLOTHS) * np.exp(0.1 * mid)[:, None],
        inside(y + u(-1, 1), 0.01, fine),
    )
    for _ in range(3):
        thing = (u(0, 1) < 0.5) * inside(_box(px, py, u, 0.05, 0.4), 0.01, fine)
        _paint(picture, _pick(rng, n, _THINGS) * np.exp(0.1 * mid)[:, None], thing)
    gauze = (u(0, 1) < 0.3) * inside(_box(px, py, u, 0.2, 0.4), 0.01, fine)
    _paint(picture, 0.88 * np.exp(0.06 * pores)[:, None], gauze)
    _paint(
        picture,
        _pick(rng, n, _BED[:2].reshape(-1, 3)),
        gauze * inside(coarse + 0.5 * mid - 0.6, 0.1, fine),
    )
    picture *= 1 - (u(0, 0.6) * inside(limb + 0.05, 0.1, fine))[:, None]
    _paint(picture, skin, inside(limb, 0.012, fine))
    for draw, chance in ((_fingers, 0.25), (_ruler, 0.4), (_card, 0.2)):
        colour, cover = draw(rng, *grid(fine, u(0, 2 * np.pi), np.ones_like(view), 0, 0), fine)
        cover = cover * (u(0, 1) < chance)
        _paint(picture, colour, cover)
        ulcer = ulcer * (1 - cover)

    # Light: the photographer's shadow, the flash, a warm or a cold lamp; a lens out of focus; the detector.
    warm = u(-0.4, 1)[:, None]
    lamp = u(0.85, 1.25) * (1 - u(0, 0.6) * inside(u(-1.5, 0.4) - y + 0.1 * coarse, 0.15, fine))
    lamp += u(0, 0.5) * bump((x * x + y * y) / u(0.4, 0.9) ** 2)
    tint = np.exp(warm * np.array([0.12, 0, -0.16], np.float32)[:, None, None])
    blur = 0.004 + 0.02 * u(0, 1) ** 4
    images = through_lens(np.clip(picture * lamp[:, None] * tint, 0, 1.2), blur, size)
    masks = through_lens(ulcer[:, None], 0 * blur, size)[:, 0] > 0.5
    images = np.moveaxis(images, 1, -1) + 0.015 * rng.standard_normal(
        (n, size, size, 3), dtype=np.float32
    )
    return {"images": to_uint8(images), "masks": masks.astype(np.uint8)}


def _paint(picture: Array, colour: Array, cover: Array) -> None:
    """Paint `colour` over the picture (N, 3, F, F) where `cover` (N, F, F) is 1."""
    picture += cover[:, None] * (colour - picture)


def _pick(rng: np.random.Generator, n: int, colours: Array) -> Array:
    """One of the colours for each image, a little off (n, 3, 1, 1)."""
    picked = colours[rng.integers(len(colours), size=n)] * np.exp(
        0.07 * rng.standard_normal((n, 3))
    )
    return picked.astype(np.float32)[..., None, None]


def _bed(rng: np.random.Generator, n: int, fine: int, bumps: Array) -> Array:
    """The colours (n, 3, fine, fine) of the bed of an ulcer: granulation, slough and necrosis, in patches."""
    u = uniform(rng, n)
    votes = np.stack(
        [
            u(-1.2, 1.2)
            + often
            + smooth_noise(rng, n, fine, 6)
            + 0.4 * smooth_noise(rng, n, fine, 14)
            for often in (0.5, 0.2, -0.2)
        ]
    )
    share = np.exp(2.2 * (votes - votes.max(0)))
    share /= share.sum(0)
    colour = sum(_pick(rng, n, shades) * part[:, None] for shades, part in zip(_BED, share))
    return colour * np.exp((0.5 + 0.5 * share[0]) * bumps)[:, None]


def _disc(
    x: Array, y: Array, cx: Array | float, cy: Array | float, rx: Array | float, ry: Array | float
) -> Array:
    """Roughly the distance inside an ellipse; < 0 outside."""
    return (1 - np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)) * np.minimum(rx, ry)


def _box(x: Array, y: Array, u: Callable[[float, float], Array], low: float, high: float) -> Array:
    """The distance inside a rectangle of sides from 2 `low` to 2 `high`, anywhere and at any angle; < 0 outside."""
    turn, x, y = u(0, np.pi), x - u(-1, 1), y - u(-1, 1)
    c, s = np.cos(turn), np.sin(turn)
    return np.minimum(
        u(low, high) - np.abs(c * x + s * y), u(low, 0.7 * high) - np.abs(c * y - s * x)
    )


def _foot(x: Array, y: Array) -> tuple[Array, Array]:
    """The distance inside a foot, toes up, and inside its nails; < 0 outside."""
    parts = [
        _disc(x, y, *at)
        for at in ((0, 0.62, 0.30, 0.36), (0.03, 0.2, 0.26, 0.6), (0, -0.28, 0.41, 0.36))
    ]
    foot, nails = 0.05 * np.log(sum(np.exp(part / 0.05) for part in parts)), np.full_like(x, -1)
    for cx, cy, r in (
        (-0.31, -0.66, 0.125),
        (-0.1, -0.7, 0.085),
        (0.07, -0.66, 0.08),
        (0.22, -0.58, 0.075),
        (0.35, -0.46, 0.07),
    ):
        foot = np.maximum(foot, _disc(x, y, cx, cy, r, 1.5 * r))
        nails = np.maximum(nails, _disc(x, y, cx, cy - 0.7 * r, 0.6 * r, 0.6 * r))
    return foot, nails


def _fingers(rng: np.random.Generator, x: Array, y: Array, fine: int) -> tuple[Array, Array]:
    """Two fingers in a glove: their colour (n, 3, fine, fine), and where they cover the picture (n, fine, fine)."""
    u = uniform(rng, len(x))
    y = y + u(0.55, 0.8)
    first, second = (
        np.hypot(x, np.maximum(y, 0)),
        np.hypot(x - 0.28 + u(-0.1, 0.3) * (y + 0.1), np.maximum(y + 0.12, 0)),
    )
    depth = 0.14 - np.minimum(first, second)
    return _pick(rng, len(x), _GLOVES) * (0.6 + 0.4 * np.tanh(np.maximum(depth, 0) / 0.06))[
        :, None
    ], inside(depth, 0.01, fine)


def _ruler(rng: np.random.Generator, x: Array, y: Array, fine: int) -> tuple[Array, Array]:
    """A ruler of paper, as `_fingers`."""
    u = uniform(rng, len(x))
    y = y + u(0.55, 0.8)
    ticks = inside(np.cos(2 * np.pi * x / 0.1) - 0.6, 0.3, fine) * inside(y - 0.02, 0.01, fine)
    digits = inside(smooth_noise(rng, len(x), fine, 30) - 0.8, 0.2, fine) * inside(
        0.03 - np.abs(y + 0.03), 0.01, fine
    )
    cover = inside(np.minimum(u(0.07, 0.1) - np.abs(y), u(0.4, 0.8) - np.abs(x)), 0.008, fine)
    return _pick(rng, len(x), _PAPERS) * (1 - 0.85 * np.maximum(ticks, digits))[:, None], cover


def _card(rng: np.random.Generator, x: Array, y: Array, fine: int) -> tuple[Array, Array]:
    """A white card with squares of known colours, as `_fingers`."""
    u = uniform(rng, len(x))
    x, y = x + u(-0.2, 0.2), y + u(0.65, 0.85)
    colour = np.full((len(x), 3, fine, fine), 0.92, np.float32)
    for k, ink in enumerate(_INKS):
        square = 0.045 - np.maximum(np.abs(x - 0.12 * k + 0.18), np.abs(y - 0.05))
        _paint(colour, ink[:, None, None], inside(square, 0.008, fine))
    return colour, inside(np.minimum(0.27 - np.abs(x), 0.13 - np.abs(y)), 0.008, fine)
