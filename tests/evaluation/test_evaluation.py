"""Oracles: scikit-learn for points, brute force for DeLong, a closed form for Wilson, simulation
for coverage."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from conftest import seeds
from effml.evaluation import TASKS, auroc, auroc_interval, evaluate
from effml.evaluation.intervals import normal

Z = 1.959963984540054
POOR = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])


def plain(scores, y):
    """pROC's interval: symmetric on the scale of the AUROC itself, and clipped."""
    truth = np.reshape(y, (-1, 1)) == 1
    value, influence = auroc._influence(np.reshape(scores, (-1, 1)).astype(float), truth)
    return normal(value, auroc._error(influence, truth, None))


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def binary(rng, n, decimals=None, prevalence=0.3):
    """Probability of class 1 and labels, both classes present; `decimals` makes ties."""
    y = (np.arange(n) < max(2, round(prevalence * n))).astype(int)
    p = 1 / (1 + np.exp(-rng.normal(y, 1)))
    return (p if decimals is None else p.round(decimals)), y


def multiclass(rng, counts, decimals=None, signal=1.0):
    y = np.repeat(np.arange(len(counts)), counts)
    p = softmax(rng.normal(size=(len(y), len(counts))) + signal * np.eye(len(counts))[y])
    if (
        decimals is not None
    ):  # the last column takes the rest, as scikit-learn wants rows that sum to one
        p = np.floor(p * 10**decimals) / 10**decimals
        p[:, -1] = 1 - p[:, :-1].sum(axis=1)
    return p, y


def wilson(hits, n):
    p, z2 = hits / n, Z * Z
    centre, half = (
        (p + z2 / (2 * n)) / (1 + z2 / n),
        Z / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n)),
    )
    return p, centre - half, centre + half


def triple(scores, name):
    return tuple(getattr(scores, name + end) for end in ("", "_low", "_high"))


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("seed", seeds(2, 6))
def test_auroc_is_scikit_learns(seed, decimals):
    rng = np.random.default_rng(seed)
    p, y = binary(rng, 151, decimals)
    assert auroc_interval(p, y)[0] == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-12)
    assert evaluate(p, y, task="binary", positive=1).auroc == pytest.approx(
        metrics.roc_auc_score(y, p), abs=1e-12
    )
    p, y = multiclass(rng, (40, 7, 25, 60), decimals)
    expected = metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")
    for task in ("multi-class", "ordinal"):
        assert evaluate(p, y, task=task).auroc == pytest.approx(expected, abs=1e-12)
    truth = rng.random((90, 5)) < 0.3
    p = rng.random((90, 5)).round(decimals or 9)
    assert evaluate(p, truth, task="multi-label").auroc == pytest.approx(
        metrics.roc_auc_score(truth, p), abs=1e-12
    )


@pytest.mark.parametrize("decimals", [None, 2, 1])
def test_binary_variance_is_delongs_by_brute_force(decimals):
    p, y = binary(np.random.default_rng(5), 120, decimals)
    cases, controls = p[y == 1], p[y == 0]
    psi = [
        [1.0 if a > b else 0.5 if a == b else 0.0 for b in controls] for a in cases
    ]  # every pair, O(mn)
    v10 = [sum(row) / len(controls) for row in psi]
    v01 = [sum(row[j] for row in psi) / len(cases) for j in range(len(controls))]
    auc = sum(v10) / len(v10)
    s10 = sum((v - auc) ** 2 for v in v10) / (len(v10) - 1)
    s01 = sum((v - auc) ** 2 for v in v01) / (len(v01) - 1)
    point, low, high = plain(p, y)
    assert 0 < low < point < high < 1
    assert (((high - low) / 2 / 1.959964) ** 2) == pytest.approx(
        s10 / len(v10) + s01 / len(v01), abs=1e-10, rel=1e-10
    )
    again = triple(evaluate(p, y[:, None], task="binary", positive=1), "auroc")
    assert again == auroc_interval(p, y)


def test_positive_class_zero_is_malignant():
    """BreastMNIST: sensitivity must be that of class 0; swapping indices and columns together
    changes nothing."""
    p1, y = binary(np.random.default_rng(6), 140, prevalence=0.7)
    p = np.column_stack([1 - p1, p1])
    s, swapped = (
        evaluate(p, y, task="binary", positive=0),
        evaluate(p[:, ::-1], 1 - y, task="binary", positive=1),
    )
    assert s == replace(swapped, worst_class=1 - swapped.worst_class)
    assert s == evaluate(1 - p1, y, task="binary", positive=0)
    called = p[:, 0] >= 0.5
    assert s.sensitivity == pytest.approx((called & (y == 0)).sum() / (y == 0).sum())
    assert s.specificity == pytest.approx((~called & (y == 1)).sum() / (y == 1).sum())
    assert s.sensitivity != pytest.approx(s.specificity, abs=0.02)
    assert s.prevalence == pytest.approx(0.3)
    other = evaluate(p, y, task="binary", positive=1)
    assert (other.sensitivity, other.specificity) == pytest.approx((s.specificity, s.sensitivity))
    assert other.auroc == pytest.approx(s.auroc, abs=1e-12) and s.auroc > 0.6


@pytest.mark.parametrize("threshold", [None, 0.2, 0.7])
def test_binary_proportions(threshold):
    p, y = binary(np.random.default_rng(7), 173, decimals=1)
    s = evaluate(p, y, task="binary", positive=1, thresholds=threshold)
    cut = 0.5 if threshold is None else threshold
    called = (p >= cut).astype(int)
    tn, fp, fn, tp = metrics.confusion_matrix(y, called).ravel()
    assert triple(s, "sensitivity") == pytest.approx(wilson(tp, tp + fn), abs=1e-12)
    assert triple(s, "specificity") == pytest.approx(wilson(tn, tn + fp), abs=1e-12)
    assert triple(s, "accuracy") == pytest.approx(wilson(tp + tn, len(y)), abs=1e-12)
    assert s.sensitivity == pytest.approx(metrics.recall_score(y, called))
    assert s.specificity == pytest.approx(metrics.recall_score(y, called, pos_label=0))
    assert s.accuracy == pytest.approx(metrics.accuracy_score(y, called))
    assert s.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, called))
    assert (s.threshold, s.n, s.prevalence, s.majority_rate) == pytest.approx(
        (cut, 173, y.mean(), 1 - y.mean())
    )
    assert s.notes == ()


def test_multiclass_proportions():
    p, y = multiclass(np.random.default_rng(8), (30, 12, 55))
    s = evaluate(p, y[:, None], task="ordinal")
    assert triple(s, "accuracy") == pytest.approx(
        wilson((p.argmax(axis=1) == y).sum(), 97), abs=1e-12
    )
    assert s.balanced_accuracy == pytest.approx(
        metrics.balanced_accuracy_score(y, p.argmax(axis=1))
    )
    assert s.majority_rate == pytest.approx(55 / 97)
    assert np.isnan(
        [*triple(s, "sensitivity"), *triple(s, "specificity"), s.prevalence, s.threshold]
    ).all()
    assert s.notes == ()


def test_multilabel_proportions_with_a_threshold_per_label():
    rng = np.random.default_rng(9)
    p, truth, cuts = (
        rng.random((60, 3)),
        (rng.random((60, 3)) < (0.2, 0.5, 0.7)).astype(int),
        (0.3, 0.5, 0.8),
    )
    s = evaluate(p, truth, task="multi-label", thresholds=cuts)
    called = (p >= cuts).astype(int)
    assert s.accuracy == pytest.approx((called == truth).mean())
    expected = [metrics.balanced_accuracy_score(t, c) for t, c in zip(truth.T, called.T)]
    assert s.balanced_accuracy == pytest.approx(np.mean(expected))
    assert s.majority_rate == pytest.approx(
        np.maximum(truth.mean(axis=0), 1 - truth.mean(axis=0)).mean()
    )
    half = Z * (called == truth).mean(axis=1).std(ddof=1) / 60**0.5
    assert (s.accuracy_low, s.accuracy_high) == pytest.approx(
        (s.accuracy - half, s.accuracy + half)
    )
    assert np.isnan(s.threshold) and evaluate(p, truth, task="multi-label").threshold == 0.5


def test_two_classes_are_binary():
    """Both columns of a two-class problem carry the same AUROC, so the macro interval must be
    DeLong's."""
    p, y = binary(np.random.default_rng(14), 90, decimals=1)
    macro = evaluate(np.column_stack([1 - p, p]).round(1), y, task="multi-class")
    assert triple(macro, "auroc") == pytest.approx(auroc_interval(p, y), abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
def test_the_logit_interval_is_that_of_the_delta_method(decimals):
    p, y = binary(np.random.default_rng(21), 90, decimals)
    value, low, high = plain(p, y)
    error = (high - low) / 2 / 1.959964
    centre, half = np.log(value / (1 - value)), 1.959964 * error / (value * (1 - value))
    expected = 1 / (1 + np.exp([half - centre, -half - centre]))
    assert high < 1
    assert auroc_interval(p, y) == pytest.approx((value, *expected), abs=1e-12)


def test_interval_is_clipped():
    p, y = np.array([0.1, 0.2, 0.3, 0.45, 0.4, 0.6, 0.7, 0.8]), np.repeat([0, 1], 4)
    point, low, high = plain(p, y)
    assert 0 < low < point < high == 1 and point + (point - low) > 1
    assert plain(p, 1 - y) == pytest.approx((1 - point, 0, 1 - low), abs=1e-12)


def test_macro_interval_has_the_width_of_the_bootstrap():
    rng = np.random.default_rng(10)
    p, y = multiclass(rng, (60, 150, 90), signal=0.8)
    s = evaluate(p, y, task="multi-class")
    groups = [np.flatnonzero(y == c) for c in range(3)]
    rows = (np.concatenate([rng.choice(g, len(g)) for g in groups]) for _ in range(500))
    boot = np.std([auroc_interval(p[r], y[r, None] == np.arange(3), y[r])[0] for r in rows], ddof=1)
    assert (s.auroc_high - s.auroc_low) / 2 / Z == pytest.approx(boot, rel=0.15)


def test_multilabel_interval_has_the_width_of_the_bootstrap():
    rng = np.random.default_rng(11)
    severity = rng.normal(size=(300, 1))  # makes labels and scores of an image dependent
    truth = severity + rng.normal(size=(300, 4)) > (1.0, 0.5, 0.0, 1.5)
    p = 1 / (1 + np.exp(-(severity + truth + rng.normal(size=(300, 4)))))
    s = evaluate(p, truth, task="multi-label")
    rows = (rng.integers(0, 300, 300) for _ in range(500))
    boot = np.std([auroc_interval(p[r], truth[r])[0] for r in rows], ddof=1)
    assert (s.auroc_high - s.auroc_low) / 2 / Z == pytest.approx(boot, rel=0.15)


def test_binary_interval_covers():
    rng, truth = np.random.default_rng(12), 0.85
    y = (np.arange(200) < 40).astype(int)
    shift = 2**0.5 * 1.0364333894937898  # binormal: AUROC = Phi(shift / sqrt 2), Phi(1.0364) = 0.85
    intervals = np.array([auroc_interval(rng.normal(shift * y), y) for _ in range(400)])
    assert intervals[:, 0].mean() == pytest.approx(truth, abs=0.01)
    assert 0.91 <= ((intervals[:, 1] <= truth) & (truth <= intervals[:, 2])).mean() <= 0.98


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(task="binary-class"), "Choose from: binary, multi-class, ordinal, multi-label"),
        (dict(positive=None), "BreastMNIST: 0, malignant"),
        (dict(positive=2), "positive=0 or positive=1, got 2"),
        (dict(labels=[0, 1, 1]), r"labels \(3,\) do not fit binary: pass"),
        (dict(probabilities=np.empty((0, 2)), labels=[]), r"probabilities \(0, 2\).* N > 0"),
        (
            dict(probabilities=np.full((4, 3), 0.3)),
            r"probabilities \(4, 3\).*for binary \(N, 2\) or \(N,\)",
        ),
        (
            dict(probabilities=np.full(4, 0.5), task="multi-class"),
            r"probabilities \(4,\).*pass \(N, K\)",
        ),
        (dict(task="multi-label"), r"labels \(4,\) .*for multi-label \(N, K\)"),
        (dict(labels=[0, 1, 1, 2]), r"integers from 0 to 1, got \[2\]"),
        (dict(labels=[0, 1, 1, -1]), r"got \[-1\].*drop images without a label"),
        (dict(labels=[0, 1, 1, 0.5]), r"integers from 0 to 1, got \[0.5\]"),
        (dict(labels=np.full((4, 2), 2), task="multi-label"), r"integers from 0 to 1, got \[2\]"),
        (
            dict(probabilities=np.where(POOR == 0.7, np.nan, POOR)),
            "1 of 8 .*first in row 1.*diverged",
        ),
        (dict(probabilities=np.where(POOR == 0.7, np.inf, POOR)), "1 of 8 .*first in row 1"),
        (dict(probabilities=np.log(POOR)), "8 of 8 .*outside .*apply softmax or sigmoid"),
        (dict(probabilities=POOR + 0.5), "outside .*apply softmax or sigmoid"),
        (dict(thresholds=1.5), "got 1.5: choose on validation"),
        (dict(thresholds=float("nan")), "got nan: choose on validation"),
        (
            dict(thresholds=[0.1, 0.2, 0.3], task="multi-label", labels=np.eye(4, 2, dtype=int)),
            "or 2 of them",
        ),
    ],
)
def test_refusals_instruct(change, message):
    given = (
        dict(probabilities=POOR, labels=[0, 1, 1, 0], task="binary", positive=0, thresholds=None)
        | change
    )
    with pytest.raises(ValueError, match=message):
        evaluate(given.pop("probabilities"), given.pop("labels"), **given)


@pytest.mark.parametrize(
    "scores, groups", [([0.1, np.nan], [0, 1]), ([0.1, 0.2], [0, 2]), ([0.1], [0, 1]), ([], [])]
)
def test_delong_refuses(scores, groups):
    with pytest.raises(ValueError, match="labels == positive"):
        auroc_interval(scores, groups)


@pytest.mark.parametrize("task", TASKS)
def test_perfect_and_constant(task):
    y = np.repeat([0, 1], 20) if task == "binary" else np.repeat([0, 1, 2], 10)
    truth = np.eye(y.max() + 1)[y]
    labels = truth.astype(int) if task == "multi-label" else y
    s = evaluate(truth, labels, task=task, positive=0)
    assert (s.auroc, s.auroc_low, s.auroc_high, s.accuracy, s.balanced_accuracy) == (1, 1, 1, 1, 1)
    assert any("is a point, not a certainty" in note for note in s.notes)
    assert s.accuracy_low < 1 or task == "multi-label"
    constant = evaluate(np.full_like(truth, 1 / 3), labels, task=task, positive=0)
    assert triple(constant, "auroc") == (0.5, 0.5, 0.5)
    assert constant.balanced_accuracy == pytest.approx(
        1 / 3 if task in ("multi-class", "ordinal") else 0.5
    )


def test_absent_classes_are_left_out_and_said():
    p, y = multiclass(np.random.default_rng(13), (20, 0, 30))
    s = evaluate(p, y, task="multi-class")
    assert s.auroc == pytest.approx(
        np.mean([metrics.roc_auc_score(y == c, p[:, c]) for c in (0, 2)]), abs=1e-12
    )
    recalls = [(p[y == c].argmax(axis=1) == c).mean() for c in (0, 2)]
    assert s.balanced_accuracy == pytest.approx(np.mean(recalls)) and 0 < s.auroc_low < s.auroc
    assert s.notes == (
        "AUROC and balanced accuracy leave out class 1: no positive or no negative case",
    )
    for task, labels in (
        ("multi-class", np.zeros(50, int)),
        ("multi-label", np.zeros((50, 3), int)),
    ):
        s = evaluate(p, labels, task=task)
        assert np.isnan([*triple(s, "auroc"), s.balanced_accuracy]).all()
        assert "a single class" in s.notes[0]
        assert s.majority_rate == 1 and not np.isnan(s.accuracy)
    s = evaluate(p[:, 0], np.zeros(50, int), task="binary", positive=1)
    assert np.isnan([*triple(s, "auroc"), *triple(s, "sensitivity")]).all()
    assert "a single class" in s.notes[0]
    assert len(s.notes) == 1 and s.prevalence == 0 and 0 < s.specificity <= 1


def test_one_case_of_a_class_has_a_point_without_interval():
    s = evaluate([0.9, 0.2, 0.3, 0.95], [1, 0, 0, 0], task="binary", positive=1)
    assert s.auroc == pytest.approx(2 / 3) and np.isnan([s.auroc_low, s.auroc_high]).all()
    assert s.notes == ("AUROC interval undefined: a class has a single case",)
    p, y = multiclass(np.random.default_rng(15), (20, 0, 1))  # besides, one class is absent
    s = evaluate(p, y, task="multi-class")
    assert np.isnan(s.auroc_low) and len(s.notes) == 2 and "single case" in s.notes[1]


def test_columns_are_plain_numbers():
    s = evaluate(
        POOR.astype(np.float32), np.array([0, 1, 1, 0], np.uint8), task="binary", positive=0
    )
    columns = s.as_columns("test_")
    assert columns["test_auroc"] == s.auroc == 0.5
    assert columns["test_n"] == 4
    assert "test_notes" not in columns
    assert len(columns) == 22 and all(type(x) in (int, float) for x in columns.values())


def test_import_is_light():
    heavy = {"torch", "scipy", "sklearn", "pandas"}
    code = f"import sys, effml.evaluation; print({heavy} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        == "set()\n"
    )
