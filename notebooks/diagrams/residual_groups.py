"""Why channels are removed together: layers whose outputs are added share their channels."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from diagrams import COLOURS, INK, arrow, box, canvas, circle, text

SIDE = 0.15
GROUPS = {"shared": (COLOURS[2], (1, 2, 3), 6), "inner": (COLOURS[3], (0, 2, 5, 7), 8)}


def channels(axes: Axes, x: float, group: str) -> None:
    """The channels between two layers, as squares: those that stay are filled."""
    colour, stay, n = GROUPS[group]
    for i in range(n):
        y = 1.2 + SIDE * (n / 2 - 1 - i)
        fill = {"facecolor": colour} if i in stay else {"facecolor": "white", "hatch": "xxxx"}
        axes.add_patch(Rectangle((x - SIDE / 2, y), SIDE, SIDE, edgecolor=colour, **fill))


def draw() -> Figure:
    figure, axes = canvas(7.2, 2.5)
    layers = {"stem": 1.0, "a": 2.6, "b": 4.2, "head": 6.3}
    text(axes, 0.25, 1.2, "image")
    for label, x in layers.items():
        box(axes, x, 1.2, label, width=0.6)
    arrow(axes, (0.5, 1.2), (0.7, 1.2))
    for x, group in ((1.8, "shared"), (3.4, "inner"), (4.95, "shared"), (5.7, "shared")):
        channels(axes, x, group)
    for start, end in ((1.3, 1.7), (1.9, 2.3), (2.9, 3.3), (3.5, 3.9), (4.5, 4.85)):
        arrow(axes, (start, 1.2), (end, 1.2))
    circle(axes, 5.32, 1.2, "+", radius=0.13)
    arrow(axes, (5.03, 1.2), (5.19, 1.2))
    arrow(axes, (5.45, 1.2), (5.61, 1.2))
    arrow(axes, (5.79, 1.2), (6.0, 1.2))
    arrow(axes, (6.6, 1.2), (6.85, 1.2))
    text(axes, 7.0, 1.2, "class")
    axes.plot([1.8, 1.8, 5.32], [1.68, 2.1, 2.1], color=INK, linewidth=1)
    arrow(axes, (5.32, 2.1), (5.32, 1.34))
    text(axes, 3.5, 2.25, "residual connection: the stem's outputs are added to those of b")
    told = "green: one group, since added channels must match; three of six stay everywhere"
    text(axes, 3.6, 0.38, told, color=COLOURS[2])
    text(axes, 3.6, 0.16, "pink: a group of its own, inside the branch", color=COLOURS[3])
    return figure
