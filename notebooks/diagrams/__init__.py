"""What the drawn diagrams of the methods are made of; each method has a file with `draw()`."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from effml.figures import COLOURS, subplots

INK, PALE = "0.25", "0.93"


def canvas(width: float = 6.5, height: float = 2.2) -> tuple[Figure, Axes]:
    """Axes without ticks whose unit is an inch: x from 0 to `width`, y from 0 (below) to
    `height`."""
    figure, axes = subplots(width=width, height=height)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return figure, axes


def box(
    axes: Axes,
    x: float,
    y: float,
    label: str = "",
    *,
    width: float = 1.0,
    height: float = 0.5,
    colour: str | int = PALE,
    **more: Any,
) -> None:
    """A rounded box around its middle (x, y); `colour` may be a number of the house's colours."""
    fill = COLOURS[colour] if isinstance(colour, int) else colour
    corner = x - width / 2, y - height / 2
    style = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": fill, "edgecolor": INK}
    axes.add_patch(FancyBboxPatch(corner, width, height, linewidth=0.8, **style | more))
    text(axes, x, y, label, color="white" if isinstance(colour, int) else INK)


def circle(
    axes: Axes,
    x: float,
    y: float,
    label: str = "",
    *,
    radius: float = 0.16,
    colour: str | int = PALE,
) -> None:
    """A neuron, say."""
    fill = COLOURS[colour] if isinstance(colour, int) else colour
    axes.add_patch(Circle((x, y), radius, facecolor=fill, edgecolor=INK, linewidth=0.8, zorder=2))
    text(axes, x, y, label, color="white" if isinstance(colour, int) else INK)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    label: str = "",
    *,
    colour: str = INK,
    **more: Any,
) -> None:
    """An arrow, with its label above its middle."""
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1, "color": colour, "zorder": 1}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **style | more))
    if label:
        middle = ((a + b) / 2 for a, b in zip(start, end))
        text(axes, *middle, label, va="bottom", color=colour)


def text(axes: Axes, x: float, y: float, label: str, **more: Any) -> None:
    """Text around its middle (x, y)."""
    axes.text(x, y, label, **{"ha": "center", "va": "center", "fontsize": 8, "color": INK} | more)
