"""Phantom of the frontal chest X-ray."""

from functools import partial
from types import SimpleNamespace

import numpy as np

from effml.phantoms.brushes import Array, Canvas, Parts, bump, to_uint8


def chest(labels: Array, size: int, difficulty: float, rng: np.random.Generator) -> Parts:
    """Frontal chest X-ray, grey; label 1 has one to three faint blurred opacities in a lung."""
    c = Canvas(rng, len(labels), size)
    u = c.u
    x, y = c.grid(u(-0.09, 0.09), u(0.9, 1.08), u(-0.06, 0.06), u(-0.06, 0.06))
    ax, left = np.abs(x), c.soft(x, 0.06)  # the patient's left is on the right of the image
    o = _organs(c, x, y, left)
    spine, clavicle, ribs = _bones(c, x, y, o)
    vessels = _vessels(c, ax, y, left)
    texture = c.noise(14) + 0.7 * c.noise(30)
    opacity = _opacity(c, x, y, labels)
    solid = 1 - (1 - 0.75 * o.heart * (1 - 0.3 * o.lung)) * (1 - o.below)
    image = 0.58 - u(0.32, 0.46) * o.air + 0.16 * solid + 0.1 * o.middle + 0.05 * o.knob
    image = image + 0.07 * spine + 0.1 * clavicle + 0.07 * ribs - 0.16 * o.stomach
    breast = bump(((ax - 0.5) / 0.25) ** 2 + ((y - 0.35) / 0.22) ** 2)
    trachea = 0.09 * bump((x / 0.06) ** 2) * c.soft(-0.3 - y, 0.05)
    image = image + u(0, 0.1) * breast - trachea + o.air * (0.09 * vessels + 0.018 * texture)
    image = o.body * (image + (0.39 - 0.27 * difficulty) * opacity * (0.25 + 0.75 * o.air))
    exposed = u(0.0, 0.1) + u(0.8, 1.15) * np.maximum(image, 0) ** u(0.8, 1.25)
    return {"images": to_uint8(exposed + u(0.008, 0.022) * c.normal(size, size))}


def _sides(c: Canvas, left: Array, low: float, high: float) -> Array:
    """A value for either side of the patient."""
    return c.u(low, high) * left + c.u(low, high) * (1 - left)


def _organs(c: Canvas, x: Array, y: Array, left: Array) -> SimpleNamespace:
    """Neck and shoulders before black air; lungs closed below by the domes of the diaphragm."""
    ax, u, soft = np.abs(x), c.u, c.soft
    shoulders = 0.2 + 0.85 * soft(y + 0.8 - 0.22 * ax, 0.12)
    body = soft(shoulders - ax + u(-0.05, 0.1), 0.03)
    apex, base = u(-0.82, -0.74), _sides(c, left, 0.5, 0.6) + 0.07 * left - 0.02
    centre, half = 0.45 + 0.06 * y, u(0.34, 0.4) + 0.09 * y
    across = (ax - centre) / half
    oval = 1 - across**2 - (np.minimum(y + 0.1, 0) / (apex + 0.1)) ** 2
    dome = base + 0.4 * (ax - 0.38) ** 2 + 1.2 * np.maximum(ax - 0.5, 0) ** 2 - y
    domed = soft(dome, 0.02)
    lung = soft(oval, 0.12) * domed
    tilt, wide = u(0.45, 0.75), u(0.85, 1.15)
    hx, hy = x - 0.12, y - 0.36
    long, short = hx * np.cos(tilt) + hy * np.sin(tilt), hy * np.cos(tilt) - hx * np.sin(tilt)
    heart = soft(1 - (long / (0.43 * wide)) ** 2 - (short / (0.33 * wide)) ** 2, 0.18)
    stomach = soft(1 - ((x - 0.42) / 0.16) ** 2 - ((y - base - 0.16) / 0.07) ** 2, 0.5)
    stomach = stomach * (u(0, 1) < 0.5)
    knob = soft(1 - ((x - 0.1) ** 2 + (y + 0.3) ** 2) / u(0.1, 0.14) ** 2, 0.3)
    middle = soft(u(0.12, 0.17) + 0.1 * np.maximum(-0.5 - y, 0) - ax, 0.03)
    air = lung * (1 - 0.92 * heart) * (1 - 0.85 * middle) * (1 - 0.7 * knob)
    drawn = {"oval": oval, "below": 1 - domed, "lung": lung, "heart": heart, "stomach": stomach}
    return SimpleNamespace(**drawn, body=body, knob=knob, middle=middle, air=air)


def _bones(c: Canvas, x: Array, y: Array, o: SimpleNamespace) -> tuple[Array, Array, Array]:
    """Vertebrae, clavicles, posterior ribs and fainter anterior ones."""
    ax, u, soft = np.abs(x), c.u, c.soft
    spine = bump((x / 0.09) ** 2) * (1 + 0.25 * np.cos(y * u(38, 46) + u(0, 6)))
    collar = y + 0.56 + 0.16 * ax - 0.05 * np.sin(7 * ax) + u(-0.04, 0.04)
    clavicle = bump((collar / 0.045) ** 4) * soft(ax - 0.1, 0.03) * soft(0.8 - ax, 0.05)
    cage = soft(o.oval + 0.2, 0.1) * (1 - 0.7 * o.below)
    pitch, phase = u(0.18, 0.22), u(0, 1)
    back = np.cos(2 * np.pi * ((y - 0.55 * ax + 0.75 * ax**2) / pitch + phase))
    front = np.cos(2 * np.pi * ((y + 0.75 * ax - 0.1 * ax**2) / (1.15 * pitch) + u(0, 1)))
    ribs = cage * (soft(back - 0.2, 0.3) + 0.5 * soft(front - 0.3, 0.3) * soft(ax - 0.3, 0.1))
    return spine, clavicle, ribs


def _vessels(c: Canvas, ax: Array, y: Array, left: Array) -> Array:
    """They fan out from the hila and thin out."""
    vx, vy = ax - 0.2, y - 0.02
    radius, angle = np.sqrt(vx**2 + vy**2), np.arctan2(vy, vx + 0.12)
    sides = partial(_sides, c, left)
    waves = (np.cos(k * angle + sides(0, 6) + sides(4, 9) * radius) for k in (5, 9, 13))
    fan = sum(c.soft(wave - 0.6, 0.3) for wave in waves)
    hila = sides(0.7, 1.3) * bump((vx / 0.09) ** 2 + (vy / 0.15) ** 2)
    return fan * np.exp(-radius / 0.25) * np.minimum(radius / 0.12, 1) + hila


def _opacity(c: Canvas, x: Array, y: Array, labels: Array) -> Array:
    opacity, u = np.zeros_like(x), c.u
    for chance in (1, 0.4, 0.2):
        flip, cy, blur = np.where(u(0, 1) < 0.5, -1, 1), u(-0.5, 0.3), u(0.07, 0.13)
        cx = flip * (0.46 + u(-0.16, 0.2) * (1 + 0.3 * cy))
        there = (u(0, 1) < chance) * labels[:, None, None] * u(0.7, 1.3)
        opacity += there * bump(((x - cx) ** 2 + ((y - cy) * u(0.8, 1.2)) ** 2) / blur**2)
    return opacity
