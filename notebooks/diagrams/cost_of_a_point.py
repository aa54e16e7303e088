"""A hundred people at two operating points: who is found, missed, called for nothing (50)."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagrams import canvas, circle, text

POINTS = {"screening: low threshold": (0.9, 0.5), "confirmation: high threshold": (0.5, 0.9)}
KINDS = {
    "ill, found": 0,
    "ill, missed": 1,
    "healthy, called back": 5,
    "healthy, left alone": "0.93",
}
STEP = 0.17


def draw(ill: int = 10) -> Figure:
    """Of 100 people `ill` are ill; sensitivity and specificity are those of POINTS."""
    figure, axes = canvas(7.2, 2.7)
    for i, (title, rates) in enumerate(POINTS.items()):
        _people(axes, 0.4 + 2.4 * i, ill, *rates)
        text(axes, 0.4 + 2.4 * i + 4.5 * STEP, 2.5, title)
        text(
            axes, 0.4 + 2.4 * i + 4.5 * STEP, 0.3, f"sensitivity {rates[0]}, specificity {rates[1]}"
        )
    for i, (kind, colour) in enumerate(KINDS.items()):
        circle(axes, 5.1, 2.0 - 0.3 * i, radius=0.07, colour=colour)
        text(axes, 5.25, 2.0 - 0.3 * i, kind, ha="left")
    text(axes, 5.03, 0.7, f"{ill} of 100 are ill", ha="left")
    return figure


def _people(axes: Axes, left: float, ill: int, sensitivity: float, specificity: float) -> None:
    found, alarms = round(ill * sensitivity), round((100 - ill) * (1 - specificity))
    counts = (found, ill - found, alarms, 100 - ill - alarms)
    colours = [colour for n, colour in zip(counts, KINDS.values()) for _ in range(n)]
    for i, colour in enumerate(colours):
        x, y = left + STEP * (i % 10), 2.2 - STEP * (i // 10)
        circle(axes, x, y, radius=0.07, colour=colour)
