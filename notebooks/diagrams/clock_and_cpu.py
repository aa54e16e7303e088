"""What the clock counts beside a busy program, and what CPU time counts (notebook 93)."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

SLICE = 0.4


def draw() -> Figure:
    figure, axes = canvas(7.2, 2.0)
    _row(axes, 1.45, "alone", [True] * 5)
    _row(axes, 0.65, "beside a load", [True, False] * 5)
    arrow(axes, (1.3, 0.25), (1.3 + 10 * SLICE, 0.25))
    text(axes, 1.3 + 5 * SLICE, 0.1, "time on the clock")
    return figure


def _row(axes: Axes, y: float, label: str, ours: list[bool]) -> None:
    """A slice is ours (dark) or the other program's (pale)."""
    text(axes, 1.2, y, label, ha="right")
    for i, mine in enumerate(ours):
        colour = 0 if mine else "0.93"
        name = "ours" if mine else "other"
        box(axes, 1.3 + (i + 0.5) * SLICE, y, name, width=SLICE, height=0.4, colour=colour)
    told = f"clock: {len(ours)} slices\nCPU time: {sum(ours)} slices"
    text(axes, 1.45 + len(ours) * SLICE, y, told, ha="left")
