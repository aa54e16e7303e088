"""A small update in 16 bits: lost, kept in a master copy, or taken by chance (notebook 32)."""

from matplotlib.figure import Figure

from diagrams import arrow, canvas, text
from effml.figures import COLOURS

LEFT, STEP = 2.1, 1.35
"""Where the line of bfloat16 begins, and from one of its values to the next, in inches."""
VALUES = ("1", "1 + 2⁻⁷", "1 + 2·2⁻⁷", "1 + 3·2⁻⁷")
WAYS = {
    "round to nearest": "back to 1: the update is lost, and the next one too",
    "master copy": "float32 keeps the sum; the model gets it rounded",
    "stochastic": "with a chance of 1/4 up, of 3/4 back: right on average",
}


def draw() -> Figure:
    """A line of the values of bfloat16 for each way; the same update of a quarter step on each."""
    figure, axes = canvas(7.2, 3.1)
    for row, (name, words) in enumerate(WAYS.items()):
        y, end = 2.5 - 0.95 * row, LEFT + STEP / 4
        text(axes, 0.75, y, name, fontsize=9, weight="bold")
        arrow(axes, (LEFT - 0.25, y), (LEFT + 3.4 * STEP, y), colour="0.6")
        for number, value in enumerate(VALUES):
            axes.vlines(LEFT + number * STEP, y - 0.1, y + 0.1, color="0.25", linewidth=2)
            if not row:
                text(axes, LEFT + number * STEP, y + 0.45, value)
        for tick in range(1, 13) if name == "master copy" else ():
            axes.vlines(LEFT + tick * STEP / 4, y - 0.06, y + 0.06, color=COLOURS[2], linewidth=1)
        arrow(axes, (LEFT, y + 0.16), (end, y + 0.16), colour=COLOURS[0])
        text(axes, end + 0.08, y + 0.22, "update", ha="left", fontsize=7)
        curve = {"connectionstyle": "arc3,rad=-0.5", "linestyle": "--"}
        if name != "master copy":
            arrow(axes, (end, y - 0.06), (LEFT, y - 0.12), **curve)
        if name == "stochastic":
            up = {"connectionstyle": "arc3,rad=0.35", "linestyle": "--"}
            arrow(axes, (end, y - 0.06), (LEFT + STEP, y - 0.12), **up)
        if name == "master copy":
            axes.plot(end, y, "o", color=COLOURS[2])
        text(axes, LEFT, y - 0.38, words, ha="left")
    return figure
