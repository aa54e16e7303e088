"""The same scores by class, and by whatever divides the images: site, year, sex."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from effml.evaluation.auroc import auroc_interval
from effml.evaluation.checks import ARGMAX, called, checked, class_columns
from effml.evaluation.intervals import NAN, columns, wilson
from effml.evaluation.scores import evaluate
from effml.machine import choose

if TYPE_CHECKING:
    import pandas

RATES = "sensitivity specificity balanced_accuracy accuracy worst_class_recall"
METRICS = ("auroc", "average_precision", *RATES.split())  # those of which more is better


def per_class(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    task: str,
    positive: int | None = None,
    thresholds: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
) -> "pandas.DataFrame":
    """One row per class: how well it is told from the rest, and how often it is found.

    Args:
        probabilities: (N, K), for binary also (N,), as in `evaluate`.
        labels: (N,), for multi-label 0/1 (N, K).
        task: "binary", "multi-class", "ordinal" or "multi-label".
        positive: index of the positive class of a binary task.
        thresholds: a number, or for multi-label (K,); 0.5 if not given.
        classes: (K,) names for the rows, in the order of the indices, which are used otherwise.

    Returns:
        DataFrame: n (images of the class), one-vs-rest auroc and recall (Wilson), each with _low
        and _high, and precision; NaN where no image decides it. Binary has both classes.

    Raises:
        ValueError: on input that cannot be scored, or another number of `classes`.

    Example:
        >>> p = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]]
        >>> effml.per_class(p, [0, 1, 2], task="multi-class").recall.tolist()
        [1.0, 1.0, 0.0]
    """
    import pandas

    p, truth = checked(probabilities, labels, task, positive)
    found = class_columns(task, positive, p, truth, called(p, task, thresholds)[0])
    names = range(found[0].shape[1]) if classes is None else classes
    if len(names) != found[0].shape[1]:
        few = f"{len(names)} classes named for {found[0].shape[1]} columns"
        raise ValueError(f"{few}: name every class in order, or leave classes out.")
    rows = [
        {"n": t.sum()}
        | columns(auroc=auroc_interval(s, t), recall=wilson(a[t]))
        | {"precision": t[a].mean() if a.any() else NAN}
        for s, t, a in zip(*(x.T for x in found))
    ]
    return pandas.DataFrame(rows, index=pandas.Index(names, name="class"))


def by_group(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    task: str,
    positive: int | None = None,
    thresholds: ArrayLike | None = None,
    metric: str = "auroc",
    fewest: int = 10,
) -> "pandas.DataFrame":
    """One row per group of images, such as those of one site: what `evaluate` says of them.

    Args:
        probabilities: (N, K), for binary also (N,), as in `evaluate`.
        labels: (N,), for multi-label 0/1 (N, K).
        task: "binary", "multi-class", "ordinal" or "multi-label".
        positive: index of the positive class of a binary task.
        thresholds: a number, or for multi-label (K,); 0.5 if not given.
        groups: (N,) the group of each image, without missing values.
        metric: what names the worst group, one of METRICS, such as sensitivity.
        fewest: images of each class (multi-label: of each answer of each label) for `enough`; with
            10 the interval of an AUROC is some 0.4 wide.

    Returns:
        DataFrame: a row per group with the columns of `evaluate`; `enough`; and `worst`, true for
        the group with the lowest `metric` among those with enough, the first of equals.

    Raises:
        ValueError: on input that cannot be scored, groups that do not fit, an unknown metric.

    Example:
        >>> p, sites = [0.9, 0.1, 0.2, 0.8], ["A", "A", "B", "B"]
        >>> how = dict(task="binary", positive=1, fewest=1)
        >>> effml.by_group(p, [1, 0, 1, 0], sites, **how).auroc.tolist()
        [1.0, 0.0]
    """
    import pandas

    p, truth = checked(probabilities, labels, task, positive)
    groups = np.asarray(groups)
    if groups.shape != (len(p),) or pandas.isna(groups).any():
        need = f"must name a group for each of {len(p)} images, if only 'unknown'"
        raise ValueError(f"groups {groups.shape} {need}.")
    choose("metric", metric, METRICS)
    sides = truth if task in ARGMAX else np.hstack([truth, ~truth])
    sides, labels = sides[:, sides.any(axis=0)], np.asarray(labels)
    how = {"task": task, "positive": positive, "thresholds": thresholds}
    rows = {}
    for group in np.unique(groups):
        chosen = groups == group
        scores = evaluate(p[chosen, 0] if task == "binary" else p[chosen], labels[chosen], **how)
        rows[group] = {**scores.as_columns(), "enough": sides[chosen].sum(axis=0).min() >= fewest}
    table = pandas.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    candidates = table[metric].where(table.enough)
    lowest = candidates.notna() & (candidates == candidates.min())
    return table.assign(worst=lowest & ~candidates.duplicated())
