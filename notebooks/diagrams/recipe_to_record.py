"""A recipe goes in, four verbs work under three meters, a record comes out (notebook 00)."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text

VERBS = ("load,\nbuild", "train", "predict,\nevaluate")
METERS = ("prepare_…", "train_…", "infer_…")
MIDDLES = (2.7, 4.2, 5.7)


def draw() -> Figure:
    figure, axes = canvas(8.4, 2.1)
    box(axes, 0.8, 1.5, "Recipe\nwhat is asked", width=1.4, height=0.7, colour=0)
    box(axes, 7.6, 1.5, "Record\nwhat happened", width=1.4, height=0.7, colour=2)
    for middle, verb, meter in zip(MIDDLES, VERBS, METERS):
        box(axes, middle, 1.5, verb, height=0.6)
        arrow(axes, (middle - (0.7 if middle == MIDDLES[0] else 1), 1.5), (middle - 0.5, 1.5))
        box(axes, middle, 0.45, f"{meter}\nseconds, joules, memory", width=1.42, height=0.5)
        axes.plot([middle, middle], [0.7, 1.2], color="0.5", linestyle=":", linewidth=1)
    arrow(axes, (MIDDLES[0] - 1.2, 1.5), (MIDDLES[0] - 0.5, 1.5))
    arrow(axes, (MIDDLES[-1] + 0.5, 1.5), (6.9, 1.5))
    text(axes, 1.1, 0.45, "three meters:", weight="bold")
    text(axes, 7.6, 0.85, "quality on the test split,\nread once", va="top")
    return figure
