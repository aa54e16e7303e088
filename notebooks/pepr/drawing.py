"""What several figures of PePR share: both ways side by side, marks by size, the shading, moves of
ranks."""

from collections.abc import Sequence

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from effml.figures import COLOURS, MARKERS, subplots
from effml.pepr import pepr_score
from pepr.published import SMALL_BELOW


def both_ways(
    panels: int = 1,
    *,
    titles: tuple[str, str] = ("as published", "as corrected"),
    whose: str = "",
    height: float = 2.7,
    sharey: bool | str = "row",
) -> tuple[Figure, np.ndarray]:
    """A figure of `panels` rows and two columns of axes (panels, 2), with `titles`; `whose` data in
    small."""
    figure, axes = subplots(panels, 2, height=height * panels + 0.4, squeeze=False, sharey=sharey)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    figure.suptitle(whose, fontsize=8)
    return figure, axes


def constant_line(axes: Axes, rate: float, *, ha: str = "left") -> None:
    """A dotted line at what always giving the commonest class earns, with its name above
    its left or below its right end."""
    axes.axhline(rate, color="k", linestyle=(0, (1, 2)), linewidth=1)
    end, up, va = (0.015, 2, "bottom") if ha == "left" else (0.995, -2, "top")
    place = {"xy": (end, rate), "xycoords": ("axes fraction", "data"), "xytext": (0, up)}
    style = {"textcoords": "offset points", "ha": ha, "va": va, "fontsize": 7}
    axes.annotate(f"constant predictor ({rate:.3f})", **place, **style)


def by_size(axes: Axes, points: pandas.DataFrame, y: str, *, marker: str = "marker") -> None:
    """One mark per model: column `y` over `num_param`, logarithmic; 1 in the column `marker` is
    efficient, 0 is not. The dashed line parts small models from large ones. Models with NaN have no
    mark, and the legend counts the others."""
    known = points[points[y].notna()]
    for i, (value, name) in enumerate({0: "not efficient", 1: "efficient"}.items()):
        of = known[known[marker] == value]
        axes.plot(
            of.num_param / 1e6,
            of[y],
            MARKERS[2 * i],
            color=COLOURS[i],
            markersize=3.5,
            alpha=0.7,
            label=f"{name} ({len(of)})",
        )
    axes.axvline(SMALL_BELOW / 1e6, color="k", linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel="parameters, millions")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=7, handletextpad=0.1)


def pepr_shading(
    axes: Axes, *, alpha: float = 1.0, low: float = 0.0, levels: int = 10
) -> QuadContourSet:
    """Shade the axes by PePR of R (x, 0 to 1) and P (y, `low` to 1): lines of equal score, as in
    Figs 2a, 2b and 4a."""
    r, p = np.meshgrid(np.linspace(0, 1, 101), np.linspace(low, 1, 101))
    score = pepr_score(p.ravel(), r.ravel(), alpha=alpha, normalized=True).reshape(r.shape)
    axes.set(xlim=(0, 1), ylim=(low, 1))
    axes.grid(False)
    return axes.contourf(r, p, score, levels=levels, cmap="Greys_r", alpha=0.55, zorder=0)


def rank_moves(
    before: pandas.Series,
    after: pandas.Series,
    *,
    top: int = 10,
    labels: Sequence[str] = ("before", "after"),
) -> Figure:
    """One line per model from its rank by the scores `before` to its rank by `after` (same index;
    the highest is rank 1), for the models which either places among the `top`; ▲ gains, ▼ loses, ●
    keeps its place. Equal scores share the best of their places; they are drawn one below the
    other."""
    known = before.notna() & after.notna()
    scores = pandas.DataFrame({"before": before[known], "after": after[known]}).round(12)
    lines = scores.rank(ascending=False, method="first")
    lines = lines[(lines <= top).any(axis=1)].sort_values("after")
    ranks = scores.rank(ascending=False, method="min").loc[lines.index]
    figure, axes = subplots(width=5.6)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for (name, (was, now)), (left, right) in zip(ranks.iterrows(), lines.to_numpy()):
        i = int(1 + np.sign(now - was))  # 0 gains, 1 keeps, 2 loses
        axes.plot(
            [0, 1],
            [min(left, top + 1), min(right, top + 1)],
            marker="^ov"[i],
            color=(COLOURS[0], "grey", COLOURS[1])[i],
            markersize=5,
            linewidth=1,
        )
        if left <= top:
            axes.annotate(
                name,
                (0, left),
                (-8, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=7,
            )
        if right <= top:
            axes.annotate(
                f"{now:.0f}  {name}" + (f"  (was {was:.0f})" if was != now else ""),
                (1, right),
                (8, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    axes.set(xlim=(-0.6, 1.75), ylim=(top + 1.4, 0.4), yticks=[])
    axes.set_xticks([0, 1], labels)
    return figure
