"""From scratch, fine-tuning, linear probe: where the weights come from, and which of them learn."""

from matplotlib.figure import Figure

from diagrams import PALE, arrow, box, canvas, text

ROWS = [
    ("from scratch", "random numbers", 0, 0),
    ("fine-tuning", "weights of another task", 0, 0),
    ("linear probe", "weights of another task", PALE, 0),
]


def draw() -> Figure:
    figure, axes = canvas(6.5, 2.3)
    for x, label in ((1.8, "start"), (3.8, r"features $\phi(x)$"), (5.45, r"answer $W\phi + b$")):
        text(axes, x, 2.15, label)
    for y, (name, start, body, last) in zip((1.7, 1.05, 0.4), ROWS):
        text(axes, 0.5, y, name, fontweight="bold")
        text(axes, 1.8, y, start)
        learns = "learn" if body == 0 else "frozen"
        box(axes, 3.8, y, f"convolutions: {learns}", width=1.8, colour=body)
        box(axes, 5.45, y, "last layer: learns", width=1.2, colour=last)
        arrow(axes, (2.6, y), (2.9, y))
        arrow(axes, (4.7, y), (4.85, y))
    return figure
