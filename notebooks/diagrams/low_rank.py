"""One layer into two: a matrix of m outputs and n inputs as a product of two thin ones."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagrams import COLOURS, arrow, box, canvas, text


def matrix(
    axes: Axes, x: float, y: float, size: tuple[float, float], label: str, colour: str | int
) -> None:
    """A matrix around its middle, width and height as its columns and rows."""
    width, height = size
    box(axes, x, y, label, width=width, height=height, colour=colour)


def draw() -> Figure:
    figure, axes = canvas(7.2, 2.9)
    matrix(axes, 1.35, 2.1, (1.8, 1.0), "W\nm × n weights", "0.93")
    text(axes, 1.35, 2.72, "one layer: n inputs → m outputs")
    text(axes, 2.65, 2.1, "≈", fontsize=14)
    matrix(axes, 3.25, 2.1, (0.35, 1.0), "U", 1)
    text(axes, 3.25, 1.47, "m × r", color=COLOURS[1])
    text(axes, 3.62, 2.1, "·", fontsize=14)
    matrix(axes, 4.75, 2.42, (1.8, 0.35), "V", 0)
    text(axes, 4.75, 2.12, "r × n", color=COLOURS[0])
    text(axes, 6.45, 2.1, "r (m + n) weights:\nfewer only if\nr < mn / (m + n)")
    for y, name, first, second in (
        (0.95, "by channel", "3 × 3, to r channels", "1 × 1, to O channels"),
        (0.35, "spatial", "3 × 1, to r channels", "1 × 3, to O channels"),
    ):
        text(axes, 0.45, y, name)
        arrow(axes, (0.9, y), (1.5, y), "I" * (y > 0.5))
        box(axes, 2.4, y, first, width=1.7, height=0.4, colour=0)
        arrow(axes, (3.3, y), (3.9, y), "r" * (y > 0.5))
        box(axes, 4.8, y, second, width=1.7, height=0.4, colour=1)
        arrow(axes, (5.7, y), (6.3, y))
        text(axes, 6.7, y, "O channels")
    return figure
