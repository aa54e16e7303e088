"""What a layer saves for the backward pass, in float32 and in few bits (notebook 33)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

WAYS = (("float32: 4 bytes a value", 2.2, "0.93", 0.5), ("8 bits: 1 byte a value", 0.75, 2, 0.16))


def draw() -> Figure:
    """Forward to the right, backward to the left; between them what is kept, tall or short."""
    figure, axes = canvas(7.2, 2.9)
    for name, y, colour, tall in WAYS:
        text(axes, 0.75, y, name.replace(": ", "\n"))
        for number, x in enumerate((2.2, 3.9, 5.6)):
            box(axes, x, y + 0.42, f"layer {number + 1}", width=0.8, height=0.26, colour=0)
            box(axes, x, y - 0.42, "backward", width=0.8, height=0.26, colour=1)
            box(axes, x + 0.85, y, width=0.36, height=tall, colour=colour)
            arrow(axes, (x + 0.4, y + 0.36), (x + 0.8, y + tall / 2 + 0.03))
            arrow(axes, (x + 0.8, y - tall / 2 - 0.03), (x + 0.42, y - 0.36))
            if number < 2:
                arrow(axes, (x + 0.42, y + 0.44), (x + 1.28, y + 0.44))
                arrow(axes, (x + 1.28, y - 0.44), (x + 0.42, y - 0.44))
    text(axes, 7.0, 2.2, "kept", fontsize=7)
    text(axes, 3.15, 0.95, "round", fontsize=7)
    text(axes, 3.2, 0.5, "widen", fontsize=7)
    return figure
