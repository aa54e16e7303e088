"""What a layer with a bias makes of the gutter between two images (notebook 41)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

STAGES = ("on the canvas", "behind layer 1", "what layer 2 sees")
ROWS = (
    ("gutter of zeros", ("white", "0.7", "0.7"), "other than alone"),
    ("made zero anew", ("white", "0.7", "white"), "as if alone"),
)


def draw() -> Figure:
    """Two rows, three stages: white gutters are zero, grey ones hold the bias of layer 1."""
    figure, axes = canvas(7.8, 2.2)
    for stage, name in enumerate(STAGES):
        text(axes, 1.95 + stage * 1.9, 2.0, name)
    for row, (name, gutters, answer) in enumerate(ROWS):
        y = 1.45 - row * 0.95
        text(axes, 0.6, y, name)
        for stage, fill in enumerate(gutters):
            x = 1.95 + stage * 1.9
            box(axes, x, y, width=1.3, height=0.62, colour=fill)
            for left, label in ((-0.38, "A"), (0.38, "B")):
                box(axes, x + left, y, label, width=0.46, height=0.5, colour=0)
            if stage < 2:
                made = ("layer 1", "× mask" if row else "")[stage]
                arrow(axes, (x + 0.68, y), (x + 1.22, y))
                text(axes, x + 0.95, y + 0.15, made, fontsize=7)
        text(axes, 7.2, y, f"layer 2:\n{answer}", fontsize=7)
    return figure
