"""Figures: the house style, colour-blind-safe, the data beside the picture."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from effml.machine import ROOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# of Okabe & Ito
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
STYLE = {
    **{"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True},
    **{"grid.alpha": 0.3, "legend.frameon": False, "figure.dpi": 110, "axes.axisbelow": True},
    **{"axes.titlesize": 9, "figure.titlesize": 10, "lines.linewidth": 1.2, "errorbar.capsize": 3},
}
LEAST_DPI = 110


def subplots(
    rows: int = 1, columns: int = 1, *, width: float = 7.5, height: float = 3.4, **more: Any
) -> "tuple[Figure, Any]":
    """A figure in the house style, which matplotlib keeps from then on.

    Args:
        rows: of axes.
        columns: of axes.
        width: of the figure in inches; a notebook shows it at 110 pixels an inch.
        height: of the figure in inches.
        more: what `matplotlib.pyplot.subplots` takes, such as `sharey=True`.

    Returns:
        The figure, and its axes: one, or an array of them.

    Example:
        >>> figure, axes = effml.figures.subplots(1, 2, sharey=True)
        >>> len(axes), figure.get_dpi()
        (2, 110.0)
    """
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    more = {"layout": "constrained", **more}
    return plt.subplots(rows, columns, figsize=(width, height), **more)


def label_lines(axes: "Axes") -> None:
    """Write each line's label at its right end in its colour, in place of a legend.

    Args:
        axes: with lines or error bars that have labels. Set scales and limits before. Labels that
            would cover each other are moved apart; a line that ends outside the axes is labelled at
            its last point inside.

    Returns:
        Nothing: `axes` is changed.

    Raises:
        ValueError: something else than lines has a label.

    Example:
        >>> figure, axes = effml.figures.subplots()
        >>> lines = axes.plot([0, 1], [0, 1], label="up") + axes.plot([0, 1], [1, 0], label="down")
        >>> effml.figures.label_lines(axes)
        >>> sorted(text.get_text() for text in axes.texts)
        ['down', 'up']
    """
    handles = zip(*axes.get_legend_handles_labels())
    found = [(getattr(handle, "lines", [handle])[0], label) for handle, label in handles]
    if any(not hasattr(line, "get_xydata") for line, _ in found):
        raise ValueError(
            "label_lines labels lines and error bars; use a legend for what else is here."
        )
    seen, lines = axes.viewLim, []
    for line, label in found:
        inside = [p for p in np.asarray(line.get_xydata(), float) if seen.contains(*p)]
        lines += [(line, label, inside[-1])] if inside and line.get_visible() else []
    ends = [(end, i) for i, (*_, end) in enumerate(lines)]
    points = {i: axes.transData.transform(end) for end, i in ends}
    step, below = 1.1 * 9 * axes.figure.dpi / 72, -np.inf  # 1.1 lines of 9 points
    for i in sorted(points, key=lambda i: points[i][1]):
        (line, label, _), (x, y) = lines[i], points[i]
        below = max(y, below + step)
        offset = (6, (below - y) * 72 / axes.figure.dpi)
        place = {"xytext": offset, "textcoords": "offset points", "va": "center"}
        end = axes.transData.inverted().transform((x, y))
        axes.annotate(label, end, **place, color=line.get_color(), annotation_clip=False)


def roc(
    axes: "Axes",
    scores: np.ndarray,
    is_positive: np.ndarray,
    points: pandas.DataFrame,
    *,
    name: str,
    place: int = 0,
) -> None:
    """Draw a ROC curve, and on it operating points with their 95 % intervals.

    Args:
        axes: where to draw.
        scores: probability of the positive class, (N,).
        is_positive: bool (N,).
        points: one row for each operating point, as `achieved` gives them.
        name: what the legend calls the curve.
        place: number of the curve in these axes, from 0, for its colour.

    Returns:
        Nothing: `axes` is changed.

    Example:
        >>> import matplotlib.pyplot as plt, numpy as np
        >>> p, ill = np.linspace(0, 1, 40), np.arange(40) % 3 > 0
        >>> points = effml.achieved((p, ill), (p, ill), positive=1, at_least=0.9)
        >>> axes = plt.figure().subplots()
        >>> effml.roc(axes, p, ill, points, name="a model")
        >>> axes.get_ylabel()
        'sensitivity'
    """
    cuts = np.append(np.inf, np.unique(scores)[::-1])
    found, alarmed = (
        1 - np.searchsorted(np.sort(scores[side]), cuts) / side.sum()
        for side in (is_positive, ~is_positive)
    )
    colour = COLOURS[place % 7]
    axes.step(alarmed, found, where="post", color=colour, linewidth=1, label=name)
    for (aim, row), marker in zip(points.iterrows(), MARKERS):
        found, spared = (
            [row[rate] - row[f"{rate}_low"], row[f"{rate}_high"] - row[rate]]
            for rate in ("sensitivity", "specificity")
        )
        # a higher specificity lies further left
        bars = {"yerr": np.c_[found], "xerr": np.c_[spared[::-1]], "capsize": 3}
        style = {"color": colour, "marker": marker, "linestyle": "none", "label": f"{name}, {aim}"}
        axes.errorbar(1 - row.specificity, row.sensitivity, **bars, **style)
    limits = {"xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", **limits)


def sheet(table: pandas.DataFrame, *, margin: float = 0.01, title: str = "") -> "Figure":
    """Draw a sheet of `compare` or `compare_predictions`: left what changes, right what it costs.

    Args:
        table: the sheet. Its first two columns are the models.
        margin: the loss that would not matter, as it was given to the sheet: a dashed line.
        title: of the figure.

    Returns:
        The figure. A row for each measure with an interval, its marker and colour the verdict, with
        the values of both models; for each cost how many times that of the first model.

    Example:
        >>> p, q = [0.9, 0.4, 0.6, 0.1], [0.8, 0.7, 0.6, 0.2]
        >>> sheet = effml.compare_predictions(p, q, [1, 1, 0, 0], positive=1)
        >>> len(effml.figures.sheet(sheet).axes)
        1
    """
    rows = table[table.difference.notna() & table.low.notna()]
    costs = table[table.ratio.notna()] if "ratio" in table else table[:0]
    widths = {"width_ratios": [3, 1][: 1 + bool(len(costs))]}
    height = 0.28 * max(len(rows), 5) + 1.0
    figure, panels = subplots(
        1, len(widths["width_ratios"]), height=height, squeeze=False, gridspec_kw=widths
    )
    axes = panels[0, 0]
    for place, verdict in enumerate(("non-inferior", "inconclusive", "inferior", "")):
        these = np.flatnonzero(rows.verdict == verdict)
        value, low, high = rows.iloc[these][["difference", "low", "high"]].to_numpy(float).T
        look = {"fmt": MARKERS[place], "color": (*COLOURS[:2], COLOURS[3], "0.45")[place]}
        if len(these):
            label = verdict or "not judged"
            axes.errorbar(value, these, xerr=[value - low, high - value], label=label, **look)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.axvline(-margin, color="0.4", linewidth=0.8, linestyle="--")
    lower = rows.note.str.contains("lower is better")
    names = rows.index.str.replace("_", " ") + np.where(lower, " (lower is better)", "")
    first, second = (rows.iloc[:, i].astype(float) for i in (0, 1))
    told = [f"{name}   {a:.3f} → {b:.3f}" for name, a, b in zip(names, first, second)]
    axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5), xlabel="second minus first")
    axes.set_yticklabels(told)
    axes.locator_params(axis="x", nbins=5)
    figure.legend(loc="outside lower left", ncols=4, fontsize=8)
    figure.suptitle(title)
    if len(costs):
        axes = panels[0, 1]
        axes.plot(costs.ratio, range(len(costs)), "D", color=COLOURS[2])
        axes.axvline(1, color="0.4", linewidth=0.8)
        axes.set(
            yticks=range(len(costs)), ylim=(len(costs) - 0.5, -0.5), xlabel="times the first's"
        )
        axes.set_yticklabels(costs.index.str.replace("_", " "), fontsize=8)
        axes.set_xlim(0, 1.1 * max(1, costs.ratio.max()))
        axes.locator_params(axis="x", nbins=3)
    return figure


def save_figure(
    figure: "Figure",
    name: str,
    *,
    alt: str,
    data: pandas.DataFrame | None = None,
    folder: str | os.PathLike | None = None,
) -> None:
    """Write a figure and the numbers it was drawn from, show it with its alt text, and close it.

    Args:
        figure: of matplotlib.
        name: of the files, `name`.png and `name`.csv.
        alt: what the picture shows, for those who cannot see it.
        data: what was drawn; without it (a diagram has none) no numbers are written.
        folder: where to write; by default the environment variable EFFML_FIGURES (which
            `make reproduce` sets), else results/local/figures.

    Returns:
        Nothing: the files are written, and a notebook shows the picture, at 110 pixels an inch or
        more.

    Example:
        >>> import matplotlib.pyplot as plt, pandas
        >>> figure, axes = plt.subplots()
        >>> numbers = pandas.DataFrame({"x": [0, 1], "y": [1, 2]})
        >>> effml.save_figure(figure, "line", data=numbers, alt="A line.", folder="figures")
        Figure(704x528)
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    here = ROOT if (ROOT / "notebooks").is_dir() else Path.cwd()
    default = os.environ.get("EFFML_FIGURES") or here / "results" / "local" / "figures"
    folder = Path(folder or default)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Description": alt})
    if data is not None:
        data.to_csv(folder / f"{name}.csv")
    figure.set_dpi(max(figure.get_dpi(), LEAST_DPI))
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)
