"""Phantom of histology: crypts of the colon, stained with haematoxylin and eosin."""

import numpy as np

from effml.phantoms.brushes import Array, Canvas, Parts, bump

# what a place in the tissue holds; all but the first are distractors
_KINDS = "gland", "follicle", "vessel", "fat", "tear"
# absorption of red, green, blue by haematoxylin and by eosin
_STAINS = np.array([[0.62, 0.72, 0.30], [0.08, 0.88, 0.38]], np.float32)


def tissue(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> Parts:
    """Section of colon, RGB; the mask outlines whole glands: epithelium and lumen."""
    fine = size * max(1, 64 // size)  # drawn finer than seen where nuclei would be below a pixel
    c = Canvas(rng, len(labels), fine)
    u = c.u
    # grade: 0 regular crypts, 1 as in a carcinoma; stretch: cut across (1) or along
    grade, stretch = u(0, 1) ** 1.5, 1 + u(0, 1) ** 2
    x, y = c.grid(u(0, 2 * np.pi), u(0.8, 1.15), u(-0.3, 0.3), u(-0.3, 0.3))
    x, y = (t + (0.02 + 0.05 * grade) * c.noise(7) + 0.02 * c.noise(14) for t in (x, y))
    patchy, swirl, mid, grain = (c.noise(cells) for cells in (4, 6, 10, 40))
    place = _places(c, x, y, u(0.64, 0.88), stretch)
    body = c.soft(place["depth"], 0.012)
    place |= {kind: body * (place["kind"] == k) for k, kind in enumerate(_KINDS)}
    place |= {"patchy": patchy, "swirl": swirl, "mid": mid, "grain": grain}
    place |= _glands(c, place, grade, difficulty)
    place |= _stroma(c, x, y, place, difficulty)
    haem, eosin = _stained(c, place, difficulty)
    # Beer and Lambert, with the stains of this slide; a lamp out of centre; a lens out of focus
    stains = _STAINS[:, :, None, None] * np.exp(0.12 * c.normal(2, 3, 1, 1))
    density = stains[:, 0] * (u(0.65, 1.3) * haem)[:, None]
    density = density + stains[:, 1] * (u(0.65, 1.35) * eosin)[:, None]
    lamp = u(0.9, 0.98) + u(-0.12, 0.08) * x + u(-0.1, 0.1) * y - u(0, 0.1) * (x * x + y * y)
    white = np.stack([u(0.97, 1.03) for _ in range(3)], 1)
    blur = 0.004 + 0.022 * (0.5 + difficulty) * u(0, 1) ** 4
    seen = white * np.maximum(lamp, 0.3)[:, None] * np.exp(-density)
    return c.photographed(seen, place["gland"], blur, size, 0.012)


def _glands(c: Canvas, p: Parts, grade: Array, difficulty: float) -> Parts:
    """From the rim inwards: nuclei, cytoplasm with goblets, lumen. At times a cleft around."""
    depth, arc, mid = p["depth"], p["arc"], p["mid"]
    core = c.soft(depth - c.u(0.12, 0.18) * (1 + 0.2 * c.noise(8)), 0.012)
    lumen, wall, row = p["gland"] * core, p["gland"] * (1 - core), depth / 0.055
    dense = np.clip(1.6 + 2 * grade - row, 0, 1) * (0.95 - 0.15 * difficulty)
    rim = c.soft(0.055 * _ovals(c, arc, row, dense, 0.36, 0.46), 0.012)
    mucous = c.u(0.4, 1) * (1 - 0.8 * grade)
    ovals = _ovals(c, 0.4 * arc, (depth - 0.045) / 0.1, mucous, 0.42, 0.46)
    cleft = (p["kind"] == 0) * c.soft(p["swirl"] - 1.1, 0.2) * bump(((depth + 0.02) / 0.02) ** 2)
    dead = lumen * p["filled"] * np.clip(0.7 + 0.5 * mid, 0, 1)  # cells in the lumen
    slime = lumen * c.u(0, 0.14) * np.clip(0.6 + 0.6 * mid, 0, 2)
    goblets = wall * c.soft(0.08 * ovals, 0.015)
    drawn = {"lumen": lumen, "wall": wall, "rim": rim, "goblets": goblets, "cleft": cleft}
    return {**drawn, "dead": dead, "slime": slime}


def _stroma(c: Canvas, x: Array, y: Array, p: Parts, difficulty: float) -> Parts:
    """Fibres, loose and firm; lymphocytes and fibroblasts; follicles, vessels, fat, tears."""
    outside, depth = 1 - p["gland"], p["depth"]
    loose = np.clip(0.4 * p["patchy"] + c.u(-0.3, 0.5), 0, 1)
    fibres = np.cos(40 * depth + 3 * p["swirl"]) * c.noise(9)
    crowd = c.u(0.25, 0.6) + 0.15 * difficulty + 0.15 * p["patchy"]
    crowd = np.clip(crowd, 0.05, 0.8) + 0.6 * p["follicle"] - p["fat"] - p["tear"]
    bend = 0.45 * c.noise(10)  # so that cells stand in no rows and columns
    ovals = _ovals(c, x / 0.068 + bend, y / 0.068 - bend, crowd, 0.22, 0.36)
    cells = outside * c.soft(0.068 * ovals, 0.012)
    drops = p["fat"] * c.soft(0.1 * _ovals(c, x / 0.16, y / 0.16, 1, 0.56, 0.62), 0.01)
    bore = p["vessel"] * c.soft(depth - 0.045, 0.012)
    blood = bore * c.u(0, 1) * c.soft(p["grain"], 0.5)
    drawn = {"outside": outside, "loose": loose, "fibres": fibres, "cells": cells}
    return {**drawn, "drops": drops, "bore": bore, "blood": blood}


def _stained(c: Canvas, p: Parts, difficulty: float) -> tuple[Array, Array]:
    """How much there is of either stain."""
    # how far the cytoplasm of the glands takes up stain as the stroma does
    alike = 0.1 + 0.75 * difficulty
    outside, wall, loose, mid, blood = (p[f] for f in ("outside", "wall", "loose", "mid", "blood"))
    haem = outside * (0.14 + 0.1 * loose) + wall * (0.42 - 0.2 * alike) + 0.035 * mid
    eosin = outside * (0.54 - 0.3 * loose + 0.09 * p["fibres"])
    eosin = eosin + wall * (0.30 + 0.2 * alike) + 0.065 * mid
    nuclei = (wall * (1 - 0.7 * p["goblets"]) + p["vessel"]) * p["rim"]
    nuclei, dark = np.maximum(nuclei, p["cells"]), c.u(0.85, 1.1) * (1 + 0.12 * p["grain"])
    for cover, h, e in ((p["goblets"], 0.12, 0.10), (nuclei, dark, 0.25)):
        haem, eosin = haem + cover * (h - haem), eosin + cover * (e - eosin)
    empty = np.maximum(np.maximum(p["lumen"], p["bore"]), np.maximum(p["drops"], p["tear"]))
    there = 1 - np.maximum(empty, 0.9 * p["cleft"])
    debris = p["dead"] * (0.08 + 0.5 * c.soft(p["grain"] - 0.9, 0.4))
    haem = haem * there + p["slime"] + 0.1 * blood + debris
    return haem, eosin * there + 0.5 * p["slime"] + 0.7 * blood + 0.4 * p["dead"]


def _places(c: Canvas, x: Array, y: Array, pitch: Array, stretch: Array) -> Parts:
    """25 places to an image, about `pitch` apart, ellipses `stretch` times as long as wide. For
    each pixel, of the place it is in or nearest to: the kind; how far the lumen is `filled`; the
    depth inside the outline (half-widths; < 0 outside); the arc, walking round it, in nuclei."""
    rng, side = c.rng, 5
    shape = c.n, side * side
    at = np.stack(np.divmod(np.arange(side * side), side)) - side // 2
    cy, cx = at[:, None] + rng.uniform(-0.22, 0.22, (2, *shape))
    cx, cy = cx * (pitch * stretch)[:, 0], cy * pitch[:, 0]
    short = pitch[:, 0] * rng.uniform(0.33, 0.45, shape)
    long = short * (1 + (stretch[:, 0] - 1) * rng.uniform(0.7, 1, shape))
    long = long * rng.uniform(0.95, 1.25, shape)
    turn, phase = rng.normal(0, 0.25, shape), rng.uniform(0, 6, shape)
    filled = np.clip(rng.normal(-0.5, 0.8, shape), 0, 1)
    kind = np.where(rng.random(shape) < 0.66, 0, rng.integers(1, len(_KINDS), shape))
    middle = side * side // 2
    kind[:, middle - 1 : middle + 1] = 0  # so that no image is without a gland
    nearest, second, p, q, which = _nearest(x, y, (cx, cy), (long, short), turn)
    which += np.arange(c.n, dtype=np.int32)[:, None, None] * (side * side)
    fields = short, long, phase, filled, kind
    short, long, phase, filled, kind = (f.astype(np.float32).ravel().take(which) for f in fields)
    angle = np.arctan2(q, p)
    lobes = 0.06 * np.cos(2 * angle + phase) + 0.05 * np.cos(3 * angle + 2 * phase)
    lobes = lobes + 0.03 * np.cos(5 * angle + 3 * phase)
    # of `nearest`, per half-width
    slope = np.sqrt((p / long) ** 2 + (q / short) ** 2) / np.maximum(nearest, 1e-3)
    between = 0.5 * (second - nearest) * short - 0.02  # neighbours flatten each other
    depth = np.minimum((1 + lobes - nearest) / np.maximum(slope, 1), between)
    around = np.round(2 * np.pi * np.sqrt(short * long) / 0.05)
    return {"kind": kind, "filled": filled, "depth": depth, "arc": angle / (2 * np.pi) * around}


def _nearest(x: Array, y: Array, at: tuple, axes: tuple, turn: Array) -> tuple[Array, ...]:
    """For each pixel the distance to the nearest and the second nearest of the ellipses (1 on the
    outline), where it lies in the nearest's own axes, and which that is."""
    (cx, cy), (long, short), c, s = at, axes, np.cos(turn), np.sin(turn)
    forms = c / long, s / long, (c * cx + s * cy) / long
    forms = (*forms, -s / short, c / short, (c * cy - s * cx) / short)
    forms = np.stack(forms).astype(np.float32)[..., None, None]
    nearest, second = np.full_like(x, 9), np.full_like(x, 9)
    px, py, which = np.zeros_like(x), np.zeros_like(x), np.zeros(x.shape, np.int32)
    for k in range(turn.shape[1]):
        xx, xy, x0, yx, yy, y0 = forms[:, :, k]
        p, q = xx * x + xy * y - x0, yx * x + yy * y - y0
        r = np.sqrt(p * p + q * q)
        closer = r < nearest
        second = np.minimum(second, np.maximum(nearest, r))
        nearest = np.minimum(nearest, r)
        px, py = np.where(closer, p, px), np.where(closer, q, py)
        which = np.where(closer, np.int32(k), which)
    return nearest, second, px, py, which


def _ovals(c: Canvas, x: Array, y: Array, share: Array | float, short: float, long: float) -> Array:
    """An oval of half-axes `short` and `long`, turned and displaced at random, in a `share` of the
    unit squares of (x, y): roughly the distance inside the outline of the nearest, < 0 outside. The
    pattern repeats after 32 squares."""
    rng, side = c.rng, 32
    shape = c.n, side, side
    turn, jump = rng.uniform(0, np.pi, shape), rng.uniform(0.24, 0.76, (2, *shape))
    luck = rng.random(shape)
    a, b = ((half * rng.uniform(0.8, 1.2, shape)) ** -2 for half in (long, short))
    c1, s1 = np.cos(turn), np.sin(turn)
    xx, xy, yy = c1 * c1 * a + s1 * s1 * b, 2 * c1 * s1 * (a - b), s1 * s1 * a + c1 * c1 * b
    forms = [form.astype(np.float32).ravel() for form in (*jump, xx, xy, yy, luck)]
    left, top = np.floor(x - 0.5), np.floor(y - 0.5)
    column, line = left.astype(np.int32), top.astype(np.int32)
    first = np.arange(c.n, dtype=np.int32)[:, None, None] * side
    near = np.full_like(x, 9)
    for j in (0, 1):
        for i in (0, 1):
            at = (first + (line + j & 31)) * side + (column + i & 31)
            px, py, xx, xy, yy, lucky = (form.take(at) for form in forms)
            dx, dy = x - left - i - px, y - top - j - py
            found = np.where(lucky < share, (xx * dx + xy * dy) * dx + yy * dy * dy, 9)
            near = np.minimum(near, found)
    return (1 - np.sqrt(near)) * ((short + long) / 2)
