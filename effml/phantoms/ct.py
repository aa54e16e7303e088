"""Phantom of a lung nodule in CT."""

import numpy as np

from effml.phantoms.brushes import Array, Canvas, Parts, bump, to_uint8


def nodule(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> Parts:
    """CT patch (-1000 to 400 HU) and the outline of the nodule in it. Malignant ones (1) tend to be
    lobulated, spiculated, part-solid, tagged to the pleura; benign ones round, sharp, calcified."""
    c, label = Canvas(rng, len(labels), size), labels[:, None, None].astype(np.float32)
    u = c.u
    case = 0.5 + (label - 0.5) * (1.8 - difficulty) + 0.2 * c.normal(1, 1)  # 1: looks malignant
    traits = "lobed", "spiked", "solid", "soft", "tagged", "eccentric"
    signs = {trait: np.clip(case + 0.2 * c.normal(1, 1), 0, 1) for trait in traits}
    zero = np.zeros((c.n, 1, 1), np.float32)
    x, y = c.grid(zero, zero + 1, u(-0.12, 0.12), u(-0.12, 0.12))  # the nodule is at the origin
    facing = u(0, 2 * np.pi)  # where the chest wall is, if it is seen
    along, across = x * np.cos(facing) + y * np.sin(facing), y * np.cos(facing) - x * np.sin(facing)
    near = u(0, 1) < 0.4
    gap = np.where(near, u(0.4, 0.95), 9)
    deep = along - gap + across**2 * u(0.1, 0.25)  # how far behind the pleura
    wall = c.soft(deep, 0.03)
    fat, bone = _wall(c, deep, across)
    vessels, airway = _vessels(c, x, y, facing)
    scale = np.clip(0.3 * (1 + 0.05 * label) * np.exp(0.28 * c.normal(1, 1)), 0.16, 0.55)
    rim, body, dense, calcium = _nodule(c, x, y, scale, signs)
    tag = np.where(near, gap + 0.1, 0), near & (signs["tagged"] > 0.5)
    spikes = _spikes(c, x, y, scale, signs["spiked"], facing, tag)
    fine = c.noise(24)
    texture = c.noise(9) + fine
    lung = u(0.08, 0.16) + u(-0.04, 0.04) * along + 0.012 * texture + 0.09 * airway
    lung = lung + 0.04 * bump((fine / 0.3) ** 2)
    lung -= 0.05 * (u(0, 1) < 0.25) * c.soft(c.noise(8) - 0.6, 0.3)  # emphysema
    empty = (1 - dense) * np.exp(-1.6 * vessels) * (0.25 + 0.75 * np.exp(-1.4 * spikes))
    image = lung + (u(0.6, 0.82) - lung) * (1 - empty) + 0.02 * texture * body + 0.25 * calcium
    image += wall * (0.74 - 0.11 * fat + 0.28 * bone - image)
    image = to_uint8(image + u(0.012, 0.04) * c.normal(size, size))
    outline = (rim > np.sqrt(x * x + y * y)) & (deep < 0)
    return {"images": image, "masks": outline.astype(np.uint8)}


def _wall(c: Canvas, deep: Array, across: Array) -> tuple[Array, Array]:
    """The chest wall at one side of some patches: muscle in layers with fat, ribs with marrow."""
    u, soft = c.u, c.soft
    fat = soft(np.sin(deep * u(16, 22) + u(0, 6) + across) - 0.1, 0.4) * soft(deep - 0.08, 0.03)
    rib = 1 - ((deep - u(0.18, 0.26)) / u(0.08, 0.12)) ** 2
    rib = rib - ((across - u(-0.6, 0.6)) / u(0.3, 0.6)) ** 2
    return fat, soft(rib, 0.2) * (1 - 0.45 * soft(rib - 0.5, 0.25))


def _vessels(c: Canvas, x: Array, y: Array, facing: Array) -> tuple[Array, Array]:
    """Vessels divide; those that cross the slice are dots. An airway lies beside its artery."""
    rng, n, normal = c.rng, c.n, c.normal
    away = facing[:, 0] + 0.5 * normal(1)
    start = rng.uniform(-1.3, 0.9, (2, n, 6)) * np.array([0.1, 1, 1, 1, 1, 1])
    stem = _walk(rng, *start, away + 0.7 * normal(6), rng.uniform(0.6, 1.4, (n, 6)), 28)
    fork = np.concatenate([away + 0.7 + 0.2 * normal(6), away - 0.7 + 0.2 * normal(6)], 1)
    branch = _walk(rng, *np.tile(stem[:, :, :, 12], 2), fork, rng.uniform(0.2, 0.7, (n, 12)), 20)
    caliber = rng.uniform(0.015, 0.045, (n, 6, 1)) * (rng.random((n, 6, 1)) < 0.5)
    thin = 0.7 * np.tile(caliber, (1, 2, 1)) * (1 - np.linspace(0, 0.9, 20) ** 2)
    vessels = _threads(c, x, y, stem, caliber * (1 - np.linspace(-0.95, 0.85, 28) ** 4))
    vessels = vessels + _threads(c, x, y, branch, thin)
    at = rng.uniform(-1.2, 1.2, (2, n, 20))
    dots = _walk(rng, *at, away + normal(20), rng.exponential(0.06, (n, 20)), 4)
    vessels += _threads(c, x, y, dots, 0.01 + rng.exponential(0.011, (n, 20, 1)) + np.zeros(4))
    ax, ay = x - dots[0, :, :1, :1] - 0.13, y - dots[1, :, :1, :1]
    tube = np.sqrt(ax**2 + ay**2) - c.u(0.05, 0.09)
    airway = (c.u(0, 1) < 0.5) * (bump((tube / 0.025) ** 2) - 0.5 * c.soft(-tube, 0.02))
    return vessels, airway


def _nodule(c: Canvas, x: Array, y: Array, scale: Array, signs: Parts) -> tuple[Array, ...]:
    """Rim, body, how dense it is (a solid core in ground glass), calcium."""
    u, radius, eccentric = c.u, np.sqrt(x * x + y * y), signs["eccentric"]
    turn = np.arctan2(y, x) - u(0, 2 * np.pi)
    lobes = sum(u(0.3, 0.7) * np.cos(k * turn + u(0, 6)) for k in (3, 4, 6))
    rim = 1 + u(0.02, 0.14) * np.cos(2 * turn) + (0.02 + 0.17 * signs["lobed"]) * lobes
    rim = scale * rim
    body = 0.5 + 0.5 * np.tanh((rim - radius) / (0.02 + 0.07 * signs["soft"] + 0.5 / c.size))
    core = (0.2 + 0.5 * signs["solid"]) * rim - radius - 0.3 * scale * np.cos(turn + u(0, 6))
    dense = body * (1 - u(0.4, 0.7) * (u(0, 1) < 0.35) * (1 - c.soft(core, 0.05)))
    off = 0.7 * eccentric * scale
    squared = radius**2 + off**2 - 2 * off * radius * np.cos(turn + u(0, 6))
    calcium = (u(0, 1) < 0.35) * body
    wide = u(0.35, 0.7) * (1 - 0.5 * eccentric) * scale
    return rim, body, dense, calcium * bump(squared / wide**2)


def _spikes(
    c: Canvas, x: Array, y: Array, scale: Array, spiked: Array, facing: Array, tag: tuple
) -> Array:
    """Spicules around the nodule, and a tag (its length, and whether it is there) to the pleura."""
    rng, n, zero = c.rng, c.n, np.zeros((c.n, 1), np.float32)
    heading = 2 * np.pi * (np.arange(16, dtype=np.float32) + 0.5 * c.normal(16)) / 16
    foot, length = 0.85 * scale[:, 0], (0.15 + scale[:, 0]) * rng.exponential(0.35, (n, 16)) + 0.1
    thick = rng.uniform(0.02, 0.04, (n, 16, 1)) * (rng.random((n, 16, 1)) < 0.9 * spiked - 0.1)
    spicules = _walk(rng, foot * np.cos(heading), foot * np.sin(heading), heading, length, 10)
    length, there = tag
    path = _walk(rng, zero, zero, facing[:, 0] + 0.2 * c.normal(1), length[:, 0], 20)
    spikes = _threads(c, x, y, spicules, thick * np.linspace(1, 0.25, 10))
    return spikes + _threads(c, x, y, path, 0.025 * there + np.zeros(20))


def _walk(
    rng: np.random.Generator, x: Array, y: Array, heading: Array, length: Array, steps: int
) -> Array:
    """Points (2, N, K, steps) of K wandering paths from x, y (N, K), of this heading and length."""
    turns = rng.standard_normal((*heading.shape, steps), dtype=np.float32).cumsum(-1)
    heading = heading[..., None] + 0.12 * turns
    step = (length / steps)[..., None]
    x = x[..., None] + (step * np.cos(heading)).cumsum(-1)
    y = y[..., None] + (step * np.sin(heading)).cumsum(-1)
    return np.stack([x, y]).astype(np.float32)


def _threads(c: Canvas, x: Array, y: Array, points: Array, width: Array) -> Array:
    """Threads (N, size, size) along paths of points (2, N, K, S), fainter where they are thinner
    than a pixel: chains of Gaussians, each a row times a column, so x, y must not be rotated."""
    spacing = np.hypot(*(points[..., 1:2] - points[..., :1])) + 0.3 * width[..., :1]
    broad = np.sqrt(width**2 + (0.6 / c.size) ** 2 + (0.3 * spacing) ** 2)
    height = spacing * width / (2.5 * broad**2)
    parts = (*points, broad, height)
    px, py, broad, height = (a.reshape(c.n, -1, 1).astype(np.float32) for a in parts)
    columns = bump(((x[:, :1] - px) / broad) ** 2)
    rows = height * bump(((y[:, :, 0][:, None] - py) / broad) ** 2)
    return rows.transpose(0, 2, 1) @ columns
