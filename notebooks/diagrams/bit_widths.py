"""Three ways to give the layers of a net their bits (notebook 34)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

WAYS = {
    "uniform: 4 everywhere": (8, 4, 4, 4, 4, 8),
    "falling with depth: 4 to 2": (8, 4, 3, 3, 2, 8),
    "falling with time: 8 to 4": (8, 4, 4, 4, 4, 8),
}
"""Bits of six layers, from the image to the answer, at the end of the training."""
START = 8
"""Bits in which the inner layers begin where they fall with time."""


def draw() -> Figure:
    """A panel per way, a bar per layer; what falls with time begins at the pale height."""
    figure, axes = canvas(7.4, 2.5)
    unit, size = 0.17, 0.3
    for number, (title, bits) in enumerate(WAYS.items()):
        left = 0.35 + number * 2.45
        text(axes, left + 3.2 * size, 2.3, title)
        for i, height in enumerate(bits):
            x, inner = left + (i + 0.5) * size * 1.07, 0 < i < len(bits) - 1
            if number == 2 and inner:
                style = {"width": size * 0.9, "height": START * unit, "colour": "0.95"}
                box(axes, x, 0.55 + START * unit / 2, **style)
                arrow(axes, (x, 0.5 + START * unit), (x, 0.62 + height * unit))
            tall = height * unit
            colour = number if inner else "0.75"
            box(axes, x, 0.55 + tall / 2, width=size * 0.9, height=tall, colour=colour)
            ink = {"color": "white"} if inner else {}
            text(axes, x, 0.55 + unit, str(height), fontsize=7, **ink)
        arrow(axes, (left, 0.4), (left + 6.4 * size, 0.4))
        text(axes, left + 3.2 * size, 0.2, "depth: from the image to the answer", fontsize=7)
    return figure
