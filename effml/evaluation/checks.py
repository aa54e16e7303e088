"""What every score asks of its input first, and the answers in it. Errors are instructions."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

ARGMAX = ("multi-class", "ordinal")  # tasks in which the largest probability is the answer
TASKS = ("binary", *ARGMAX, "multi-label")
ONE_VS_REST = "For class c of several pass probabilities[:, c] and labels == c, with positive=1."


def checked(
    probabilities: ArrayLike, labels: ArrayLike, task: str, positive: int | None
) -> tuple[NDArray, NDArray]:
    """Probabilities and bool truth, (N, K) each; for binary of the positive class alone, (N, 1)."""
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}. Choose from: {', '.join(TASKS)}")
    binary, labelled = task == "binary", task == "multi-label"
    if binary and positive not in (0, 1):
        need = f"A binary task needs positive=0 or positive=1, got {positive!r}"
        raise ValueError(f"{need} (BreastMNIST: 0, malignant). {ONE_VS_REST}")
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 and not labelled else y
    p = p[:, None] if p.ndim == 1 and binary else p
    k = p.shape[1] if p.ndim == 2 else 0
    fits = p.size and (k < 3 if binary else k > (0 if labelled else 1))
    if p.ndim != 2 or not fits or y.shape != (p.shape if labelled else p.shape[:1]):
        raise ValueError(
            f"probabilities {np.shape(probabilities)} and labels {np.shape(labels)} do not fit "
            f"{task}: pass (N, K), for binary (N, 2) or (N,), with labels (N,), for multi-label "
            f"(N, K); N > 0. {ONE_VS_REST * (binary and k > 2)}"
        )
    refuse_others(p)
    classes = np.arange(k if task in ARGMAX else 2)
    if not np.isin(y, classes).all():
        got = f"from 0 to {classes[-1]}, got {np.setdiff1d(y, classes)[:5].tolist()}"
        cure = f"drop images without a label. {ONE_VS_REST * binary}"
        raise ValueError(f"labels must be integers {got}: {cure}")
    if binary:
        return p[:, [int(positive) if k == 2 else 0]], (y == positive)[:, None]
    return p, y == 1 if labelled else y[:, None] == classes


def refuse_others(p: NDArray) -> None:
    """ValueError where an array (N, …) holds what is no probability."""
    bad = ~((p >= -1e-6) & (p <= 1 + 1e-6))  # runtimes overshoot by a rounding; NaN fails both
    if bad.any():
        row = f"lie outside [0, 1], first in row {bad.reshape(len(p), -1).any(axis=1).argmax()}"
        cure = "apply softmax or sigmoid to logits; NaN means that training diverged"
        raise ValueError(f"{bad.sum()} of {p.size} probabilities {row}: {cure}.")


def checked_pair(
    p_a: ArrayLike, p_b: ArrayLike, labels: ArrayLike, task: str, positive: int | None
) -> tuple[NDArray, NDArray, NDArray]:
    """`checked` probabilities of two models for the same images, and the truth they share."""
    (a, truth), (b, _) = (checked(p, labels, task, positive) for p in (p_a, p_b))
    if a.shape != b.shape:
        raise ValueError(f"The models tell {a.shape[1]} and {b.shape[1]} classes: pass the same.")
    return a, b, truth


def called(p: NDArray, task: str, thresholds: ArrayLike | None) -> tuple[NDArray, NDArray]:
    """The answers, bool (N, K), and the thresholds, () or (K,)."""
    k, cut = p.shape[1], np.asarray(0.5 if thresholds is None else thresholds, dtype=float)
    if cut.shape not in ((), (k,)) or not ((cut >= 0) & (cut <= 1)).all():
        need = f"one number in [0, 1]{f', or {k} of them' * (k > 1)}, got {thresholds!r}"
        raise ValueError(f"thresholds must be {need}: choose on validation, or leave None for 0.5.")
    return p.argmax(axis=1)[:, None] == np.arange(k) if task in ARGMAX else p >= cut, cut


def right_answers(answers: NDArray, truth: NDArray, task: str) -> NDArray:
    """Bool (N, K): whether each answer is right; where one class is answered, in every column."""
    if task in ARGMAX:
        return np.repeat((answers & truth).any(axis=1, keepdims=True), truth.shape[1], axis=1)
    return answers == truth


def class_columns(task: str, positive: int | None, *arrays: NDArray) -> list[NDArray]:
    """`arrays`, of which binary ones have the positive class alone, with a column per class."""
    if task != "binary":
        return list(arrays)
    both = ([x, ~x if x.dtype == bool else 1 - x] for x in arrays)
    return [np.hstack(x if positive == 0 else x[::-1]) for x in both]


def notes_of(told: Mapping[str, bool]) -> tuple[str, ...]:
    return tuple(note for note, holds in told.items() if holds)
