"""Probabilities in, clinical metrics with 95 % intervals out: fractions in [0, 1]; NaN is undefined, and notes say why.

AUROC intervals follow DeLong, DeLong & Clarke-Pearson, Biometrics 44:837 (1988), in O(N log N) through midranks as in
Sun & Xu, IEEE Signal Processing Letters 21:1389 (2014), extended here to the macro mean over classes MedMNIST reports.
"""
from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

TASKS = ("binary", "multi-class", "ordinal", "multi-label")
Z95, NAN = 1.959964, float("nan")


@dataclass(frozen=True)
class Scores:
    """Plain floats. What belongs to a positive class is NaN for every task but binary, as the others have none."""

    n: int
    prevalence: float  # of the positive class
    majority_rate: float  # accuracy of always giving the commonest answer (multi-label: per label, then averaged)
    auroc: float  # macro one-vs-rest, but for binary
    auroc_low: float
    auroc_high: float
    accuracy: float  # multi-label: over all N x K decisions, as MedMNIST does
    accuracy_low: float
    accuracy_high: float
    balanced_accuracy: float  # mean recall over classes (multi-label: over both answers of every label)
    sensitivity: float  # recall of the positive class
    sensitivity_low: float
    sensitivity_high: float
    specificity: float  # recall of the other class
    specificity_low: float
    specificity_high: float
    threshold: float  # NaN where the argmax decides, or where it differs between labels
    notes: tuple[str, ...] = ()

    def as_columns(self, prefix: str = "") -> dict[str, float]:
        """Every number under `prefix` + its name, for the flat record; the notes stay out."""
        return {prefix + f.name: getattr(self, f.name) for f in fields(self) if f.name != "notes"}


def evaluate(probabilities: ArrayLike, labels: ArrayLike, *, task: str, positive: int | None = None,
             thresholds: ArrayLike | None = None) -> Scores:
    """Score `probabilities` (N, K) against `labels`, int (N,) or (N, 1); for multi-label 0/1 of shape (N, K).

    Binary takes (N, 2), or (N,) holding the probability of the *positive* class, whose index is `positive`
    (BreastMNIST: 0, malignant). `thresholds`, a float or for multi-label also (K,), default 0.5, are to be chosen on
    validation: the answer is positive where probability >= threshold. Multi-class and ordinal use neither, but argmax.
    Proportions have Wilson intervals, except multi-label accuracy: the labels of one image are dependent, so it has the
    normal interval of a mean over images. Raises ValueError, with the remedy, on input that cannot be scored."""
    p, truth = _checked(probabilities, labels, task, positive)
    (n, k), argmax, shares = p.shape, task in ("multi-class", "ordinal"), truth.mean(axis=0)
    cut = np.asarray(0.5 if thresholds is None else thresholds, dtype=float)
    if cut.shape not in ((), (k,)) or not ((cut >= 0) & (cut <= 1)).all():
        raise ValueError(f"thresholds must be one number in [0, 1]{f', or {k} of them' * (k > 1)}, got {thresholds!r}: "
                         "choose on validation, on the positive class's probability, or leave None for 0.5.")
    if argmax:
        right, majority = truth[np.arange(n), p.argmax(axis=1)][:, None].repeat(k, axis=1), shares.max()
    else:
        right, majority = (p >= cut) == truth, np.maximum(shares, 1 - shares).mean()
    images, auroc = right.mean(axis=1), delong(p, truth, truth.argmax(axis=1) if argmax else None)
    accuracy = (_normal(images.mean(), images.std(ddof=1) / n**0.5 if n > 1 else NAN) if task == "multi-label"
                else _wilson(images))
    usable, answers = (shares > 0) & (shares < 1), (truth, ~truth)
    recalls = [right[:, usable].mean(axis=0, where=a[:, usable]) for a in answers[:1 if argmax else 2]]
    sensitivity, specificity = (_wilson(right[a]) if task == "binary" else (NAN,) * 3 for a in answers)
    balanced, threshold = np.mean(recalls) if usable.any() else NAN, NAN if argmax or np.ptp(cut) > 0 else cut.flat[0]
    values = (shares[0] if task == "binary" else NAN, majority, *auroc, *accuracy, balanced, *sensitivity, *specificity)
    notes = {"a single class in the labels: AUROC, balanced accuracy, the absent recall undefined": not usable.any(),
             f"AUROC and balanced accuracy leave out class {', '.join(map(str, np.flatnonzero(~usable)))}: "
             "no positive or no negative case": usable.any() and not usable.all(),
             "AUROC interval undefined: a class has a single case": usable.any() and np.isnan(auroc[1]),
             "AUROC interval is a point, not a certainty: such scores leave no variance": auroc[1] == auroc[2]}
    return Scores(n, *map(float, (*values, threshold)), tuple(note for note, holds in notes.items() if holds))


def delong(scores: ArrayLike, is_positive: ArrayLike, strata: NDArray | None = None) -> tuple[float, float, float]:
    """(AUROC, low, high), 95 %, of `scores` (N,), finite, higher is more positive, against 0/1 or bool `is_positive`.

    (N, K) gives the mean over the columns that hold both outcomes. A sample's influence is the mean over columns of its
    centred placement / size of its group (V10/n1 or V01/n0); the variance sums n_c * var(influence in c) over `strata`
    (N,): by default a single column's two classes, which is exactly DeLong's, or one stratum for more, as labels cross.
    All NaN where no column holds both, interval NaN where a stratum has one case. ValueError on unfit input."""
    s, y = np.asarray(scores, dtype=float), np.asarray(is_positive)
    if not s.size or s.ndim not in (1, 2) or s.shape != y.shape or not (np.isfinite(s) & np.isin(y, (0, 1))).all():
        raise ValueError("delong takes finite scores and 0/1 is_positive of one shape, (N,) or (N, K), got shapes "
                         f"{s.shape} and {y.shape}: pass scores without NaN, and `labels == positive`.")
    s, truth = s.reshape(len(s), -1), y.reshape(len(s), -1) == 1
    strata = strata if strata is not None else truth[:, 0] if truth.shape[1] == 1 else np.zeros(len(s))
    usable = truth.any(axis=0) & ~truth.all(axis=0)
    if not usable.any():
        return NAN, NAN, NAN
    s, truth = s[:, usable], truth[:, usable]
    placements = np.stack([_placements(*column) for column in zip(s.T, truth.T)], axis=1)
    aurocs = placements.mean(axis=0, where=truth)
    influence = ((placements - aurocs) / np.where(truth, truth.sum(axis=0), (~truth).sum(axis=0))).mean(axis=1)
    groups = [influence[strata == c] for c in np.unique(strata)]
    variance = sum(len(g) * g.var(ddof=1) for g in groups) if min(map(len, groups)) > 1 else NAN
    return _normal(aurocs.mean(), variance**0.5)


def _checked(probabilities: ArrayLike, labels: ArrayLike, task: str, positive: int | None) -> tuple[NDArray, NDArray]:
    """Probabilities and bool truth, (N, K) each; for binary of the positive class alone, (N, 1)."""
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}. Choose from: {', '.join(TASKS)}.")
    if task == "binary" and positive not in (0, 1):
        raise ValueError(f"A binary task needs positive=0 or positive=1, got {positive!r}: name the class whose cases "
                         "sensitivity counts, as the data set's passport does (BreastMNIST: 0, malignant).")
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 and task != "multi-label" else y
    p = p[:, None] if p.ndim == 1 and task == "binary" else p
    fits = p.ndim == 2 and p.size and {"binary": p.shape[1] < 3, "multi-label": True}.get(task, p.shape[1] > 1)
    if not fits or y.shape != (p.shape if task == "multi-label" else p.shape[:1]):
        raise ValueError(f"probabilities {np.shape(probabilities)} and labels {np.shape(labels)} do not fit {task}: "
                         "pass (N, K), for binary (N, 2) or (N,), with labels (N,), for multi-label (N, K); N > 0.")
    bad = ~((p >= -1e-6) & (p <= 1 + 1e-6))  # fast runtimes overshoot by a rounding; NaN fails both comparisons
    if bad.any():
        raise ValueError(f"{bad.sum()} of {p.size} probabilities not finite or outside [0, 1], first in row "
                         f"{bad.any(axis=1).argmax()}: apply softmax or sigmoid to logits; NaN means a diverged run.")
    classes = np.arange(p.shape[1] if task in ("multi-class", "ordinal") else 2)
    if not np.isin(y, classes).all():
        raise ValueError(f"labels must be integers from 0 to {classes[-1]}, got {np.setdiff1d(y, classes)[:5].tolist()}"
                         ": number classes as the columns are, from 0, and drop images without a label.")
    if task == "binary":
        return p[:, [int(positive) if p.shape[1] == 2 else 0]], (y == positive)[:, None]
    return p, y == 1 if task == "multi-label" else y[:, None] == classes


def _placements(scores: NDArray, truth: NDArray) -> NDArray:
    """(N,) share of the other group that each sample is ordered rightly against, ties half: DeLong's V10 and V01."""
    from scipy.stats import rankdata
    below = rankdata(scores)  # midrank among all - midrank in the own group = members of the other group below
    below[truth] -= rankdata(scores[truth])
    below[~truth] -= rankdata(scores[~truth])
    return np.where(truth, below / (~truth).sum(), 1 - below / truth.sum())


def _normal(value: float, error: float) -> tuple[float, float, float]:
    """`value` +- 1.96 standard errors, clipped to [0, 1] as pROC does."""
    return float(value), float(np.clip(value - Z95 * error, 0, 1)), float(np.clip(value + Z95 * error, 0, 1))


def _wilson(right: NDArray) -> tuple[float, float, float]:
    """Mean of 0/1 `right` (n,) with its Wilson interval; NaN where n is 0."""
    from scipy.stats import binomtest
    interval = binomtest(int(right.sum()), max(len(right), 1)).proportion_ci(method="wilson")
    return (right.mean(), *interval) if len(right) else (NAN, NAN, NAN)
