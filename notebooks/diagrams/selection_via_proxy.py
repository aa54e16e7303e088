"""A small model ranks the images, a large one learns from those that it is unsure of."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text


def draw() -> Figure:
    figure, axes = canvas(7.2, 2.3)
    box(axes, 0.65, 1.45, "all\nimages", width=0.9, height=0.9)
    box(axes, 2.1, 1.45, "proxy", width=0.8, height=0.4, colour=2)
    text(axes, 2.1, 1.02, "small, few epochs")
    box(axes, 3.7, 1.45, "entropy of\neach image", width=1.05, height=0.6)
    box(axes, 5.1, 1.63, "unsure: kept", width=1.15, height=0.34, colour=1)
    box(axes, 5.1, 1.21, "sure: removed", width=1.15, height=0.26)
    box(axes, 6.6, 1.63, "target", width=0.95, height=0.75, colour=0)
    text(axes, 6.6, 1.05, "large, all epochs")
    for start, end in ((1.1, 1.7), (2.5, 3.17), (4.23, 4.52)):
        arrow(axes, (start, 1.45), (end, 1.45))
    arrow(axes, (5.68, 1.63), (6.12, 1.63))
    text(axes, 0.65, 2.15, "the bill:", weight="bold")
    text(axes, 2.1, 2.15, "proxy's training")
    text(axes, 3.7, 2.15, "+ one ranking")
    text(axes, 6.3, 2.15, "+ fewer steps of the target")
    axes.plot([0.2, 7.0], [0.72, 0.72], color="0.6", linewidth=0.8)
    text(
        axes,
        0.2,
        0.42,
        "the rival: no proxy, all images, the target stops a fifth earlier",
        ha="left",
    )
    box(axes, 6.6, 0.42, "target", width=0.95, height=0.36, colour=0)
    arrow(axes, (4.75, 0.42), (6.12, 0.42))
    return figure
