"""Which conclusions of the paper survive: paired tests, effect sizes, adjustment for size, rank
intervals, a constant predictor.

Every function takes columns or tables and returns numbers with 95 % intervals. The paper gives p
values only, of unpaired tests.
"""

from typing import NamedTuple

import numpy as np
import pandas
from numpy.typing import ArrayLike, NDArray

from effml.pepr import NORMALIZATIONS, pepr_score
from pepr.published import ACCURACIES, FULL, RUNS, SMALL, SMALL_BELOW, Tables, three_set_mean
from pepr.repair import grid


class Effect(NamedTuple):
    """A difference of means, its 95 % interval, p of the t test and of the rank test, effect size,
    models, share in favour."""

    value: float
    low: float
    high: float
    p: float
    p_ranks: float
    size: float
    n: int
    in_favour: float


def paired(a: ArrayLike, b: ArrayLike) -> Effect:
    """Mean of a - b over the same models (N,), NaN left out, with paired t and Wilcoxon tests; size
    is Cohen's d."""
    from scipy import stats

    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    d = d[np.isfinite(d)]
    test = stats.ttest_1samp(d, 0)
    low, high = test.confidence_interval()
    return Effect(
        float(d.mean()),
        float(low),
        float(high),
        float(test.pvalue),
        float(stats.wilcoxon(d).pvalue),
        float(d.mean() / d.std(ddof=1)),
        len(d),
        float((d > 0).mean()),
    )


def unpaired(values: ArrayLike, first: ArrayLike) -> Effect:
    """Mean of `values` (N,) where `first` (N,) is true, less the mean elsewhere: Welch's t and
    Mann-Whitney tests.

    Size is Cliff's delta in [-1, 1]: how much more often a model of the first group is above one of
    the second than below.
    """
    from scipy import stats

    values, first = np.asarray(values, dtype=float), np.asarray(first, dtype=bool)
    a, b = (values[group & np.isfinite(values)] for group in (first, ~first))
    test, ranks = stats.ttest_ind(a, b, equal_var=False), stats.mannwhitneyu(a, b)
    low, high = test.confidence_interval()
    favour = float(ranks.statistic / (len(a) * len(b)))
    return Effect(
        float(a.mean() - b.mean()),
        float(low),
        float(high),
        float(test.pvalue),
        float(ranks.pvalue),
        2 * favour - 1,
        len(a) + len(b),
        favour,
    )


def size_adjusted(values: ArrayLike, first: ArrayLike, num_param: ArrayLike) -> Effect:
    """The same difference among models of equal size: the coefficient of `first` in least squares
    on it and log10(parameters).

    Size is the partial correlation; `p_ranks` is NaN (there is no rank test) and so is the share in
    favour.
    """
    from scipy import stats

    y = np.asarray(values, dtype=float)
    x = np.column_stack(
        [
            np.ones(len(y)),
            np.log10(np.asarray(num_param, dtype=float)),
            np.asarray(first, dtype=float),
        ]
    )
    y, x = y[np.isfinite(y)], x[np.isfinite(y)]
    inverse, free = np.linalg.inv(x.T @ x), len(y) - 3
    coefficient = inverse @ x.T @ y
    error = np.sqrt(((y - x @ coefficient) ** 2).sum() / free * inverse[2, 2])
    t, half = coefficient[2] / error, stats.t.ppf(0.975, free) * error
    return Effect(
        float(coefficient[2]),
        float(coefficient[2] - half),
        float(coefficient[2] + half),
        float(2 * stats.t.sf(abs(t), free)),
        np.nan,
        float(t / np.sqrt(t * t + free)),
        len(y),
        np.nan,
    )


def conclusions(tables: Tables) -> pandas.DataFrame:
    """Every claim of the paper about groups of models, one row per claim of `claims.csv`: the
    columns of `Effect`.

    Positive is what the paper says: small above large, efficient above the others, CNN above the
    others, pretrained above scratch, all images above a tenth. Accuracy and PePR-E are means over
    the three data sets unless the row names one.
    """
    runs, names = tables[RUNS], tables["model_names"].drop_duplicates("model").set_index("model")
    mean = three_set_mean(tables, ["test_09", "pepr_e"]).join(names)
    small, efficient, cnn = mean.num_param < SMALL_BELOW, mean.efficient == 1, mean.type == "CNN"
    wide = runs.pivot(index="model", columns="dataset", values="test_09")
    imagenet = tables["full_data_pepr_imagenet"]
    rows = {
        "pepr-small-performance": unpaired(mean.test_09, small),
        "pepr-efficient-performance": unpaired(mean.test_09, efficient),
        "pepr-efficient-pepr": unpaired(mean.pepr_e, efficient),
        "pepr-cnn-performance": unpaired(mean.test_09, cnn),
        "pepr-cnn-pepr": unpaired(mean.pepr_e, cnn),
    }
    for name, variant in FULL.items():
        of = runs[runs.dataset == variant]
        rows[f"pepr-small-pepr-{name.lower()}"] = unpaired(of.pepr_e, of.num_param < SMALL_BELOW)
    rows["pepr-pretrained"] = paired(wide.derma_pt, wide.derma)
    rows["pepr-all-images"] = paired(
        *(three_set_mean(tables, ["test_09"], of).test_09 for of in (FULL, SMALL))
    )
    rows["pepr-imagenet-pepr-m"] = unpaired(imagenet.pepr_m, imagenet.num_param < SMALL_BELOW)
    return pandas.DataFrame(rows, index=Effect._fields).T.rename_axis("claim")


def holm(p: pandas.Series) -> pandas.Series:
    """p values that hold for all of them together (Holm), in the order given; NaN stays."""
    known = p.dropna().sort_values()
    return (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1).reindex(p.index)


def efficient_at_equal_size(tables: Tables) -> Effect:
    """The difference in mean PePR-E between efficient and other models, among models with equally
    many parameters."""
    mean = three_set_mean(tables, ["pepr_e"]).join(
        tables["model_names"].drop_duplicates("model").set_index("model")
    )
    return size_adjusted(mean.pepr_e, mean.efficient == 1, mean.num_param)


def medians_by_size(tables: Tables) -> pandas.DataFrame:
    """Median PePR-E of small and large models in each data set: what Fig A.1 shows."""
    runs = tables[RUNS]
    of = {name.lower(): runs[runs.dataset == variant] for name, variant in FULL.items()}
    return pandas.DataFrame(
        {
            name: {
                "small": rows.pepr_e[rows.num_param < SMALL_BELOW].median(),
                "large": rows.pepr_e[rows.num_param >= SMALL_BELOW].median(),
            }
            for name, rows in of.items()
        }
    ).T


def majority_rate(runs: pandas.DataFrame, variant: str) -> float:
    """Accuracy of always answering the commonest class, from the runs alone: where a training with
    few images collapses most often; in the sets with two classes at least one half. NaN without
    such runs."""
    base = variant.partition("_")[0]
    few = runs[runs.dataset.str.startswith(f"{base}_small")]
    counts = pandas.Series(few[ACCURACIES].to_numpy().ravel()).value_counts()
    if counts.empty:
        return float("nan")
    rate = float(counts.index[0])
    return (
        rate if base == "derma" else max(rate, 1 - rate)
    )  # the other class is as good a guess for a collapsed run


def constant_predictor(tables: Tables) -> pandas.DataFrame:
    """How a predictor that always gives the commonest class, at no cost, stands among the models of
    each full variant.

    Columns: majority rate, models, models whose accuracy is not above it, and for each
    normalisation the models that its PePR beats (its R is 0, so its PePR is the rate).
    """
    runs, rows = tables[RUNS], {}
    for variant in ("derma", *FULL.values()):
        of = runs[(runs.dataset == variant) & runs.test_09.notna() & runs.energy.notna()]
        rate = majority_rate(runs, variant)
        rows[variant] = {
            "majority rate": rate,
            "models": len(of),
            "no more accurate": int((of.test_09 <= rate).sum()),
        }
        for name, normalization in NORMALIZATIONS.items():
            scores = pepr_score(of.test_09, normalization(of.energy), normalized=True)
            rows[variant][f"lower PePR-E ({name})"] = int((scores < rate).sum())
    return pandas.DataFrame(rows).T


def rank_intervals(
    runs: pandas.DataFrame,
    cost: str = "energy",
    *,
    test_images: bool = True,
    cost_error: float = 0.0,
    n: int = 2000,
    seed: int = 0,
) -> pandas.DataFrame:
    """Each model's rank by PePR (1 is best) with its 95 % interval, sorted by rank: columns pepr,
    rank, low, high. Models of equal PePR share the best of their places, and the next follows after
    all of them (1, 2, 2, 4).

    `runs` are those of one variant. `test_images` draws every accuracy again from as many test
    images (binomial, models independent of each other, which overstates the noise a little since
    they share images). `cost_error` of 0.4 multiplies every cost by its own factor between 0.6 and
    1.4. One seed per model: how much training again would move is not known.
    """
    runs = runs.dropna(subset=["test_09", cost]).set_index("model")
    drawn = _redraw(runs, cost, test_images, cost_error, n, seed)
    low, high = np.percentile(_ranks(drawn), (2.5, 97.5), axis=0)
    score = pepr_score(runs.test_09, runs[cost])
    table = pandas.DataFrame(
        {"pepr": score, "rank": _ranks(score.to_numpy()[None])[0], "low": low, "high": high},
        runs.index,
    )
    return table.sort_values("rank", kind="stable")


def rank_stability(
    runs: pandas.DataFrame,
    cost: str = "energy",
    *,
    errors: tuple[float, ...] = (0.1, 0.2, 0.4),
    n: int = 1000,
    seed: int = 0,
) -> pandas.DataFrame:
    """What an error of each model's cost does to the ranking of one variant: mean rank correlation
    (Spearman), share of draws in which the best model stays the best, and mean number of the ten
    best that stay. A factor common to all changes nothing. Models of equal PePR share a place:
    there may be more than one best, and more than ten."""
    runs = runs.dropna(subset=["test_09", cost])
    score = pepr_score(runs.test_09, runs[cost]).to_numpy()[None]
    true, middle = _ranks(score)[0], _ranks(score, "average")[0]
    middle = middle - middle.mean()
    rows = {}
    for error in errors:
        drawn = _redraw(runs, cost, False, error, n, seed)
        ranks, centred = _ranks(drawn), _ranks(drawn, "average")
        centred -= centred.mean(axis=1, keepdims=True)
        spearman = centred @ middle / np.sqrt((centred**2).sum(axis=1) * (middle**2).sum())
        rows[f"± {error:.0%}"] = {
            "rank correlation": spearman.mean(),
            "best stays": (ranks[:, true == 1] == 1).mean(),
            "of the ten best stay": (ranks[:, true <= 10] <= 10).sum(axis=1).mean(),
        }
    return pandas.DataFrame(rows).T


def _redraw(
    runs: pandas.DataFrame, cost: str, test_images: bool, cost_error: float, n: int, seed: int
) -> NDArray:
    """PePR (n, N) of redrawn accuracies and costs."""
    rng = np.random.default_rng(seed)
    p, c = (np.tile(runs[name].to_numpy(dtype=float), (n, 1)) for name in ("test_09", cost))
    if test_images:
        images = grid(runs.dataset).to_numpy()
        p = rng.binomial(images, p) / images
    c = c * rng.uniform(1 - cost_error, 1 + cost_error, c.shape)
    low, high = c.min(axis=1, keepdims=True), c.max(axis=1, keepdims=True)
    return p / (
        1 + (c - low) / np.where(high > low, high - low, 1)
    )  # R is 0 where all cost the same


def _ranks(scores: NDArray, ties: str = "min") -> NDArray:
    """Ranks (n, N) of scores (n, N) within each row, 1 for the largest. Equals share the best of
    their places, or with ties="average" the mean of them. They are told apart by 12 digits, as one
    score computed in two ways differs in the last.
    """
    from scipy.stats import rankdata

    return rankdata(-scores.round(12), method=ties, axis=1)
