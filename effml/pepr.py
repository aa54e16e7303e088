"""PePR, performance per resource unit (Selvan et al. 2024, arXiv 2403.12562): scores, curves and fronts of columns.

Performance P is a fraction in [0, 1]. A cost is anything to be kept small, in any unit (kWh, s, GB); its normalised form R is 0
for the cheapest model of an experiment and 1 for the dearest. Columns come as arrays or pandas, and a score comes back as what
the performance came as. NaN is a model that was not measured: it gets no score and moves nobody else's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas
from numpy.typing import ArrayLike, NDArray


def normalize(cost: ArrayLike, lo: ArrayLike | None = None, hi: ArrayLike | None = None) -> Any:
    """R = (cost - lo) / (hi - lo) of `cost` (N,), or of each column of (N, K): Section 3 of the paper.

    `lo` and `hi` default to the least and the largest cost at hand, NaN left out. Give those of an experiment to place a new
    model in it: it may then lie outside [0, 1]. Where all cost the same, or there is one model only, R is 0. `lo=0` gives
    cost / maximum. Raises ValueError for infinite costs and for `hi` below `lo`.
    """
    values = _numbers("cost", cost)
    seen = np.where(np.isnan(values), np.inf, values), np.where(np.isnan(values), -np.inf, values)
    lo = seen[0].min(axis=0, initial=np.inf) if lo is None else np.asarray(lo, dtype=float)
    hi = seen[1].max(axis=0, initial=-np.inf) if hi is None else np.asarray(hi, dtype=float)
    known = np.isfinite(lo) & np.isfinite(hi)  # a column of NaN has neither
    if np.any(known & (hi < lo)):
        raise ValueError(
            f"hi={hi} lies below lo={lo}. Give the least and the largest cost of the experiment, or leave both out."
        )
    width = np.where(known & (hi > lo), hi, 1.0) - np.where(known & (hi > lo), lo, 0.0)
    shift = np.where(known, lo, 0.0)
    return _like(cost, np.where(known & (hi == lo), values * 0.0, (values - shift) / width))


def by_range(cost: ArrayLike) -> Any:
    """R from the least cost (0) to the largest (1): what the paper's text defines and the authors' tables hold."""
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
    weights: Sequence[float] | Mapping[str, float] | None = None,
) -> Any:
    """αP / (α + R) of each model, in [0, 1]; with the default `alpha` P / (1 + R) (equations 1 and 2).

    `performance` (N,) is a fraction; `cost` (N,) in any unit, normalised over its N models unless `normalized` says it is R
    already. Several resources: `cost` (N, K) and `weights` (K,) that sum to 1 (equal ones if not given), R = Σ wₖRₖ. With a
    DataFrame as cost, `weights={"energy": 0.5, "memR": 0.5}` picks its columns. A larger `alpha` asks less about the cost.
    Rows are not sorted. Raises ValueError for what is no fraction, rows that do not match, missing columns, wrong weights,
    `alpha` below 1 and, with `normalized`, R below 0.
    """
    if not alpha >= 1:
        raise ValueError(
            f"alpha={alpha} is not allowed. Give a number from 1 (cost counts) upwards (performance counts)."
        )
    p, r = _rows(performance, resource(cost, normalized=normalized, weights=weights))
    return _like(performance, alpha * p / (alpha + r))


def resource(
    cost: Any,
    *,
    normalized: bool = False,
    weights: Sequence[float] | Mapping[str, float] | None = None,
) -> NDArray:
    """R (N,) of one cost (N,), or of several (N, K) with `weights`: what `pepr_score` divides by. Errors: see there."""
    if isinstance(weights, Mapping):
        columns = list(getattr(cost, "columns", []))
        if missing := [name for name in weights if name not in columns]:
            raise ValueError(
                f"cost has no column {missing[0]!r}. Choose from: "
                f"{', '.join(map(str, columns)) or '(give a DataFrame)'}"
            )
        cost, weights = cost[list(weights)], list(weights.values())
    r = _numbers("cost", cost if normalized else normalize(cost))
    if np.any(r < 0):
        raise ValueError(
            f"A normalised cost is {np.nanmin(r)}: R starts at 0. Leave normalized=True out for costs as measured."
        )
    if r.ndim == 1 and weights is None:
        return r
    if r.ndim == 1:
        raise ValueError(
            "weights need several costs: give cost as (N, K), one column for each of the K weights."
        )
    w = np.full(r.shape[1], 1 / r.shape[1]) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (r.shape[1],) or np.any(w < 0) or not np.isclose(w.sum(), 1):
        raise ValueError(
            f"weights={w.tolist()} do not fit: give {r.shape[1]} numbers, none below 0, that sum to 1."
        )
    return r @ w


def pepr_curve(
    performance: ArrayLike, cost: ArrayLike, *, alpha: float = 1.0, normalized: bool = False
) -> pandas.DataFrame:
    """The curve PePR(R, f(R)) of a performance curve f: columns `resource`, `performance`, `pepr`, sorted by resource.

    The rows may be epochs of one model or many models, in any order; the index holds their labels (positions for arrays).
    What has a NaN is left out; among rows with the same cost the best performance comes first. Errors: see `pepr_score`.
    """
    p, r = _rows(performance, resource(cost, normalized=normalized))
    index = (
        performance.index if isinstance(performance, pandas.Series) else pandas.RangeIndex(len(p))
    )
    table = pandas.DataFrame(
        {"resource": r, "performance": p, "pepr": pepr_score(p, r, alpha=alpha, normalized=True)},
        index,
    )
    return table.dropna().sort_values(
        ["resource", "performance"], ascending=[True, False], kind="stable"
    )


class Best(NamedTuple):
    """The best point of a curve: the row's label, R, P and PePR there."""

    index: Any
    resource: float
    performance: float
    pepr: float


def best_pepr(
    performance: ArrayLike, cost: ArrayLike, *, alpha: float = 1.0, normalized: bool = False
) -> Best:
    """Where PePR is largest along the curve; of equal scores the one with the smallest R (the paper's P*_c).

    Raises ValueError where no row has both a performance and a cost.
    """
    curve = pepr_curve(performance, cost, alpha=alpha, normalized=normalized)
    if curve.empty:
        raise ValueError(
            "No row has both a performance and a cost: there is no best one. Look for NaN in both columns."
        )
    at = int(
        np.argmax(curve.pepr.to_numpy() >= curve.pepr.max() * (1 - 1e-12))
    )  # the first of equals, round-off aside
    return Best(
        curve.index[at],
        *(float(curve[name].iloc[at]) for name in ("resource", "performance", "pepr")),
    )


def pareto_front(performance: ArrayLike, cost: ArrayLike) -> Any:
    """Which models (N,) of bool no other model beats: as good and as cheap in all of `cost` (N,) or (N, K), better in one.

    Two models with the same values are both on the front, or both not. A row with NaN is not on it.
    """
    costs = _numbers("cost", cost)
    p, costs = _rows(performance, costs[:, None] if costs.ndim == 1 else costs)
    known = ~np.isnan(np.column_stack([p, costs])).any(axis=1)
    front = np.zeros(len(p), dtype=bool)
    if (
        costs.shape[1] == 1
    ):  # no pairs needed: the best at its cost, and better than all that is cheaper
        levels, level = np.unique(costs[known, 0], return_inverse=True)
        best = np.full(len(levels), -np.inf)
        np.maximum.at(best, level, p[known])
        cheaper = np.concatenate([[-np.inf], np.maximum.accumulate(best)])[: len(levels)]
        front[known] = (p[known] == best[level]) & (best > cheaper)[level]
    else:
        gains = np.column_stack([p, -costs])[known]
        no_worse = (gains[:, None] >= gains[None]).all(axis=2)  # (N, N): row i against row j
        better = (gains[:, None] > gains[None]).any(axis=2)
        front[known] = ~(no_worse & better).any(axis=0)
    return (
        pandas.Series(front, performance.index) if isinstance(performance, pandas.Series) else front
    )


def _numbers(name: str, values: Any) -> NDArray:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} holds something that is no number. Give numbers, and NaN for what was not measured."
        ) from None
    if array.ndim not in (1, 2) or np.isinf(array).any():
        wrong = "an infinite number" if np.isinf(array).any() else f"the shape {array.shape}"
        raise ValueError(
            f"{name} has {wrong}. Give finite numbers (N,), or (N, K) for K resources; NaN where nothing was "
            "measured."
        )
    return array


def _rows(performance: ArrayLike, cost: NDArray) -> tuple[NDArray, NDArray]:
    p = _numbers("performance", performance)
    if p.ndim != 1 or len(p) != len(cost):
        raise ValueError(
            f"performance has the shape {p.shape}, cost {cost.shape}: give one row per model in both, in one order."
        )
    if np.any((p < 0) | (p > 1)):
        raise ValueError(
            f"performance is {np.nanmin(p)} to {np.nanmax(p)}: it must be a fraction. Divide per cent by 100."
        )
    return p, cost


def _like(given: Any, values: NDArray) -> Any:
    """`values` as pandas with the index (and columns) of what was given, if that was pandas; else an array."""
    if isinstance(given, pandas.DataFrame):
        return pandas.DataFrame(values, given.index, given.columns)
    return pandas.Series(values, given.index) if isinstance(given, pandas.Series) else values
