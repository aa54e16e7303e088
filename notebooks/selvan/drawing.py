"""The figures of Selvan et al. 2023: radar plots, differences and curves with their intervals."""

from collections.abc import Mapping

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from effml.figures import COLOURS, MARKERS, subplots
from effml.seeds import interval
from selvan.runs import NAMES, paired_by_model

Ranges = tuple[pandas.Series, pandas.Series]
"""Where each axis begins, in the centre, and where it ends, at the rim; by column."""


def paper_ranges(table: pandas.DataFrame, floor: float = 0.9) -> Ranges:
    """Those of the paper: from `floor` × the smallest value to the largest."""
    return floor * table.min(), table.max()


def radars(
    panels: Mapping[str, tuple[pandas.DataFrame, Ranges]],
    *,
    labels: Mapping[str, str] = {},
    columns: int = 2,
    side: float = 4.2,
) -> Figure:
    """A radar plot for each title of `panels`, which names a table and the ranges of its columns.

    A polygon per row over the columns, clockwise from the top. A corner near the rim is a large
    value: good for performance, dear for a cost.
    """
    polar = {"projection": "polar", "theta_offset": np.pi / 2, "theta_direction": -1}
    rows = -(-len(panels) // columns)
    size = {"width": side * columns, "height": (0.86 * rows) * side}
    figure, axes = subplots(rows, columns, **size, subplot_kw=polar, squeeze=False)
    for one, (title, (table, reach)) in zip(axes.flat, panels.items()):
        _radar(one, table, reach, labels)
        one.set_title(title, pad=14)
    for one in axes.flat[len(panels) :]:
        one.axis("off")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _radar(
    axes: PolarAxes, table: pandas.DataFrame, ranges: Ranges, labels: Mapping[str, str]
) -> None:
    low, high = (end[table.columns] for end in ranges)
    angles = np.linspace(0, 2 * np.pi, table.shape[1], endpoint=False)
    axes.set(ylim=(0, 1), yticks=[0.25, 0.5, 0.75, 1], yticklabels=[])
    axes.set_xticks(angles, [f"{labels.get(c, c)}\n{low[c]:.3g} … {high[c]:.3g}" for c in table])
    for label, side in zip(axes.get_xticklabels(), np.sin(angles)):
        beside = "left" if side > 0 else "right"
        label.set_horizontalalignment("center" if side**2 < 0.1 else beside)
    for i, (name, row) in enumerate(table.iterrows()):
        radius = ((row - low) / (high - low).replace(0, 1)).to_numpy(dtype=float)
        style = {"color": COLOURS[i % 7], "marker": MARKERS[i % 7], "label": name}
        axes.plot(np.append(angles, angles[0]), np.append(radius, radius[0]), **style)
        axes.fill(angles, radius, color=COLOURS[i % 7], alpha=0.05)


def look(arm: str) -> dict[str, str]:
    """Colour and marker of a setting, the same in every figure."""
    place = list(NAMES.values()).index(arm)
    return {"color": COLOURS[place], "marker": MARKERS[place]}


def differences_figure(
    runs: pandas.DataFrame, columns: Mapping[str, str]
) -> tuple[Figure, pandas.DataFrame]:
    """How far each setting is from its model's baseline: a panel for each of `columns`, a row for
    each model and setting; pale dots are the seeds. Also the numbers that are drawn."""
    found = {column: paired_by_model(runs, column) for column in columns}
    rows = next(iter(found.values())).index
    figure, axes = subplots(1, len(columns), sharey=True, height=0.6 + 0.19 * len(rows))
    nets = list(dict.fromkeys(rows.get_level_values("net")))
    heights = [i + 0.7 * nets.index(net) for i, (net, _) in enumerate(rows)]
    for one, (column, label) in zip(axes, columns.items()):
        for y, (net, arm), (middle, low, high) in zip(
            heights, rows, found[column][["difference", "low", "high"]].to_numpy()
        ):
            of = runs[runs.net == net].pivot(index="seed", columns="arm", values=column)
            style, dots = look(arm), of[arm] - of["Baseline"]
            one.plot(dots, [y] * len(dots), style["marker"], color=style["color"], alpha=0.3, ms=3)
            reach = [[middle - low], [high - middle]]
            one.errorbar([middle], [y], xerr=reach, **style, markersize=5)
        one.axvline(0, color="k", linewidth=0.8)
        one.set_xlabel(label)
    axes[0].set_yticks(heights, [f"{net}, {arm}" for net, arm in rows], fontsize=8)
    axes[0].invert_yaxis()
    return figure, pandas.concat(found, names=["column"])


def curves(
    runs: pandas.DataFrame, column: str, label: str, *, x: str = "size"
) -> tuple[Figure, pandas.DataFrame]:
    """`column` over `x` for each setting: means over seeds with 95 % intervals, side by side, and
    pale dots for the seeds. Nothing is sorted. Also the numbers that are drawn."""
    figure, axes = subplots(width=6.5)
    arms, rows = list(dict.fromkeys(runs.arm)), []
    for i, arm in enumerate(arms):
        of = runs[runs.arm == arm].groupby(x)[column]
        mean, low, high = np.array([interval(values) for _, values in of]).T
        at = np.array(list(of.groups)) * 1.04 ** (i - (len(arms) - 1) / 2)
        axes.errorbar(at, mean, [mean - low, high - mean], **look(arm), markersize=5, label=arm)
        for place, (_, values) in zip(at, of):
            axes.plot([place] * len(values), values, ".", color=look(arm)["color"], alpha=0.35)
        rows += [(arm, *row) for row in zip(of.groups, mean, low, high)]
    axes.set(xscale="log", ylabel=label)
    axes.legend()
    return figure, pandas.DataFrame(rows, columns=["arm", x, "mean", "low", "high"])
