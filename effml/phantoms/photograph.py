"""Phantom of photographs of ulcers."""

from types import SimpleNamespace

import numpy as np

from effml.phantoms.brushes import Array, Canvas, Parts, bump


def _colours(text: str) -> Array:
    """Colours in neutral light, as percent of red, green and blue."""
    return np.array([row.split() for row in text.split(",")], float) / 100


# what lies around a patient, and what an ulcer is made of
_CLOTHS = _colours(
    "30 55 46, 24 45 68, 50 68 80, 88 88 85, 80 70 56, 52 34 19, 14 14 16, 58 59 60, 58 13 15,"
    "45 30 38"
)
_THINGS = _colours("78 10 10, 70 16 12, 90 74 20, 8 8 9, 92 92 90, 15 30 65, 75 45 25")
_GLOVES = _colours("25 42 72, 42 34 66, 86 85 80, 86 78 60, 12 12 13")
_PAPERS = _colours("93 93 91, 90 85 50, 85 92 95")
_INKS = _colours("75 12 12, 90 78 20, 10 10 10, 20 40 70").astype(np.float32)
_GRANULATION = _colours("66 13 11, 50 8 9, 80 27 22")
_SLOUGH = _colours("86 73 40, 76 68 50, 66 60 38")
_NECROSIS = _colours("9 7 7, 20 13 10, 14 12 12")
# the palest and the darkest skin; what redness and pigment absorb
_SKIN = _colours("96 76 66, 30 19 14.5, 6 48 40, 35 52 60").astype(np.float32)
_WHITE, _BLACK, _REDNESS, _BROWN = _SKIN[..., None, None]
# on a foot: heel, ball, ...
_SITES = np.array([(0, 0.62), (-0.2, -0.3), (0.2, -0.27), (0.05, 0.15), (0, -0.1)], np.float32)
_TOES = (-0.31, -0.66, 0.125), (-0.1, -0.7, 0.085), (0.07, -0.66, 0.08), (0.22, -0.58, 0.075)
_TOES += ((0.35, -0.46, 0.07),)


def wound(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> Parts:
    """Photograph of an ulcer on a leg, a foot or close up, RGB; the mask outlines it."""
    # drawn finer than seen: toes and the ticks of rulers are small
    c = Canvas(rng, len(labels), size * max(1, 64 // size))
    u, soft = c.u, c.soft
    o = _limb(c)
    skin = _skin(c, o, difficulty)
    o.ulcer = _bed(c, o, skin, difficulty)
    x, y = c.grid(u(0, 2 * np.pi), np.ones_like(o.view), u(-0.4, 0.4), u(-0.4, 0.4))
    picture = _surroundings(c, o, x, y)
    _paint(picture, skin, soft(o.limb, 0.012))
    ulcer = o.ulcer
    for draw, chance in ((_fingers, 0.25), (_ruler, 0.4), (_card, 0.2)):
        colour, cover = draw(c, *c.grid(u(0, 2 * np.pi), np.ones_like(o.view), 0, 0))
        cover = cover * (u(0, 1) < chance)
        _paint(picture, colour, cover)
        ulcer = ulcer * (1 - cover)
    # light: the photographer's shadow, the flash, a warm or a cold lamp; a lens out of focus
    warm = u(-0.4, 1)[:, None]
    lamp = u(0.85, 1.25) * (1 - u(0, 0.6) * soft(u(-1.5, 0.4) - y + 0.1 * o.coarse, 0.15))
    lamp += u(0, 0.5) * bump((x * x + y * y) / u(0.4, 0.9) ** 2)
    tint = np.exp(warm * np.array([0.12, 0, -0.16], np.float32)[:, None, None])
    blur = 0.004 + 0.02 * u(0, 1) ** 4
    seen = np.clip(picture * lamp[:, None] * tint, 0, 1.2)
    return c.photographed(seen, ulcer, blur, size, 0.015)


def _limb(c: Canvas) -> SimpleNamespace:
    """The limb lies as it likes; the photographer aims at the ulcer. Distances inside either."""
    u, rng = c.u, c.rng
    view = u(0, 1)
    close, leg = view < 0.25, (view >= 0.25) & (view < 0.62)  # the rest are feet
    site = _SITES[rng.integers(len(_SITES), size=c.n)][..., None, None]
    cx = np.where(close | leg, u(-0.22, 0.22), site[:, 0] + u(-0.06, 0.06))
    cy = np.where(close | leg, 0, site[:, 1] + u(-0.06, 0.06))
    zoom = np.where(close | leg, u(0.85, 1.25), u(1.1, 1.7))
    px, py = c.grid(u(0, 2 * np.pi), zoom, cx + u(-0.3, 0.3), cy + u(-0.3, 0.3))
    coarse, mid, small, pores = (c.noise(cells) for cells in (4, 9, 18, 34))
    calf = u(0.5, 0.8) + u(-0.15, 0.15) * py + 0.07 * np.cos(u(1, 2.5) * py + u(0, 6)) - np.abs(px)
    foot, nails = _foot(px / u(0.9, 1.1), py)
    limb = np.where(close, 1.2 - np.abs(px), np.where(leg, calf, foot))
    mean = np.where(close, u(0.28, 0.5), np.where(leg, u(0.19, 0.36), u(0.16, 0.26)))
    stretch, tilt = u(1, 1.7), u(0, np.pi)
    dx, dy = px - cx + 0.02 * mid, py - cy + 0.02 * small
    along, across = dx * np.cos(tilt) + dy * np.sin(tilt), dy * np.cos(tilt) - dx * np.sin(tilt)
    along = along / stretch
    angle = np.arctan2(across, along)
    reach = mean * (1 + 0.16 * c.lobes(angle, 0.3, (2, 3, 4, 6)))
    edge = np.minimum(reach - np.sqrt(along * along + across * across), limb - 0.01)
    grains = {"coarse": coarse, "mid": mid, "small": small, "pores": pores}
    places = {"px": px, "py": py, "limb": limb, "nails": nails, "edge": edge, "angle": angle}
    return SimpleNamespace(view=view, mean=mean, **grains, **places)


def _skin(c: Canvas, o: SimpleNamespace, difficulty: float) -> Array:
    """Skin of all tones, inflamed around the ulcer; moles, bruises, rashes; varnished nails."""
    u, away = c.u, np.maximum(-o.edge, 0)
    tone = u(0, 1)[:, None]
    tan = _WHITE ** (1 - tone) * _BLACK**tone * np.exp(0.025 * c.normal(3, 1, 1))
    red = 0.12 * o.coarse + 0.08 * o.mid + u(0, 1.3) * bump((away / (0.3 * o.mean + 0.04)) ** 2)
    brown = u(-0.1, 0.3) * np.maximum(o.coarse, 0) + 0.03 * o.pores
    brown = brown + u(-0.5, 0.8) * bump((away / u(0.1, 0.3)) ** 2)
    brown += (u(0, 1) < 0.3) * c.soft(o.small - 2.2, 0.2)
    pale = u(-0.5, 0.6) * bump(((away - 0.035) / 0.025) ** 2)
    for _ in range(3):
        at = u(-0.8, 0.8), u(-0.8, 0.8), u(0.05, 0.3), u(0.05, 0.2)
        old = _disc(o.px + 0.05 * o.mid, o.py + 0.05 * o.small, *at)
        old = (u(0, 1) < 0.2 + 0.3 * difficulty) * c.soft(np.minimum(old, away - 0.1), 0.03)
        red, brown = red + u(-0.1, 1.6) * old, brown + u(-0.3, 1.3) * old
        pale = pale + u(-0.1, 0.4) * old
    absorbed = red[:, None] * _REDNESS * (1 - 0.4 * tone) + brown[:, None] * _BROWN
    skin = tan * np.exp(-(absorbed + 0.03 * o.pores[:, None])) + 0.2 * pale[:, None]
    varnish = np.where(u(0, 1)[:, None] < 0.2, _pick(c, _THINGS[:2]), tan + 0.12)
    _paint(skin, varnish, (o.view >= 0.62) * (u(0, 1) < 0.6) * 0.8 * c.soft(o.nails, 0.01))
    return skin


def _bed(c: Canvas, o: SimpleNamespace, skin: Array, difficulty: float) -> Array:
    """Paint the ulcer into the skin: granulation, slough, necrosis, a lit wall. Where it is."""
    u, edge, ulcer = c.u, o.edge, c.soft(o.edge, 0.012)
    alike = 0.05 + 0.5 * difficulty  # how far it has the colour of red skin
    steep = u(0, 0.5) * bump((edge / 0.04) ** 2) * np.cos(o.angle - u(0, 2 * np.pi))
    steep = steep + u(0, 0.5) * bump((edge / 0.025) ** 2)
    votes = np.stack(
        [u(-1.2, 1.2) + often + c.noise(6) + 0.4 * c.noise(14) for often in (0.5, 0.2, -0.2)]
    )
    share = np.exp(2.2 * (votes - votes.max(0)))
    share /= share.sum(0)
    kinds = zip((_GRANULATION, _SLOUGH, _NECROSIS), share)
    colour = sum(_pick(c, shades) * part[:, None] for shades, part in kinds)
    bumps = 0.2 * o.pores + 0.05 * o.small
    bed = colour * np.exp((0.5 + 0.5 * share[0]) * bumps)[:, None] * np.exp(-steep)[:, None]
    _paint(skin, (1 - alike) * bed + alike * skin * np.exp(-0.4 * _REDNESS), ulcer)
    wet = (ulcer * u(0, 1) + u(0, 0.15)) * c.soft(o.small + 0.6 * o.pores - 2.0, 0.3)
    skin += 0.5 * wet[:, None]
    skin *= 0.5 + 0.5 * np.tanh(np.maximum(o.limb, 0) / u(0.15, 0.4))[:, None]
    return ulcer


def _surroundings(c: Canvas, o: SimpleNamespace, x: Array, y: Array) -> Array:
    """Behind the limb: cloths, things, gauze and a shade."""
    u, soft, mid = c.u, c.soft, o.mid
    folds = u(0, 0.14) * (np.cos(6 * o.coarse + 4 * x) + mid) + u(0, 0.05) * o.pores
    picture = _pick(c, _CLOTHS) * np.exp(folds)[:, None]
    other = _pick(c, _CLOTHS) * np.exp(0.1 * mid)[:, None]
    _paint(picture, other, soft(y + u(-1, 1), 0.01))
    for _ in range(3):
        thing = (u(0, 1) < 0.5) * soft(_box(c, o.px, o.py, 0.05, 0.4), 0.01)
        _paint(picture, _pick(c, _THINGS) * np.exp(0.1 * mid)[:, None], thing)
    gauze = (u(0, 1) < 0.3) * soft(_box(c, o.px, o.py, 0.2, 0.4), 0.01)
    _paint(picture, 0.88 * np.exp(0.06 * o.pores)[:, None], gauze)
    stain = _pick(c, np.concatenate([_GRANULATION, _SLOUGH]))
    _paint(picture, stain, gauze * soft(o.coarse + 0.5 * mid - 0.6, 0.1))
    picture *= 1 - (u(0, 0.6) * soft(o.limb + 0.05, 0.1))[:, None]
    return picture


def _paint(picture: Array, colour: Array, cover: Array) -> None:
    """Paint `colour` over the picture (N, 3, F, F) where `cover` (N, F, F) is 1."""
    picture += cover[:, None] * (colour - picture)


def _pick(c: Canvas, colours: Array) -> Array:
    """One of the colours for each image, a little off (n, 3, 1, 1)."""
    picked = colours[c.rng.integers(len(colours), size=c.n)]
    picked = picked * np.exp(0.07 * c.rng.standard_normal((c.n, 3)))
    return picked.astype(np.float32)[..., None, None]


def _disc(x: Array, y: Array, cx: float | Array, cy: float | Array, *axes: float | Array) -> Array:
    """Roughly the distance inside an ellipse; < 0 outside."""
    rx, ry = axes
    return (1 - np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)) * np.minimum(rx, ry)


def _box(c: Canvas, x: Array, y: Array, low: float, high: float) -> Array:
    """The distance inside a rectangle anywhere and at any angle; < 0 outside."""
    turn, x, y = c.u(0, np.pi), x - c.u(-1, 1), y - c.u(-1, 1)
    i, j = np.cos(turn), np.sin(turn)
    wide = c.u(low, high) - np.abs(i * x + j * y)
    return np.minimum(wide, c.u(low, 0.7 * high) - np.abs(i * y - j * x))


def _foot(x: Array, y: Array) -> tuple[Array, Array]:
    """The distance inside a foot, toes up, and inside its nails; < 0 outside."""
    heel, arch, ball = (0, 0.62, 0.30, 0.36), (0.03, 0.2, 0.26, 0.6), (0, -0.28, 0.41, 0.36)
    parts = [_disc(x, y, *at) for at in (heel, arch, ball)]
    foot, nails = 0.05 * np.log(sum(np.exp(part / 0.05) for part in parts)), np.full_like(x, -1)
    for cx, cy, r in _TOES:
        foot = np.maximum(foot, _disc(x, y, cx, cy, r, 1.5 * r))
        nails = np.maximum(nails, _disc(x, y, cx, cy - 0.7 * r, 0.6 * r, 0.6 * r))
    return foot, nails


def _fingers(c: Canvas, x: Array, y: Array) -> tuple[Array, Array]:
    """Two fingers in a glove: their colour (n, 3, F, F), and where they cover the picture."""
    y = y + c.u(0.55, 0.8)
    first = np.hypot(x, np.maximum(y, 0))
    second = np.hypot(x - 0.28 + c.u(-0.1, 0.3) * (y + 0.1), np.maximum(y + 0.12, 0))
    depth = 0.14 - np.minimum(first, second)
    round_ = 0.6 + 0.4 * np.tanh(np.maximum(depth, 0) / 0.06)
    return _pick(c, _GLOVES) * round_[:, None], c.soft(depth, 0.01)


def _ruler(c: Canvas, x: Array, y: Array) -> tuple[Array, Array]:
    """A ruler of paper, as `_fingers`."""
    y = y + c.u(0.55, 0.8)
    ticks = c.soft(np.cos(2 * np.pi * x / 0.1) - 0.6, 0.3) * c.soft(y - 0.02, 0.01)
    digits = c.soft(c.noise(30) - 0.8, 0.2) * c.soft(0.03 - np.abs(y + 0.03), 0.01)
    cover = c.soft(np.minimum(c.u(0.07, 0.1) - np.abs(y), c.u(0.4, 0.8) - np.abs(x)), 0.008)
    return _pick(c, _PAPERS) * (1 - 0.85 * np.maximum(ticks, digits))[:, None], cover


def _card(c: Canvas, x: Array, y: Array) -> tuple[Array, Array]:
    """A white card with squares of known colours, as `_fingers`."""
    x, y = x + c.u(-0.2, 0.2), y + c.u(0.65, 0.85)
    colour = np.full((c.n, 3, c.size, c.size), 0.92, np.float32)
    for k, ink in enumerate(_INKS):
        square = 0.045 - np.maximum(np.abs(x - 0.12 * k + 0.18), np.abs(y - 0.05))
        _paint(colour, ink[:, None, None], c.soft(square, 0.008))
    return colour, c.soft(np.minimum(0.27 - np.abs(x), 0.13 - np.abs(y)), 0.008)
