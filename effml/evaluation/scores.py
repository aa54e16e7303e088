"""`evaluate`: one model's probabilities on one split, as one row of numbers."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from effml.evaluation.auroc import delong
from effml.evaluation.calibration import average_precision, brier, ece, events
from effml.evaluation.checks import TASKS, called, checked, class_columns, right_answers
from effml.evaluation.intervals import NAN, normal, wilson

__all__ = ["TASKS", "Scores", "evaluate"]


@dataclass(frozen=True)
class Scores:
    """Plain numbers. What belongs to a positive class is NaN for every task but binary, as the others have none."""

    n: int
    prevalence: float  # of the positive class
    majority_rate: float  # accuracy of always giving the commonest answer (multi-label: per label, then averaged)
    auroc: float  # macro one-vs-rest, but for binary
    auroc_low: float
    auroc_high: float
    accuracy: float  # multi-label: over all N x K decisions, as MedMNIST does
    accuracy_low: float
    accuracy_high: float
    balanced_accuracy: (
        float  # mean recall over classes (multi-label: over both answers of every label)
    )
    sensitivity: float  # recall of the positive class
    sensitivity_low: float
    sensitivity_high: float
    specificity: float  # recall of the other class
    specificity_low: float
    specificity_high: float
    threshold: float  # NaN where the argmax decides, or where it differs between labels
    average_precision: float  # of the positive class; macro one-vs-rest, but for binary
    brier: float  # binary: of the positive class; multi-class: summed over classes, 0…2; multi-label: mean over labels
    ece: float  # 15 bins of the positive class's probability, of the top class's (multi-class), of all N x K (multi-label)
    worst_class_recall: float  # lowest recall of a class (binary: of the two; multi-label: of the positives of a label)
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
    """Score `probabilities` (N, K) against `labels`, int (N,) or (N, 1); for multi-label 0/1 of shape (N, K).

    Binary takes (N, 2), or (N,) holding the probability of the *positive* class, whose index is `positive`
    (BreastMNIST: 0, malignant). `thresholds`, a float or for multi-label also (K,), default 0.5, are to be chosen on
    validation (`operating_point`): the answer is positive where probability >= threshold. Multi-class and ordinal use
    neither, but argmax. AUROC has DeLong's interval on the logit scale (see `delong`), proportions have Wilson's, except
    multi-label accuracy: the labels of one image are dependent, so it has the normal interval of a mean over images.
    Raises ValueError, with the remedy, on input that cannot be scored."""
    p, truth = checked(probabilities, labels, task, positive)
    answers, cut = called(p, task, thresholds)
    n, argmax, shares = len(p), task in ("multi-class", "ordinal"), truth.mean(axis=0)
    right = right_answers(answers, truth, task)
    majority = shares.max() if argmax else np.maximum(shares, 1 - shares).mean()
    images, auroc = (
        right.mean(axis=1),
        delong(p, truth, truth.argmax(axis=1) if argmax else None, scale="logit"),
    )
    accuracy = (
        normal(images.mean(), images.std(ddof=1) / n**0.5 if n > 1 else NAN)
        if task == "multi-label"
        else wilson(images)
    )
    usable, groups = (shares > 0) & (shares < 1), (truth, ~truth)
    recalls = [
        right[:, usable].mean(axis=0, where=g[:, usable]) for g in groups[: 1 if argmax else 2]
    ]
    sensitivity, specificity = (
        wilson(right[g]) if task == "binary" else (NAN,) * 3 for g in groups
    )
    balanced, threshold = (
        np.mean(recalls) if usable.any() else NAN,
        NAN if argmax or np.ptp(cut) > 0 else cut.flat[0],
    )
    confidence, came_true = events(p, truth, task)
    _, members, named = (
        class_columns(p, truth, answers, positive) if task == "binary" else (p, truth, answers)
    )
    worst = min(
        ((float(named[m, c].mean()), c) for c, m in enumerate(members.T) if m.any()),
        default=(NAN, NAN),
    )
    values = (
        shares[0] if task == "binary" else NAN,
        majority,
        *auroc,
        *accuracy,
        balanced,
        *sensitivity,
        *specificity,
        threshold,
        average_precision(p[:, usable], truth[:, usable]),
        brier(p, truth, task).mean(),
        ece(confidence.ravel(), came_true.ravel()),
    )
    notes = {
        "a single class in the labels: AUROC, balanced accuracy, the absent recall undefined": not usable.any(),
        f"AUROC and balanced accuracy leave out class {', '.join(map(str, np.flatnonzero(~usable)))}: "
        "no positive or no negative case": usable.any() and not usable.all(),
        "AUROC interval undefined: a class has a single case": usable.any() and np.isnan(auroc[1]),
        "AUROC interval is a point, not a certainty: such scores leave no variance": auroc[1]
        == auroc[2],
    }
    return Scores(
        n, *map(float, values), *worst, tuple(note for note, holds in notes.items() if holds)
    )
