"""`compare_predictions`: identical models, exact cases, and brute force with SciPy and scikit-
learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

import effml
from effml.evaluation import evaluate, mcnemar, paired_auroc, paired_proportions

MEASURES = {"auroc", "accuracy", "brier", "ece", "worst_class_recall", "agreement"}
TASKS = ("binary", "multi-class", "ordinal", "multi-label")


def models(task, n=160, classes=4, seed=0):
    """Probabilities of two models that err alike, labels, and what else the task asks for."""
    rng = np.random.default_rng(seed)
    k = 2 if task == "binary" else classes
    y = rng.permutation(np.arange(n) % k)
    labels = (rng.random((n, k)) < 0.3).astype(int) if task == "multi-label" else y
    a = rng.normal(size=(n, k)) + (labels if task == "multi-label" else np.eye(k)[y])
    b = a + 0.6 * rng.normal(size=(n, k))
    if task == "multi-label":
        p, q = (1 / (1 + np.exp(-x)) for x in (a, b))
    else:
        p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (a, b))
    return p, q, labels, dict(task=task, positive=0 if task == "binary" else None)


@pytest.mark.parametrize("task", TASKS)
def test_a_model_differs_from_itself_by_nothing(task):
    p, _, labels, how = models(task)
    sheet = effml.compare_predictions(p, p, labels, **how)
    assert set(sheet.index) >= MEASURES and list(sheet.columns[:2]) == ["a", "b"]
    both = sheet.drop(index="agreement")
    assert both.a.equals(both.b) or task in ("multi-class", "ordinal")
    assert (both.difference.dropna() == 0).all()
    surely = ["auroc", "balanced_accuracy", "brier", "ece", "worst_class_recall"]
    assert (sheet.loc[surely, ["low", "high"]] == 0).all().all()
    assert sheet.b["agreement"] == 1 and sheet.p["auroc"] == 1
    assert sheet.note[surely].str.contains("without width is no certainty").all()
    if task == "multi-label":
        assert (sheet.low["accuracy"], sheet.high["accuracy"]) == (0, 0)
    else:  # Tango's stays open: that 160 images agree does not say that all do
        ends = 1.959964**2 / (160 + 1.959964**2)
        assert sheet.loc["accuracy", ["low", "high"]].tolist() == pytest.approx([-ends, ends])
        assert sheet.p["accuracy"] == 1


@pytest.mark.parametrize("task", TASKS)
def test_every_row_is_what_its_function_says(task):
    p, q, labels, how = models(task)
    cut = 0.4 if task in ("binary", "multi-label") else None
    sheet = effml.compare_predictions(p, q, labels, threshold=cut, margin=0.3, **how)
    a, b = (evaluate(x, labels, thresholds=cut, **how) for x in (p, q))
    rates = ("sensitivity", "specificity", "threshold") * (task == "binary")
    for name in (*(MEASURES - {"agreement"}), "balanced_accuracy", "average_precision", *rates):
        told = sheet.loc[name, ["a", "b", "difference"]].tolist()
        x, y = getattr(a, name), getattr(b, name)
        assert told == pytest.approx([x, y, y - x], abs=1e-12), name
    auroc = paired_auroc(p, q, labels, **how)
    assert sheet.loc["auroc", ["low", "high", "p"]].tolist() == [auroc.low, auroc.high, auroc.p]
    judged = sheet[sheet.verdict != ""]
    for low, high, verdict in zip(judged.low, judged.high, judged.verdict):
        assert verdict == effml.non_inferiority(low, high, 0.3)
    assert {"auroc", "accuracy", "balanced_accuracy", *rates[:2]} <= {*judged.index}
    assert (sheet.verdict[["brier", "ece", "agreement"]] == "").all()
    assert not sheet.index.str.contains("'s threshold").any()
    shown = sheet.drop(index=["agreement", "average_precision", *rates[2:]])
    assert (shown.low < shown.high).all() and (shown.low <= shown.difference).all()
    if task == "multi-label":
        right = [((x >= 0.4) == labels).mean(axis=1) for x in (p, q)]
        found = stats.ttest_rel(*right[::-1])
        half = 1.959964 * (found.confidence_interval().high - found.confidence_interval().low) / 2
        half /= stats.t.ppf(0.975, len(p) - 1)
        middle = np.mean(right[1] - right[0])
        ends = sheet.loc["accuracy", ["low", "high"]].tolist()
        assert ends == pytest.approx([middle - half, middle + half])
        assert sheet.b["agreement"] == pytest.approx(((p >= 0.4) == (q >= 0.4)).mean())
        return
    answers = [np.where(x[:, 0] >= 0.4, 0, 1) if cut else x.argmax(axis=1) for x in (p, q)]
    right = [x == labels for x in answers]
    found, test = paired_proportions(*right), mcnemar(*right)
    columns = ["a", "b", "low", "high", "p"]
    assert sheet.loc["accuracy", columns].tolist() == [getattr(found, name) for name in columns]
    assert f"only a right {test.only_a}, only b right {test.only_b}" in sheet.note["accuracy"]
    same = stats.binomtest(int((answers[0] == answers[1]).sum()), len(p))
    told = sheet.loc["agreement", ["b", "low", "high"]].tolist()
    assert told == pytest.approx([same.statistic, *same.proportion_ci(method="wilson")])


@pytest.mark.parametrize("task", TASKS)
def test_the_bootstrap_intervals_by_brute_force(task):
    """The same resamples of images, scored by scikit-learn one by one."""
    p, q, labels, how = models(task, n=60, classes=3, seed=3)
    sheet = effml.compare_predictions(p, q, labels, seed=5, **how)
    rng = np.random.default_rng(5)
    groups = [np.arange(60)]
    if task != "multi-label":
        groups = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    drawn = []
    for _ in range(2000):
        rows = np.concatenate([g[rng.integers(len(g), size=len(g))] for g in groups])
        recalls, briers = [], []
        for x in (p[rows], q[rows]):
            if task == "multi-label":
                hits = ((x >= 0.5) & (labels[rows] == 1)).sum(axis=0)
                recalls.append((hits / labels[rows].sum(axis=0)).min())
                briers.append(((x - labels[rows]) ** 2).mean())
            else:
                told = np.where(x[:, 0] >= 0.5, 0, 1) if task == "binary" else x.argmax(axis=1)
                share = [(told[labels[rows] == c] == c).mean() for c in np.unique(labels)]
                recalls.append(min(share))
                truth = np.eye(x.shape[1])[labels[rows]]
                briers.append(((x - truth) ** 2).sum(axis=1).mean() / (1 + (task == "binary")))
        drawn.append([recalls[1] - recalls[0], briers[1] - briers[0]])
    expected = np.percentile(drawn, (2.5, 97.5), axis=0)
    for name, ends in zip(("worst_class_recall", "brier"), expected.T):
        assert sheet.loc[name, ["low", "high"]].tolist() == pytest.approx(ends, abs=1e-12), name
    assert "class" in sheet.note["worst_class_recall"]


def test_a_worst_class_without_a_case_in_a_resample_is_left_out():
    p, q, _, _ = models("multi-label", n=40, classes=2)
    labels = np.zeros((40, 2), int)
    labels[0, 0], labels[:20, 1] = 1, 1  # one case of the first label
    row = effml.compare_predictions(p, q, labels, task="multi-label").loc["worst_class_recall"]
    assert -1 <= row.low <= row.high <= 1


def test_each_model_at_its_own_threshold_and_the_second_at_that_of_the_first():
    p, q, y, how = models("binary")
    sheet = effml.compare_predictions(
        p, q, y, threshold=(0.3, 0.6), names=("parent", "small"), **how
    )
    assert sheet.loc["threshold", ["parent", "small"]].tolist() == [0.3, 0.6]
    for name, cuts in (
        ("sensitivity", (0.3, 0.6)),
        ("sensitivity at parent's threshold", (0.3, 0.3)),
    ):
        expected = [metrics.recall_score(y == 0, x[:, 0] >= c) for x, c in zip((p, q), cuts)]
        assert sheet.loc[name, ["parent", "small"]].tolist() == pytest.approx(expected)
    assert "only parent right" in sheet.note["accuracy"]
    assert sheet.note["worst_class_recall"].startswith("parent: class ")


def test_agreement_and_the_class_that_loses_most():
    y = np.repeat([0, 1, 2], (50, 30, 20))
    a, b = y.copy(), y.copy()
    a[:5], b[:5], b[48:58], a[90:] = 1, 2, 0, 0
    sheet = effml.compare_predictions(np.eye(3)[a], np.eye(3)[b], y)
    low, high = stats.binomtest(77, 100).proportion_ci(method="wilson")
    same = sheet.loc["agreement", ["b", "low", "high"]].tolist()
    assert same == pytest.approx([0.77, low, high], abs=1e-12)
    assert sheet.note["agreement"].endswith("the least in class 2, 0.500")
    row = sheet.loc["worst change of a class's recall"]
    assert row.difference == pytest.approx(-8 / 30) and row.note.startswith("class 1,")
    assert np.isnan(row.p)


def test_the_task_is_guessed_from_the_shapes():
    for task in ("binary", "multi-class", "multi-label"):
        p, q, labels, how = models(task)
        positive, how = how["positive"], dict(how)
        guessed = effml.compare_predictions(p, q, labels, positive=positive)
        assert guessed.equals(effml.compare_predictions(p, q, labels, **how))
    p, q, y, _ = models("binary")
    one = effml.compare_predictions(p[:, 1], q[:, 1], y[:, None], positive=1)
    assert "sensitivity" in one.index
    with pytest.raises(ValueError, match="BreastMNIST: 0, malignant"):
        effml.compare_predictions(p, q, y)
    with pytest.raises(ValueError, match="pass labels.argmax"):
        effml.compare_predictions(p, q, np.eye(2, dtype=int)[y])


@pytest.mark.parametrize(
    "task, change, message",
    [
        ("multi-class", dict(threshold=0.3), "no effect on a multi-class task"),
        ("binary", dict(threshold=(0.1, 0.2, 0.3)), "one for each"),
        ("multi-label", dict(threshold=(0.1, 0.2)), r"multi-label: \(2, K\)"),
        ("binary", dict(threshold=1.2), "one number in"),
        ("binary", dict(names=("a", "a")), "give two names, none of"),
        ("binary", dict(names=("low", "b")), "give two names, none of"),
        ("binary", dict(margin=0), "margin above 0"),
    ],
)
def test_refusals_instruct(task, change, message):
    p, q, labels, how = models(task)
    with pytest.raises(ValueError, match=message):
        effml.compare_predictions(p, q, labels, **how, **change)


def test_models_of_other_classes_or_images_are_refused():
    p, q, y, how = models("multi-class")
    wide = np.column_stack([q * 0.9, np.full(len(q), 0.1)])
    with pytest.raises(ValueError, match="4 and 5 classes"):
        effml.compare_predictions(p, wide, y, **how)
    with pytest.raises(ValueError, match="do not fit multi-class"):
        effml.compare_predictions(p, q[:-1], y, **how)


def test_rows_that_do_not_add_up_to_1_are_refused():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    with pytest.raises(ValueError, match="probabilities of small add up to 0.5 in row 0, not 1"):
        effml.compare_predictions(p, p * 0.5, [0, 1, 1], positive=1, names=("big", "small"))


def test_the_sheet_as_a_figure_shows_every_interval_and_every_cost():
    import matplotlib.pyplot as plt
    import pandas as pd

    from effml.figures import sheet

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    p = np.clip(0.5 + 0.3 * (y - 0.5) + rng.normal(0, 0.2, 200), 0, 1)
    table = effml.compare_predictions(p, np.clip(p + 0.02, 0, 1), y, positive=1, margin=0.05)
    figure = sheet(table, margin=0.05, title="two models")
    (axes,) = figure.axes
    shown = [text.get_text() for text in axes.get_yticklabels()]
    judged = table[table.difference.notna() & table.low.notna()]
    assert len(shown) == len(judged) and shown[0].startswith("auroc")
    assert any("brier (lower is better)" in one for one in shown)
    ends = np.concatenate([c.lines[2][0].get_segments() for c in axes.containers]).reshape(-1, 2, 2)
    drawn = sorted(map(tuple, ends[:, :, 0].round(9)))
    assert drawn == sorted(map(tuple, judged[["low", "high"]].to_numpy(float).round(9)))
    costs = table[:2].assign(ratio=[0.5, 2.0], difference=np.nan).set_axis(["time", "bytes"])
    figure = sheet(pd.concat([table, costs]))
    assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == ["time", "bytes"]
    plt.close("all")


def test_a_width_of_rounding_is_no_width_and_no_verdict():
    y = np.arange(60) % 2
    sheet = effml.compare_predictions(np.full(60, 0.2), np.full(60, 0.8), y, positive=1)
    row = sheet.loc["balanced_accuracy"]
    assert row.difference == 0 and 0 <= row.high - row.low < 1e-12
    assert row.verdict == "inconclusive" and "without width" in row.note
