"""Our own runs in the authors' form (notebook 76): their columns, their groups of models, their
figures beside ours, and how well the ranks agree."""

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas
from matplotlib.axes import Axes
from numpy.typing import NDArray

from effml import architectures, load_arrays, load_runs, own_or_reference
from effml.figures import COLOURS, MARKERS
from effml.pepr import NORMALIZATIONS, pareto_front, pepr_score
from effml.results import had_company
from pepr import drawing
from pepr.conclusions import Effect, unpaired
from pepr.published import SMALL_BELOW, Tables, as_corrected

SCORES = {"pepr_e": "energy", "pepr_t": "train_time", "pepr_m": "memR"}
"""The cost in each score of ours: kWh, s, GB. Ours have no carbon dioxide of their own."""
COMPARED = {
    "P": "test_09",
    "AUROC": "auroc",
    "E": "energy",
    "T": "train_time",
    "M": "memR",
    "PePR-E": "pepr_e",
}
"""The columns whose ranks are compared: accuracy, AUROC, energy, time, memory, the score."""
EXPERIMENT = ["device", "data", "weights", "train_fraction", "epochs", "convolutions"]
"""Fields that tell one experiment from another; within one, only the model differs, and the size of
the images where a model takes no small ones."""
THEIRS = {
    "ham10000_28": "derma_pt",
    "lidc_nodules_64": "lidc",
    "pneumoniamnist": "pneumonia",
    "pneumoniamnist_reordered": "pneumonia",
}
"""The authors' variant on the images of a data set of ours."""


def whole_sweeps(runs: pandas.DataFrame, *, least: int = 30) -> pandas.DataFrame:
    """Of these runs those of experiments with `least` models or more, one seed each."""
    first = runs[runs.seed == 0]
    return first[first.groupby(EXPERIMENT).model.transform("nunique") >= least]


def stored(
    store: str | os.PathLike, want: Callable, devices: Iterable[str], **fields: Any
) -> pandas.DataFrame:
    """`own_or_reference` of each device, which never fill each other's gaps; a device without such
    runs is told and left out."""
    parts = [load_runs(store).iloc[:0]]
    for device in devices:
        try:
            parts.append(own_or_reference(store, want, device=device, **fields))
        except FileNotFoundError:
            print(f"No such runs on {device}.")
    return pandas.concat(parts[1:] or parts, ignore_index=True)


def experiments(runs: pandas.DataFrame) -> dict[str, pandas.DataFrame]:
    """`as_theirs` of each experiment in `runs`, under its name, that of most models first. Of an
    experiment that several machines shared, the runs of the one that ran most models: energy and
    time of another cannot be laid beside them."""
    found = {}
    for (device, data, _, share, *_), of in runs.groupby(EXPERIMENT):
        name = f"{'GPU' if device == 'cuda' else 'CPU'}, {share:.0%} of {data.partition('_')[0]}"
        if name in found:
            raise ValueError(f"Two experiments are called {name}: choose one by its fields.")
        most = of.groupby("device_name").model.nunique().idxmax()
        found[name] = as_theirs(of[of.device_name == most])
    order = sorted(found, key=lambda name: -len(found[name]))
    return {name: found[name] for name in order}


def overview(ours: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """Of each of `experiments`: its models, their median size, how many shared their machine, give
    one answer, learned; the share of the commonest class, the median P, and all energy in Wh."""
    rows = {}
    for name, points in ours.items():
        row = {"models": len(points), "px": int(points["size"].median())}
        row |= {"shared": points.shared.gt(0).sum(), "one answer": points.constant.sum()}
        row |= {"learned": points.learned.sum(), "majority": round(points.rate.iloc[0], 3)}
        row |= {"P, median": round(points.test_09.median(), 3)}
        rows[name] = row | {"Wh": round(1000 * points.energy.sum(), 1)}
    return pandas.DataFrame.from_dict(rows, "index").rename_axis("sweep")


def repeated(runs: pandas.DataFrame, *, seeds: int = 3) -> pandas.DataFrame:
    """Of these runs those that differ only in the seed, where one machine has `seeds` of them or
    more."""
    alike = [*EXPERIMENT, "device_name", "model"]
    return runs[runs.groupby(alike).seed.transform("nunique") >= seeds]


def as_theirs(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Our records of one experiment in the authors' columns, one row per model, by its size.

    P (`test_09`) is the test accuracy of the epoch chosen on validation; energy in kWh,
    `train_time` in s (of the whole training), `memR` the peak in GB; all means over the seeds. A
    run that shared its machine has no energy and no time, so its model has no PePR-E. `constant`
    marks a model that in some seed gives one answer to every image, `learned` one whose AUROC has
    its interval above 0.5 in every seed. The parameters are the published ones, by which the paper
    calls a model small. Raises ValueError for runs of several experiments or machines, and for a
    model that is none of the paper's.
    """
    for column in ("data", "weights", "train_fraction", "epochs", "device", "device_name"):
        if len(found := runs[column].dropna().unique()) > 1:
            raise ValueError(f"These runs have several {column}: {', '.join(map(str, found))}.")
    listed = architectures().reset_index().set_index("timm")
    if len(other := runs.model[~runs.model.isin(listed.index)]):
        raise ValueError(
            f"{other.iloc[0]} is no model of the paper: effml.architectures() has them."
        )
    alone = ~had_company(runs)
    told = pandas.DataFrame(
        {
            "model": runs.model.map(listed.name),
            "test_09": runs.test_accuracy,
            "auroc": runs.test_auroc,
            "energy": runs.train_energy_j.where(alone) / 3.6e6,
            "train_time": runs.train_seconds.where(alone),
            "memR": runs.train_peak_memory_bytes / 1e9,
            "macs": runs.macs,
            "size": runs["size"],
            "shared": ~alone,
            "constant": one_answer(runs),
            "learned": runs.test_auroc_low > 0.5,
            "rate": runs.test_majority_rate,
        }
    )
    means = told.groupby("model").mean()
    means = means.assign(constant=means.constant > 0, learned=means.learned == 1)
    means[["num_param", "type", "efficient"]] = architectures()[["params", "kind", "efficient"]]
    points = means.reset_index().assign(data=runs.data.iloc[0])
    for score, cost in SCORES.items():
        points[score] = pepr_score(points.test_09, points[cost])
    return points.sort_values("num_param", ignore_index=True)


def one_answer(runs: pandas.DataFrame) -> pandas.Series:
    """Which runs give the same class to every test image: one recall is 1, all others are 0, and
    their mean is one over the number of classes."""
    classes = 1 / runs.test_balanced_accuracy
    return ((classes - classes.round()).abs() < 1e-9) & (runs.test_worst_class_recall == 0)


def groups(points: pandas.DataFrame) -> pandas.DataFrame:
    """The paper's comparisons of groups of models, in P, in AUROC where it is known, and in PePR-E,
    with the columns of `Effect`: small less large, efficient less the others, CNNs less others."""
    first = {
        "small": points.num_param < SMALL_BELOW,
        "efficient": points.efficient == 1,
        "cnn": points.type == "CNN",
    }
    kinds = {"performance": "test_09", "auroc": "auroc", "pepr": "pepr_e"}
    rows = {
        f"{name}-{what}": unpaired(points[column], which)
        for name, which in first.items()
        for what, column in kinds.items()
        if column in points
    }
    return pandas.DataFrame(rows, index=Effect._fields).T.rename_axis("claim")


class Agreement(NamedTuple):
    """A rank correlation (Spearman), its 95 % interval, and over how many models."""

    rho: float
    low: float
    high: float
    models: int

    def __str__(self) -> str:
        if not self.models:
            return "–"
        if np.isnan(self.rho):
            return f"no ranking ({self.models:.0f} models)"
        return f"{self.rho:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


NOT_RANKED = Agreement(np.nan, np.nan, np.nan, 0)


def spearman(values: NDArray) -> NDArray:
    """Spearman's ρ of `values` (draws, models, columns), of more than two columns the mean over all
    pairs of them: the cosine of centred ranks, for each draw. NaN where a column has one value."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        ranks /= np.linalg.norm(ranks, axis=1, keepdims=True)
    pairs = combinations(range(values.shape[-1]), 2)
    return np.mean([(ranks[..., i] * ranks[..., j]).sum(axis=1) for i, j in pairs], axis=0)


def rank_agreement(*columns: pandas.Series, draws: int = 2000, seed: int = 0) -> Agreement:
    """How alike two columns rank the models that both have (of more than two: the mean over all
    pairs). The interval draws the models again (percentile bootstrap). NaN for fewer than
    five and for a column of one value."""
    table = pandas.concat(columns, axis=1, join="inner").dropna().to_numpy(dtype=float)
    rho = float(spearman(table[None])[0]) if len(table) >= 5 else np.nan
    if np.isnan(rho):
        return Agreement(np.nan, np.nan, np.nan, len(table))
    rng = np.random.default_rng(seed)
    again = spearman(table[rng.integers(len(table), size=(draws, len(table)))])
    return Agreement(rho, *np.nanpercentile(again, (2.5, 97.5)).tolist(), len(table))


def agreement(ours: pandas.DataFrame, theirs: pandas.DataFrame) -> pandas.DataFrame:
    """`rank_agreement` of each column of COMPARED; both tables have a row per model. The authors
    have no AUROC: ours is laid beside their accuracy."""
    ours, theirs = ours.set_index("model"), theirs.set_index("model")
    rows = {}
    for name, column in COMPARED.items():
        other = column if column in theirs else "test_09"
        rows[name] = rank_agreement(ours[column], theirs[other]) if column in ours else NOT_RANKED
    return pandas.DataFrame(rows, index=Agreement._fields).T.rename_axis("column")


def rank_table(
    ours: Mapping[str, pandas.DataFrame], variants: Mapping[str, pandas.DataFrame], *, beside: str
) -> pandas.DataFrame:
    """`agreement` of each of our experiments with the authors' variant on the same images and with
    their one variant from scratch, Derma; last, that of these two of theirs, for `beside`, and
    that of two of ours."""
    parts, scratch = {}, variants["derma"]
    for name, of in ours.items():
        parts[name, "same images"] = agreement(of, variants[THEIRS[of.data.iloc[0]]])
        parts[name, "same start"] = agreement(of, scratch)
    same = THEIRS[ours[beside].data.iloc[0]]
    parts["theirs", f"{same}, derma"] = agreement(variants[same], scratch)
    for other in (name for name in ours if name != beside):
        parts[beside, other] = agreement(ours[beside], ours[other])
    return pandas.concat(parts, names=["ours", "with"])


def three_sets(tables: Tables) -> pandas.DataFrame:
    """The authors' mean over their three data sets, with each model's type and efficient mark."""
    points = as_corrected(tables).rename(columns={"marker": "efficient"})
    return points.merge(tables["model_names"][["model", "type"]], on="model", validate="one_to_one")


def self_agreement(runs: pandas.DataFrame) -> pandas.DataFrame:
    """How alike the same models rank with another seed (mean over pairs of seeds, within a data
    set) and on another data set (means over the seeds): `rank_agreement` of P, AUROC, E and
    PePR-E."""
    joules = runs.train_energy_j.where(~had_company(runs))
    runs = runs.assign(P=runs.test_accuracy, AUROC=runs.test_auroc, E=joules, pepr=np.nan)
    for _, of in runs.groupby(["data", "seed"]):
        runs.loc[of.index, "pepr"] = pepr_score(of.P, of.E)
    rows = {}
    for name, column in {"P": "P", "AUROC": "AUROC", "E": "E", "PePR-E": "pepr"}.items():
        wide = runs.pivot_table(index="model", columns=["data", "seed"], values=column)
        sets = wide.columns.unique("data")
        for data in sets:
            rows[f"seeds, {data}", name] = rank_agreement(*(of for _, of in wide[data].items()))
        means = [wide[data].mean(axis=1) for data in sets]
        two = len(means) > 1
        rows["data sets", name] = rank_agreement(*means) if two else NOT_RANKED
    table = pandas.DataFrame(rows, index=Agreement._fields).T
    return table.rename_axis(["between", "column"])


def spread_of_seeds(runs: pandas.DataFrame) -> pandas.DataFrame:
    """For each data set the standard deviation of P and of AUROC between models (of their means
    over the seeds) and between the seeds of a model (root of the mean variance)."""
    rows = {}
    for data, of in runs.groupby("data"):
        row = {"majority": of.test_majority_rate.iloc[0]}
        for name, column in (("P", "test_accuracy"), ("AUROC", "test_auroc")):
            of_models = of.groupby("model")[column]
            row[f"{name}, mean"] = of[column].mean()
            row[f"{name}, nets"] = of_models.mean().std()
            row[f"{name}, seeds"] = of_models.var().mean() ** 0.5
        rows[data] = row
    return pandas.DataFrame(rows).T.rename_axis("data")


def guesses(ours: pandas.DataFrame, known: pandas.DataFrame) -> pandas.DataFrame:
    """How well what is known before a training ranks our P, AUROC and PePR-E: parameters, MACs, and
    each further column of `known` (index: model)."""
    ours = ours.set_index("model")
    cheap = pandas.concat([ours[["num_param", "macs"]], known], axis=1)
    rows = {
        (guess, of): rank_agreement(cheap[guess], ours[column])
        for guess in cheap
        for of, column in (("P", "test_09"), ("AUROC", "auroc"), ("PePR-E", "pepr_e"))
    }
    return pandas.DataFrame(rows, index=Agreement._fields).T.rename_axis(["guess", "of"])


def best_models(
    points: pandas.DataFrame, *, top: int = 5, normalization: str = "min-max"
) -> pandas.DataFrame:
    """As Table 1: the `top` models by PePR-E, and the one with the highest P (★ where it is none of
    them). The paper's table was made with "max" (notebook 74)."""
    energy = NORMALIZATIONS[normalization](points.energy)
    points = points.assign(pepr_e=pepr_score(points.test_09, energy, normalized=True))
    first, best = points.nlargest(top, "pepr_e"), points.loc[[points.test_09.idxmax()]]
    best = best[~best.index.isin(first.index)]
    table = pandas.concat([first, best.assign(model=best.model + " ★")])
    return pandas.DataFrame(
        {
            "model": table.model,
            "efficient": table.efficient,
            "|W|, M": table.num_param / 1e6,
            "M, GB": table.memR,
            "E, Wh": 1000 * table.energy,
            "T, s": table.train_time,
            "P": table.test_09,
            "PePR-E": table.pepr_e,
        }
    ).reset_index(drop=True)


def own_epochs(runs: pandas.DataFrame, store: str | os.PathLike) -> pandas.DataFrame:
    """Each run after each of its epochs: model, epoch, energy (kWh) and performance, here on the
    validation images, as the test images are asked once. Epoch k gets k shares of the energy, which
    is NaN for a run that shared its machine."""
    parts = []
    for run in runs.assign(company=had_company(runs)).itertuples():
        p = load_arrays(store, run.run_id)["val_accuracy"]
        epoch = np.arange(1, len(p) + 1)
        whole = np.nan if run.company else run.train_energy_j / 3.6e6
        parts.append(
            {"model": run.model, "epoch": epoch, "energy": whole * epoch / len(p), "performance": p}
        )
    return pandas.concat([pandas.DataFrame(part) for part in parts], ignore_index=True)


def by_size(axes: Axes, points: pandas.DataFrame, y: str) -> None:
    """`drawing.by_size` of ours, with a ring around each model that gives one answer to every
    image, and the line of always giving the commonest class."""
    drawing.by_size(axes, points, y, marker="efficient")
    drawing.constant_line(axes, points.rate.iloc[0])
    of = points[points.constant]
    style = {"markerfacecolor": "none", "markeredgecolor": "k", "markersize": 7}
    axes.plot(of.num_param / 1e6, of[y], "o", **style, label=f"one answer ({len(of)})")
    axes.legend(fontsize=7, handletextpad=0.1)


def forest(axes: Axes, sides: Mapping[str, pandas.DataFrame], *, same: float = 0.02) -> None:
    """The differences of several tables of `groups` with their intervals, side by side. Inside the
    grey band of ± `same` a difference does not matter."""
    groups_of = {"small": "small − large", "efficient": "efficient − others", "cnn": "CNN − others"}
    kinds = {"performance": "P", "auroc": "AUROC", "pepr": "PePR-E"}
    names = {f"{a}-{b}": f"{groups_of[a]}, {kinds[b]}" for b in kinds for a in groups_of}
    axes.axvspan(-same, same, color="0.9", zorder=0)
    axes.axvline(0, color="k", linewidth=0.8)
    for i, (label, table) in enumerate(sides.items()):
        table = table.reindex(list(names))
        y = np.arange(len(names)) + 0.22 * (i - (len(sides) - 1) / 2)
        reach = [table.value - table.low, table.high - table.value]
        style = {"fmt": MARKERS[i], "color": COLOURS[i], "markersize": 4}
        axes.errorbar(table.value, y, xerr=reach, label=label, **style)
    axes.set_yticks(range(len(names)), names.values())
    axes.invert_yaxis()
    axes.set_xlabel("difference of means, 95 % interval")
    axes.legend(fontsize=7)


def gains(axes: Axes, before: pandas.Series, after: pandas.Series) -> None:
    """Each model before and after (same index): above the diagonal it gains, as in Figs 3a, 3b."""
    pairs = pandas.concat([before, after], axis=1, join="inner").dropna().to_numpy(dtype=float)
    if not len(pairs):
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    up = pairs[:, 1] > pairs[:, 0]
    axes.plot(*pairs[up].T, "o", color=COLOURS[0], markersize=3)
    axes.plot(*pairs[~up].T, "s", color=COLOURS[1], markersize=4)
    ends = pairs.min() - 0.01, pairs.max() + 0.01
    axes.plot(ends, ends, "k:", linewidth=1)
    axes.text(0.02, 0.98, f"{up.sum()} of {len(up)} gain", va="top", transform=axes.transAxes)


def front(axes: Axes, points: pandas.DataFrame) -> None:
    """Performance over energy (a share of the largest) of every model after every epoch, and the
    front, as in Fig 4a."""
    share = points.energy / points.energy.max()
    on = pareto_front(points.performance, points.energy)
    order = share[on].sort_values().index
    axes.plot(share, points.performance, ".", color=COLOURS[0], markersize=2, alpha=0.5)
    style = {"color": COLOURS[1], "markersize": 3, "drawstyle": "steps-post"}
    axes.plot(share[order], points.performance[order], "D-", **style)
    axes.set(xscale="log", xlabel="energy / largest energy")
    axes.xaxis.set_major_formatter("{x:g}")
