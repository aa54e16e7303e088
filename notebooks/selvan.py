"""The radar plot of Selvan et al. 2023 (Figs 2A/B, 4 and 5), for notebook 62."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.figure import Figure

from effml.figures import COLOURS, MARKERS, STYLE


def radar(table: pandas.DataFrame, *, labels: Mapping[str, str] = {}, floor: float = 0.9) -> Figure:
    """One polygon per row over the columns, clockwise from the top, as in Selvan et al. 2023.

    Each axis runs from `floor` × minimum to maximum. A corner near the rim is a large value: good
    for performance, dear for a cost.
    """
    low, high = floor * table.min(), table.max()
    angles = np.linspace(0, 2 * np.pi, table.shape[1], endpoint=False)
    polar = {"projection": "polar", "theta_offset": np.pi / 2, "theta_direction": -1}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5, 3.8), subplot_kw=polar, layout="constrained")
        axes.set(ylim=(0, 1), yticks=[0.25, 0.5, 0.75, 1], yticklabels=[])
        axes.set_xticks(
            angles, [f"{labels.get(c, c)}\n{low[c]:.3g} … {high[c]:.3g}" for c in table]
        )
        for label, side in zip(axes.get_xticklabels(), np.sin(angles)):
            beside = "left" if side > 0 else "right"
            label.set_horizontalalignment("center" if side**2 < 0.1 else beside)
        for i, (name, row) in enumerate(table.iterrows()):
            radius = ((row - low) / (high - low).replace(0, 1)).to_numpy(dtype=float)
            style = {"color": COLOURS[i % 7], "marker": MARKERS[i % 7], "label": name}
            axes.plot(np.append(angles, angles[0]), np.append(radius, radius[0]), **style)
            axes.fill(angles, radius, color=COLOURS[i % 7], alpha=0.08)
        figure.legend(loc="outside lower center", ncols=2)
    return figure
