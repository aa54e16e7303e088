"""A reliability diagram by hand: what was foretold, what came true, and the gap between."""

from matplotlib.figure import Figure

from diagrams import INK, arrow, canvas, text
from effml.figures import COLOURS

FORETOLD, SEEN, SIDE = (0.1, 0.3, 0.5, 0.7, 0.9), (0.28, 0.38, 0.5, 0.62, 0.72), 1.5


def draw() -> Figure:
    """Left a model that is too sure, right the same one cooled: its probabilities move towards a
    half, and no order changes."""
    figure, axes = canvas(6.5, 2.2)
    for left, foretold, title in ((0.9, FORETOLD, "too sure"), (4.3, SEEN, "cooled, T > 1")):
        text(axes, left + SIDE / 2, 2.05, title)
        axes.plot([left, left + SIDE], [0.4, 0.4], color=INK, linewidth=0.8)
        axes.plot([left, left], [0.4, 0.4 + SIDE], color=INK, linewidth=0.8)
        axes.plot([left, left + SIDE], [0.4, 0.4 + SIDE], ":", color=INK, linewidth=0.8)
        for x, y in zip(foretold, SEEN):
            place = left + SIDE * x
            ends = [0.4 + SIDE * x, 0.4 + SIDE * y]
            axes.plot([place, place], ends, color=COLOURS[1], linewidth=3, alpha=0.5)
            axes.plot(place, ends[1], "o", color=COLOURS[0], markersize=5)
        text(axes, left + SIDE / 2, 0.2, "foretold")
        text(axes, left - 0.4, 0.4 + SIDE / 2, "came\ntrue")
    text(axes, 3.15, 1.75, "ECE: mean gap,\nby images in a bin")
    arrow(axes, (2.75, 1.2), (3.5, 1.2))
    return figure
