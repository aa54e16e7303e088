"""Average precision, Brier, ECE, worst class, rows by class and by group: against scikit-learn, and
by hand."""

from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics

from conftest import seeds
from effml.evaluation import average_precision, by_group, ece, evaluate, per_class, reliability

TASKS = ("binary", "multi-class", "multi-label")


def sample(task, n=157, seed=0, decimals=2):
    """Probabilities with ties, labels, and what `evaluate` asks besides."""
    rng = np.random.default_rng(seed)
    if task == "binary":
        y = (rng.random(n) < 0.3).astype(int)
        p = (1 / (1 + np.exp(-rng.normal(1.2 * (1 - y), 1)))).round(decimals)
        return np.column_stack([p, 1 - p]), y, dict(task=task, positive=0)
    if task == "multi-class":
        y = rng.choice(4, n, p=(0.5, 0.3, 0.15, 0.05))
        weights = np.exp(rng.normal(size=(n, 4)) + 1.2 * np.eye(4)[y])
        return (weights / weights.sum(axis=1, keepdims=True)), y, dict(task=task)
    y = (rng.random((n, 3)) < (0.2, 0.5, 0.7)).astype(int)
    return (1 / (1 + np.exp(-rng.normal(y, 1)))).round(decimals), y, dict(task=task)


@pytest.mark.parametrize("seed", seeds(2, 6))
def test_average_precision_and_brier_are_scikit_learns(seed):
    p, y, how = sample("binary", seed=seed)
    s = evaluate(p, y, **how)
    assert s.average_precision == pytest.approx(
        metrics.average_precision_score(y == 0, p[:, 0]), abs=1e-12
    )
    assert s.brier == pytest.approx(metrics.brier_score_loss(y == 0, p[:, 0]), abs=1e-12)
    p, y, how = sample("multi-class", seed=seed)
    s = evaluate(p, y, **how)
    assert s.average_precision == pytest.approx(
        metrics.average_precision_score(np.eye(4)[y], p, average="macro"), abs=1e-12
    )
    assert s.brier == pytest.approx(metrics.brier_score_loss(y, p, scale_by_half=False), abs=1e-12)
    p, y, how = sample("multi-label", seed=seed)
    s = evaluate(p, y, **how)
    assert s.average_precision == pytest.approx(
        metrics.average_precision_score(y, p, average="macro"), abs=1e-12
    )
    assert s.brier == pytest.approx(
        np.mean([metrics.brier_score_loss(t, q) for t, q in zip(y.T, p.T)]), abs=1e-12
    )
    assert average_precision(np.full((8, 1), 0.5), np.eye(8, 1) == 1) == pytest.approx(
        1 / 8
    )  # all tied: the prevalence
    assert np.isnan(average_precision(p, np.zeros_like(p, dtype=bool)))


def test_ece_by_hand():
    """Four events in two bins: (0.05, 0.05) came true half the time, (0.95, 0.95) always: (2 * 0.45
    + 2 * 0.05) / 4."""
    assert ece([0.05, 0.05, 0.95, 0.95], [0, 1, 1, 1]) == pytest.approx(0.25)
    assert ece([0.0, 1.0], [0, 1]) == 0 and ece([1.0], [0]) == 1
    count, confidence, frequency = reliability(
        [0.0, 1 / 15, 2 / 15, 2 / 15 + 1e-9, 1.0], [0, 1, 0, 1, 1]
    )
    assert count.tolist() == [2, 1, 1] + [0] * 11 + [1] and frequency[:3].tolist() == [0.5, 0, 1]
    assert confidence[0] == pytest.approx(1 / 30) and np.isnan(confidence[3:14]).all()


@pytest.mark.parametrize("task", TASKS)
def test_ece_is_that_of_the_events_the_docstring_names(task):
    p, y, how = sample(task)
    if task == "multi-class":
        confidence, hit = p.max(axis=1), p.argmax(axis=1) == y
    else:
        confidence, hit = (p[:, 0], y == 0) if task == "binary" else (p.ravel(), y.ravel())
    edges, total = np.linspace(0, 1, 16), 0.0
    for low, high in zip(edges, edges[1:]):
        inside = (confidence > low) & (confidence <= high) | ((low == 0) & (confidence == 0))
        total += (
            inside.sum() * abs(hit[inside].mean() - confidence[inside].mean())
            if inside.any()
            else 0
        )
    assert evaluate(p, y, **how).ece == pytest.approx(total / len(confidence), abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_the_worst_class_and_the_rows_of_classes(task):
    p, y, how = sample(task)
    s, rows = evaluate(p, y, **how), per_class(p, y, **how)
    called = {"binary": np.where(p[:, 0] >= 0.5, 0, 1), "multi-class": p.argmax(axis=1)}.get(task)
    if task == "multi-label":
        recalls = metrics.recall_score(y, p >= 0.5, average=None)
        precisions = metrics.precision_score(y, p >= 0.5, average=None)
        aurocs, counts = metrics.roc_auc_score(y, p, average=None), y.sum(axis=0)
    else:
        recalls, precisions = (
            f(y, called, average=None) for f in (metrics.recall_score, metrics.precision_score)
        )
        aurocs, counts = (
            [metrics.roc_auc_score(y == c, p[:, c]) for c in range(p.shape[1])],
            np.bincount(y),
        )
    assert rows.recall.to_numpy() == pytest.approx(recalls, abs=1e-12)
    assert rows.precision.to_numpy() == pytest.approx(precisions, abs=1e-12)
    assert rows.auroc.to_numpy() == pytest.approx(aurocs, abs=1e-12)
    assert rows.n.tolist() == counts.tolist()
    assert (s.worst_class_recall, s.worst_class) == (pytest.approx(recalls.min()), recalls.argmin())
    assert ((rows.recall_low < rows.recall) & (rows.recall < rows.recall_high)).all()
    if task == "binary":  # malignant = 0
        for theirs, ours in (("recall", "sensitivity"), ("auroc", "auroc")):
            assert all(
                rows.loc[0, theirs + end] == getattr(s, ours + end) for end in ("", "_low", "_high")
            )
    named = per_class(p, y, classes=[f"c{k}" for k in range(p.shape[1])], **how)
    assert named.index[0] == "c0"
    with pytest.raises(ValueError, match="1 classes named .*name every class"):
        per_class(p, y, classes=["one"], **how)


def test_wilson_is_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    p, y, how = sample("multi-class")
    for c, row in per_class(p, y, **how).iterrows():
        hits = (p.argmax(axis=1)[y == c] == c).sum()
        low, high = proportion.proportion_confint(hits, row.n, method="wilson")
        assert (row.recall_low, row.recall_high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_a_site_scores_as_its_images_alone(task):
    p, y, how = sample(task, n=400)
    rng = np.random.default_rng(1)
    site = rng.choice(["A", "B", "C"], 400, p=(0.6, 0.37, 0.03))
    table = by_group(p, y, site, **how)
    for name in "ABC":
        alone = evaluate(p[site == name], y[site == name], **how).as_columns()
        assert {k: table.loc[name, k] for k in alone} == pytest.approx(alone, nan_ok=True)
    assert not table.enough["C"] and table.n.sum() == 400
    if task == "binary":
        assert table.enough.tolist() == [True, True, False]
        assert table.index[table.worst].tolist() == [table.auroc[["A", "B"]].idxmin()]
        worst = by_group(p, y, site, metric="sensitivity", fewest=1, **how)
        assert worst.index[worst.worst].tolist() == [worst.sensitivity.idxmin()]
    assert not by_group(p, y, site, fewest=1000, **how).worst.any()


@pytest.mark.parametrize("task", TASKS)
def test_a_site_has_enough_from_ten_images_of_each_answer_on(task):
    counts = (10, 10, 9, 30, 30, 9, 12, 0)  # of class 0 and of class 1 in a, b, c, d
    y, site = np.repeat([0, 1] * 4, counts), np.repeat([*"aabbccdd"], counts)
    p = np.random.default_rng(4).random(len(y))
    p, how = np.column_stack([p, 1 - p]), dict(task=task, positive=1 if task == "binary" else None)
    table = by_group(p, np.eye(2, dtype=int)[y] if task == "multi-label" else y, site, **how)
    assert table.enough.to_dict() == {"a": True, "b": False, "c": False, "d": False}
    if task == "binary":
        low = by_group(p, y, site, thresholds=0.2, **how)
        assert (low.threshold == 0.2).all() and low.sensitivity["b"] > table.sensitivity["b"]


@pytest.mark.parametrize(
    "groups, change, message",
    [
        (["A"] * 156, {}, r"groups \(156,\) must name a group for each of 157"),
        ([None] + ["A"] * 156, {}, "if only 'unknown'"),
        (["A"] * 157, {"metric": "brier"}, "Unknown metric 'brier'. Choose from: auroc"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, change, message):
    p, y, how = sample("binary")
    with pytest.raises(ValueError, match=message):
        by_group(p, y, groups, **how, **change)


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_images_and_the_names_of_classes_do_not_matter(task):
    p, y, how = sample(task)

    def numbers(*given, **asked):
        return {
            name: value
            for name, value in asdict(evaluate(*given, **asked)).items()
            if name != "notes"
        }

    s = numbers(p, y, **how)
    order = np.random.default_rng(2).permutation(len(p))
    assert numbers(p[order], y[order], **how) == pytest.approx(s, abs=1e-12, nan_ok=True)
    if task == "binary":
        renamed, worst = numbers(p[:, ::-1], 1 - y, task=task, positive=1), 1 - s["worst_class"]
    else:
        new = np.random.default_rng(3).permutation(p.shape[1])  # class c is now called new[c]
        old = np.argsort(new)
        renamed, worst = (
            numbers(p[:, old], new[y] if task == "multi-class" else y[:, old], **how),
            new[int(s["worst_class"])],
        )
    assert renamed == pytest.approx({**s, "worst_class": worst}, abs=1e-12, nan_ok=True)
