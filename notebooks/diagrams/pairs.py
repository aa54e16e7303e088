"""The same models under two conditions: two heaps, or pairs."""

from matplotlib.figure import Figure

from diagrams import canvas, text
from effml.figures import COLOURS

BEFORE, GAIN = [0.25, 0.55, 0.85, 1.15], [0.3, 0.25, 0.33, 0.28]


def draw() -> Figure:
    """Left: each heap is wide, the gain is lost in it. Right: every line rises by as much."""
    figure, axes = canvas(6.5, 2.1)
    for left, title in ((0.8, "two heaps: unpaired"), (4.1, "each model with itself: paired")):
        text(axes, left + 0.75, 1.95, title, weight="bold")
        for low, gain in zip(BEFORE, GAIN):
            if left > 2:
                axes.plot([left, left + 1.5], [low + 0.2, low + gain + 0.2], "-", color="0.6")
            axes.plot([left], [low + 0.2], "s", color=COLOURS[4])
            axes.plot([left + 1.5], [low + gain + 0.2], "o", color=COLOURS[0])
        text(axes, left, 0.15, "scratch")
        text(axes, left + 1.5, 0.15, "pretrained")
    text(axes, 2.85, 1.15, "noise:\nhow models\ndiffer", fontsize=7)
    text(axes, 6.1, 1.15, "noise:\nhow gains\ndiffer", fontsize=7)
    return figure
