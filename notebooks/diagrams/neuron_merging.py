"""Two neurons with nearly the same incoming weights become one (notebook 20)."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagrams import arrow, canvas, circle, text

INPUTS, HIDDEN, OUTPUT = (0.65, 1.55), (0.4, 1.1, 1.8), 1.1


def draw() -> Figure:
    figure, axes = canvas(7.2, 2.5)
    _net(axes, 0.5, ("$a_1$", "$a_2$", "$a_3$"), "before: $W_2 ≈ W_3$")
    arrow(axes, (3.0, OUTPUT), (4.1, OUTPUT), "merge 3 into 2")
    _net(axes, 4.6, ("$a_1$", "$a_2 + a_3$"), "after: no image was needed")
    return figure


def _net(axes: Axes, left: float, outgoing: tuple[str, ...], title: str) -> None:
    """`outgoing`: the label of each hidden neuron's outgoing weight, from the top."""
    for label, y, alike in zip(outgoing, HIDDEN[::-1], (False, True, True)):
        colour = {"colour": "#D55E00"} if alike else {}
        for of in INPUTS:
            arrow(axes, (left + 0.16, of), (left + 0.84, y), **colour)
        end = left + 2, OUTPUT + (y - OUTPUT) / 7
        arrow(axes, (left + 1.16, y), (end[0] - 0.17, end[1]), **colour)
        text(axes, left + 1.5, y + (0.18 if y >= OUTPUT else -0.14), label)
        circle(axes, left + 1, y, colour=1 if alike else "0.93")
    for y in INPUTS:
        circle(axes, left, y)
    circle(axes, left + 2, OUTPUT)
    text(axes, left + 1, 2.3, title)
