"""The same scores by class, and by whatever divides the images: site, year, sex."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from effml.evaluation.auroc import delong
from effml.evaluation.checks import called, checked, class_columns
from effml.evaluation.intervals import NAN, wilson
from effml.evaluation.scores import evaluate

if TYPE_CHECKING:
    import pandas

METRICS = (
    "auroc",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "accuracy",
    "average_precision",
    "worst_class_recall",
)


def per_class(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    task: str,
    positive: int | None = None,
    thresholds: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
) -> "pandas.DataFrame":
    """One row per class (binary: both; multi-label: per label), indexed by its index or by its name in `classes`:
    n (images of it), one-vs-rest auroc, recall (Wilson), each with _low and _high, and precision; fractions.

    Takes what `evaluate` takes. NaN: the AUROC of a class that no image or every image has, the recall of one that none
    has, the precision of one that is never answered."""
    import pandas

    p, truth = checked(probabilities, labels, task, positive)
    answers, _ = called(p, task, thresholds)
    if task == "binary":
        p, truth, answers = class_columns(p, truth, answers, positive)
    names = range(p.shape[1]) if classes is None else classes
    if len(names) != p.shape[1]:
        raise ValueError(
            f"{len(names)} classes named for {p.shape[1]} columns: name every class in order, or leave classes out."
        )
    rows = [
        (t.sum(), *delong(s, t, scale="logit"), *wilson(a[t]), t[a].mean() if a.any() else NAN)
        for s, t, a in zip(p.T, truth.T, answers.T)
    ]
    columns = [
        "n",
        "auroc",
        "auroc_low",
        "auroc_high",
        "recall",
        "recall_low",
        "recall_high",
        "precision",
    ]
    return pandas.DataFrame(rows, columns=columns, index=pandas.Index(names, name="class"))


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
    """One row per value of `groups` (N,), such as the site of each image: everything `evaluate` says of those images, then
    `enough` (each class that occurs in `labels` has at least `fewest` images in the group; multi-label: each answer of
    each label) and `worst`, true for the group with the lowest `metric` among those with enough, the first of equals.

    With 10 images of each class a 95 % interval of an AUROC is some 0.4 wide: look at it before blaming a site.
    ValueError on groups of another length or with missing values, and on an unknown metric."""
    import pandas

    p, truth = checked(probabilities, labels, task, positive)
    groups = np.asarray(groups)
    if groups.shape != (len(p),) or pandas.isna(groups).any():
        raise ValueError(
            f"groups {groups.shape} must name a group for each of {len(p)} images: pass (N,), and give images "
            "whose site is not known one of their own, such as 'unknown'."
        )
    if metric not in METRICS:
        raise ValueError(f"Unknown metric {metric!r}. Choose from: {', '.join(METRICS)}")
    sides = truth if task in ("multi-class", "ordinal") else np.hstack([truth, ~truth])
    sides, labels = sides[:, sides.any(axis=0)], np.asarray(labels)
    rows = {}
    for group in np.unique(groups):
        chosen = groups == group
        scores = evaluate(
            p[chosen, 0] if task == "binary" else p[chosen],
            labels[chosen],
            task=task,
            positive=positive,
            thresholds=thresholds,
        )
        rows[group] = {**scores.as_columns(), "enough": sides[chosen].sum(axis=0).min() >= fewest}
    table = pandas.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    candidates = table[metric].where(table.enough)
    return table.assign(
        worst=candidates.notna() & (candidates == candidates.min()) & ~candidates.duplicated()
    )
