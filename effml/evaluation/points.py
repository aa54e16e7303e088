"""Operating points: a threshold chosen on validation for what the model is for, then applied unchanged to test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import checked
from effml.evaluation.intervals import wilson
from effml.evaluation.scores import evaluate

if TYPE_CHECKING:
    import pandas

FEWEST = 20  # below 20 cases, one of them is more than 5 %


def _screening(sensitivity: NDArray, specificity: NDArray, at_least: float) -> int:
    """The highest threshold whose sensitivity is at least `at_least`: miss few, and alarm as few as that allows."""
    return int(np.flatnonzero(sensitivity >= at_least)[-1])


def _confirmation(sensitivity: NDArray, specificity: NDArray, at_least: float) -> int:
    """The lowest threshold whose specificity is at least `at_least`; the highest of all where none is."""
    return int(np.append(np.flatnonzero(specificity >= at_least), len(specificity) - 1)[0])


def _youden(sensitivity: NDArray, specificity: NDArray, at_least: float) -> int:
    """The greatest sensitivity + specificity - 1 (Youden 1950), the lowest threshold of equals; `at_least` plays no part."""
    return int(np.argmax((sensitivity + specificity).round(12)))


AIMS: dict[str, Callable[[NDArray, NDArray, float], int]] = {
    "screening": _screening,
    "confirmation": _confirmation,
    "youden": _youden,
}
"""Each takes the sensitivity and specificity of ascending thresholds, and at_least; it returns the index of one."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the positive class's probability, and what it achieves on the split it was chosen on."""

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
    """Choose on *validation* `probabilities`, (N, 2) or (N,) of the positive class, and `labels` (N,); then
    `evaluate(test_probabilities, test_labels, …, thresholds=point.threshold)`, which says what it is worth.

    `aim` is one of AIMS: "screening" takes the highest threshold with sensitivity >= `at_least`, "confirmation" the lowest
    with specificity >= `at_least`, "youden" the best sum of both. Candidates are the probabilities that occur and the next
    number above the greatest, at which nothing is called; so every way to divide the images is tried and ties stay
    together. Intervals are Wilson's and, as the threshold was chosen to reach the aim, optimistic. Notes say when there are
    too few cases for the aim (fewer than 20, or than 1 / (1 - at_least)) and when it is not reached or reached only by
    calling nothing. For one class of several pass `probabilities[:, c], labels == c, positive=1`.

    To reach the aim on validation is not to keep it: see `promise`. `confidence`, such as 0.95, asks for a threshold that
    keeps it on patients like those of validation with this chance, and so for a higher value on validation. Where there are
    too few cases for that, every case is taken (the highest threshold that misses none), and a note says how many it takes.
    ValueError on an unknown aim, on at_least or confidence out of range and where a class has no case."""
    if aim not in AIMS:
        raise ValueError(f"Unknown aim {aim!r}. Choose from: {', '.join(AIMS)}")
    if not 0 < at_least <= 1:
        raise ValueError(
            f"at_least={at_least!r} is not allowed: give a fraction above 0 and at most 1, such as 0.95."
        )
    if confidence is not None and (aim == "youden" or not 0 < confidence < 1 or at_least == 1):
        raise ValueError(
            f"confidence={confidence!r} with aim={aim!r} and at_least={at_least!r} is not allowed: give a chance "
            "between 0 and 1 to screening or confirmation with at_least below 1, or leave it out."
        )
    p, truth = (array[:, 0] for array in checked(probabilities, labels, "binary", positive))
    if truth.all() or not truth.any():
        raise ValueError(
            f"{truth.sum()} of {len(truth)} images are positive: choose a threshold on a validation split that "
            "holds both classes, or keep 0.5."
        )
    p = p.clip(0, 1)  # evaluate takes thresholds in [0, 1]
    cuts = np.unique(np.append(p, min(np.nextafter(p.max(), 2), 1)))
    positives, negatives = np.sort(p[truth]), np.sort(p[~truth])
    found = (len(positives) - np.searchsorted(positives, cuts)) / len(positives)
    spared = np.searchsorted(negatives, cuts) / len(negatives)
    cases, name = (
        (len(negatives), "negative") if aim == "confirmation" else (len(positives), "positive")
    )
    wanted, enough = (
        (at_least, True) if confidence is None else _assured(cases, at_least, confidence)
    )
    threshold = float(cuts[AIMS[aim](found, spared, wanted)])
    sensitivity, specificity = wilson(positives >= threshold), wilson(negatives < threshold)
    needed = max(FEWEST, 0 if aim == "youden" else round(1 / max(1 - at_least, 1e-9)))
    few = [
        f"only {len(cases)} {name} cases on validation, fewer than {needed}: one of them moves {what} by {1 / len(cases):.2g}"
        for name, cases, what, other in (
            ("positive", positives, "sensitivity", "confirmation"),
            ("negative", negatives, "specificity", "screening"),
        )
        if aim != other and len(cases) < needed
    ]
    missed = aim == "confirmation" and specificity[0] < wanted
    if not enough:
        few.append(
            f"{cases} {name} cases cannot promise {at_least:g} with confidence {confidence:g}: it takes "
            f"{np.ceil(np.log1p(-confidence) / np.log(at_least)):.0f}"
        )
    notes = {
        f"the aim is not reached: no threshold has specificity >= {wanted:g}": missed,
        "this threshold calls no image of validation positive": p.max() < threshold,
        "this threshold calls every image of validation positive": p.min() >= threshold,
    }
    return OperatingPoint(
        threshold,
        aim,
        float(at_least),
        *sensitivity,
        *specificity,
        len(positives),
        len(negatives),
        (*few, *(note for note, holds in notes.items() if holds)),
    )


def promise(missed: ArrayLike, cases: ArrayLike, *, at_least: float = 0.95) -> NDArray:
    """Chance that a threshold moved until `missed` of `cases` on validation are wrong keeps `at_least` right on all patients
    like those of validation: P(Binomial(cases, 1 - at_least) > missed), whatever the scores are, so long as they are
    continuous (with ties it is more). Arrays broadcast.

    Wilks, Annals of Mathematical Statistics 12:91 (1941): the share of positives below the (missed + 1)th lowest score of n
    of them is Beta(missed + 1, n - missed). With 21 positives and one missed (0.952 on validation) the chance is 0.28."""
    from scipy.stats import binom

    return binom.sf(missed, cases, 1 - at_least)


def _assured(cases: int, at_least: float, confidence: float) -> tuple[float, bool]:
    """The share of `cases` to get right on validation for a `promise` of `confidence`, and whether they are enough for it."""
    allowed = int((promise(np.arange(cases), cases, at_least=at_least) >= confidence).sum()) - 1
    return (cases - max(allowed, 0)) / cases, allowed >= 0


def achieved(
    val: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    positive: int,
    aims: Sequence[str] = ("screening", "confirmation"),
    at_least: float = 0.95,
    confidence: float | None = None,
) -> "pandas.DataFrame":
    """What each aim promised on `val` and gave on `test`, both (probabilities, labels) as for
    `evaluate`: a row per aim.

    Columns: threshold; val_sensitivity, val_specificity; promise (NaN for youden); on test
    sensitivity and specificity, each with its Wilson _low and _high; kept, whether the aim holds on
    test (None for youden, and where test has no case of the class that the aim is about: the note
    says so); note."""
    import pandas

    rows = {}
    for aim in aims:
        point = operating_point(
            *val, positive=positive, aim=aim, at_least=at_least, confidence=confidence
        )
        scores = evaluate(*test, task="binary", positive=positive, thresholds=point.threshold)
        side, cases = {
            "screening": ("sensitivity", point.n_positive),
            "confirmation": ("specificity", point.n_negative),
        }.get(aim, (None, 0))
        share = getattr(scores, side) if side else np.nan
        absent = f"no {'positive' if side == 'sensitivity' else 'negative'} case on test: {side} and kept are unknown"
        wrong = round((1 - getattr(point, side)) * cases) if side else 0
        rows[aim] = {
            "threshold": point.threshold,
            "val_sensitivity": point.sensitivity,
            "val_specificity": point.specificity,
            "promise": float(promise(wrong, cases, at_least=at_least)) if side else np.nan,
            **{
                f"{name}{end}": getattr(scores, f"{name}{end}")
                for name in ("sensitivity", "specificity")
                for end in ("", "_low", "_high")
            },
            "kept": None if np.isnan(share) else share >= at_least,
            "note": "; ".join([*point.notes, *([absent] if side and np.isnan(share) else [])]),
        }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("aim")
