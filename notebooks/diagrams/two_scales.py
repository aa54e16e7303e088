"""Two ways to put an energy on a scale from 0 to 1."""

from matplotlib.figure import Figure

from diagrams import arrow, canvas, text
from effml.figures import COLOURS


def draw() -> Figure:
    """An axis of energy from 0; R counts from the cheapest model, or from 0."""
    figure, axes = canvas(6.5, 1.9)
    arrow(axes, (0.4, 0.95), (6.2, 0.95))
    marks = {0.5: "0", 1.3: r"$E_{\min}$", 2.9: "E of a model", 5.7: r"$E_{\max}$"}
    for x, name in marks.items():
        axes.plot([x, x], [0.88, 1.02], color="0.25")
        text(axes, x, 0.74, name)
    both = {"arrowstyle": "<|-|>"}
    arrow(axes, (1.3, 1.2), (2.9, 1.2), colour=COLOURS[0], **both)
    arrow(axes, (1.3, 1.5), (5.7, 1.5), colour=COLOURS[0], **both)
    text(axes, 3.6, 1.7, "the text: R = first arrow / second arrow", color=COLOURS[0])
    arrow(axes, (0.5, 0.5), (2.9, 0.5), colour=COLOURS[1], **both)
    arrow(axes, (0.5, 0.25), (5.7, 0.25), colour=COLOURS[1], **both)
    text(axes, 4.4, 0.5, "Table 1: both arrows begin at 0", color=COLOURS[1])
    return figure
