"""What every score asks of its input first. Errors are instructions."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

ONE_VS_REST = "For class c of several against the rest pass probabilities[:, c] and labels == c, with positive=1."
TASKS = ("binary", "multi-class", "ordinal", "multi-label")


def checked(
    probabilities: ArrayLike, labels: ArrayLike, task: str, positive: int | None
) -> tuple[NDArray, NDArray]:
    """Probabilities and bool truth, (N, K) each; for binary of the positive class alone, (N, 1)."""
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}. Choose from: {', '.join(TASKS)}.")
    if task == "binary" and positive not in (0, 1):
        raise ValueError(
            f"A binary task needs positive=0 or positive=1, got {positive!r}: name the class whose cases "
            f"sensitivity counts, as the data set's passport does (BreastMNIST: 0, malignant). {ONE_VS_REST}"
        )
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 and task != "multi-label" else y
    p = p[:, None] if p.ndim == 1 and task == "binary" else p
    fits = (
        p.ndim == 2
        and p.size
        and {"binary": p.shape[1] < 3, "multi-label": True}.get(task, p.shape[1] > 1)
    )
    if not fits or y.shape != (p.shape if task == "multi-label" else p.shape[:1]):
        raise ValueError(
            f"probabilities {np.shape(probabilities)} and labels {np.shape(labels)} do not fit {task}: "
            "pass (N, K), for binary (N, 2) or (N,), with labels (N,), for multi-label (N, K); N > 0."
            + (f" {ONE_VS_REST}" if task == "binary" and p.ndim == 2 and p.shape[1] > 2 else "")
        )
    bad = ~(
        (p >= -1e-6) & (p <= 1 + 1e-6)
    )  # fast runtimes overshoot by a rounding; NaN fails both comparisons
    if bad.any():
        raise ValueError(
            f"{bad.sum()} of {p.size} probabilities not finite or outside [0, 1], first in row "
            f"{bad.any(axis=1).argmax()}: apply softmax or sigmoid to logits; NaN means a diverged run."
        )
    classes = np.arange(p.shape[1] if task in ("multi-class", "ordinal") else 2)
    if not np.isin(y, classes).all():
        raise ValueError(
            f"labels must be integers from 0 to {classes[-1]}, got {np.setdiff1d(y, classes)[:5].tolist()}"
            ": number classes as the columns are, from 0, and drop images without a label."
            + (f" {ONE_VS_REST}" if task == "binary" else "")
        )
    if task == "binary":
        return p[:, [int(positive) if p.shape[1] == 2 else 0]], (y == positive)[:, None]
    return p, y == 1 if task == "multi-label" else y[:, None] == classes


def called(p: NDArray, task: str, thresholds: ArrayLike | None) -> tuple[NDArray, NDArray]:
    """The answers, bool (N, K): the arg max alone, or where probability >= threshold; and the thresholds, () or (K,)."""
    k, cut = p.shape[1], np.asarray(0.5 if thresholds is None else thresholds, dtype=float)
    if cut.shape not in ((), (k,)) or not ((cut >= 0) & (cut <= 1)).all():
        raise ValueError(
            f"thresholds must be one number in [0, 1]{f', or {k} of them' * (k > 1)}, got {thresholds!r}: "
            "choose on validation, on the positive class's probability, or leave None for 0.5."
        )
    return p.argmax(axis=1)[:, None] == np.arange(k) if task in (
        "multi-class",
        "ordinal",
    ) else p >= cut, cut


def right_answers(answers: NDArray, truth: NDArray, task: str) -> NDArray:
    """Bool (N, K): whether each answer is right; where one class is answered, every column says whether it is the image's."""
    if task in ("multi-class", "ordinal"):
        return np.repeat((answers & truth).any(axis=1, keepdims=True), truth.shape[1], axis=1)
    return answers == truth


def class_columns(
    p: NDArray, truth: NDArray, answers: NDArray, positive: int | None
) -> tuple[NDArray, NDArray, NDArray]:
    """A column per class, (N, 2) in the order of the indices, where a binary task has only that of the positive class."""
    order = slice(None, None, 1 if positive == 0 else -1)
    return tuple(
        np.hstack([x, y])[:, order] for x, y in ((p, 1 - p), (truth, ~truth), (answers, ~answers))
    )
