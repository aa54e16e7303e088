"""Which images a batch holds: drawn uniformly, and drawn by importance."""

from matplotlib.figure import Figure

from diagrams import arrow, canvas, circle, text

SCORES = (0.1, 0.1, 1.2, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.5, 0.1)
UNIFORM, CHOSEN = (0, 4, 7, 10), (2, 2, 5, 10)
PLAIN, HARD = "0.85", 1  # of the house's colours


def draw() -> Figure:
    figure, axes = canvas(7.0, 2.6)
    text(axes, 1.35, 2.45, "12 images; size: score, how wrong the model is")
    place = {i: (0.55 + 0.55 * (i % 4), 1.95 - 0.6 * (i // 4)) for i in range(len(SCORES))}
    for i, (x, y) in place.items():
        circle(axes, x, y, radius=_radius(i), colour=_colour(i))
    batch(axes, 1.9, UNIFORM, "uniform batch", lambda i: "1")
    share = {i: score / sum(SCORES) for i, score in enumerate(SCORES)}
    batch(axes, 0.8, CHOSEN, "batch by importance", lambda i: f"{1 / (12 * share[i]):.2f}")
    arrow(axes, (2.65, 1.5), (3.55, 1.9), colour="0.25")
    arrow(axes, (2.65, 1.2), (3.55, 0.8), colour="0.25")
    text(axes, 3.0, 0.75, "score\nall 12 first")
    text(
        axes,
        3.45,
        0.2,
        "mostly the images that are still wrong, some twice; their loss counts less",
        ha="left",
    )
    return figure


def batch(axes, y, images, title, weight):
    text(axes, 3.75, y + 0.42, title, ha="left", weight="bold")
    for place, i in enumerate(images):
        circle(axes, 4.0 + 0.75 * place, y, radius=_radius(i), colour=_colour(i))
        text(axes, 4.0 + 0.75 * place, y - 0.33, f"× {weight(i)}")


def _radius(i: int) -> float:
    return 0.08 + 0.14 * SCORES[i] / max(SCORES)


def _colour(i: int) -> str | int:
    return HARD if SCORES[i] > 0.3 else PLAIN
