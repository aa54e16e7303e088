"""Operating points: a threshold chosen on validation, then applied unchanged to test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import checked, notes_of
from effml.evaluation.intervals import NAN, columns, wilson
from effml.evaluation.scores import evaluate
from effml.machine import choose

if TYPE_CHECKING:
    import pandas

FEWEST = 20  # below 20 cases, one of them is more than 5 %


def _screening(sensitivity: NDArray, specificity: NDArray, at_least: float) -> int:
    """The highest threshold whose sensitivity is at least `at_least`: it misses few, and alarms as
    few as that allows."""
    return int(np.flatnonzero(sensitivity >= at_least)[-1])


def _confirmation(sensitivity: NDArray, specificity: NDArray, at_least: float) -> int:
    """The lowest threshold whose specificity is at least `at_least`; the highest where none is."""
    return int(np.append(np.flatnonzero(specificity >= at_least), len(specificity) - 1)[0])


def _youden(sensitivity: NDArray, specificity: NDArray, at_least: float) -> int:
    """The greatest sensitivity + specificity - 1 (Youden 1950), the lowest threshold of equals;
    `at_least` has no effect."""
    return int(np.argmax((sensitivity + specificity).round(12)))


AIMS: dict[str, Callable[[NDArray, NDArray, float], int]] = {
    "screening": _screening,
    "confirmation": _confirmation,
    "youden": _youden,
}
"""Each takes the sensitivity and specificity of ascending thresholds and returns one's index."""


ABOUT = {"screening": ("positive", "sensitivity"), "confirmation": ("negative", "specificity")}


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the positive class's probability, and what it achieves on validation."""

    threshold: float  # the answer is positive where probability >= threshold
    aim: str
    at_least: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float
    n_positive: int
    n_negative: int
    notes: tuple[str, ...] = ()


def operating_point(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    positive: int,
    aim: str = "screening",
    at_least: float = 0.95,
    confidence: float | None = None,
) -> OperatingPoint:
    """Choose a threshold on validation, to be used unchanged on test: `evaluate(…, thresholds=)`.

    Args:
        probabilities: of validation, (N, 2) or (N,) of the positive class. For one class of several
            pass `probabilities[:, c], labels == c, positive=1`.
        labels: (N,) of validation.
        positive: index of the positive class.
        aim: "screening", the highest threshold with sensitivity >= `at_least`; "confirmation", the
            lowest with specificity >= `at_least`; "youden", the best sum of both. Candidates are
            the probabilities that occur and the next number above, at which nothing is called.
        at_least: the rate to reach, in (0, 1].
        confidence: the chance, such as 0.95, that patients like those of validation get `at_least`
            (see `promise`): a higher rate is then asked on validation. None: no such chance.

    Returns:
        OperatingPoint: the threshold and its rates on validation with Wilson's intervals, which are
        optimistic, as it was chosen for them. Notes: too few cases, an aim that is not reached.

    Raises:
        ValueError: on an unknown aim, a rate out of range, or a class without a case.

    Example:
        >>> effml.operating_point([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], positive=1).threshold
        0.4
    """
    p, truth = (array[:, 0] for array in checked(probabilities, labels, "binary", positive))
    _refuse(choose("aim", aim, AIMS), at_least, confidence, truth)
    p = p.clip(0, 1)  # evaluate takes thresholds in [0, 1]
    cuts = np.unique(np.append(p, min(np.nextafter(p.max(), 2), 1)))
    positives, negatives = np.sort(p[truth]), np.sort(p[~truth])
    found = (len(positives) - np.searchsorted(positives, cuts)) / len(positives)
    spared = np.searchsorted(negatives, cuts) / len(negatives)
    sizes = {"positive": len(positives), "negative": len(negatives)}
    cases = sizes["negative" if aim == "confirmation" else "positive"]
    wanted = _assured(cases, at_least, confidence)
    threshold = float(cuts[AIMS[aim](found, spared, wanted)])
    rates = wilson(positives >= threshold), wilson(negatives < threshold)
    missed = aim == "confirmation" and rates[1][0] < wanted
    told = _too_few(sizes, aim, at_least, confidence) | {
        f"the aim is not reached: no threshold has specificity >= {wanted:g}": missed,
        "this threshold calls no image of validation positive": p.max() < threshold,
        "this threshold calls every image of validation positive": p.min() >= threshold,
    }
    return OperatingPoint(
        threshold=threshold,
        aim=aim,
        at_least=float(at_least),
        **columns(sensitivity=rates[0], specificity=rates[1]),
        **{f"n_{name}": n for name, n in sizes.items()},
        notes=notes_of(told),
    )


def _refuse(aim: str, at_least: float, confidence: float | None, truth: NDArray) -> None:
    if not 0 < at_least <= 1:
        raise ValueError(f"at_least={at_least!r} is not allowed: give a fraction above 0, up to 1.")
    if confidence is not None and (aim == "youden" or not 0 < confidence < 1 or at_least == 1):
        need = "give a chance between 0 and 1 to screening or confirmation with at_least below 1"
        raise ValueError(f"confidence={confidence!r} with {aim} and {at_least!r}: {need}.")
    if truth.all() or not truth.any():
        cure = "choose a threshold on a validation split that holds both classes, or keep 0.5"
        raise ValueError(f"{truth.sum()} of {len(truth)} images are positive: {cure}.")


def _too_few(
    sizes: dict[str, int], aim: str, at_least: float, confidence: float | None
) -> dict[str, bool]:
    needed, told = max(FEWEST, 0 if aim == "youden" else round(1 / max(1 - at_least, 1e-9))), {}
    for name, rate in [ABOUT[aim]] if aim in ABOUT else ABOUT.values():
        n = sizes[name]
        few = f"only {n} {name} cases on validation, fewer than {needed}: one of them moves"
        told[f"{few} {rate} by {1 / n:.2g}"] = n < needed
        if confidence is not None:
            goal = f"promise {at_least:g} with confidence {confidence:g}"
            fewest = np.ceil(np.log1p(-confidence) / np.log(at_least))
            short = promise(0, n, at_least=at_least) < confidence
            told[f"{n} {name} cases cannot {goal}: it takes {fewest:.0f}"] = short
    return told


def promise(missed: ArrayLike, cases: ArrayLike, *, at_least: float = 0.95) -> NDArray:
    """Chance that a threshold moved until `missed` of `cases` on validation are wrong keeps
    `at_least` right on all patients like those: P(Binomial(cases, 1 - at_least) > missed) (Wilks,
    Annals of Mathematical Statistics 12:91, 1941; with ties more). 1 of 21 missed: 0.28."""
    from scipy.stats import binom

    return binom.sf(missed, cases, 1 - at_least)


def _assured(cases: int, at_least: float, confidence: float | None) -> float:
    if confidence is None:
        return at_least
    allowed = int((promise(np.arange(cases), cases, at_least=at_least) >= confidence).sum()) - 1
    return (cases - max(allowed, 0)) / cases


def achieved(
    val: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    positive: int,
    aims: Sequence[str] = ("screening", "confirmation"),
    at_least: float = 0.95,
    confidence: float | None = None,
) -> "pandas.DataFrame":
    """What each aim promised on validation and gave on test: a row per aim.

    Args:
        val: (probabilities, labels) of validation, as for `operating_point`.
        test: the same of test.
        positive: index of the positive class.
        aims: of "screening", "confirmation" and "youden".
        at_least: the rate to reach, in (0, 1].
        confidence: as in `operating_point`.

    Returns:
        DataFrame: threshold; val_sensitivity, val_specificity; promise, the chance that a threshold
        so chosen keeps the aim; on test sensitivity and specificity, each with _low and _high;
        kept, whether the aim holds on test (None: unknown, or youden); note.

    Raises:
        ValueError: on input that cannot be scored, and as `operating_point`.

    Example:
        >>> val, test = ([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0]), ([0.3, 0.8, 0.2], [1, 1, 0])
        >>> effml.achieved(val, test, positive=1).kept.to_dict()
        {'screening': False, 'confirmation': True}
    """
    import pandas

    rows, choice = {}, {"positive": positive, "at_least": at_least, "confidence": confidence}
    for aim in aims:
        point = operating_point(*val, aim=aim, **choice)
        scores = evaluate(*test, task="binary", positive=positive, thresholds=point.threshold)
        found, note, chance, kept = scores.as_columns(), list(point.notes), NAN, None
        if aim in ABOUT:
            name, rate = ABOUT[aim]
            cases = getattr(point, f"n_{name}")
            wrong = round((1 - getattr(point, rate)) * cases)
            chance = float(promise(wrong, cases, at_least=at_least))
            if np.isnan(found[rate]):
                note.append(f"no {name} case on test: {rate} and kept are unknown")
            else:
                kept = found[rate] >= at_least
        rows[aim] = {
            "threshold": point.threshold,
            "val_sensitivity": point.sensitivity,
            "val_specificity": point.specificity,
            "promise": chance,
            **{n: x for n, x in found.items() if n.startswith(("sensitivity", "specificity"))},
            "kept": kept,
            "note": "; ".join(note),
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("aim")
