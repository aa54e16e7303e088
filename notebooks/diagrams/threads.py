"""The time of one prediction on one, two and four threads (notebook 42)."""

from matplotlib.figure import Figure

from diagrams import box, canvas, text

SERIAL = 0.25
"""The share of the work that only one thread can do."""


def draw() -> Figure:
    """A lane for each thread: serial work, its part of the rest, and in pale the waiting."""
    figure, axes = canvas(7.4, 2.7)
    whole, y = 4.8, 2.45
    for threads in (1, 2, 4):
        head, part = SERIAL * whole, (1 - SERIAL) * whole / threads
        text(axes, 0.55, y - 0.1 * (threads - 1), f"{threads} thread{'s' * (threads > 1)}")
        for lane in range(threads):
            here = y - lane * 0.24
            fill, label = ("0.88", "waits") if lane else (1, "serial")
            box(axes, 1.2 + head / 2, here, label, width=head, height=0.2, colour=fill)
            box(axes, 1.2 + head + part / 2, here, width=part, height=0.2, colour=0)
        told = f"{100 * (head + part) / whole:.0f} % of the time"
        text(axes, 1.3 + head + part, here + 0.12 * (threads - 1), told, ha="left")
        y = here - 0.36
    text(axes, 3.7, 0.35, "time of one prediction; serial share 0.25", fontsize=7)
    return figure
