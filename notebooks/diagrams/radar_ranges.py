"""The same two values on two ranges: what a range does to a radar plot (notebook 62)."""

from matplotlib.figure import Figure

from diagrams import arrow, canvas, circle, text

RANGES = {
    "the paper's range\n0.9 × smallest … largest": (0.846, 0.95),
    "chance … perfect": (0.5, 1),
}
VALUES = (0.94, 0.95)


def draw() -> Figure:
    """A line from the centre to the rim for each range, and on it the two values."""
    figure, axes = canvas(7.2, 1.7)
    left, right = 2.4, 6.4
    text(axes, left, 1.5, "centre")
    text(axes, right, 1.5, "rim")
    for row, (name, (low, high)) in enumerate(RANGES.items()):
        y = 1.05 - 0.65 * row
        text(axes, 1.1, y, name)
        arrow(axes, (left, y), (right + 0.15, y))
        text(axes, left, y - 0.25, f"{low:.2f}")
        text(axes, right, y - 0.25, f"{high:.2f}")
        for i, value in enumerate(VALUES):
            x = left + (right - left) * (value - low) / (high - low)
            circle(axes, x, y, radius=0.07, colour=i)
            text(axes, x - 0.12 + 0.24 * i, y + 0.2, f"{value}", fontsize=7)
    return figure
