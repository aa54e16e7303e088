"""PePR, performance per resource unit (Selvan et al. 2024, arXiv 2403.12562), of arrays or pandas.

Performance P is a fraction; a cost is anything to be kept small, its R 0 for the cheapest model and
1 for the dearest. NaN is a model not measured: it gets no score and moves nobody else's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas
from numpy.typing import ArrayLike, NDArray

Weights = Sequence[float] | Mapping[str, float]


def normalize(cost: ArrayLike, lo: ArrayLike | None = None, hi: ArrayLike | None = None) -> Any:
    """R = (cost - lo) / (hi - lo) of `cost` (N,), or of each column of (N, K): Section 3 of the
    paper. `lo` and `hi` default to the least and the largest cost at hand; those of an experiment
    place a new model in it. Where all cost the same R is 0."""
    values = _numbers("cost", cost)
    lo = np.asarray(np.fmin.reduce(values, initial=np.inf) if lo is None else lo, float)
    hi = np.asarray(np.fmax.reduce(values, initial=-np.inf) if hi is None else hi, float)
    known = np.isfinite(lo) & np.isfinite(hi)  # a column of NaN has neither
    if np.any(known & (hi < lo)):
        raise ValueError(f"hi={hi} lies below lo={lo}: give the least and the largest cost.")
    apart = known & (hi > lo)
    width = np.where(apart, hi, 1.0) - np.where(apart, lo, 0.0)
    r = (values - np.where(known, lo, 0.0)) / width
    return _like(cost, np.where(known & (hi == lo), values * 0.0, r))


def by_range(cost: ArrayLike) -> Any:
    """R from the least cost (0) to the largest (1), as in the paper's text and the tables."""
    return normalize(cost)


def by_maximum(cost: ArrayLike) -> Any:
    """R = cost / largest cost, 0 for no cost at all: what the paper's Table 1 really holds."""
    return normalize(cost, lo=0.0)


NORMALIZATIONS = {"min-max": by_range, "max": by_maximum}
"""How a cost becomes R: `pepr_score(p, NORMALIZATIONS["max"](energy), normalized=True)`."""


def pepr_score(
    performance: ArrayLike,
    cost: Any,
    *,
    alpha: float = 1.0,
    normalized: bool = False,
    weights: Weights | None = None,
) -> Any:
    """Performance per resource unit of each model, αP / (α + R) in [0, 1].

    Selvan et al. 2024, equations 1 and 2.

    Args:
        performance: (N,) a fraction in [0, 1].
        cost: (N,) in any unit, or (N, K) of several resources; NaN where nothing was measured.
        alpha: from 1, P / (1 + R), upwards: a larger one asks less about the cost.
        normalized: whether `cost` is R already; otherwise it is normalised over its N models.
        weights: (K,) that sum to 1, R = Σ wₖRₖ; equal ones if not given. With a DataFrame as cost
            {"energy": 0.5, "memR": 0.5} picks its columns.

    Returns:
        The scores (N,) in the order of the rows: a Series if `performance` is one, else an array.

    Raises:
        ValueError: for what is no fraction, rows that do not match, missing columns, wrong weights,
            `alpha` below 1 and, with `normalized`, R below 0.

    Example:
        >>> effml.pepr_score([0.8, 0.9], [3.0, 5.0])  # the cheap model keeps P, the dear one half
        array([0.8 , 0.45])
    """
    if not alpha >= 1:
        raise ValueError(
            f"alpha={alpha} is not allowed. Give 1 (cost counts) or more (performance counts)."
        )
    p, r = _rows(performance, resource(cost, normalized=normalized, weights=weights))
    return _like(performance, alpha * p / (alpha + r))


def resource(cost: Any, *, normalized: bool = False, weights: Weights | None = None) -> NDArray:
    """R (N,) of one cost (N,), or of several (N, K) with `weights`, for `pepr_score`."""
    if isinstance(weights, Mapping):
        columns = list(getattr(cost, "columns", []))
        if missing := [name for name in weights if name not in columns]:
            menu = ", ".join(map(str, columns)) or "(give a DataFrame)"
            raise ValueError(f"cost has no column {missing[0]!r}. Choose from: {menu}")
        cost, weights = cost[list(weights)], list(weights.values())
    r = _numbers("cost", cost if normalized else normalize(cost))
    if np.any(r < 0):
        raise ValueError(f"A cost is {np.nanmin(r)}: R starts at 0. Leave normalized=True out.")
    if r.ndim == 1:
        if weights is not None:
            raise ValueError("weights need several costs: give cost as (N, K) for K weights.")
        return r
    k = r.shape[1]
    w = np.full(k, 1 / k) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (k,) or np.any(w < 0) or not np.isclose(w.sum(), 1):
        raise ValueError(f"weights={w.tolist()}: give {k}, none below 0, that sum to 1.")
    return r @ w


def pepr_curve(
    performance: ArrayLike, cost: ArrayLike, *, alpha: float = 1.0, normalized: bool = False
) -> pandas.DataFrame:
    """The PePR curve of a performance curve f: PePR(R, f(R)) over R.

    Args:
        performance: (N,) fractions, of the epochs of one model or of many models, in any order.
        cost: (N,) in any unit.
        alpha: as in `pepr_score`.
        normalized: whether `cost` is R already.

    Returns:
        DataFrame: resource (R), performance and pepr by ascending R, of equal costs the best first;
        the index holds the rows' labels. Rows with NaN are left out.

    Raises:
        ValueError: as `pepr_score`.

    Example:
        >>> effml.pepr_curve([0.9, 0.6], [12.0, 2.0]).pepr.tolist()
        [0.6, 0.45]
    """
    p, r = _rows(performance, resource(cost, normalized=normalized))
    score = pepr_score(p, r, alpha=alpha, normalized=True)
    index = performance.index if isinstance(performance, pandas.Series) else None
    table = pandas.DataFrame({"resource": r, "performance": p, "pepr": score}, index).dropna()
    return table.sort_values(["resource", "performance"], ascending=[True, False], kind="stable")


class Best(NamedTuple):
    """The best point of a curve: the row's label, R, P and PePR there."""

    index: Any
    resource: float
    performance: float
    pepr: float


def best_pepr(
    performance: ArrayLike, cost: ArrayLike, *, alpha: float = 1.0, normalized: bool = False
) -> Best:
    """Where PePR is largest along the curve, the paper's P*_c; of equal scores the smallest R.

    Args:
        performance: (N,) fractions.
        cost: (N,) in any unit.
        alpha: as in `pepr_score`.
        normalized: whether `cost` is R already.

    Returns:
        Best: the row's label, R, P and PePR there.

    Raises:
        ValueError: as `pepr_score`, and where no row has both a performance and a cost.

    Example:
        >>> effml.best_pepr([0.5, 0.8, 0.9], [2.0, 3.0, 12.0]).index
        1
    """
    curve = pepr_curve(performance, cost, alpha=alpha, normalized=normalized)
    if curve.empty:
        raise ValueError("No row has both a performance and a cost: there is no best one.")
    best = curve.pepr >= curve.pepr.max() * (1 - 1e-12)  # equal, round-off aside
    return Best(*next(curve[best].itertuples()))


def pareto_front(performance: ArrayLike, cost: ArrayLike) -> Any:
    """Which models no other model beats, that is: as good and as cheap, and better in one of both.

    Args:
        performance: (N,) fractions.
        cost: (N,), or (N, K) of several resources, all to be kept small.

    Returns:
        (N,) bool: a Series if `performance` is one, else an array. Two models with the same values
        are both on the front, or both not; a row with NaN is not.

    Raises:
        ValueError: for what is no fraction and for rows that do not match.

    Example:
        >>> effml.pareto_front([0.5, 0.8, 0.7], [1.0, 2.0, 3.0])
        array([ True,  True, False])
    """
    costs = _numbers("cost", cost)
    p, costs = _rows(performance, costs[:, None] if costs.ndim == 1 else costs)
    gains = np.column_stack([p, -costs])
    front, best = np.zeros(len(p), dtype=bool), gains[:0]
    for i in np.lexsort(-gains.T[::-1]):  # who beats a model comes before it
        worse = (best >= gains[i]).all(axis=1) & (best > gains[i]).any(axis=1)
        front[i] = not worse.any() and not np.isnan(gains[i]).any()
        best = np.vstack([best, gains[i]]) if front[i] else best
    return _like(performance, front)


def _numbers(name: str, values: Any) -> NDArray:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} holds what is no number. Give NaN if not measured.") from None
    if array.ndim not in (1, 2) or np.isinf(array).any():
        wrong = "an infinite number" if np.isinf(array).any() else f"the shape {array.shape}"
        raise ValueError(f"{name} has {wrong}: give finite numbers or NaN, (N,) or (N, K).")
    return array


def _rows(performance: ArrayLike, cost: NDArray) -> tuple[NDArray, NDArray]:
    p = _numbers("performance", performance)
    if p.ndim != 1 or len(p) != len(cost):
        raise ValueError(f"performance {p.shape}, cost {cost.shape}: give one row per model.")
    if np.any((p < 0) | (p > 1)):
        span = f"{np.nanmin(p)} to {np.nanmax(p)}"
        raise ValueError(f"performance is {span}, no fraction. Divide per cent by 100.")
    return p, cost


def _like(given: Any, values: NDArray) -> Any:
    if isinstance(given, pandas.DataFrame):
        return pandas.DataFrame(values, given.index, given.columns)
    return pandas.Series(values, given.index) if isinstance(given, pandas.Series) else values
