"""Where the two parts of a student's loss come from, and what the temperature does to an answer."""

from math import exp

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text
from effml.figures import COLOURS

TEACHER, STUDENT = 1, 0  # colours
LOGITS = {"nv": 4.0, "mel": 2.5, "bkl": 1.0}  # of the teacher, for one image


def soft(temperature: float) -> list[float]:
    """Softmax of the logits divided by the temperature."""
    powers = [exp(value / temperature) for value in LOGITS.values()]
    return [power / sum(powers) for power in powers]


def answer(axes: Axes, x: float, y: float, temperature: float) -> None:
    """Bars of the teacher's answer at one temperature, around (x, y)."""
    shares = soft(temperature)
    for i, (name, share) in enumerate(zip(LOGITS, shares)):
        at = x + 0.34 * (i - 1)
        axes.bar(at, 0.6 * share, width=0.26, bottom=y - 0.2, color=COLOURS[TEACHER])
        text(axes, at, y - 0.28, name, fontsize=7)
        text(axes, at, y - 0.13 + 0.6 * share, f"{share:.2f}", fontsize=7)
    text(axes, x, y - 0.44, f"T = {temperature:g}", fontsize=7, weight="bold")


def draw() -> Figure:
    """The image goes to teacher and student; the student learns from both answers."""
    figure, axes = canvas(7.4, 2.5)
    box(axes, 0.55, 1.25, "image", width=0.8)
    box(axes, 2.0, 1.95, "teacher (large, trained)", width=1.5, colour=TEACHER)
    box(axes, 2.0, 0.5, "student (small)", width=1.5, colour=STUDENT)
    arrow(axes, (0.95, 1.35), (1.25, 1.85))
    arrow(axes, (0.95, 1.15), (1.25, 0.6))
    answer(axes, 3.55, 1.95, 1)
    answer(axes, 4.85, 1.95, 4)
    arrow(axes, (2.75, 1.95), (3.0, 1.95))
    arrow(axes, (5.35, 1.95), (5.85, 1.95))
    box(axes, 6.5, 1.95, "0.9 × T² KL to\nthe soft answer", width=1.3)
    box(axes, 6.5, 0.5, "0.1 × cross-entropy\nto the label", width=1.3)
    arrow(axes, (2.75, 0.6), (5.85, 1.72), colour=COLOURS[STUDENT])
    arrow(axes, (2.75, 0.5), (5.85, 0.5), colour=COLOURS[STUDENT])
    text(axes, 4.75, 1.05, "its answer at T", color=COLOURS[STUDENT])
    text(axes, 4.3, 0.37, "its answer at T = 1", color=COLOURS[STUDENT])
    text(axes, 6.5, 1.22, "+")
    return figure
