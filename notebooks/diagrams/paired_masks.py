"""Why two versions of a model are compared image by image (notebook 66)."""

import numpy as np
from matplotlib.figure import Figure

from diagrams import arrow, canvas, text
from effml.figures import COLOURS


def draw() -> Figure:
    """Dice of twelve made-up images in 32 and in 8 bits, joined; beside them the differences."""
    figure, axes = canvas(6.5, 2.1)
    rng = np.random.default_rng(3)
    before = 0.35 + 1.3 * rng.random(12)
    after = before + rng.normal(-0.01, 0.035, 12)
    for a, b in zip(before, after):
        axes.plot([1.0, 2.6], [a, b], "o-", color=COLOURS[0], linewidth=0.8, markersize=3.5)
    text(axes, 1.0, 1.9, "32 bits")
    text(axes, 2.6, 1.9, "8 bits")
    text(axes, 0.35, 1.0, "Dice of\nan image")
    arrow(axes, (3.0, 1.0), (3.9, 1.0))
    text(axes, 3.45, 1.15, "subtract")
    axes.plot([4.1, 4.9], [1.0, 1.0], color="0.25", linewidth=0.8)
    axes.plot(4.5 + 0.02 * rng.normal(size=12), 1 + before - after, "o", color=COLOURS[1], ms=3.5)
    text(axes, 5.0, 1.0, "the losses: far closer\ntogether than the images", ha="left")
    text(axes, 1.8, 0.12, "one model, the same images")
    return figure
