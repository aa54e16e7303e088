"""A budget of seconds: pilots, runs that fit, one that is ended, and what is kept for the end."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text


def draw() -> Figure:
    """One line of time from the first pilot to the deadline."""
    figure, axes = canvas(7.0, 2.0)
    arrow(axes, (0.1, 0.55), (6.9, 0.55))
    text(axes, 6.6, 0.35, "seconds")
    for x, label, width, colour in (
        (0.45, "pilots", 0.6, 0),
        (1.3, "baselines", 1.0, 1),
        (2.55, "the menu,\nin its order", 1.4, 2),
        (4.05, "neighbours\nof the best", 1.5, 2),
        (5.2, "ended", 0.7, 3),
    ):
        box(axes, x, 0.9, label, width=width, height=0.5, colour=colour)
    box(axes, 5.95, 0.9, "rank, test", width=0.7, height=0.5)
    axes.plot([6.35, 6.35], [0.4, 1.9], color="0.25", linestyle="--", linewidth=1)
    text(axes, 6.3, 1.75, "budget", ha="right")
    arrow(axes, (0.45, 1.2), (2.0, 1.55))
    text(axes, 3.5, 1.65, "what each recipe will cost, before it is started")
    return figure
