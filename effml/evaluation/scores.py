"""`evaluate`: one model's probabilities on one split, as one row of numbers."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.auroc import auroc_interval
from effml.evaluation.calibration import average_precision, brier, ece, events
from effml.evaluation.checks import ARGMAX, called, checked, class_columns, notes_of, right_answers
from effml.evaluation.intervals import NAN, Interval, columns, over_images, wilson


@dataclass(frozen=True)
class Scores:
    """Plain numbers. What belongs to a positive class is NaN for every task but binary."""

    n: int
    prevalence: float  # of the positive class
    majority_rate: float  # accuracy of always giving the commonest answer; multi-label: the mean
    auroc: float  # macro one-vs-rest, but for binary
    auroc_low: float
    auroc_high: float
    accuracy: float  # multi-label: over all N x K decisions, as MedMNIST does
    accuracy_low: float
    accuracy_high: float
    balanced_accuracy: float  # mean recall of classes; multi-label: of both answers of each label
    sensitivity: float  # recall of the positive class
    sensitivity_low: float
    sensitivity_high: float
    specificity: float  # recall of the other class
    specificity_low: float
    specificity_high: float
    threshold: float  # NaN where the argmax decides, or where it differs between labels
    average_precision: float  # of the positive class; macro one-vs-rest, but for binary
    brier: float  # see calibration.py, as for ece, which has 15 bins
    ece: float
    worst_class_recall: float  # lowest recall of a class; multi-label: of the positives of a label
    worst_class: float  # the class that has it, the first of equals
    notes: tuple[str, ...] = ()

    def as_columns(self, prefix: str = "") -> dict[str, float]:
        """Every number under `prefix` + its name, for the flat record; the notes stay out."""
        return {prefix + f.name: getattr(self, f.name) for f in fields(self) if f.name != "notes"}


def evaluate(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    task: str,
    positive: int | None = None,
    thresholds: ArrayLike | None = None,
) -> Scores:
    """Score one model's probabilities against the labels: `Scores`, fractions with 95 % intervals.

    Args:
        probabilities: (N, K) in [0, 1]; for binary (N, 2), or (N,) of the positive class.
        labels: int (N,) or (N, 1); for multi-label 0/1 (N, K).
        task: "binary", "multi-class", "ordinal" or "multi-label".
        positive: index of the positive class of a binary task (BreastMNIST: 0, malignant).
        thresholds: the answer is positive where probability >= threshold: a number, or for
            multi-label (K,); 0.5 if not given. Multi-class and ordinal tasks answer by arg max.

    Returns:
        Scores: AUROC with DeLong's interval in log-odds; proportions with Wilson's (multi-label
        accuracy: normal, over images). NaN is undefined, and `notes` say why.

    Raises:
        ValueError: on input that cannot be scored; the message says what to do.

    Example:
        >>> effml.evaluate([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], task="binary", positive=1).auroc
        0.75
    """
    p, truth = checked(probabilities, labels, task, positive)
    answers, cut = called(p, task, thresholds)
    right, shares = right_answers(answers, truth, task), truth.mean(axis=0)
    usable, argmax = (shares > 0) & (shares < 1), task in ARGMAX
    auroc = auroc_interval(p, truth, truth.argmax(axis=1) if argmax else None)
    majority = shares.max() if argmax else np.maximum(shares, 1 - shares).mean()
    accuracy = (over_images if task == "multi-label" else wilson)(right.mean(axis=1))
    rates = [wilson(right[x]) if task == "binary" else (NAN,) * 3 for x in (truth, ~truth)]
    confidence, came_true = (x.ravel() for x in events(p, truth, task))
    found = zip(*(x.T for x in class_columns(task, positive, truth, answers)))
    recalls = [(float(a[t].mean()), c) for c, (t, a) in enumerate(found) if t.any()]
    worst, worst_class = min(recalls, default=(NAN, NAN))
    return Scores(
        n=len(p),
        prevalence=float(shares[0]) if task == "binary" else NAN,
        majority_rate=float(majority),
        **columns(auroc=auroc, accuracy=accuracy),
        **columns(sensitivity=rates[0], specificity=rates[1]),
        balanced_accuracy=_balanced_accuracy(right[:, usable], truth[:, usable], argmax),
        threshold=NAN if argmax or np.ptp(cut) > 0 else float(cut.flat[0]),
        average_precision=average_precision(p[:, usable], truth[:, usable]),
        brier=float(brier(p, truth, task).mean()),
        ece=ece(confidence, came_true),
        worst_class_recall=worst,
        worst_class=worst_class,
        notes=_notes(usable, auroc),
    )


def _balanced_accuracy(right: NDArray, truth: NDArray, argmax: bool) -> float:
    sides = [truth] if argmax else [truth, ~truth]
    recalls = [right.mean(axis=0, where=side) for side in sides]
    return float(np.mean(recalls)) if truth.size else NAN


def _notes(usable: NDArray, auroc: Interval) -> tuple[str, ...]:
    left_out = ", ".join(map(str, np.flatnonzero(~usable)))
    one = "a single class in the labels: AUROC, balanced accuracy, the absent recall undefined"
    some = (
        f"AUROC and balanced accuracy leave out class {left_out}: no positive or no negative case"
    )
    single = "AUROC interval undefined: a class has a single case"
    point = "AUROC interval is a point, not a certainty: such scores leave no variance"
    _, low, high = auroc
    told = {one: not usable.any(), some: usable.any() and not usable.all()}
    return notes_of(told | {single: usable.any() and np.isnan(low), point: low == high})
