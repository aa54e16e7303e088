"""95 % intervals: normal, logit, Wilson's for proportions, and a paired bootstrap for the rest."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95, NAN = 1.959964, float("nan")
Interval = tuple[float, float, float]  # value, low, high


def normal(value: float, error: float, *, least: float = 0) -> Interval:
    """`value` ± 1.96 standard errors, clipped to [`least`, 1] as pROC does."""
    low, high = np.clip([value - Z95 * error, value + Z95 * error], least, 1).tolist()
    return float(value), low, high


def logit(value: float, error: float) -> Interval:
    """`value` in [0, 1], its interval normal in log-odds, with the delta method's error."""
    from scipy import special

    if not 0 < value < 1 or not error > 0:
        return normal(value, error)
    centre, half = special.logit(value), Z95 * error / (value * (1 - value))
    return float(value), float(special.expit(centre - half)), float(special.expit(centre + half))


def over_images(values: NDArray, *, least: float = 0) -> Interval:
    """Mean of `values` (N,) with its normal interval, NaN for a single one."""
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else NAN
    return normal(values.mean(), error, least=least)


def wilson(right: ArrayLike) -> Interval:
    """Mean of 0/1 `right` (n,) with its Wilson (1927) score interval; NaN where n is 0."""
    hits, n = int(np.sum(right)), len(np.asarray(right))
    if not n:
        return NAN, NAN, NAN
    share, z = hits / n, 1.959963984540054
    centre, scale = share + z**2 / (2 * n), 1 + z**2 / n
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = (centre - half) / scale, (centre + half) / scale
    return share, low if hits else 0.0, high if hits < n else 1.0


def columns(**intervals: Interval) -> dict[str, float]:
    """`auroc=(value, low, high)` as {"auroc": value, "auroc_low": low, "auroc_high": high}."""
    ends = ("", "_low", "_high")
    return {name + end: x for name, found in intervals.items() for end, x in zip(ends, found)}


def paired_bootstrap(
    statistic: Callable[..., Any],
    *arrays: NDArray,
    n: int = 2000,
    seed: int = 0,
    strata: ArrayLike | None = None,
) -> tuple[Any, Any, Any]:
    """(value, low, high) of `statistic(*arrays)`, a number or an array of them, by the percentile
    bootstrap over images (Efron & Tibshirani 1993, ch. 13): `n` times the same rows of all `arrays`
    (N, …), with replacement, within each of `strata` (N,). A statistic of NaN is left out."""
    rows = [len(array) for array in (*arrays, *([] if strata is None else [strata]))]
    if len(set(rows)) != 1 or not rows[0]:
        raise ValueError(f"arrays have {rows} rows: pass N > 0, the same images in the same order.")
    strata = np.zeros(rows[0]) if strata is None else np.asarray(strata)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    drawn, rng = [], np.random.default_rng(seed)
    for _ in range(n):
        chosen = np.concatenate([g[rng.integers(len(g), size=len(g))] for g in groups])
        drawn.append(statistic(*(array[chosen] for array in arrays)))
    value = np.asarray(statistic(*arrays), dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN: so is the interval
        low, high = np.nanpercentile(np.array(drawn, dtype=float), (2.5, 97.5), axis=0)
    return (value, low, high) if value.ndim else (float(value), float(low), float(high))
