"""How the published tables are audited."""

from matplotlib.figure import Figure

from diagrams import arrow, box, canvas, text


def draw() -> Figure:
    """Tables, checks, repair; the checks again, on the repaired tables and with defects put in."""
    figure, axes = canvas(6.5, 2.1)
    places = {"published\ntables": 0.6, "13 checks": 2.1, "repaired\ntables": 3.8}
    places["conclusions,\nwith intervals"] = 5.7
    for name, x in places.items():
        width = 1.25 if "concl" in name else 1.0
        box(axes, x, 1.5, name, width=width, height=0.5, colour=0 if "checks" in name else "0.93")
    arrow(axes, (1.1, 1.5), (1.6, 1.5))
    arrow(axes, (2.6, 1.5), (3.3, 1.5), "repair")
    arrow(axes, (4.3, 1.5), (5.05, 1.5))
    arrow(axes, (0.6, 1.75), (5.7, 1.75), connectionstyle="arc3,rad=-0.12")
    text(
        axes, 2.1, 0.98, "is it k / images?\ndoes E / time make sense?\njoined by name?", fontsize=7
    )
    arrow(axes, (3.8, 1.25), (3.8, 0.45))
    arrow(axes, (3.8, 0.45), (2.1, 0.45))
    arrow(axes, (2.1, 0.45), (2.1, 0.7))
    text(axes, 3.0, 0.25, "no finding is left; defects put back are found", fontsize=7)
    return figure
