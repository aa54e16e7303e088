"""Phantoms of radiology, in grey: chest X-ray, lung nodules in CT, the head in MRI."""

from functools import reduce

import numpy as np

from effml.phantoms.drawing import Array, bump, grid, inside, smooth_noise, to_uint8, uniform


def chest(
    labels: Array, size: int, difficulty: float, rng: np.random.Generator
) -> dict[str, Array]:
    """Frontal chest X-ray, grey; label 1 has one to three faint blurred opacities in a lung."""
    n = len(labels)
    u = uniform(rng, n)
    x, y = grid(size, u(-0.09, 0.09), u(0.9, 1.08), u(-0.06, 0.06), u(-0.06, 0.06))
    left, ax = inside(x, 0.06, size), np.abs(x)  # the patient's left is on the right of the image

    def sides(low: float, high: float) -> Array:
        return u(low, high) * left + u(low, high) * (1 - left)

    # Soft tissue: neck and shoulders before black air; lungs closed below by the domes of the diaphragm.
    body = inside(
        0.2 + 0.85 * inside(y + 0.8 - 0.22 * ax, 0.12, size) - ax + u(-0.05, 0.1), 0.03, size
    )
    apex, base = u(-0.82, -0.74), sides(0.5, 0.6) + 0.07 * left - 0.02
    centre, half = 0.45 + 0.06 * y, u(0.34, 0.4) + 0.09 * y
    across = (ax - centre) / half
    oval = 1 - across**2 - (np.minimum(y + 0.1, 0) / (apex + 0.1)) ** 2
    dome = base + 0.4 * (ax - 0.38) ** 2 + 1.2 * np.maximum(ax - 0.5, 0) ** 2 - y
    lung = inside(oval, 0.12, size) * inside(dome, 0.02, size)
    tilt, wide = u(0.45, 0.75), u(0.85, 1.15)
    hx, hy = x - 0.12, y - 0.36
    long, short = hx * np.cos(tilt) + hy * np.sin(tilt), hy * np.cos(tilt) - hx * np.sin(tilt)
    heart = inside(1 - (long / (0.43 * wide)) ** 2 - (short / (0.33 * wide)) ** 2, 0.18, size)
    below = 1 - inside(dome, 0.02, size)
    stomach = inside(1 - ((x - 0.42) / 0.16) ** 2 - ((y - base - 0.16) / 0.07) ** 2, 0.5, size) * (
        u(0, 1) < 0.5
    )
    knob = inside(1 - ((x - 0.1) ** 2 + (y + 0.3) ** 2) / u(0.1, 0.14) ** 2, 0.3, size)
    middle = inside(u(0.12, 0.17) + 0.1 * np.maximum(-0.5 - y, 0) - ax, 0.03, size)
    air = lung * (1 - 0.92 * heart) * (1 - 0.85 * middle) * (1 - 0.7 * knob)

    # Bone: vertebrae, clavicles, posterior ribs falling to the side and fainter anterior ones falling to the middle.
    spine = bump((x / 0.09) ** 2) * (1 + 0.25 * np.cos(y * u(38, 46) + u(0, 6)))
    collar = y + 0.56 + 0.16 * ax - 0.05 * np.sin(7 * ax) + u(-0.04, 0.04)
    clavicle = (
        bump((collar / 0.045) ** 4) * inside(ax - 0.1, 0.03, size) * inside(0.8 - ax, 0.05, size)
    )
    chest = inside(oval + 0.2, 0.1, size) * (1 - 0.7 * below)
    pitch, phase = u(0.18, 0.22), u(0, 1)
    back = np.cos(2 * np.pi * ((y - 0.55 * ax + 0.75 * ax**2) / pitch + phase))
    front = np.cos(2 * np.pi * ((y + 0.75 * ax - 0.1 * ax**2) / (1.15 * pitch) + u(0, 1)))
    ribs = chest * (
        inside(back - 0.2, 0.3, size)
        + 0.5 * inside(front - 0.3, 0.3, size) * inside(ax - 0.3, 0.1, size)
    )

    # Vessels fan out from the hila and thin out; a little interstitial texture.
    vx, vy = ax - 0.2, y - 0.02
    radius, angle = np.sqrt(vx**2 + vy**2), np.arctan2(vy, vx + 0.12)
    fan = sum(
        inside(np.cos(k * angle + sides(0, 6) + sides(4, 9) * radius) - 0.6, 0.3, size)
        for k in (5, 9, 13)
    )
    vessels = fan * np.exp(-radius / 0.25) * np.minimum(radius / 0.12, 1) + sides(0.7, 1.3) * bump(
        (vx / 0.09) ** 2 + (vy / 0.15) ** 2
    )
    texture = smooth_noise(rng, n, size, 14) + 0.7 * smooth_noise(rng, n, size, 30)

    opacity = np.zeros_like(x)
    for k in range(3):
        flip, cy, blur = np.where(u(0, 1) < 0.5, -1, 1), u(-0.5, 0.3), u(0.07, 0.13)
        cx = flip * (0.46 + u(-0.16, 0.2) * (1 + 0.3 * cy))
        there = (u(0, 1) < (1, 0.4, 0.2)[k]) * labels[:, None, None]
        opacity += (
            there * u(0.7, 1.3) * bump(((x - cx) ** 2 + ((y - cy) * u(0.8, 1.2)) ** 2) / blur**2)
        )

    solid = 1 - (1 - 0.75 * heart * (1 - 0.3 * lung)) * (1 - below)
    image = body * (
        0.58
        - u(0.32, 0.46) * air
        + 0.16 * solid
        + 0.1 * middle
        + 0.05 * knob
        + 0.07 * spine
        + 0.1 * clavicle
        + 0.07 * ribs
        - 0.16 * stomach
        + u(0, 0.1) * bump(((ax - 0.5) / 0.25) ** 2 + ((y - 0.35) / 0.22) ** 2)  # breast
        - 0.09 * bump((x / 0.06) ** 2) * inside(-0.3 - y, 0.05, size)  # trachea
        + air * (0.09 * vessels + 0.018 * texture)
        + (0.39 - 0.27 * difficulty) * opacity * (0.25 + 0.75 * air)
    )
    exposed = u(0.0, 0.1) + u(0.8, 1.15) * np.maximum(image, 0) ** u(0.8, 1.25)
    noise = u(0.008, 0.022) * rng.standard_normal(x.shape, dtype=np.float32)
    return {"images": to_uint8(exposed + noise)}


def nodule(
    labels: Array, size: int, difficulty: float, rng: np.random.Generator
) -> dict[str, Array]:
    """CT patch around a lung nodule (window -1000 to 400 HU), grey, and the nodule's outline; label 1 is malignant.

    Malignant nodules tend to be lobulated, spiculated, part-solid and tagged to the pleura, benign ones round, sharp and
    calcified; sizes overlap, and each sign may be missing or mislead."""
    n, label = len(labels), labels[:, None, None].astype(np.float32)
    u = uniform(rng, n)

    def normal(*shape: int) -> Array:
        return rng.standard_normal((n, *shape), dtype=np.float32)

    case = (
        0.5 + (label - 0.5) * (1.8 - difficulty) + 0.2 * normal(1, 1)
    )  # how malignant it looks, from 0 to 1
    lobed, spiked, solid, soft, tagged, eccentric = (
        np.clip(case + 0.2 * normal(1, 1), 0, 1) for _ in range(6)
    )
    zero = np.zeros((n, 1, 1), np.float32)
    x, y = grid(
        size, zero, zero + 1, u(-0.12, 0.12), u(-0.12, 0.12)
    )  # the nodule's centre is the origin
    radius, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)

    # The chest wall at one side of some patches: pleura, muscle in layers with fat, ribs with marrow.
    facing = u(0, 2 * np.pi)
    along, across = x * np.cos(facing) + y * np.sin(facing), y * np.cos(facing) - x * np.sin(facing)
    near = u(0, 1) < 0.4
    gap = np.where(near, u(0.4, 0.95), 9)
    deep = along - gap + across**2 * u(0.1, 0.25)  # how far behind the pleura
    wall = inside(deep, 0.03, size)
    fat = inside(np.sin(deep * u(16, 22) + u(0, 6) + across) - 0.1, 0.4, size) * inside(
        deep - 0.08, 0.03, size
    )
    rib = (
        1
        - ((deep - u(0.18, 0.26)) / u(0.08, 0.12)) ** 2
        - ((across - u(-0.6, 0.6)) / u(0.3, 0.6)) ** 2
    )
    bone = inside(rib, 0.2, size) * (1 - 0.45 * inside(rib - 0.5, 0.25, size))

    # Vessels come from the hilum and divide; those that cross the slice are dots. An airway lies beside its artery.
    away = facing[:, 0] + 0.5 * normal(1)
    start = rng.uniform(-1.3, 0.9, (2, n, 6)) * np.array([0.1, 1, 1, 1, 1, 1])
    stem = _walk(rng, *start, away + 0.7 * normal(6), rng.uniform(0.6, 1.4, (n, 6)), 28)
    fork = np.concatenate([away + 0.7 + 0.2 * normal(6), away - 0.7 + 0.2 * normal(6)], 1)
    branch = _walk(rng, *np.tile(stem[:, :, :, 12], 2), fork, rng.uniform(0.2, 0.7, (n, 12)), 20)
    caliber = rng.uniform(0.015, 0.045, (n, 6, 1)) * (rng.random((n, 6, 1)) < 0.5)
    vessels = _threads(
        x, y, stem, caliber * (1 - np.linspace(-0.95, 0.85, 28) ** 4), size
    ) + _threads(
        x, y, branch, 0.7 * np.tile(caliber, (1, 2, 1)) * (1 - np.linspace(0, 0.9, 20) ** 2), size
    )
    dots = _walk(
        rng,
        *rng.uniform(-1.2, 1.2, (2, n, 20)),
        away + normal(20),
        rng.exponential(0.06, (n, 20)),
        4,
    )
    vessels += _threads(x, y, dots, 0.01 + rng.exponential(0.011, (n, 20, 1)) + np.zeros(4), size)
    ax, ay, bore = x - dots[0, :, :1, :1] - 0.13, y - dots[1, :, :1, :1], u(0.05, 0.09)
    tube = np.sqrt(ax**2 + ay**2) - bore
    airway = (u(0, 1) < 0.5) * (bump((tube / 0.025) ** 2) - 0.5 * inside(-tube, 0.02, size))

    # The nodule: its rim, a solid core in ground glass, calcium, spicules, a tag to the pleura.
    scale = np.clip(0.3 * (1 + 0.05 * label) * np.exp(0.28 * normal(1, 1)), 0.16, 0.55)
    turn = angle - u(0, 2 * np.pi)
    lobes = sum(u(0.3, 0.7) * np.cos(k * turn + u(0, 6)) for k in (3, 4, 6))
    rim = scale * (1 + u(0.02, 0.14) * np.cos(2 * turn) + (0.02 + 0.17 * lobed) * lobes)
    body = 0.5 + 0.5 * np.tanh((rim - radius) / (0.02 + 0.07 * soft + 0.5 / size))
    core = inside(
        (0.2 + 0.5 * solid) * rim - radius - 0.3 * scale * np.cos(turn + u(0, 6)), 0.05, size
    )
    dense = body * (1 - u(0.4, 0.7) * (u(0, 1) < 0.35) * (1 - core))
    off = 0.7 * eccentric * scale
    squared = radius**2 + off**2 - 2 * off * radius * np.cos(turn + u(0, 6))
    calcium = (
        (u(0, 1) < 0.35)
        * body
        * bump(squared / (u(0.35, 0.7) * (1 - 0.5 * eccentric) * scale) ** 2)
    )
    heading = 2 * np.pi * (np.arange(16, dtype=np.float32) + 0.5 * normal(16)) / 16
    foot, length = 0.85 * scale[:, 0], (0.15 + scale[:, 0]) * rng.exponential(0.35, (n, 16)) + 0.1
    thick = rng.uniform(0.02, 0.04, (n, 16, 1)) * (rng.random((n, 16, 1)) < 0.9 * spiked - 0.1)
    spicules = _walk(rng, foot * np.cos(heading), foot * np.sin(heading), heading, length, 10)
    tag = _walk(
        rng,
        zero[:, 0],
        zero[:, 0],
        facing[:, 0] + 0.2 * normal(1),
        np.where(near, gap + 0.1, 0)[:, 0],
        20,
    )
    spikes = _threads(x, y, spicules, thick * np.linspace(1, 0.25, 10), size) + _threads(
        x, y, tag, 0.025 * (near & (tagged > 0.5)) + np.zeros(20), size
    )

    fine = smooth_noise(rng, n, size, 24)
    texture = smooth_noise(rng, n, size, 9) + fine
    lung = (
        u(0.08, 0.16)
        + u(-0.04, 0.04) * along
        + 0.012 * texture
        + 0.09 * airway
        + 0.04 * bump((fine / 0.3) ** 2)
    )
    lung -= (
        0.05 * (u(0, 1) < 0.25) * inside(smooth_noise(rng, n, size, 8) - 0.6, 0.3, size)
    )  # emphysema
    empty = (1 - dense) * np.exp(-1.6 * vessels) * (0.25 + 0.75 * np.exp(-1.4 * spikes))
    image = lung + (u(0.6, 0.82) - lung) * (1 - empty) + 0.02 * texture * body + 0.25 * calcium
    image += wall * (0.74 - 0.11 * fat + 0.28 * bone - image)
    noise = u(0.012, 0.04) * rng.standard_normal(x.shape, dtype=np.float32)
    return {
        "images": to_uint8(image + noise),
        "masks": ((rim > radius) & (deep < 0)).astype(np.uint8),
    }


def _walk(
    rng: np.random.Generator, x: Array, y: Array, heading: Array, length: Array, steps: int
) -> Array:
    """Points (2, N, K, steps) of K wandering paths from x, y (N, K), of this heading and length."""
    heading = heading[..., None] + 0.12 * rng.standard_normal(
        (*heading.shape, steps), dtype=np.float32
    ).cumsum(-1)
    step = (length / steps)[..., None]
    return np.stack(
        [
            x[..., None] + (step * np.cos(heading)).cumsum(-1),
            y[..., None] + (step * np.sin(heading)).cumsum(-1),
        ]
    ).astype(np.float32)


def _threads(x: Array, y: Array, points: Array, width: Array, size: int) -> Array:
    """Threads (N, size, size) along paths of points (2, N, K, S): about 1 in the middle, fainter where they are thinner
    than a pixel. x and y must not be rotated. A thread is a chain of Gaussians, each the product of a row and a column."""
    spacing = np.hypot(*(points[..., 1:2] - points[..., :1])) + 0.3 * width[..., :1]
    broad = np.sqrt(width**2 + (0.6 / size) ** 2 + (0.3 * spacing) ** 2)
    height = spacing * width / (2.5 * broad**2)
    px, py, broad, height = (
        a.reshape(len(x), -1, 1).astype(np.float32) for a in (*points, broad, height)
    )
    columns = bump(((x[:, :1] - px) / broad) ** 2)
    rows = height * bump(((y[:, :, 0][:, None] - py) / broad) ** 2)
    return rows.transpose(0, 2, 1) @ columns


def brain(
    labels: Array, size: int, difficulty: float, rng: np.random.Generator
) -> dict[str, Array]:
    """Axial T1-weighted MRI of a head between orbits and vertex, grey, the nose upwards, and the outline of the brain."""
    u = uniform(rng, len(labels))
    x, y = grid(size, u(-0.15, 0.15), u(0.92, 1.08), u(-0.05, 0.05), u(-0.05, 0.05))
    image, mask = _head(x, y, u(-0.3, 0.5) + u(-0.1, 0.1) * y, size, difficulty, rng)
    return {"images": image, "masks": mask}


def brain_volume(
    labels: Array, size: int, difficulty: float, rng: np.random.Generator
) -> dict[str, Array]:
    """The heads of `brain` as cubes (N, D, H, W), the first slice in the neck, the last above the vertex."""
    heads = []
    for patient in rng.spawn(len(labels)):  # one at a time, for the memory
        u = uniform(patient, 1)
        x, y = grid(size, u(-0.15, 0.15), u(0.92, 1.08), u(-0.05, 0.05), u(-0.05, 0.05))
        z = 0.75 * np.linspace(1 / size - 1, 1 - 1 / size, size, dtype=np.float32)[
            :, None, None
        ] + u(0.1, 0.2)
        heads.append(_head(x, y, z + u(-0.1, 0.1) * y, size, difficulty, patient))
    return {key: np.stack(arrays) for key, arrays in zip(("images", "masks"), zip(*heads))}


def _head(
    x: Array, y: Array, z: Array, size: int, difficulty: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Image and brain mask (uint8) at x (the patient's left), y (towards the back), z (up): slices of one head if x and y
    are one slice and z is several, else each of its own head."""
    n, ax = len(x), np.abs(x)
    u = uniform(rng, n)

    def ball(cx: float, cy: float, cz: float, rx: float, ry: float, rz: float) -> Array:
        """Depth below the surface of an ellipsoid, or of a pair of them left and right, in half-widths."""
        across = ((ax if cx else x) - cx) / rx
        return min(rx, ry) * (1 - np.sqrt(across**2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2))

    # The brain: cerebrum above orbits and sella, temporal lobes, cerebellum and brainstem.
    wide, long = 0.6 * u(0.92, 1.06), 0.75 * u(0.95, 1.05)
    sx, sy = (x / (wide * (1 + 0.1 * y))) ** 2, (y / long) ** 2
    rho = np.sqrt(
        np.maximum(
            sx
            + sy
            - 0.25 * sx * sy
            + (z / np.where(z > 0, np.float32(0.66), np.float32(0.5))) ** 2,
            1e-4,
        )
    )
    base = np.maximum(
        ball(0.36, -0.56, -0.28, 0.32, 0.4, 0.27), ball(0, -0.2, -0.3, 0.15, 0.2, 0.14)
    )
    cerebrum = reduce(np.minimum, [0.62 * (1 - rho), z + 0.18 + 0.22 * np.minimum(y, 0.4), -base])
    temporal, cerebellum = (
        ball(0.37, -0.02, -0.18, 0.2, 0.38, 0.26),
        ball(0, 0.4, -0.32, 0.45, 0.28, 0.25),
    )
    stem = np.minimum(0.12 - np.hypot(x, y - 0.1), 0.1 - z)
    upper, hind = np.maximum(cerebrum, temporal), np.maximum(cerebellum, stem)
    depth = np.maximum(upper, hind)

    # Grey matter lies along the surface, the fissures and the sulci: sheets below the zeros of waves on a sphere.
    ripple = _waves(rng, n, 9, 24, *(a / (0.5 + 0.5 * rho) for a in (x, y, z)))
    bent = ax + 0.04 * np.tanh(_waves(rng, n, 4, 8, x, y, z)) - 0.4
    beyond = np.maximum(np.abs(z - 0.03) - 0.12, 0)
    fissures = reduce(
        np.minimum,
        [
            np.hypot(
                0.05 * ripple,
                np.maximum(
                    np.where(cerebrum > temporal, 0.62 * (1 - rho), temporal) - u(0.12, 0.2), 0
                ),
            ),
            np.hypot(
                ax, np.maximum(0.3 * (1 - np.hypot(y / 0.45, z / 0.27)), 0)
            ),  # between the hemispheres, to the callosum
            np.hypot(
                bent + 0.4 * (y + 0.03) ** 2, np.maximum(np.abs(y + 0.02) - 0.15, 0) + beyond
            ),  # insula
            np.hypot(y + 0.13 + 0.5 * bent, np.maximum(0.4 - ax, 0) + beyond),
        ],
    )  # and the Sylvian fissure that leads there
    folia = 0.065 + 0.03 * np.cos(50 * np.minimum(cerebellum, 0.126)) * (stem < 0)
    wet = np.where(upper > hind, fissures, folia)
    nuclei = reduce(
        np.maximum,
        [
            ball(0.25, -0.04, 0.03, 0.06, 0.17, 0.13),  # putamen, thalamus, caudate
            ball(0.1, 0.1, 0.03, 0.08, 0.13, 0.11),
            ball(0.13, -0.22, 0.1, 0.045, 0.08, 0.12),
        ],
    )
    white = inside(np.minimum(wet, depth) - u(0.035, 0.05), 0.015, size) * (
        1 - 0.75 * inside(nuclei, 0.02, size)
    )

    # Fluid: in sulci (those narrower than a pixel are wider and fainter) and in the lateral, third and fourth ventricle.
    width, large = u(0.006, 0.016), u(0.8, 1.6)
    blurred = np.sqrt(width**2 + (0.8 / size) ** 2)
    lateral = (
        1
        - ((ax - 0.06 - 0.25 * (y + 0.05) ** 2 - 0.25 * np.maximum(y, 0)) / (0.036 * large)) ** 2
        - ((z - 0.2 + 0.9 * y * y) / (0.09 * large)) ** 2
        - ((y - 0.03) / 0.37) ** 4
    )
    third = 1 - (x / (0.014 * large)) ** 2 - (y / 0.14) ** 2 - ((z + 0.02) / 0.1) ** 2
    ventricles = reduce(
        np.maximum, [0.04 * lateral, 0.012 * third, ball(0, 0.23, -0.28, 0.05, 0.04, 0.07)]
    )
    fluid = np.maximum(
        width / blurred * bump((wet / blurred) ** 2), inside(ventricles, 0.012, size)
    )

    # Around it, from the outside: fat and muscle, the eyes in their fat, air, skull with marrow, fluid with veins.
    slow, patchy, fat = _waves(rng, n, 4, 5, x, y, z), _waves(rng, n, 5, 11, x, y, z), u(0.65, 0.95)
    gap, skull = u(0.015, 0.04) * (1 + 0.3 * slow), u(0.05, 0.075) * (1 - 0.2 * slow)
    head = 0.75 * (
        1
        - np.sqrt(
            (x / (wide + 0.16)) ** 2
            + (y / (long + 0.14)) ** 2
            + (z / np.where(z > 0, np.float32(0.81), np.float32(1.4))) ** 2
        )
    )
    image = 0.45 + (fat - 0.45) * np.maximum(
        inside(patchy - 0.3, 0.4, size), inside(0.07 - head, 0.015, size)
    )
    air = np.maximum(
        ball(0, -0.5, -0.38, 0.1, 0.3, 0.22), ball(0.5, 0.2, -0.36, 0.1, 0.12, 0.12)
    )  # nose, mastoid
    marrow = bump(((depth + gap + 0.5 * skull) / (0.22 * skull)) ** 2) * (
        0.3 + 0.25 * np.tanh(2 * patchy)
    )
    for within, value in (
        (ball(0.25, -0.48, -0.27, 0.16, 0.28, 0.15), 0.9 * fat),
        (ball(0.27, -0.6, -0.27, 0.115, 0.12, 0.12), 0.2),
        (air + 0.02 * patchy, 0.05),
        (depth + gap + skull, 0.05 + 0.15 * difficulty + marrow),
        (depth + gap, 0.12 + 0.25 * difficulty + 0.1 * np.tanh(patchy)),
        (depth, 0.6 + (0.34 - 0.14 * difficulty) * (white - 0.5) - 0.4 * fluid),
    ):
        image += (value - image) * inside(within, 0.01, size)
    image *= inside(head, 0.01, size)
    coils = u(0.1, 0.25) * _waves(rng, n, 3, 2.2, x, y, z) + u(-0.25, 0.25) * x + u(-0.25, 0.25) * y
    image *= u(0.75, 1.05) * np.exp(coils)
    noise = (
        u(0.008, 0.022)
        * (1 + difficulty)
        * rng.standard_normal((2, *image.shape), dtype=np.float32)
    )
    return to_uint8(np.hypot(image + noise[0], noise[1])), (depth > 0).astype(np.uint8)


def _waves(
    rng: np.random.Generator, n: int, count: int, frequency: float, x: Array, y: Array, z: Array
) -> Array:
    """Smooth noise of unit variance at x, y, z: the sum of `count` plane waves, other ones in each of n heads."""
    way = rng.standard_normal((count, 3, n, 1, 1), dtype=np.float32)
    way *= frequency / np.sqrt((way**2).sum(1, keepdims=True))
    phase = rng.uniform(0, 2 * np.pi, (count, n, 1, 1)).astype(np.float32)
    return sum(np.cos(a * x + b * y + c * z + p) for (a, b, c), p in zip(way, phase)) * np.float32(
        (2 / count) ** 0.5
    )
