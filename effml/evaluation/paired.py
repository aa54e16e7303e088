"""Two models on the same images: is the compressed one as good? McNemar, Tango's interval, agreement, non-inferiority."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.auroc import Difference
from effml.evaluation.calibration import BINS, bin_of, brier, events
from effml.evaluation.checks import called, checked, right_answers
from effml.evaluation.intervals import NAN, Z95, paired_bootstrap, wilson

if TYPE_CHECKING:
    import pandas

EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemar:
    """How many images only one of two models gets right, and the p of that split under equal chances."""

    only_a: int
    only_b: int
    p: float
    method: str  # exact binomial, or chi-square with continuity correction


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """McNemar's test (Psychometrika 12:153, 1947) on 0/1 or bool (N,): which images each model gets right.

    Two-sided exact binomial where fewer than 25 images are right for one alone, else chi-square with Edwards' continuity
    correction, (|b - c| - 1)² / (b + c), not below 0. ValueError on other shapes and values."""
    from scipy.stats import binomtest, chi2

    a, b = _right(right_a, right_b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if (n := only_a + only_b) < EXACT_BELOW:
        return McNemar(
            only_a, only_b, float(binomtest(only_a, n).pvalue) if n else 1.0, "exact binomial"
        )
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / n
    return McNemar(
        only_a, only_b, float(chi2.sf(statistic, 1)), "chi-square with continuity correction"
    )


def paired_proportions(right_a: ArrayLike, right_b: ArrayLike) -> Difference:
    """The share of right answers of B minus that of A on the same images, 0/1 or bool (N,), with McNemar's p.

    Give the positive images alone and it is the difference in sensitivity. The interval is Tango's score interval
    (Statistics in Medicine 17:891, 1998), which unlike a bootstrap stays open where the models never differ: then it is
    ± 3.84 / (N + 3.84). NaN where N is 0."""
    a, b = _right(right_a, right_b)
    if not len(a):
        return Difference(*(NAN,) * 6)
    test = mcnemar(a, b)
    low, high = (
        _tango_low(*counts, len(a))
        for counts in ((test.only_b, test.only_a), (test.only_a, test.only_b))
    )
    return Difference(
        float(a.mean()), float(b.mean()), (test.only_b - test.only_a) / len(a), low, -high, test.p
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
    """balanced_accuracy, brier and ece, as `evaluate` defines them, of B minus those of A, each at its own of `thresholds`.

    Intervals by `paired_bootstrap`, stratified by class but for multi-label; classes keep their weight in the balanced
    accuracy. Brier and ECE are better when lower. p is NaN."""
    a, b = (
        _parts(*checked(p, labels, task, positive), task, cut)
        for p, cut in zip((p_a, p_b), thresholds)
    )

    def scores(parts: NDArray, rows: NDArray) -> NDArray:
        balanced, squares, *gaps = np.bincount(rows, minlength=len(parts)) @ parts
        return np.array([balanced, squares, np.abs(gaps).sum()])

    rows, strata = np.arange(len(a)), None if task == "multi-label" else np.ravel(labels)
    found = paired_bootstrap(
        lambda rows: scores(b, rows) - scores(a, rows), rows, n=n, seed=seed, strata=strata
    )
    columns = zip(("balanced_accuracy", "brier", "ece"), scores(a, rows), scores(b, rows), *found)
    return {name: Difference(*map(float, numbers), NAN) for name, *numbers in columns}


def agreement(answers_a: ArrayLike, answers_b: ArrayLike, labels: ArrayLike) -> "pandas.DataFrame":
    """How often two models give the same answer, right or wrong: class indices (N,), and the true ones.

    Rows: "all", then each class of `labels`; columns: n, agreement with its Wilson _low and _high, recall_a, recall_b
    ("all": accuracy) and change = recall_b - recall_a, whose lowest is the class that compression hurts most
    (Hooker et al., arXiv 1911.05248)."""
    import pandas

    a, b, y = (np.asarray(x) for x in (answers_a, answers_b, labels))
    if not a.shape == b.shape == y.shape == (a.size,) or not a.size:
        raise ValueError(
            f"answers {a.shape}, {b.shape} and labels {y.shape} do not match: pass (N,) each, of the same images."
        )
    rows = [("all", np.ones(len(y), bool)), *((c, y == c) for c in np.unique(y))]
    table = {
        name: (m.sum(), *wilson((a == b)[m]), (a == y)[m].mean(), (b == y)[m].mean())
        for name, m in rows
    }
    columns = ["n", "agreement", "agreement_low", "agreement_high", "recall_a", "recall_b"]
    table = pandas.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("class")
    return table.assign(change=table.recall_b - table.recall_a)


def non_inferiority(difference_low: float, difference_high: float, margin: float) -> str:
    """ "non-inferior" | "inferior" | "inconclusive" from the 95 % interval of new minus old, higher being better.

    Non-inferior: the whole interval lies above -`margin`; inferior: the whole of it lies below; else, and where a bound is
    NaN, inconclusive. The lower bound of a two-sided 95 % interval is a one-sided test at 2.5 % (ICH E9). `margin`
    is the loss that would not matter, > 0, named before looking. ValueError on another margin or on low > high."""
    if not margin > 0 or difference_low > difference_high:
        raise ValueError(
            f"low={difference_low}, high={difference_high}, margin={margin} is not allowed: give the bounds in "
            "order and a margin above 0, the loss that would not matter, such as 0.01."
        )
    return (
        "non-inferior"
        if difference_low > -margin
        else "inferior"
        if difference_high < -margin
        else "inconclusive"
    )


def _right(right_a: ArrayLike, right_b: ArrayLike) -> tuple[NDArray, NDArray]:
    a, b = np.asarray(right_a), np.asarray(right_b)
    if a.shape != (a.size,) or a.shape != b.shape or not np.isin(np.append(a, b), (0, 1)).all():
        raise ValueError(
            f"right_a {a.shape} and right_b {b.shape} must be 0/1 or bool (N,) of the same images: pass "
            "`answers == labels`."
        )
    return a == 1, b == 1


def _parts(p: NDArray, truth: NDArray, task: str, cut: ArrayLike | None) -> NDArray:
    """(N, 2 + BINS): what each image adds to balanced accuracy, Brier score, and the excess of confidence in every bin."""
    right = right_answers(called(p, task, cut)[0], truth, task)
    sides = [truth] if task in ("multi-class", "ordinal") else [truth, ~truth]
    usable = truth.any(axis=0) & ~truth.all(axis=0)
    weights = sum(side[:, usable] / side[:, usable].sum(axis=0) for side in sides) / max(
        len(sides) * usable.sum(), 1
    )
    confidence, came_true = events(p, truth, task)
    excess, n = (confidence - came_true) / confidence.size, len(p)
    place = np.arange(n)[:, None] * BINS + bin_of(confidence)
    gaps = np.bincount(place.ravel(), weights=excess.ravel(), minlength=n * BINS).reshape(n, BINS)
    return np.column_stack(
        [(right[:, usable] * weights).sum(axis=1), brier(p, truth, task) / n, gaps]
    )


def _tango_low(gained: int, lost: int, n: int) -> float:
    """Lower end of Tango's interval for (gained - lost) / n: where his score reaches 1.96."""
    from scipy.optimize import brentq

    def above(delta: float) -> float:
        linear = (2 * n - gained + lost) * delta - gained - lost
        one_way = (np.sqrt(linear**2 + 8 * n * lost * delta * (1 - delta)) - linear) / (
            4 * n
        )  # likeliest share lost at delta
        return (
            gained
            - lost
            - n * delta
            - Z95 * np.sqrt(max(n * (2 * one_way + delta * (1 - delta)), 0))
        )

    seen = (gained - lost) / n
    return -1.0 if seen == -1 else float(brentq(above, -1, seen - 1e-9, xtol=1e-14))
