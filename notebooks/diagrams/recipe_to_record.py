"""A recipe goes in, four verbs work under three meters, a record comes out (notebook 00)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

VERBS = ("load,\nbuild", "train", "predict,\nevaluate")
METERS = (
    "prepare_seconds\nprepare_energy_j",
    "train_seconds\ntrain_energy_j",
    "infer_seconds\ninfer_energy_j",
)
MIDDLES = (2.7, 4.2, 5.7)


def draw() -> Figure:
    figure, axes = canvas(8.4, 2.1)
    box(axes, 0.8, 1.5, "Recipe\nwhat is asked", width=1.4, height=0.7, colour=0)
    box(axes, 7.6, 1.5, "Record\nwhat happened", width=1.4, height=0.7, colour=2)
    starts = (1.5, *(middle + 0.5 for middle in MIDDLES))
    for middle, start, verb, meter in zip(MIDDLES, starts, VERBS, METERS):
        box(axes, middle, 1.5, verb, height=0.6)
        arrow(axes, (start, 1.5), (middle - 0.5, 1.5))
        box(axes, middle, 0.45, meter, width=1.2, height=0.5)
        axes.plot([middle, middle], [0.7, 1.2], color="0.5", linestyle=":", linewidth=1)
    arrow(axes, (starts[-1], 1.5), (6.9, 1.5))
    text(axes, 1.1, 0.45, "three meters:")
    text(axes, 7.6, 0.85, "quality on the test split,\nread once", va="top")
    return figure
