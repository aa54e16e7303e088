"""A cube of eight runs of which half are made, and two savings with and without a fixed cost."""

from matplotlib.figure import Figure

from diagrams import COLOURS, INK, PALE, arrow, canvas, circle, text


def draw() -> Figure:
    figure, axes = canvas(7.2, 2.6)
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    place = {(x, y, z): (0.6 + 1.2 * x + 0.5 * z, 0.55 + 0.95 * y + 0.4 * z) for x, y, z in corners}
    for one in corners:
        for other in corners:
            if sum(a != b for a, b in zip(one, other)) == 1:
                axes.plot(*zip(place[one], place[other]), color=INK, linewidth=0.7, zorder=1)
    for corner in corners:
        made = sum(corner) % 2 == 0
        circle(axes, *place[corner], colour=0 if made else PALE, radius=0.11)
    text(axes, 1.45, 0.22, "fewer images →")
    text(axes, 0.2, 1.0, "fewer channels →", rotation=90)
    text(axes, 2.65, 0.62, "bf16 →", rotation=38)
    text(axes, 1.5, 2.45, "half of the runs show each factor alone")
    for left, title, ends in (
        (3.7, "savings multiply", (1.9, 1.25, 1.5, 0.85)),
        (5.6, "a fixed cost stays", (1.9, 1.25, 1.5, 1.05)),
    ):
        arrow(axes, (left, 0.5), (left, 2.2))
        text(axes, left - 0.12, 1.4, "log seconds", rotation=90)
        text(axes, left + 0.7, 2.45, title)
        for start, colour, name in ((0, 0, "all images"), (2, 1, "half of them")):
            a, b = (left + 0.2, ends[start]), (left + 1.2, ends[start + 1])
            axes.plot(*zip(a, b), color=COLOURS[colour], marker="os"[colour])
            x, y, side = (0.5, a[1] - 0.1, "left") if start == 0 else (1.0, b[1] + 0.02, "right")
            height = "bottom" if start == 0 else "top"
            text(axes, left + x, y, name, color=COLOURS[colour], ha=side, va=height)
        text(axes, left + 0.2, 0.3, "whole net")
        text(axes, left + 1.2, 0.3, "fewer channels")
    return figure
