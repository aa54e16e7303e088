"""Cliff's delta: every small model against every large one."""

from matplotlib.figure import Figure

from diagrams import canvas, text
from effml.figures import COLOURS

SMALL, LARGE = [1.5, 1.2, 0.75], [1.0, 0.5]


def draw() -> Figure:
    """Six pairs of models: in five the small one is higher, in one the large one."""
    figure, axes = canvas(6.5, 2.0)
    for high in SMALL:
        for low in LARGE:
            colour = COLOURS[0] if high > low else COLOURS[1]
            axes.plot([1.2, 3.0], [high, low], color=colour, linewidth=1.2)
    axes.plot([1.2] * len(SMALL), SMALL, "o", color="0.25")
    axes.plot([3.0] * len(LARGE), LARGE, "o", color="0.25")
    text(axes, 1.2, 1.85, "small models")
    text(axes, 3.0, 1.85, "large models")
    text(axes, 0.5, 1.1, "PePR-E", rotation=90)
    text(axes, 5.0, 1.35, "5 pairs: the small one is higher", color=COLOURS[0])
    text(axes, 5.0, 1.05, "1 pair: the large one is higher", color=COLOURS[1])
    text(axes, 5.0, 0.65, "δ = (5 − 1) / 6 = 0.67", weight="bold")
    return figure
