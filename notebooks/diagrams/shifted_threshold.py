"""A threshold chosen on validation, at home and where the scores lie elsewhere."""

import numpy as np
from matplotlib.figure import Figure

from diagrams import INK, arrow, canvas, text
from effml.figures import COLOURS

HEALTHY, ILL, WIDTH, CUT, SHIFT = 0.8, 2.0, 0.36, 1.4, -0.42


def draw() -> Figure:
    """Scores of the healthy and the ill, at home and moved; the threshold stays."""
    figure, axes = canvas(6.5, 2.1)
    x = np.linspace(0, 2.9, 200)
    for left, move, title in ((0.1, 0, "at home"), (3.5, SHIFT, "elsewhere")):
        text(axes, left + 1.3, 1.98, title)
        axes.plot([left, left + 2.9], [0.35, 0.35], color=INK, linewidth=0.8)
        for middle, number, name in ((HEALTHY, 0, "healthy"), (ILL, 1, "ill")):
            y = 0.35 + 1.1 * np.exp(-(((x - middle - move) / WIDTH) ** 2) / 2)
            style = {"color": COLOURS[number], "linestyle": ("-", "--")[number]}
            axes.plot(left + x, y, **style)
            text(axes, left + middle + move, 1.58, name, color=COLOURS[number])
            if number:
                axes.fill_between(left + x, 0.35, y, where=x < CUT, color=COLOURS[1], alpha=0.3)
        axes.plot([left + CUT] * 2, [0.28, 1.75], color=INK, linewidth=1.2)
        text(axes, left + CUT + 0.05, 0.15, "threshold", ha="left")
    again = 3.5 + CUT + SHIFT
    axes.plot([again] * 2, [0.35, 1.45], color=INK, linewidth=1, linestyle=":")
    text(axes, again, 0.15, "chosen again", ha="right")
    arrow(axes, (2.95, 1.0), (3.4, 1.0))
    return figure
