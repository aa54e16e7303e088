"""How far probabilities can be taken at their word; numpy only, as training calls it often."""

import warnings
from collections.abc import Callable
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import ARGMAX, TASKS, checked, refuse_others

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
    """The temperature that makes probabilities fit the labels best (Guo et al., ICML 2017).

    It has the least negative log likelihood of all; above 1 the probabilities were too sure. Fit it
    on validation, and give it to `with_temperature`.

    Args:
        probabilities: as in `evaluate`.
        labels: as in `evaluate`.
        task: "binary", "multi-class", "ordinal" or "multi-label".
        positive: index of the positive class (binary).

    Returns:
        The temperature, from 0.007 to 148; with a warning an end of that where none is best (all
            are right); 1 where all fit alike (uniform probabilities).

    Raises:
        ValueError: as `evaluate`.

    Example:
        >>> sure, ill = [0.02, 0.10, 0.80, 0.95, 0.99], [0, 1, 1, 0, 1]
        >>> round(effml.fit_temperature(sure, ill, task="binary", positive=1), 2)
        5.23
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    p, truth = checked(probabilities, labels, task, positive)
    z = _logits(p, task)
    true = truth if task in ARGMAX else np.stack([truth, ~truth], axis=-1)

    def loss(log_t: float) -> float:
        cooled = z / np.exp(log_t)
        return float((logsumexp(cooled, axis=-1) - cooled[true].reshape(z.shape[:-1])).mean())

    found = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    return _or_end(loss, found.x)


def _or_end(loss: Callable[[float], float], log_t: float) -> float:
    """The temperature; with a warning an end that fits no worse; 1 where all fit alike."""
    at_ends = {end: loss(end) for end in (-5.0, 5.0)}
    if np.ptp([loss(log_t), *at_ends.values()]) < TINY:
        return 1.0
    best = min(at_ends, key=at_ends.get)
    if loss(log_t) < at_ends[best]:
        return float(np.exp(log_t))
    found, way = float(np.exp(best)), "lower" if best < 0 else "higher"
    told = f"No temperature fits best, the {way} the better: {found:.3g} is the end of its range"
    warnings.warn(f"{told}. Fit on more images, or leave the probabilities.", stacklevel=3)
    return found


def with_temperature(probabilities: ArrayLike, temperature: float, *, task: str) -> NDArray:
    """What softmax(logits / temperature) gives: probabilities that are less sure, above 1.

    The order of two images stays in binary and multi-label tasks, and so do the AUROC and each
    answer, if the threshold moves along; of several classes the likeliest stays.

    Args:
        probabilities: as in `evaluate`; their logits are known from them.
        temperature: a number above 0, such as `fit_temperature` gives.
        task: "binary", "multi-class", "ordinal" or "multi-label".

    Returns:
        Probabilities of the same shape.

    Raises:
        ValueError: the temperature is not above 0, or not finite; logits, an unknown task, or a
            shape that does not fit it.

    Example:
        >>> effml.with_temperature([0.1, 0.8], 2, task="binary").round(2).tolist()
        [0.25, 0.67]
    """
    if not isinstance(temperature, Real) or not 0 < temperature < np.inf:
        raise ValueError(
            f"temperature={temperature!r}: give a number above 0; fit_temperature does."
        )
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}. Choose from: {', '.join(TASKS)}")
    refuse_others(p := np.asarray(probabilities, dtype=float))
    k = p.shape[1] if p.ndim == 2 else int(p.ndim == 1 and task == "binary")
    if k < 1 + (task in ARGMAX) or task == "binary" and k > 2:
        told = "pass (N, K), for binary (N, 2) or (N,), of the positive class"
        raise ValueError(f"probabilities {p.shape} do not fit {task}: {told}.")
    by_class = k > 1 and task != "multi-label"
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
