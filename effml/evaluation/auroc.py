"""The AUROC with its 95 % interval, and the difference of two: DeLong et al., Biometrics 44:837
(1988), through midranks (Sun & Xu, IEEE Signal Processing Letters 21:1389, 2014), extended here to
the macro mean over classes that MedMNIST reports."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import ARGMAX, checked_pair
from effml.evaluation.intervals import NAN, Interval, logit, normal


@dataclass(frozen=True)
class Difference:
    """`difference` = b - a on the same images, its 95 % interval and two-sided p."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float = NAN


def auroc_interval(
    scores: ArrayLike, is_positive: ArrayLike, strata: NDArray | None = None
) -> Interval:
    """(AUROC, low, high), 95 % by DeLong, of finite `scores` (N,) against 0/1 `is_positive`; of
    (N, K) the mean over the columns that hold both outcomes. NaN where none does, or where one of
    `strata` (by default a single column's two classes) has one case. ValueError on unfit input.

    Symmetric in log-odds (Pepe, The Statistical Evaluation of Medical Tests, 2003): with 40
    positives of 200 and an AUROC of 0.85 it covers 94.7 %, the plain one of R's pROC 93.0 %."""
    s, y = np.asarray(scores, dtype=float), np.asarray(is_positive)
    fits = s.size and s.ndim in (1, 2) and s.shape == y.shape
    if not fits or not (np.isfinite(s) & np.isin(y, (0, 1))).all():
        need = "must be finite and 0/1, (N,) or (N, K) each: pass `labels == positive`"
        raise ValueError(f"scores {s.shape} and is_positive {y.shape} {need}.")
    value, influence = _influence(s.reshape(len(s), -1), truth := y.reshape(len(y), -1) == 1)
    return logit(value, _error(influence, truth, strata))


def paired_auroc(
    p_a: ArrayLike,
    p_b: ArrayLike,
    labels: ArrayLike,
    *,
    positive: int | None = None,
    task: str = "binary",
) -> Difference:
    """AUROC (macro mean) of B minus that of A, given as to `evaluate`, DeLong's interval and p;
    binary agrees with pROC's `roc.test(paired = TRUE)`. Without variance p is 1 where the AUROCs
    are equal, else NaN."""
    *scores, truth = checked_pair(p_a, p_b, labels, task, positive)
    (a, influence_a), (b, influence_b) = (_influence(s, truth) for s in scores)
    strata = truth.argmax(axis=1) if task in ARGMAX else None
    difference, error = b - a, _error(influence_b - influence_a, truth, strata)
    p = NAN if difference else 1.0
    if error:
        p = math.erfc(abs(difference) / error / 2**0.5)
    _, low, high = normal(difference, error, least=-1)
    return Difference(a=a, b=b, difference=difference, low=low, high=high, p=p)


def _influence(scores: NDArray, truth: NDArray) -> tuple[float, NDArray]:
    """Macro AUROC of scores (N, K) over the columns where bool truth (N, K) has both outcomes, and
    what each of N adds to it: the mean over columns of V10/n1 or V01/n0, centred."""
    usable = truth.any(axis=0) & ~truth.all(axis=0)
    if not usable.any():
        return NAN, np.full(len(scores), NAN)
    s, t = scores[:, usable], truth[:, usable]
    placements = np.stack([_placements(*column) for column in zip(s.T, t.T)], axis=1)
    aurocs = placements.mean(axis=0, where=t)
    sizes = np.where(t, t.sum(axis=0), (~t).sum(axis=0))
    return float(aurocs.mean()), ((placements - aurocs) / sizes).mean(axis=1)


def _error(influence: NDArray, truth: NDArray, strata: NDArray | None) -> float:
    """Standard error of the sum of `influence` (N,); NaN where a stratum has a single case."""
    if strata is None:
        strata = truth[:, 0] if truth.shape[1] == 1 else np.zeros(len(truth))
    groups = [influence[strata == c] for c in np.unique(strata)]
    return sum(len(g) * g.var(ddof=1) for g in groups) ** 0.5 if min(map(len, groups)) > 1 else NAN


def _placements(scores: NDArray, truth: NDArray) -> NDArray:
    """(N,) share of the other group ordered rightly against, ties half: DeLong's V10 and V01."""
    below = _midranks(scores)  # less the one in the own group: how many of the other are below
    below[truth] -= _midranks(scores[truth])
    below[~truth] -= _midranks(scores[~truth])
    return np.where(truth, below / (~truth).sum(), 1 - below / truth.sum())


def _midranks(scores: NDArray) -> NDArray:
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
