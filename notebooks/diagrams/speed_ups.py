"""The same latency over two baselines (notebook 65)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text
from effml.figures import COLOURS

TIMES = {"PyTorch, 32 bits": 10, "best runtime, 32 bits": 4, "INT8": 2}


def draw() -> Figure:
    """A bar for each of three ways, and what each of two ratios compares."""
    figure, axes = canvas(6.5, 1.9)
    for row, (name, ms) in enumerate(TIMES.items()):
        y, width = 1.6 - 0.45 * row, 0.4 * ms
        text(axes, 1.7, y, name, ha="right")
        box(axes, 1.85 + width / 2, y, width=width, height=0.28, colour=row if row else "0.93")
        text(axes, 1.95 + width, y, f"{ms} ms", ha="left")
    both = {"arrowstyle": "<|-|>"}
    arrow(axes, (2.65, 0.45), (3.45, 0.45), colour=COLOURS[1], **both)
    text(axes, 3.55, 0.45, "what 8 bits gain: 4 / 2 = 2 ×", ha="left", color=COLOURS[1])
    arrow(axes, (2.65, 0.15), (5.85, 0.15), colour=COLOURS[0], **both)
    text(axes, 4.2, 0.27, "what all of it gains: 10 / 2 = 5 ×", color=COLOURS[0])
    return figure
