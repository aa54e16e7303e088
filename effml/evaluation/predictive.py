"""What an answer is worth to a patient: predictive values, which move with the prevalence."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.intervals import Interval, columns

if TYPE_CHECKING:
    import pandas


def predictive_values(rates: Any, prevalence: ArrayLike) -> "pandas.DataFrame":
    """PPV and NPV at each prevalence, with 95 % intervals.

    Bayes: PPV = 1 / (1 + odds * (1 - specificity) / sensitivity), odds = (1 - prevalence) /
    prevalence, and its mirror for NPV. The intervals put those of both rates together by Donner &
    Zou's ratio (Statistical Methods in Medical Research 21:347, 2012); a change of patients or
    devices is not in them.

    Args:
        rates: the sensitivity and specificity with _low and _high: a `Scores` of `evaluate`, an
            `OperatingPoint`, or a row of `achieved`.
        prevalence: (P,) the share of ill people among those tested, in (0, 1).

    Returns:
        DataFrame: ppv and npv, each with _low and _high, and `called`, the share of all people
        answered positive; fractions, indexed by prevalence. A PPV is NaN where nobody is called.

    Raises:
        ValueError: on a prevalence outside (0, 1).

    Example:
        >>> scores = effml.evaluate([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0], task="binary", positive=1)
        >>> effml.predictive_values(scores, [0.01, 0.5]).ppv.round(3).tolist()
        [0.02, 0.667]
    """
    import pandas

    p = np.atleast_1d(np.asarray(prevalence, dtype=float))
    if p.ndim != 1 or not ((p > 0) & (p < 1)).all():
        raise ValueError(f"prevalence={prevalence!r}: give some above 0 and below 1, such as 0.01.")
    ends = ("", "_low", "_high")
    found, spared = (
        np.array([getattr(rates, name + end) for end in ends])
        for name in ("sensitivity", "specificity")
    )
    alarms, misses = ((1 - share)[[0, 2, 1]] for share in (spared, found))  # value, low, high
    odds = (1 - p) / p
    ppv, ppv_high, ppv_low = (1 / (1 + odds * ratio) for ratio in _ratio(alarms, found))
    npv, npv_high, npv_low = (1 / (1 + ratio / odds) for ratio in _ratio(misses, spared))
    values = columns(ppv=(ppv, ppv_low, ppv_high), npv=(npv, npv_low, npv_high))
    values["called"] = p * found[0] + (1 - p) * alarms[0]
    return pandas.DataFrame(values, index=pandas.Index(p, name="prevalence"))


def _ratio(one: NDArray, other: NDArray) -> Interval:
    """The ratio of two independent shares: MOVER-R."""
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    with np.errstate(divide="ignore", invalid="ignore"):
        at_low, at_high = (
            a * b + np.sqrt(max((a * b) ** 2 - x * y * (2 * a - x) * (2 * b - y), 0))
            for x, y in ((a_low, b_high), (a_high, b_low))
        )
        low = a_low * (2 * a - a_low) / at_low  # the smaller root, so written that nothing cancels
        high = at_high / (b_low * (2 * b - b_low))
        return a / b, 0.0 if a_low == 0 else low, np.inf if b_low == 0 else high
