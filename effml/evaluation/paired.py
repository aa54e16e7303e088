"""Two models on the same images: McNemar, Tango's interval, bootstrap, non-inferiority."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.auroc import Difference
from effml.evaluation.calibration import BINS, bin_of, brier, events
from effml.evaluation.checks import ARGMAX, called, checked_pair, class_columns, right_answers
from effml.evaluation.intervals import NAN, Z95, paired_bootstrap

EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemar:
    """How many images only one of two models gets right, and the p of that split."""

    only_a: int
    only_b: int
    p: float
    method: str  # exact binomial, or chi-square with continuity correction


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """McNemar's test (Psychometrika 12:153, 1947) on 0/1 (N,), the images each model gets right: a
    two-sided exact binomial where fewer than 25 are right for one alone, else chi-square with
    Edwards' continuity correction."""
    from scipy.stats import binomtest, chi2

    a, b = _right(right_a, right_b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if (n := only_a + only_b) < EXACT_BELOW:
        p, method = binomtest(only_a, n).pvalue if n else 1, "exact binomial"
    else:
        p = chi2.sf(max(abs(only_a - only_b) - 1, 0) ** 2 / n, 1)
        method = "chi-square with continuity correction"
    return McNemar(only_a=only_a, only_b=only_b, p=float(p), method=method)


def paired_proportions(right_a: ArrayLike, right_b: ArrayLike) -> Difference:
    """The share of right answers, 0/1 (N,), of B minus that of A, McNemar's p and Tango's score
    interval (Statistics in Medicine 17:891, 1998), which unlike a bootstrap stays open where the
    models never differ: ± 3.84 / (N + 3.84). NaN where N is 0."""
    found = tango(right_a, right_b)
    return found if found.a != found.a else replace(found, p=mcnemar(right_a, right_b).p)


def tango(right_a: ArrayLike, right_b: ArrayLike) -> Difference:
    """The same without p, by NumPy alone."""
    a, b = _right(right_a, right_b)
    if not (n := len(a)):
        return Difference(a=NAN, b=NAN, difference=NAN, low=NAN, high=NAN)
    lost, gained = int((a & ~b).sum()), int((b & ~a).sum())
    return Difference(
        a=float(a.mean()),
        b=float(b.mean()),
        difference=(gained - lost) / n,
        low=_tango_low(gained, lost, n),
        high=-_tango_low(lost, gained, n),
    )


def paired_scores(
    p_a: ArrayLike,
    p_b: ArrayLike,
    labels: ArrayLike,
    *,
    task: str,
    positive: int | None = None,
    thresholds: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    n: int = 2000,
    seed: int = 0,
) -> dict[str, Difference]:
    """balanced_accuracy, brier, ece, worst_class_recall of B minus those of A, each at its own of
    `thresholds`, by `paired_bootstrap`, stratified by class but for multi-label. p is NaN."""
    *chances, truth = checked_pair(p_a, p_b, labels, task, positive)
    answers = [called(p, task, cut)[0] for p, cut in zip(chances, thresholds)]
    parts = [_parts(p, truth, x, task) for p, x in zip(chances, answers)]
    members, *answers = class_columns(task, positive, truth, *answers)
    hits, members = [(x & members).astype(float) for x in answers], members.astype(float)

    def scores(which: int, rows: NDArray) -> NDArray:
        times = np.bincount(rows, minlength=len(rows))
        balanced, squares, *gaps = times @ parts[which]
        with np.errstate(invalid="ignore"):  # a class of which no image was drawn
            worst = np.fmin.reduce((times @ hits[which]) / (times @ members))
        return np.array([balanced, squares, np.abs(gaps).sum(), worst])

    rows, strata = np.arange(len(truth)), None if task == "multi-label" else np.ravel(labels)
    ends = paired_bootstrap(
        lambda rows: scores(1, rows) - scores(0, rows), rows, n=n, seed=seed, strata=strata
    )
    names = ("balanced_accuracy", "brier", "ece", "worst_class_recall")
    table = np.column_stack([scores(0, rows), scores(1, rows), *ends]).tolist()
    fields = ("a", "b", "difference", "low", "high")
    return {name: Difference(**dict(zip(fields, row))) for name, row in zip(names, table)}


def non_inferiority(difference_low: float, difference_high: float, margin: float) -> str:
    """Whether a new model is as good as the old one, from the interval of their difference.

    The lower bound of a two-sided 95 % interval is a one-sided test at 2.5 % (ICH E9).

    Args:
        difference_low: lower bound of the 95 % interval of new minus old, higher being better.
        difference_high: upper bound.
        margin: the loss that would not matter, > 0, in the same unit, named before looking.

    Returns:
        "non-inferior" or "inferior" where the whole interval lies above or below -margin, else
        "inconclusive".

    Raises:
        ValueError: on a margin not above 0, or bounds in the wrong order.

    Example:
        >>> effml.non_inferiority(-0.004, 0.02, margin=0.01)
        'non-inferior'
    """
    if not margin > 0 or difference_low > difference_high:
        given = f"low={difference_low}, high={difference_high}, margin={margin}"
        need = "bounds in order, and a margin above 0, the loss that would not matter"
        raise ValueError(f"{given} is not allowed: give {need}.")
    if difference_low > -margin:
        return "non-inferior"
    return "inferior" if difference_high < -margin else "inconclusive"


def _right(right_a: ArrayLike, right_b: ArrayLike) -> tuple[NDArray, NDArray]:
    a, b = np.asarray(right_a), np.asarray(right_b)
    if a.shape != (a.size,) or a.shape != b.shape or not np.isin(np.append(a, b), (0, 1)).all():
        raise ValueError(f"{a.shape} and {b.shape} must be 0/1 (N,): pass `answers == labels`.")
    return a == 1, b == 1


def _parts(p: NDArray, truth: NDArray, answers: NDArray, task: str) -> NDArray:
    """(N, 2 + BINS): what each image adds to balanced accuracy, Brier score, each bin's excess."""
    n, usable = len(p), truth.any(axis=0) & ~truth.all(axis=0)
    right = right_answers(answers, truth, task)[:, usable]
    sides = [truth[:, usable]] if task in ARGMAX else [truth[:, usable], ~truth[:, usable]]
    weights = sum(side / side.sum(axis=0) for side in sides) / max(len(sides) * usable.sum(), 1)
    confidence, came_true = events(p, truth, task)
    excess = (confidence - came_true) / confidence.size
    place = np.arange(n)[:, None] * BINS + bin_of(confidence)
    gaps = np.bincount(place.ravel(), weights=excess.ravel(), minlength=n * BINS).reshape(n, BINS)
    return np.column_stack([(right * weights).sum(axis=1), brier(p, truth, task) / n, gaps])


def _tango_low(gained: int, lost: int, n: int) -> float:
    """Lower end of Tango's interval for (gained - lost) / n: where his score reaches 1.96."""

    def above(delta: float) -> float:
        linear = (2 * n - gained + lost) * delta - gained - lost
        root = np.sqrt(linear**2 + 8 * n * lost * delta * (1 - delta))
        one_way = (root - linear) / (4 * n)  # likeliest share lost at delta
        error = np.sqrt(max(n * (2 * one_way + delta * (1 - delta)), 0))
        return gained - lost - n * delta - Z95 * error

    seen = (gained - lost) / n
    if seen == -1:
        return -1.0
    low, high = -1.0, seen - 1e-9
    for _ in range(60):  # halved: to the last digit
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) > 0 else (low, middle)
    return middle
