"""The radar plot of Selvan et al. 2023 (Figs 2A/B, 4 and 5), for notebook 62."""

from collections.abc import Mapping

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from effml.figures import COLOURS, MARKERS, subplots

Ranges = tuple[pandas.Series, pandas.Series]
"""Where each axis begins, in the centre, and where it ends, at the rim; by column."""


def paper_ranges(table: pandas.DataFrame, floor: float = 0.9) -> Ranges:
    """Those of the paper: from `floor` × the smallest value to the largest."""
    return floor * table.min(), table.max()


def radars(
    table: pandas.DataFrame, ranges: Mapping[str, Ranges], *, labels: Mapping[str, str] = {}
) -> Figure:
    """One radar plot beside the other, of the same table: one for each title of `ranges`.

    A polygon per row over the columns, clockwise from the top. A corner near the rim is a large
    value: good for performance, dear for a cost.
    """
    polar = {"projection": "polar", "theta_offset": np.pi / 2, "theta_direction": -1}
    figure, axes = subplots(
        1, len(ranges), width=4.2 * len(ranges), height=3.6, subplot_kw=polar, squeeze=False
    )
    for one, (title, reach) in zip(axes[0], ranges.items()):
        _radar(one, table, reach, labels)
        one.set_title(title, pad=14)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
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
        axes.fill(angles, radius, color=COLOURS[i % 7], alpha=0.08)
