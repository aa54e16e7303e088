"""Two rankings of the same models, and how alike they are."""

from matplotlib.figure import Figure

from diagrams import canvas, text
from effml.figures import COLOURS

MODELS, OURS = "ABCDE", (2, 1, 3, 5, 4)  # their places are 1 to 5


def draw() -> Figure:
    """Five models in the order of their score there and here, joined; the moves make the
    correlation."""
    figure, axes = canvas(6.5, 2.1)
    text(axes, 1.0, 1.95, "theirs: 256 px,\nall images", va="top")
    text(axes, 3.0, 1.95, "ours: small images,\nfew steps", va="top")
    for there, (name, here) in enumerate(zip(MODELS, OURS), 1):
        left, right = (1.45 - 0.29 * (place - 1) for place in (there, here))
        colour = "0.5" if there == here else COLOURS[0 if here < there else 1]
        axes.plot([1.2, 2.8], [left, right], "-o", color=colour, markersize=5)
        text(axes, 1.0, left, f"{there}  {name}", ha="right")
        text(axes, 3.0, right, f"{name}  {here}", ha="left")
    text(axes, 5.1, 1.2, "places moved d:\n1, 1, 0, 1, 1")
    text(axes, 5.1, 0.55, r"$\rho = 1 - \frac{6 \cdot 4}{5 \cdot (25 - 1)} = 0.8$", fontsize=11)
    return figure
