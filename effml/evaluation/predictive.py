"""What an answer is worth to a patient: predictive values, which move with the prevalence where the model is used."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas


class Rates(Protocol):
    """A `Scores` or an `OperatingPoint`: sensitivity and specificity with their 95 % intervals."""

    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float


def predictive_values(rates: Rates, prevalence: ArrayLike) -> "pandas.DataFrame":
    """PPV and NPV at each `prevalence` (P,) in (0, 1), with 95 % intervals (_low, _high), and `called`, the share of all people
    answered positive; fractions, indexed by prevalence.

    Bayes: PPV = 1 / (1 + odds * (1 - specificity) / sensitivity), where odds = (1 - prevalence) / prevalence, and the mirror
    of it for NPV. The prevalence is taken as known, and sensitivity and specificity as what they were on test: a change of
    patients or devices is not in the intervals. They put the Wilson intervals of both rates together by Donner & Zou's
    ratio (Statistical Methods in Medical Research 21:347, 2012), and stay open where a rate is 1. A PPV is NaN where
    sensitivity and 1 - specificity are 0, as nobody is called. ValueError on a prevalence outside (0, 1)."""
    import pandas

    p = np.atleast_1d(np.asarray(prevalence, dtype=float))
    if p.ndim != 1 or not ((p > 0) & (p < 1)).all():
        raise ValueError(
            f"prevalence={prevalence!r} is not allowed: give fractions above 0 and below 1, such as 0.01."
        )
    found = np.array([rates.sensitivity, rates.sensitivity_low, rates.sensitivity_high])
    spared = np.array([rates.specificity, rates.specificity_low, rates.specificity_high])
    alarms, misses = ((1 - share)[[0, 2, 1]] for share in (spared, found))  # value, low, high
    odds = (1 - p) / p
    ppv = [1 / (1 + odds * ratio) for ratio in _ratio(alarms, found)]
    npv = [1 / (1 + ratio / odds) for ratio in _ratio(misses, spared)]
    columns = {
        f"{name}{end}": values[k]
        for name, values in (("ppv", ppv), ("npv", npv))
        for end, k in (("", 0), ("_low", 2), ("_high", 1))
    }  # a large ratio is a small value
    return pandas.DataFrame(
        {**columns, "called": p * found[0] + (1 - p) * alarms[0]},
        index=pandas.Index(p, name="prevalence"),
    )


def _ratio(one: NDArray, other: NDArray) -> tuple[float, float, float]:
    """(value, low, high) of the ratio of two independent shares given as (value, low, high) each: MOVER-R."""
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = [
            np.sqrt(max((a * b) ** 2 - x * y * (2 * a - x) * (2 * b - y), 0))
            for x, y in ((a_low, b_high), (a_high, b_low))
        ]
        low = (
            a_low * (2 * a - a_low) / np.float64(a * b + roots[0])
        )  # the smaller root, written so that nothing cancels
        high = (a * b + roots[1]) / np.float64(b_low * (2 * b - b_low))
        value = np.float64(a) / b
    return value, 0.0 if a_low == 0 else low, np.inf if b_low == 0 else high
