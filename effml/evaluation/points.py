"""Operating points: a threshold chosen on validation for what the model is for, then applied unchanged to test."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import checked
from effml.evaluation.intervals import wilson

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


def operating_point(probabilities: ArrayLike, labels: ArrayLike, *, positive: int, aim: str = "screening",
                    at_least: float = 0.95) -> OperatingPoint:
    """Choose on *validation* `probabilities`, (N, 2) or (N,) of the positive class, and `labels` (N,); then
    `evaluate(test_probabilities, test_labels, …, thresholds=point.threshold)`, which says what it is worth.

    `aim` is one of AIMS: "screening" takes the highest threshold with sensitivity >= `at_least`, "confirmation" the lowest
    with specificity >= `at_least`, "youden" the best sum of both. Candidates are the probabilities that occur and the next
    number above the greatest, at which nothing is called; so every way to divide the images is tried and ties stay
    together. Intervals are Wilson's and, as the threshold was chosen to reach the aim, optimistic. Notes say when there are
    too few cases for the aim (fewer than 20, or than 1 / (1 - at_least)) and when it is not reached or reached only by
    calling nothing. For one class of several pass `probabilities[:, c], labels == c, positive=1`.
    ValueError on an unknown aim, on at_least outside (0, 1] and where a class has no case."""
    if aim not in AIMS:
        raise ValueError(f"Unknown aim {aim!r}. Choose from: {', '.join(AIMS)}")
    if not 0 < at_least <= 1:
        raise ValueError(f"at_least={at_least!r} is not allowed: give a fraction above 0 and at most 1, such as 0.95.")
    p, truth = (array[:, 0] for array in checked(probabilities, labels, "binary", positive))
    if truth.all() or not truth.any():
        raise ValueError(f"{truth.sum()} of {len(truth)} images are positive: choose a threshold on a validation split that "
                         "holds both classes, or keep 0.5.")
    p = p.clip(0, 1)  # evaluate takes thresholds in [0, 1]
    cuts = np.unique(np.append(p, min(np.nextafter(p.max(), 2), 1)))
    positives, negatives = np.sort(p[truth]), np.sort(p[~truth])
    found = (len(positives) - np.searchsorted(positives, cuts)) / len(positives)
    spared = np.searchsorted(negatives, cuts) / len(negatives)
    threshold = float(cuts[AIMS[aim](found, spared, at_least)])
    sensitivity, specificity = wilson(positives >= threshold), wilson(negatives < threshold)
    needed = max(FEWEST, 0 if aim == "youden" else round(1 / max(1 - at_least, 1e-9)))
    few = [f"only {len(cases)} {name} cases on validation, fewer than {needed}: one of them moves {what} by {1 / len(cases):.2g}"
           for name, cases, what, other in (("positive", positives, "sensitivity", "confirmation"),
                                            ("negative", negatives, "specificity", "screening"))
           if aim != other and len(cases) < needed]
    missed = aim == "confirmation" and specificity[0] < at_least
    notes = {f"the aim is not reached: no threshold has specificity >= {at_least}": missed,
             "this threshold calls no image of validation positive": p.max() < threshold,
             "this threshold calls every image of validation positive": p.min() >= threshold}
    return OperatingPoint(threshold, aim, float(at_least), *sensitivity, *specificity, len(positives), len(negatives),
                          (*few, *(note for note, holds in notes.items() if holds)))
