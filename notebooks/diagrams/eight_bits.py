"""From a float to a whole number of 8 bits, and one step for all channels or one for each
(notebook 40)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text
from effml.figures import COLOURS

CHAIN = (
    "0.371\n4 bytes",
    "÷ step 0.0079\n= 46.96",
    "round\n= 47",
    "clip to\n−128 … 127",
    "47\n1 byte",
)
LEFT, WIDE = 2.3, 4.8
"""Where the lines of numbers begin, and how long they are, in inches."""
CHANNELS = {"a wide channel": (0.06, 0.35, 0.68, 0.97), "a narrow one": (0.44, 0.48, 0.53, 0.57)}
"""Weights of two channels, as shares of the line."""


def draw() -> Figure:
    """The chain of one number; below, the same weights on one grid, and each channel on its own."""
    figure, axes = canvas(7.4, 3.4)
    for number, words in enumerate(CHAIN):
        x, ends = 0.85 + 1.43 * number, number in (0, len(CHAIN) - 1)
        box(axes, x, 3.05, words, width=1.15, colour="0.85" if ends else "0.95")
        if number:
            arrow(axes, (x - 0.86, 3.05), (x - 0.58, 3.05))
    for row, (way, own) in enumerate(
        {"per tensor:\none step": 0, "per channel:\none step each": 1}.items()
    ):
        text(axes, 0.55, 1.85 - 1.25 * row, way, weight="bold")
        for line, (name, weights) in enumerate(CHANNELS.items()):
            _line(axes, 2.1 - 1.25 * row - 0.5 * line, name, weights, line, fine=own and line)
    return figure


def _line(axes, y: float, name: str, weights: tuple, colour: int, fine: int) -> None:
    """Ticks are the values that whole numbers give back; a line leads each weight to its own."""
    low, high = (0.42, 0.58) if fine else (0.0, 1.0)
    step = (high - low) / 12
    text(axes, 1.65, y, name, fontsize=7)
    for tick in range(13):
        x = LEFT + WIDE * (low + tick * step)
        axes.vlines(x, y - 0.06, y + 0.06, color="0.5", linewidth=1)
    for weight in weights:
        x, to = LEFT + WIDE * weight, LEFT + WIDE * (low + round((weight - low) / step) * step)
        axes.plot([x, to], [y + 0.18, y], color=COLOURS[colour], linewidth=1)
        axes.plot(x, y + 0.18, "os"[colour], color=COLOURS[colour], markersize=4)
