"""The Pareto front of accuracy and energy."""

from matplotlib.figure import Figure

from diagrams import arrow, canvas, text
from effml.figures import COLOURS

FRONT = [(0.9, 0.5), (1.5, 1.05), (2.6, 1.45)]
BEATEN = [(2.2, 0.75), (3.4, 1.2), (3.9, 0.6)]


def draw() -> Figure:
    """Three trainings that nobody beats, joined by steps, and three that are beaten."""
    figure, axes = canvas(6.5, 2.0)
    arrow(axes, (0.5, 0.25), (4.4, 0.25))
    arrow(axes, (0.5, 0.25), (0.5, 1.85))
    text(axes, 3.9, 0.1, "energy")
    text(axes, 0.28, 1.1, "accuracy", rotation=90)
    x, y = zip(*FRONT, (4.3, 1.45))
    axes.plot(x, y, drawstyle="steps-post", color=COLOURS[1], linewidth=1)
    axes.plot(*zip(*FRONT), "D", color=COLOURS[1])
    axes.plot(*zip(*BEATEN), "o", color=COLOURS[0])
    arrow(axes, (3.32, 1.22), (2.7, 1.42), colour="0.5")
    text(axes, 5.5, 1.45, "on the front: no other is\nas good for less", color=COLOURS[1])
    text(axes, 5.5, 0.8, "beaten: another is\nbetter and cheaper", color=COLOURS[0])
    return figure
