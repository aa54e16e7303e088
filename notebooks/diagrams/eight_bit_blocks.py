"""A state in 8 bits: blocks, each with a scale of its own (notebook 31)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

BLOCKS = ((0.35, 0.7, 0.5, 0.6), (0.5, 0.3, 0.6, 0.4), (0.4, 0.3, 1.0, 0.35))
"""Heights of values, of the largest of their block; the last block has an outlier."""


def draw() -> Figure:
    """Above four float32 values a block; below their codes, a byte each, and the scale."""
    figure, axes = canvas(7.2, 2.5)
    size, gap, start = 0.34, 0.55, 1.5
    text(axes, 0.65, 2.05, "float32\n4 bytes a value")
    text(axes, 0.65, 0.5, "8 bits\n1 byte a value\n+ scale a block")
    for number, heights in enumerate(BLOCKS):
        x = start + number * (4 * size + gap)
        for i, height in enumerate(heights):
            middle = x + size * (i + 0.5)
            box(axes, middle, 2.05, width=size * 0.92, height=0.56, colour="0.93")
            tall = 0.5 * height
            box(axes, middle, 1.8 + tall / 2, width=size * 0.5, height=tall, colour=0)
            box(axes, middle, 0.5, width=size * 0.92, height=0.28, colour=1)
            text(axes, middle, 0.5, "byte", fontsize=6, color="white")
        arrow(axes, (x + 2 * size, 1.7), (x + 2 * size, 0.75))
        text(axes, x + 2 * size + 0.1, 1.2, "÷ scale,\nround to 256 steps", ha="left", fontsize=7)
        box(axes, x + 4 * size + 0.17, 0.5, width=0.28, height=0.28, colour=2)
        text(axes, x + 2 * size, 0.18, f"block {number + 1}", fontsize=7)
    text(axes, x + 4 * size + 0.17, 0.18, "scale", fontsize=7)
    text(axes, x + 2.5 * size, 2.42, "an outlier", fontsize=7)
    return figure
