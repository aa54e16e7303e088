"""From a cost and an accuracy to PePR."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text


def draw() -> Figure:
    """Energy of three models on a line, R below it, and what is left of their accuracy."""
    figure, axes = canvas(6.5, 1.9)
    text(axes, 0.45, 1.45, "energy E")
    text(axes, 0.45, 0.95, "cost R")
    arrow(axes, (0.9, 1.2), (3.6, 1.2))
    for x, energy, cost in ((1.1, "3 Wh", "0"), (2.0, "12 Wh", "0.4"), (3.3, "25.5 Wh", "1")):
        axes.plot([x], [1.2], "o", color="#0072B2", markersize=6)
        text(axes, x, 1.45, energy)
        text(axes, x, 0.95, cost)
    text(axes, 2.2, 0.45, r"$R = (E - E_{\min}) \,/\, (E_{\max} - E_{\min})$")
    arrow(axes, (3.75, 1.2), (4.3, 1.2))
    box(axes, 5.35, 1.2, "PePR = α P / (α + R)", width=2.0, height=0.5, colour=0)
    arrow(axes, (5.35, 0.62), (5.35, 0.93))
    text(axes, 5.35, 0.45, "accuracy P")
    text(axes, 5.35, 1.7, "α = 1: the dearest keeps half its P")
    return figure
