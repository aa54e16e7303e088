"""A join by position and a join by key: what one line too many does to all that follow it."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text
from effml.figures import COLOURS

NAMES = ["Norway", "Oman", "Pakistan"]
NUMBERS = ["0.05 M", "5.5 M", "4.6 M", "235.8 M"]


def draw() -> Figure:
    """Two lists of which the second has one line more; by position and by name."""
    figure, axes = canvas(6.5, 2.0)
    for left, title, shift in ((0.0, "joined by position", 0), (3.6, "joined by name", 1)):
        text(axes, left + 1.35, 1.85, title, weight="bold")
        for i, number in enumerate(NUMBERS):
            fill = "#f6d7c3" if i == 0 else "0.93"
            box(axes, left + 2.2, 1.5 - 0.42 * i, number, width=0.9, height=0.32, colour=fill)
        for i, name in enumerate(NAMES):
            box(axes, left + 0.5, 1.5 - 0.42 * i, name, width=0.9, height=0.32)
            end = (left + 1.75, 1.5 - 0.42 * (i + shift))
            arrow(axes, (left + 0.95, 1.5 - 0.42 * i), end, colour=COLOURS[0 if shift else 1])
    text(axes, 2.98, 1.5, "one line\ntoo many", color=COLOURS[1], fontsize=7)
    return figure
