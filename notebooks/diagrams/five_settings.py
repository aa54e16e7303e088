"""What is short in which of the five settings of Selvan 2023 (notebooks 60, 61)."""

from matplotlib.figure import Figure

from diagrams import PALE, box, canvas, text

PARTS = ("weights", "forward and\nbackward", "gradients", "optimiser's\nstate")
BITS = {
    "Baseline": (32, 32, 32, 32),
    "AMP": (32, 16, 32, 32),
    "8-bit": (32, 32, 32, 8),
    "8-bit + half": (16, 16, 16, 8),
    "AMP + 8-bit": (32, 16, 32, 8),
}
FILL = {32: PALE, 16: 0, 8: 1}


def draw() -> Figure:
    """A row for each setting; a box is as wide as its numbers are long."""
    figure, axes = canvas(7.2, 2.7)
    for column, part in enumerate(PARTS):
        text(axes, 2.0 + 1.5 * column, 2.45, part)
    for row, (name, bits) in enumerate(BITS.items()):
        y = 2.0 - 0.42 * row
        text(axes, 1.05, y, name, ha="right")
        for column, n in enumerate(bits):
            width = 1.2 * n / 32
            x = 1.4 + 1.5 * column + width / 2
            box(axes, x, y, width=width, height=0.28, colour=FILL[n])
            if n > 8:
                text(axes, x, y, f"{n} bits", color="white" if n < 32 else "0.25")
            else:
                text(axes, x + 0.2, y, "8 bits", ha="left")
    return figure
