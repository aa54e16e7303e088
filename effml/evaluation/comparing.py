"""`compare_predictions`: two models' probabilities for the same images, in one sheet."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.auroc import Difference, paired_auroc
from effml.evaluation.checks import ARGMAX, called, checked_pair, class_columns
from effml.evaluation.intervals import NAN, Interval, over_images, wilson
from effml.evaluation.paired import mcnemar, non_inferiority, paired_proportions, paired_scores
from effml.evaluation.scores import Scores, evaluate

if TYPE_CHECKING:
    import pandas

COLUMNS = ("difference", "low", "high", "p", "verdict", "note")
Rows = dict[str, dict[str, Any]]


def compare_predictions(
    p: ArrayLike,
    q: ArrayLike,
    labels: ArrayLike,
    *,
    task: str | None = None,
    positive: int | None = None,
    threshold: float | Sequence[Any] | None = None,
    names: tuple[str, str] = ("a", "b"),
    margin: float = 0.01,
    seed: int = 0,
) -> "pandas.DataFrame":
    """Is the second model as good as the first on the same images? One row per measure.

    Args:
        p: probabilities of the first model (the reference), shaped as in `evaluate`.
        q: those of the second one (small, fast) for the same images in the same order.
        labels: (N,), for multi-label 0/1 (N, K).
        task: as in `evaluate`. None: multi-label for labels (N, K), binary for p (N,) or (N, 2),
            else multi-class.
        positive: index of the positive class of a binary task.
        threshold: of binary and multi-label answers, chosen on validation: one number for both
            models, or one for each, (2,), for multi-label (2, K). 0.5 if not given.
        names: the two models, for columns and notes.
        margin: the loss that would not matter, for the verdict (`non_inferiority`).
        seed: of the bootstrap.

    Returns:
        DataFrame: both models, difference (second minus first) with its paired 95 % interval low,
        high, two-sided p, verdict where higher is better, note. AUROC: DeLong. Shares of right
        answers: Tango, p McNemar (multi-label: normal, over images). Others: bootstrap. Agreement,
        the share of equal answers, stands in the second column. NaN or "": does not apply.

    Raises:
        ValueError: on input that cannot be scored or paired.

    Example:
        >>> p, q = [0.9, 0.4, 0.6, 0.1], [0.8, 0.7, 0.6, 0.2]
        >>> sheet = effml.compare_predictions(p, q, [1, 1, 0, 0], positive=1)
        >>> sheet.loc["sensitivity", ["a", "b", "difference"]].tolist()
        [0.5, 1.0, 0.5]
    """
    import pandas

    if len({*names, *COLUMNS}) != 2 + len(COLUMNS):
        raise ValueError(f"names={names!r}: give two names, none of {', '.join(COLUMNS)}.")
    task = task or _guessed(np.shape(p), np.asarray(labels))
    for name, one in zip(names, (p, q)):
        sums = np.sum(one, axis=1) if task != "multi-label" and np.ndim(one) == 2 else np.ones(1)
        if np.shape(one)[1:] != (1,) and (off := abs(sums - 1) > 0.02).any():
            row = f"add up to {sums[off.argmax()]:g} in row {off.argmax()}"
            cure = "give the softmax of each image, or task='multi-label'"
            raise ValueError(f"The probabilities of {name} {row}, not 1: {cure}.")
    how = {"task": task, "positive": positive}
    sheet = _sheet((p, q), labels, how, _each(threshold, task), names, margin, seed)
    table = pandas.DataFrame.from_dict(sheet, orient="index", columns=["a", "b", *COLUMNS])
    table = table.set_axis([*names, *COLUMNS], axis=1).rename_axis("measure")
    if np.ndim(threshold) == 0:  # the same for both
        table = table[~table.index.str.endswith("'s threshold")]
    return table.fillna({"verdict": "", "note": ""})


def _sheet(
    pair: Sequence,
    labels: ArrayLike,
    how: dict,
    cuts: Sequence,
    names: Sequence,
    margin: float,
    seed: int,
) -> Rows:
    task, positive = how.values()
    *chances, truth = checked_pair(*pair, labels, **how)
    scores = [evaluate(x, labels, thresholds=cut, **how) for x, cut in zip(pair, cuts)]
    notes = "; ".join(dict.fromkeys(scores[0].notes + scores[1].notes))
    sheet = {"auroc": _row(paired_auroc(*pair, labels, **how), notes, margin)}
    sheet["average_precision"] = _plain(scores, "average_precision")
    if task == "binary":
        sheet["threshold"] = _plain(scores, "threshold")
    a, b, b_at_a = (called(chances[i], task, cuts[j])[0] for i, j in ((0, 0), (1, 1), (1, 0)))
    if task == "multi-label":
        sheet |= _labelled(truth, a, b, margin)
    else:
        columns = class_columns(task, positive, a, b, b_at_a, truth)
        positive = positive if task == "binary" else None
        sheet |= _answered([x.argmax(axis=1) for x in columns], positive, names, margin)
    found = paired_scores(*pair, labels, thresholds=cuts, seed=seed, **how)
    sheet["balanced_accuracy"] = _row(found["balanced_accuracy"], "", margin)
    sheet |= {name: _row(found[name], "lower is better") for name in ("brier", "ece")}
    which = ", ".join(f"{name}: class {one.worst_class:g}" for name, one in zip(names, scores))
    return sheet | {"worst_class_recall": _row(found["worst_class_recall"], which)}


def _guessed(shape: tuple[int, ...], labels: NDArray) -> str:
    """The task that probabilities of this shape and these labels speak of."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        if (labels.sum(axis=1) == 1).all():
            cure = 'pass labels.argmax(axis=1), or task="multi-label" if there may be several'
            raise ValueError(f"Each row of labels has a single 1: {cure}.")
        return "multi-label"
    return "binary" if len(shape) == 1 or shape[1] < 3 else "multi-class"


def _each(threshold: float | Sequence[Any] | None, task: str) -> tuple[Any, Any]:
    """The threshold of each model, as `evaluate` takes it."""
    if threshold is None:
        return None, None
    if task in ARGMAX:
        raise ValueError(f"threshold has no effect on a {task} task (arg max): leave it out.")
    if np.ndim(threshold) == 0:
        return threshold, threshold
    if len(threshold) != 2 or np.ndim(threshold) != (2 if task == "multi-label" else 1):
        need = "one number for both models, or one for each (binary: (2,), multi-label: (2, K))"
        raise ValueError(f"threshold={threshold!r}: give {need}.")
    return threshold[0], threshold[1]


def _answered(
    answers: list[NDArray], positive: int | None, names: tuple[str, str], margin: float
) -> Rows:
    """Rows of class indices (N,): the answers of both models, those of the second at the threshold
    of the first, and the true ones; `positive` is None but for binary."""
    (a, b, b_at_a, y), (first, second) = answers, names
    right_a, right_b, sheet = a == y, b == y, {}
    sides = {"sensitivity": y == positive, "specificity": y != positive}
    for name, these in sides.items() if positive is not None else ():
        for where, x in (("", b), (f" at {first}'s threshold", b_at_a)):
            found = paired_proportions(right_a[these], (x == y)[these])
            sheet[name + where] = _row(found, "", margin)
    test, classes = mcnemar(right_a, right_b), np.unique(y)
    note = f"McNemar, {test.method}: only {first} right {test.only_a}, only {second} right "
    sheet["accuracy"] = _row(paired_proportions(right_a, right_b), f"{note}{test.only_b}", margin)
    changes = [right_b[y == c].mean() - right_a[y == c].mean() for c in classes]
    equal = [(a == b)[y == c].mean() for c in classes]
    worst, least = classes[np.argmin(changes)], classes[np.argmin(equal)]
    change = paired_proportions(right_a[y == worst], right_b[y == worst])
    row = _row(change, f"class {worst}, named after looking")
    sheet["worst change of a class's recall"] = row | {"p": NAN}
    note = f"share of equal answers; the least in class {least}, {min(equal):.3f}"
    return sheet | {"agreement": _own(wilson(a == b), note)}


def _labelled(truth: NDArray, a: NDArray, b: NDArray, margin: float) -> Rows:
    """The same of multi-label answers (N, K): means over images, whose labels are dependent."""
    right_a, right_b, same = ((x == y).mean(axis=1) for x, y in ((a, truth), (b, truth), (a, b)))
    difference, low, high = over_images(right_b - right_a, least=-1)
    means = {"a": float(right_a.mean()), "b": float(right_b.mean())}
    found = Difference(**means, difference=difference, low=low, high=high)
    note = "share of equal answers over all images and labels"
    return {"accuracy": _row(found, "", margin), "agreement": _own(over_images(same), note)}


def _row(found: Difference, note: str, margin: float | None = None) -> dict[str, Any]:
    judged = "" if margin is None else non_inferiority(found.low, found.high, margin)
    if found.high - found.low < 1e-12:  # but for rounding
        note = "; ".join(filter(None, [note, "an interval without width is no certainty"]))
        judged = judged and (judged if found.p == found.p else "inconclusive")
    return {**asdict(found), "verdict": judged, "note": note}


def _plain(scores: list[Scores], name: str) -> dict[str, Any]:
    a, b = (getattr(one, name) for one in scores)
    return {"a": a, "b": b, "difference": b - a}


def _own(share: Interval, note: str) -> dict[str, Any]:
    """A measure of both models together, with its own interval."""
    return {"b": share[0], "low": share[1], "high": share[2], "note": note}
