"""Downsampling: each pixel of the small image is the mean of a block of the large one
(notebook 63)."""

import numpy as np
from matplotlib.figure import Figure

from diagrams import arrow, canvas, text
from effml.phantoms import make_phantom

SIZE, FACTORS = 64, (1, 2, 4, 8)


def draw() -> Figure:
    """A phantom of 64 px, and the same at 32, 16 and 8 px."""
    figure, axes = canvas(7.2, 2.0)
    image = make_phantom("phantom-nodule", size=SIZE, counts=(2, 2, 2))["train_images"][0]
    for i, factor in enumerate(FACTORS):
        side = SIZE // factor
        blocks = np.asarray(image, float).reshape(side, factor, side, factor).mean((1, 3))
        left = 0.2 + 1.8 * i
        where = (left, left + 1.3, 0.45, 1.75)
        style = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
        axes.imshow(blocks, extent=where, **style)
        told = "as it is" if factor == 1 else f"means of {factor} × {factor}"
        text(axes, left + 0.65, 0.28, f"{side} px: {told}")
        if i:
            arrow(axes, (left - 0.42, 1.1), (left - 0.08, 1.1))
    axes.set(xlim=(0, 7.2), ylim=(0, 2.0))
    return figure
