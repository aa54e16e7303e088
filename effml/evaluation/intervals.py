"""95 % intervals: normal, logit, Wilson's for proportions, and a paired bootstrap for everything else."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95, NAN = 1.959964, float("nan")
Interval = tuple[float, float, float]  # value, low, high


def normal(value: float, error: float, *, least: float = 0) -> Interval:
    """`value` ± 1.96 standard errors, clipped to [`least`, 1] as pROC does."""
    return (
        float(value),
        float(np.clip(value - Z95 * error, least, 1)),
        float(np.clip(value + Z95 * error, least, 1)),
    )


def logit(value: float, error: float) -> Interval:
    """`value` in [0, 1], its interval normal on the scale of log(value / (1 - value)), with the error the delta method gives."""
    from scipy import special

    if not 0 < value < 1 or not error > 0:
        return normal(value, error)
    centre, half = special.logit(value), Z95 * error / (value * (1 - value))
    return float(value), float(special.expit(centre - half)), float(special.expit(centre + half))


def wilson(right: ArrayLike) -> Interval:
    """Mean of 0/1 `right` (n,) with its Wilson (1927) score interval; NaN where n is 0."""
    from scipy.stats import binomtest

    hits, n = int(np.sum(right)), len(np.asarray(right))
    return (
        (hits / n, *map(float, binomtest(hits, n).proportion_ci(method="wilson")))
        if n
        else (NAN, NAN, NAN)
    )


def paired_bootstrap(
    statistic: Callable[..., Any],
    *arrays: NDArray,
    n: int = 2000,
    seed: int = 0,
    strata: ArrayLike | None = None,
) -> tuple[Any, Any, Any]:
    """(value, low, high) of `statistic(*arrays)`, a number or an array of them, by the percentile bootstrap over images.

    Every one of `n` resamples takes the same rows of all `arrays` (N, …), with replacement, within each of `strata` (N,),
    usually the labels, so that no class is lost. Resamples whose statistic is NaN are left out. Efron & Tibshirani,
    An Introduction to the Bootstrap (1993), ch. 13. ValueError where the rows do not match or there are none."""
    rows = [len(array) for array in (*arrays, *([] if strata is None else [strata]))]
    if not rows or len(set(rows)) > 1 or not rows[0]:
        raise ValueError(
            f"arrays and strata have {rows} rows: pass arrays of the same images in the same order, N > 0."
        )
    strata, rng = (
        np.zeros(rows[0]) if strata is None else np.asarray(strata),
        np.random.default_rng(seed),
    )
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    resamples = (
        np.concatenate([group[rng.integers(len(group), size=len(group))] for group in groups])
        for _ in range(n)
    )
    drawn = np.array(
        [statistic(*(array[chosen] for array in arrays)) for chosen in resamples], dtype=float
    )
    value = np.asarray(statistic(*arrays), dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN: so is the interval
        low, high = np.nanpercentile(drawn, (2.5, 97.5), axis=0)
    return (value, low, high) if value.ndim else (float(value), float(low), float(high))
