"""How far probabilities can be taken at their word, and precision over all thresholds: numpy only,
as training calls it often."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import ARGMAX

BINS = 15


def reliability(
    confidence: ArrayLike, came_true: ArrayLike, *, bins: int = BINS
) -> tuple[NDArray, NDArray, NDArray]:
    """(count, mean confidence, frequency), (bins,) each, of the events foretold with `confidence`
    (M,) in [0, 1]: what a reliability diagram draws.

    Bins are of equal width, open below and closed above, the first also below: [0, 1/15],
    (1/15, 2/15], … An empty bin has NaN for mean and frequency."""
    place = bin_of(confidence, bins)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=x, minlength=bins) for x in (confidence, came_true)]
    with np.errstate(invalid="ignore"):
        return count, sums[0] / count, sums[1] / count


def bin_of(confidence: ArrayLike, bins: int = BINS) -> NDArray:
    """The bin of `reliability`, 0 to bins - 1, that each value lies in; any shape."""
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def events(p: NDArray, truth: NDArray, task: str) -> tuple[NDArray, NDArray]:
    """What a task foretells of each image, with which confidence, and whether it came true, (N, M)
    each: that the top class is right (multi-class, ordinal), that the image is positive (binary),
    that it has each label (multi-label)."""
    if task not in ARGMAX:
        return p, truth
    top = p.argmax(axis=1)[:, None]
    return np.take_along_axis(p, top, axis=1), np.take_along_axis(truth, top, axis=1)


def ece(confidence: ArrayLike, came_true: ArrayLike, *, bins: int = BINS) -> float:
    """Expected calibration error: the mean over events of |frequency - mean confidence| in the
    event's bin, a fraction.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017, equation 3. Few events per bin bias it up."""
    count, foretold, seen = reliability(confidence, came_true, bins=bins)
    return float(np.nansum(count * np.abs(seen - foretold)) / count.sum())


def brier(p: NDArray, truth: NDArray, task: str) -> NDArray:
    """(N,) squared error of each image's probabilities (N, K) against bool truth; their mean is the
    Brier score.

    Brier 1950. Binary: of the positive class, 0…1. Multi-class and ordinal: summed over classes,
    0…2, as Brier and scikit-learn do. Multi-label: mean over labels, 0…1."""
    squares = (p - truth) ** 2
    return squares.sum(axis=1) if task in ARGMAX else squares.mean(axis=1)


def average_precision(scores: NDArray, truth: NDArray) -> float:
    """Mean over columns with a positive of the sum over thresholds of (gain in recall) * precision;
    scores, truth (N, K).

    The step-wise area under the precision-recall curve, as scikit-learn's. NaN without any
    positive."""
    found = []
    for s, t in zip(scores.T, truth.T):
        order = np.argsort(-s, kind="stable")
        last = np.append(np.diff(s[order]) != 0, True)  # equal scores are called together
        hits, answered = np.cumsum(t[order])[last], np.flatnonzero(last) + 1
        if hits[-1]:
            found.append(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / answered))
    return float(np.mean(found)) if found else float("nan")
