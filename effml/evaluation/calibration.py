"""How far probabilities can be taken at their word; numpy only, as training calls it often."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import ARGMAX, checked

BINS = 15
TINY = 1e-12  # a probability of 0 has no logarithm


def reliability(
    confidence: ArrayLike, came_true: ArrayLike, *, bins: int = BINS
) -> tuple[NDArray, NDArray, NDArray]:
    """(count, mean confidence, frequency), (bins,) each, of the events foretold with `confidence`
    (M,): what a reliability diagram draws. Bins: [0, 1/15], (1/15, 2/15], …; NaN in empty ones."""
    place = bin_of(confidence, bins)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=x, minlength=bins) for x in (confidence, came_true)]
    with np.errstate(invalid="ignore"):
        return count, sums[0] / count, sums[1] / count


def bin_of(confidence: ArrayLike, bins: int = BINS) -> NDArray:
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def events(p: NDArray, truth: NDArray, task: str) -> tuple[NDArray, NDArray]:
    """Confidences, and what came true, (N, M) each: that the top class is right, or that the image
    is positive (binary) or has each label (multi-label)."""
    if task not in ARGMAX:
        return p, truth
    top = p.argmax(axis=1)[:, None]
    return np.take_along_axis(p, top, axis=1), np.take_along_axis(truth, top, axis=1)


def ece(confidence: ArrayLike, came_true: ArrayLike, *, bins: int = BINS) -> float:
    """Expected calibration error: mean over events of |frequency - mean confidence| in their bin
    (Guo et al., ICML 2017, equation 3). Few events per bin bias it up."""
    count, foretold, seen = reliability(confidence, came_true, bins=bins)
    return float(np.nansum(count * np.abs(seen - foretold)) / count.sum())


def brier(p: NDArray, truth: NDArray, task: str) -> NDArray:
    """(N,) squared errors, whose mean is the Brier score: of the positive class (binary), summed
    over classes, 0…2 (multi-class, ordinal; Brier 1950), or the mean over labels."""
    squares = (p - truth) ** 2
    return squares.sum(axis=1) if task in ARGMAX else squares.mean(axis=1)


def fit_temperature(
    probabilities: ArrayLike, labels: ArrayLike, *, task: str, positive: int | None = None
) -> float:
    """The temperature T that makes probabilities fit the labels best (least negative log
    likelihood; Guo et al., ICML 2017): above 1 they were too sure. Fit it on validation, and give
    it to `with_temperature`. Arguments and errors as those of `evaluate`; T lies from 0.007 to 148,
    at an end of it where no T is best (all are right)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    p, truth = checked(probabilities, labels, task, positive)
    z = _logits(p, task)
    true = truth if task in ARGMAX else np.stack([truth, ~truth], axis=-1)

    def loss(log_t: float) -> float:
        cooled = z / np.exp(log_t)
        return float((logsumexp(cooled, axis=-1) - cooled[true].reshape(z.shape[:-1])).mean())

    found = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    return float(np.exp(found.x))


def with_temperature(probabilities: ArrayLike, temperature: float, *, task: str) -> NDArray:
    """Probabilities, shaped as in `evaluate`, as softmax(logits / temperature) gives them (of a
    label alone: the sigmoid). No order changes, and no answer at a threshold that moves along."""
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature={temperature}: give a number above 0; fit_temperature does.")
    p = np.asarray(probabilities, dtype=float)
    by_class = p.ndim == 2 and p.shape[1] > 1 and task != "multi-label"
    z = _logits(p, ARGMAX[0] if by_class else task) / temperature
    raised = np.exp(z - z.max(axis=-1, keepdims=True))
    shares = raised / raised.sum(axis=-1, keepdims=True)
    return shares if by_class else shares[..., 0]


def _logits(p: NDArray, task: str) -> NDArray:
    """Logarithms whose softmax along the last axis is p (N, K), or else p and 1 - p (N, K, 2)."""
    if task in ARGMAX:
        return np.log(np.maximum(p, TINY))
    p = p.clip(TINY, 1 - TINY)
    return np.stack([np.log(p), np.log1p(-p)], axis=-1)


def average_precision(scores: NDArray, truth: NDArray) -> float:
    """Step-wise area under the precision-recall curve, as scikit-learn's, mean over the columns of
    scores and truth (N, K) with a positive; NaN without any."""
    found = []
    for s, t in zip(scores.T, truth.T):
        order = np.argsort(-s, kind="stable")
        last = np.append(np.diff(s[order]) != 0, True)  # equal scores are called together
        hits, answered = np.cumsum(t[order])[last], np.flatnonzero(last) + 1
        if hits[-1]:
            found.append(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / answered))
    return float(np.mean(found)) if found else float("nan")
