"""Phantoms of the head in MRI, as slices and as volumes."""

from functools import partial, reduce

import numpy as np

from effml.phantoms.brushes import Array, Canvas, Parts, bump, to_uint8

Point = tuple[Array, Array, Array]  # x (the patient's left), y (towards the back), z (up)


def brain(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> Parts:
    """Axial T1-weighted MRI of a head, grey, the nose upwards, and the outline of the brain."""
    c = Canvas(rng, len(labels), size)
    x, y = _placed(c)
    return _head(c, (x, y, c.u(-0.3, 0.5) + c.u(-0.1, 0.1) * y), difficulty)


def brain_volume(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> Parts:
    """The heads of `brain` as cubes (N, D, H, W), from the neck upwards."""
    heads, up = [], np.linspace(1 / size - 1, 1 - 1 / size, size, dtype=np.float32)[:, None, None]
    for patient in rng.spawn(len(labels)):  # one at a time, for the memory
        c = Canvas(patient, 1, size)
        x, y = _placed(c)
        z = 0.75 * up + c.u(0.1, 0.2)
        heads.append(_head(c, (x, y, z + c.u(-0.1, 0.1) * y), difficulty))
    return {key: np.stack([head[key] for head in heads]) for key in ("images", "masks")}


def _placed(c: Canvas) -> tuple[Array, Array]:
    return c.grid(c.u(-0.15, 0.15), c.u(0.92, 1.08), c.u(-0.05, 0.05), c.u(-0.05, 0.05))


def _head(c: Canvas, at: Point, difficulty: float) -> Parts:
    """Image and brain mask at these points: of one head if z is several slices and x, y are one."""
    u, soft, waves, ball = c.u, c.soft, partial(_waves, c), partial(_ball, at)
    x, y, z = at
    wide, long = 0.6 * u(0.92, 1.06), 0.75 * u(0.95, 1.05)
    b = _brain(at, wide, long)
    depth = b["depth"]
    wet, white = _grey(c, at, b)
    fluid = _fluid(c, at, wet)
    # around it, from the outside: fat and muscle, eyes, air, skull with marrow, fluid with veins
    slow, patchy, fat = waves(4, 5, at), waves(5, 11, at), u(0.65, 0.95)
    gap, skull = u(0.015, 0.04) * (1 + 0.3 * slow), u(0.05, 0.075) * (1 - 0.2 * slow)
    head = (x / (wide + 0.16)) ** 2 + (y / (long + 0.14)) ** 2
    head = 0.75 * (1 - np.sqrt(head + (z / _split(z, 0.81, 1.4)) ** 2))
    fatty = np.maximum(soft(patchy - 0.3, 0.4), soft(0.07 - head, 0.015))
    image = 0.45 + (fat - 0.45) * fatty
    nose, mastoid = ball(0, -0.5, -0.38, 0.1, 0.3, 0.22), ball(0.5, 0.2, -0.36, 0.1, 0.12, 0.12)
    marrow = bump(((depth + gap + 0.5 * skull) / (0.22 * skull)) ** 2)
    marrow = marrow * (0.3 + 0.25 * np.tanh(2 * patchy))
    for within, value in (
        (ball(0.25, -0.48, -0.27, 0.16, 0.28, 0.15), 0.9 * fat),
        (ball(0.27, -0.6, -0.27, 0.115, 0.12, 0.12), 0.2),
        (np.maximum(nose, mastoid) + 0.02 * patchy, 0.05),
        (depth + gap + skull, 0.05 + 0.15 * difficulty + marrow),
        (depth + gap, 0.12 + 0.25 * difficulty + 0.1 * np.tanh(patchy)),
        (depth, 0.6 + (0.34 - 0.14 * difficulty) * (white - 0.5) - 0.4 * fluid),
    ):
        image += (value - image) * soft(within, 0.01)
    image *= soft(head, 0.01)
    coils = u(0.1, 0.25) * waves(3, 2.2, at) + u(-0.25, 0.25) * x + u(-0.25, 0.25) * y
    image *= u(0.75, 1.05) * np.exp(coils)
    noise = u(0.008, 0.022) * (1 + difficulty)
    noise = noise * c.rng.standard_normal((2, *image.shape), dtype=np.float32)
    seen = np.hypot(image + noise[0], noise[1])
    return {"images": to_uint8(seen), "masks": (depth > 0).astype(np.uint8)}


def _brain(at: Point, wide: Array, long: Array) -> Parts:
    """Depths below the surfaces of the parts."""
    (x, y, z), ball = at, partial(_ball, at)
    sx, sy = (x / (wide * (1 + 0.1 * y))) ** 2, (y / long) ** 2
    oval = sx + sy - 0.25 * sx * sy + (z / _split(z, 0.66, 0.5)) ** 2
    rho = np.sqrt(np.maximum(oval, 1e-4))
    orbits, sella = ball(0.36, -0.56, -0.28, 0.32, 0.4, 0.27), ball(0, -0.2, -0.3, 0.15, 0.2, 0.14)
    floor, base = z + 0.18 + 0.22 * np.minimum(y, 0.4), np.maximum(orbits, sella)
    cerebrum = reduce(np.minimum, [0.62 * (1 - rho), floor, -base])
    temporal = ball(0.37, -0.02, -0.18, 0.2, 0.38, 0.26)
    cerebellum = ball(0, 0.4, -0.32, 0.45, 0.28, 0.25)
    stem = np.minimum(0.12 - np.hypot(x, y - 0.1), 0.1 - z)
    parts = {"rho": rho, "cerebrum": cerebrum, "temporal": temporal, "cerebellum": cerebellum}
    upper, hind = np.maximum(cerebrum, temporal), np.maximum(cerebellum, stem)
    return {**parts, "stem": stem, "upper": upper, "hind": hind, "depth": np.maximum(upper, hind)}


def _grey(c: Canvas, at: Point, b: Parts) -> tuple[Array, Array]:
    """Grey matter lies along the surface, the fissures and the sulci: sheets below the zeros of
    waves on a sphere. How far sulci are, and where the matter is white."""
    (_, y, z), ax, rho = at, np.abs(at[0]), b["rho"]
    ripple = _waves(c, 9, 24, [a / (0.5 + 0.5 * rho) for a in at])
    bent = ax + 0.04 * np.tanh(_waves(c, 4, 8, at)) - 0.4
    beyond = np.maximum(np.abs(z - 0.03) - 0.12, 0)
    surface = np.where(b["cerebrum"] > b["temporal"], 0.62 * (1 - rho), b["temporal"])
    callosum = 0.3 * (1 - np.hypot(y / 0.45, z / 0.27))
    sheets = [
        (0.05 * ripple, np.maximum(surface - c.u(0.12, 0.2), 0)),
        (ax, np.maximum(callosum, 0)),  # between the hemispheres
        (bent + 0.4 * (y + 0.03) ** 2, np.maximum(np.abs(y + 0.02) - 0.15, 0) + beyond),  # insula
        (y + 0.13 + 0.5 * bent, np.maximum(0.4 - ax, 0) + beyond),  # the Sylvian fissure to it
    ]
    fissures = reduce(np.minimum, [np.hypot(*sheet) for sheet in sheets])
    folia = 0.065 + 0.03 * np.cos(50 * np.minimum(b["cerebellum"], 0.126)) * (b["stem"] < 0)
    wet = np.where(b["upper"] > b["hind"], fissures, folia)
    putamen, thalamus = (0.25, -0.04, 0.03, 0.06, 0.17, 0.13), (0.1, 0.1, 0.03, 0.08, 0.13, 0.11)
    caudate = 0.13, -0.22, 0.1, 0.045, 0.08, 0.12
    nuclei = reduce(np.maximum, [_ball(at, *one) for one in (putamen, thalamus, caudate)])
    white = c.soft(np.minimum(wet, b["depth"]) - c.u(0.035, 0.05), 0.015)
    return wet, white * (1 - 0.75 * c.soft(nuclei, 0.02))


def _fluid(c: Canvas, at: Point, wet: Array) -> Array:
    """In sulci (those narrower than a pixel are wider and fainter) and in ventricles."""
    (x, y, z), ax = at, np.abs(at[0])
    width, large = c.u(0.006, 0.016), c.u(0.8, 1.6)
    blurred = np.sqrt(width**2 + (0.8 / c.size) ** 2)
    aside = ax - 0.06 - 0.25 * (y + 0.05) ** 2 - 0.25 * np.maximum(y, 0)
    lateral = 1 - (aside / (0.036 * large)) ** 2 - ((z - 0.2 + 0.9 * y * y) / (0.09 * large)) ** 2
    lateral = lateral - ((y - 0.03) / 0.37) ** 4
    third = 1 - (x / (0.014 * large)) ** 2 - (y / 0.14) ** 2 - ((z + 0.02) / 0.1) ** 2
    fourth = _ball(at, 0, 0.23, -0.28, 0.05, 0.04, 0.07)
    ventricles = reduce(np.maximum, [0.04 * lateral, 0.012 * third, fourth])
    return np.maximum(width / blurred * bump((wet / blurred) ** 2), c.soft(ventricles, 0.012))


def _split(z: Array, above: float, below: float) -> Array:
    return np.where(z > 0, np.float32(above), np.float32(below))


def _ball(at: Point, cx: float, cy: float, cz: float, rx: float, ry: float, rz: float) -> Array:
    """Depth below the surface of an ellipsoid, or of a pair of them left and right."""
    x, y, z = at
    across = ((np.abs(x) if cx else x) - cx) / rx
    return min(rx, ry) * (1 - np.sqrt(across**2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2))


def _waves(c: Canvas, count: int, frequency: float, at: Point) -> Array:
    """Smooth noise of unit variance: the sum of `count` plane waves, other ones in each head."""
    x, y, z = at
    way = c.rng.standard_normal((count, 3, c.n, 1, 1), dtype=np.float32)
    way *= frequency / np.sqrt((way**2).sum(1, keepdims=True))
    phase = c.rng.uniform(0, 2 * np.pi, (count, c.n, 1, 1)).astype(np.float32)
    waves = (np.cos(i * x + j * y + k * z + p) for (i, j, k), p in zip(way, phase))
    return sum(waves) * np.float32((2 / count) ** 0.5)
