"""What the bits of fp32, bf16 and fp16 are for (notebook 30)."""

from matplotlib.figure import Figure

from diagrams import box, canvas, text

FORMATS = {"fp32": (8, 23), "bf16": (8, 7), "fp16": (5, 10)}
"""Bits of the exponent and of the fraction; one more is the sign."""
KEEPS = {
    "bf16": "the reach of fp32, 2 to 3 digits",
    "fp16": "3 to 4 digits, but nothing below 6e-8",
}


def draw() -> Figure:
    """A row for each format, a cell for each bit."""
    figure, axes = canvas(7.2, 2.1)
    size, left, colours = 0.19, 0.75, ("0.75", 0, 1)
    for row, (name, (exponent, fraction)) in enumerate(FORMATS.items()):
        y, x = 1.55 - 0.6 * row, left
        text(axes, 0.35, y, name, fontsize=10, weight="bold")
        for bits, colour in zip((1, exponent, fraction), colours):
            for _ in range(bits):
                box(axes, x + size / 2, y, width=size * 0.9, height=0.28, colour=colour)
                x += size
        if name in KEEPS:
            text(axes, x + 0.15, y, KEEPS[name], ha="left")
    for word, middle in {"sign": 0.5, "exponent: range": 5, "fraction: precision": 20.5}.items():
        text(axes, left + size * middle, 1.9, word)
    return figure
