"""Figures from rows of records: colour-blind-safe with markers, units on the axes, alt text, the data beside the picture."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas

from effml.results import heading, precision_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)  # Okabe & Ito
MARKERS = "osD^vPX"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def tradeoff(
    runs: pandas.DataFrame,
    *,
    x: str = "train_energy_j",
    y: str = "test_auroc",
    by: Sequence[str] = ("data", "model", "precision"),
    labels: Mapping[str, str] = {},
) -> "Figure":
    """One point per group of runs: the mean over seeds, with a bar from the worst seed to the best; x is logarithmic."""
    import matplotlib.pyplot as plt

    if runs[x].isna().all():  # energy unknown here: time is what can be compared
        x = "train_seconds"
    if "precision" in by:
        runs = runs.assign(precision=precision_label(runs))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
        for i, (name, group) in enumerate(runs.groupby(list(by), sort=False)):
            axes.errorbar(
                group[x].mean(),
                group[y].mean(),
                color=COLOURS[i % 7],
                marker=MARKERS[i % 7],
                capsize=3,
                markersize=6,
                xerr=_reach(group[x]),
                yerr=_reach(group[y]),
                linestyle="none",
                label=" · ".join(map(str, name)),
            )
        axes.set(
            xscale="log",
            xlabel=labels.get(x, heading(x, runs)),
            ylabel=labels.get(y, heading(y, runs)),
        )
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        figure.legend(loc="outside lower center")
    return figure


def roc(
    axes: "Axes",
    scores: np.ndarray,
    is_positive: np.ndarray,
    points: pandas.DataFrame,
    *,
    name: str,
    place: int = 0,
) -> None:
    """Draw the ROC curve of `scores` (N,) against bool `is_positive` (N,) into `axes`, in colour `place`, and on it a marker for
    each row of `points`, as `achieved` gives them, with the 95 % intervals of its sensitivity and specificity as bars."""
    cuts = np.append(np.inf, np.unique(scores)[::-1])
    found, alarmed = (
        1 - np.searchsorted(np.sort(scores[side]), cuts) / side.sum()
        for side in (is_positive, ~is_positive)
    )
    axes.step(alarmed, found, where="post", color=COLOURS[place % 7], linewidth=1, label=name)
    for (aim, row), marker in zip(points.iterrows(), MARKERS):
        bars = {
            key: [[row[rate] - row[f"{rate}_low"]], [row[f"{rate}_high"] - row[rate]]]
            for key, rate in (("yerr", "sensitivity"), ("xerr", "specificity"))
        }
        bars["xerr"].reverse()  # a higher specificity lies further left
        axes.errorbar(
            1 - row.specificity,
            row.sensitivity,
            **bars,
            color=COLOURS[place % 7],
            marker=marker,
            capsize=3,
            linestyle="none",
            label=f"{name}, {aim}",
        )
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def save_figure(
    figure: "Figure",
    name: str,
    *,
    data: pandas.DataFrame,
    alt: str,
    folder: str | os.PathLike | None = None,
) -> None:
    """Write `name`.png and the numbers it was drawn from as `name`.csv, show the picture with its alt text, and close it.

    The folder is `folder`, else EFFML_FIGURES (set by `make reproduce`), else `figures` in results/local.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    from effml.machine import ROOT

    folder = Path(
        folder
        or os.environ.get("EFFML_FIGURES")
        or (ROOT if (ROOT / "notebooks").is_dir() else Path.cwd()) / "results" / "local" / "figures"
    )
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Description": alt})
    data.to_csv(folder / f"{name}.csv")
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def _reach(values: pandas.Series) -> list[list[float]]:
    return [[values.mean() - values.min()], [values.max() - values.mean()]]
