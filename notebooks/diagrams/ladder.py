"""From pictures to a folder that answers, by a ladder of versions behind a gate (notebook 92)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

STEPS = ("pictures,\ntable", "data set\nby patient", "run,\nthresholds")
RUNGS = ("8 bits", "8 bits, half the range", "8 bits, controlled", "bfloat16", "float32")
HIGH, LOW, RIGHT = 2.55, 0.35, 5.2


def draw() -> Figure:
    """Three steps, the rungs from the top, the gate beside them, and the folder."""
    figure, axes = canvas(8.6, 2.95)
    for number, label in enumerate(STEPS):
        x = 0.6 + 1.3 * number
        box(axes, x, HIGH, label, width=1.05)
        end = x + 0.775 if number < len(STEPS) - 1 else RIGHT - 0.85
        arrow(axes, (x + 0.525, HIGH), (end, HIGH))
    gap = (HIGH - LOW) / (len(RUNGS) - 1)
    for number, label in enumerate(RUNGS):
        y = HIGH - number * gap
        box(axes, RIGHT, y, label, width=1.7, height=0.34, colour=0)
        arrow(axes, (RIGHT + 0.85, y), (RIGHT + 1.55, y))
        if number < len(RUNGS) - 1:
            arrow(axes, (RIGHT, y - 0.17), (RIGHT, y - gap + 0.17))
    text(axes, RIGHT - 0.1, HIGH - gap / 2, "refused, or not faster", ha="right")
    box(axes, RIGHT + 1.7, (HIGH + LOW) / 2, "g\na\nt\ne", width=0.3, height=2.6, colour=1)
    arrow(axes, (RIGHT + 1.85, (HIGH + LOW) / 2), (RIGHT + 2.25, (HIGH + LOW) / 2))
    box(
        axes,
        RIGHT + 2.8,
        (HIGH + LOW) / 2,
        "folder:\npredict.py,\nmodel, card",
        height=0.8,
        colour=2,
    )
    text(axes, RIGHT + 2.8, (HIGH + LOW) / 2 - 0.65, "the first that passes\nand is faster")
    return figure
