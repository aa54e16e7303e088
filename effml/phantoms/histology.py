"""Phantoms of histology, in colour: crypts of the colon, stained with haematoxylin and eosin."""

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

_GLAND, _FOLLICLE, _VESSEL, _FAT, _TEAR = range(
    5
)  # what a place in the tissue holds; all but the first are distractors
_STAINS = np.array(
    [[0.62, 0.72, 0.30], [0.08, 0.88, 0.38]], np.float32
)  # absorption of red, green, blue by H and by E


def tissue(
    labels: Array, size: int, difficulty: float, rng: np.random.Generator
) -> dict[str, Array]:
    """Section of colon in haematoxylin and eosin, RGB; the mask outlines whole glands: epithelium and lumen."""
    n = len(labels)
    u = uniform(rng, n)
    fine = size * max(
        1, 64 // size
    )  # drawn finer than seen where nuclei would be smaller than a pixel
    alike = (
        0.1 + 0.75 * difficulty
    )  # how far the cytoplasm of the glands takes up stain as the stroma does
    grade, stretch = (
        u(0, 1) ** 1.5,
        1 + u(0, 1) ** 2,
    )  # 0 regular crypts, 1 as in a carcinoma; cut across (1) or along
    x, y = grid(fine, u(0, 2 * np.pi), u(0.8, 1.15), u(-0.3, 0.3), u(-0.3, 0.3))
    x, y = (
        t
        + (0.02 + 0.05 * grade) * smooth_noise(rng, n, fine, 7)
        + 0.02 * smooth_noise(rng, n, fine, 14)
        for t in (x, y)
    )
    patchy, swirl, mid, grain = (smooth_noise(rng, n, fine, cells) for cells in (4, 6, 10, 40))
    place = _places(rng, x, y, u(0.64, 0.88), stretch)
    depth, arc = place["depth"], place["arc"]

    # A gland from its rim inwards: a row (or more) of nuclei, cytoplasm with goblets, lumen. Around it at times a cleft.
    body = inside(depth, 0.012, fine)
    gland, follicle, vessel, fat, tear = (body * (place["kind"] == kind) for kind in range(5))
    core = inside(depth - u(0.12, 0.18) * (1 + 0.2 * smooth_noise(rng, n, fine, 8)), 0.012, fine)
    lumen, wall, outside = gland * core, gland * (1 - core), 1 - gland
    row = depth / 0.055
    dense = np.clip(1.6 + 2 * grade - row, 0, 1) * (0.95 - 0.15 * difficulty)
    rim = inside(0.055 * _ovals(rng, arc, row, dense, 0.36, 0.46), 0.012, fine)
    mucous = u(0.4, 1) * (1 - 0.8 * grade)
    goblets = wall * inside(
        0.08 * _ovals(rng, 0.4 * arc, (depth - 0.045) / 0.1, mucous, 0.42, 0.46), 0.015, fine
    )
    cleft = (
        (place["kind"] == _GLAND)
        * inside(swirl - 1.1, 0.2, fine)
        * bump(((depth + 0.02) / 0.02) ** 2)
    )
    filled = lumen * place["filled"] * np.clip(0.7 + 0.5 * mid, 0, 1)  # with dead cells
    slime = lumen * u(0, 0.14) * np.clip(0.6 + 0.6 * mid, 0, 2)

    # The stroma: fibres, loose and firm; lymphocytes and fibroblasts; follicles, vessels, fat, tears.
    loose = np.clip(0.4 * patchy + u(-0.3, 0.5), 0, 1)
    fibres = np.cos(40 * depth + 3 * swirl) * smooth_noise(rng, n, fine, 9)
    crowd = (
        np.clip(u(0.25, 0.6) + 0.15 * difficulty + 0.15 * patchy, 0.05, 0.8)
        + 0.6 * follicle
        - fat
        - tear
    )
    bend = 0.45 * smooth_noise(rng, n, fine, 10)  # so that cells stand in no rows and columns
    cells = outside * inside(
        0.068 * _ovals(rng, x / 0.068 + bend, y / 0.068 - bend, crowd, 0.22, 0.36), 0.012, fine
    )
    drops = fat * inside(0.1 * _ovals(rng, x / 0.16, y / 0.16, 1, 0.56, 0.62), 0.01, fine)
    bore = vessel * inside(depth - 0.045, 0.012, fine)
    blood = bore * u(0, 1) * inside(grain, 0.5, fine)

    # How much there is of either stain: cytoplasm and fibres, on them goblets and nuclei; then what is empty or filled.
    haem = outside * (0.14 + 0.1 * loose) + wall * (0.42 - 0.2 * alike) + 0.035 * mid
    eosin = (
        outside * (0.54 - 0.3 * loose + 0.09 * fibres) + wall * (0.30 + 0.2 * alike) + 0.065 * mid
    )
    nuclei = np.maximum((wall * (1 - 0.7 * goblets) + vessel) * rim, cells)
    for cover, h, e in ((goblets, 0.12, 0.10), (nuclei, u(0.85, 1.1) * (1 + 0.12 * grain), 0.25)):
        haem, eosin = haem + cover * (h - haem), eosin + cover * (e - eosin)
    there = 1 - np.maximum(
        np.maximum(np.maximum(lumen, bore), np.maximum(drops, tear)), 0.9 * cleft
    )
    haem = (
        haem * there + slime + 0.1 * blood + filled * (0.08 + 0.5 * inside(grain - 0.9, 0.4, fine))
    )
    eosin = eosin * there + 0.5 * slime + 0.7 * blood + 0.4 * filled

    # Beer and Lambert, with the stains of this slide; a lamp out of centre; a lens out of focus; the detector.
    stains = _STAINS[:, :, None, None] * np.exp(
        0.12 * rng.standard_normal((n, 2, 3, 1, 1), dtype=np.float32)
    )
    density = (
        stains[:, 0] * (u(0.65, 1.3) * haem)[:, None]
        + stains[:, 1] * (u(0.65, 1.35) * eosin)[:, None]
    )
    lamp = u(0.9, 0.98) + u(-0.12, 0.08) * x + u(-0.1, 0.1) * y - u(0, 0.1) * (x * x + y * y)
    white = np.stack([u(0.97, 1.03) for _ in range(3)], 1)
    blur = 0.004 + 0.022 * (0.5 + difficulty) * u(0, 1) ** 4
    images = through_lens(white * np.maximum(lamp, 0.3)[:, None] * np.exp(-density), blur, size)
    masks = through_lens(gland[:, None], 0 * blur, size)[:, 0] > 0.5
    images = np.moveaxis(images, 1, -1) + 0.012 * rng.standard_normal(
        (n, size, size, 3), dtype=np.float32
    )
    return {"images": to_uint8(images), "masks": masks.astype(np.uint8)}


def _places(
    rng: np.random.Generator, x: Array, y: Array, pitch: Array, stretch: Array
) -> dict[str, Array]:
    """25 places to an image, about `pitch` apart, ellipses `stretch` times as long as wide. For each pixel, of the place it
    is in or nearest to: the kind; how far the lumen is `filled`; the depth inside the outline (half-widths; < 0 outside);
    the arc, walking round it, in nuclei."""
    n, side = len(x), 5
    shape = n, side * side
    at = np.stack(np.divmod(np.arange(side * side), side)) - side // 2
    cy, cx = at[:, None] + rng.uniform(-0.22, 0.22, (2, *shape))
    cx, cy = cx * (pitch * stretch)[:, 0], cy * pitch[:, 0]
    short = pitch[:, 0] * rng.uniform(0.33, 0.45, shape)
    long = (
        short
        * (1 + (stretch[:, 0] - 1) * rng.uniform(0.7, 1, shape))
        * rng.uniform(0.95, 1.25, shape)
    )
    turn, phase = rng.normal(0, 0.25, shape), rng.uniform(0, 6, shape)
    filled = np.clip(rng.normal(-0.5, 0.8, shape), 0, 1)
    kind = np.where(rng.random(shape) < 0.66, _GLAND, rng.integers(_FOLLICLE, _TEAR + 1, shape))
    kind[:, side * side // 2 - 1 : side * side // 2 + 1] = (
        _GLAND  # near the middle, so that no image is without
    )

    c, s = np.cos(turn), np.sin(turn)
    forms = (
        c / long,
        s / long,
        (c * cx + s * cy) / long,
        -s / short,
        c / short,
        (c * cy - s * cx) / short,
    )
    forms = np.stack(forms).astype(np.float32)[..., None, None]
    nearest, second = np.full_like(x, 9), np.full_like(x, 9)
    px, py, which = np.zeros_like(x), np.zeros_like(x), np.zeros(x.shape, np.int32)
    for k in range(side * side):
        xx, xy, x0, yx, yy, y0 = forms[:, :, k]
        p, q = xx * x + xy * y - x0, yx * x + yy * y - y0
        r = np.sqrt(p * p + q * q)  # 1 on the outline
        closer = r < nearest
        second = np.minimum(second, np.maximum(nearest, r))
        nearest = np.minimum(nearest, r)
        px, py, which = (
            np.where(closer, p, px),
            np.where(closer, q, py),
            np.where(closer, np.int32(k), which),
        )
    which += np.arange(n, dtype=np.int32)[:, None, None] * (side * side)
    short, long, phase, filled, kind = (
        t.astype(np.float32).ravel().take(which) for t in (short, long, phase, filled, kind)
    )
    angle = np.arctan2(py, px)
    lobes = (
        0.06 * np.cos(2 * angle + phase)
        + 0.05 * np.cos(3 * angle + 2 * phase)
        + 0.03 * np.cos(5 * angle + 3 * phase)
    )
    slope = np.sqrt((px / long) ** 2 + (py / short) ** 2) / np.maximum(
        nearest, 1e-3
    )  # of `nearest`, per half-width
    between = 0.5 * (second - nearest) * short - 0.02  # neighbours flatten each other
    depth = np.minimum((1 + lobes - nearest) / np.maximum(slope, 1), between)
    around = np.round(2 * np.pi * np.sqrt(short * long) / 0.05)
    return {"kind": kind, "filled": filled, "depth": depth, "arc": angle / (2 * np.pi) * around}


def _ovals(
    rng: np.random.Generator, x: Array, y: Array, share: Array | float, short: float, long: float
) -> Array:
    """An oval of half-axes `short` and `long`, turned and displaced at random, in a `share` of the unit squares of (x, y):
    roughly the distance inside the outline of the nearest, < 0 outside. The pattern repeats after 32 squares."""
    n, side = len(x), 32
    shape = n, side, side
    turn, (jump_x, jump_y), luck = (
        rng.uniform(0, np.pi, shape),
        rng.uniform(0.24, 0.76, (2, *shape)),
        rng.random(shape),
    )
    a, b = ((half * rng.uniform(0.8, 1.2, shape)) ** -2 for half in (long, short))
    c, s = np.cos(turn), np.sin(turn)
    forms = jump_x, jump_y, c * c * a + s * s * b, 2 * c * s * (a - b), s * s * a + c * c * b, luck
    forms = [form.astype(np.float32).ravel() for form in forms]
    left, top = np.floor(x - 0.5), np.floor(y - 0.5)
    column, line = left.astype(np.int32), top.astype(np.int32)
    first = np.arange(n, dtype=np.int32)[:, None, None] * side
    near = np.full_like(x, 9)
    for j in (0, 1):
        for i in (0, 1):
            at = (first + (line + j & 31)) * side + (column + i & 31)
            px, py, xx, xy, yy, lucky = (form.take(at) for form in forms)
            dx, dy = x - left - i - px, y - top - j - py
            near = np.minimum(
                near, np.where(lucky < share, (xx * dx + xy * dy) * dx + yy * dy * dy, 9)
            )
    return (1 - np.sqrt(near)) * ((short + long) / 2)
