"""What an operating point promises, by simulation; what a prevalence makes of it, by Bayes and by
exact coverage."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import beta, binom

from conftest import seeds
from effml.evaluation import achieved, evaluate, operating_point, predictive_values, promise, wilson


def rates(n1, k1, n0, k0):
    """k1 of n1 positives and k0 of n0 negatives right, as a `Scores` has them."""
    found, spared = wilson(np.arange(n1) < k1), wilson(np.arange(n0) < k0)
    return SimpleNamespace(
        **{
            f"{name}{end}": value
            for name, values in (("sensitivity", found), ("specificity", spared))
            for end, value in zip(("", "_low", "_high"), values)
        }
    )


@pytest.mark.parametrize("positives", [(60, 21, 135)[i] for i in seeds(1, 3)])
def test_the_promise_by_simulation(positives):
    """Uniform scores of the positives: the true sensitivity at a threshold t is 1 - t."""
    rng, negatives = np.random.default_rng(positives), np.linspace(0, 0.5, 40)
    y = np.repeat([1, 0], (positives, 40))
    true = np.array(
        [
            1
            - operating_point(np.append(rng.random(positives), negatives), y, positive=1).threshold
            for _ in range(800)
        ]
    )
    missed = int(np.floor(0.05 * positives + 1e-9))
    assert (true >= 0.95).mean() == pytest.approx(promise(missed, positives), abs=0.04)
    assert true.mean() == pytest.approx((positives - missed) / (positives + 1), abs=0.006)
    assert promise(missed, positives) == pytest.approx(
        beta.cdf(0.05, missed + 1, positives - missed)
    )


def test_confidence_keeps_the_promise_for_either_aim():
    rng, y = np.random.default_rng(0), np.repeat([0, 1], (150, 100))
    for aim, right in (("screening", lambda cut: 1 - cut), ("confirmation", lambda cut: cut)):
        cuts = [
            operating_point(rng.random(250), y, positive=1, aim=aim, confidence=0.9).threshold
            for _ in seeds(250, 800)
        ]
        assert np.mean([right(cut) >= 0.95 for cut in cuts]) >= 0.88, aim
    # 59 positives are the fewest that promise 0.95 with confidence 0.95, and then none may be
    # missed
    for n, noted in ((58, True), (59, False), (93, False)):
        p, y = np.append(np.linspace(0.2, 0.9, n), np.zeros(30)), np.repeat([1, 0], (n, 30))
        point = operating_point(p, y, positive=1, confidence=0.95)
        assert any("it takes 59" in note for note in point.notes) == noted
        assert point.sensitivity == (1 if n < 93 else 92 / 93)
        spared = operating_point(
            1 - p, 1 - y, positive=1, aim="confirmation", confidence=0.95
        )  # the mirror: n negatives
        assert any(f"{n} negative cases cannot promise" in x for x in spared.notes) == noted
        assert spared.specificity == point.sensitivity
    assert promise(1, 93) >= 0.95 > promise(1, 92)
    plain = operating_point(p, y, positive=1)
    assert plain.threshold > point.threshold and plain.sensitivity >= 0.95 and plain.notes == ()


@pytest.mark.parametrize(
    "change",
    [
        dict(confidence=0),
        dict(confidence=1),
        dict(confidence=95),
        dict(confidence=0.9, aim="youden"),
        dict(confidence=0.9, at_least=1),
    ],
)
def test_confidence_refuses(change):
    with pytest.raises(ValueError, match="give a chance between 0 and 1"):
        operating_point([0.1, 0.9], [0, 1], positive=1, **change)


def test_achieved_is_what_its_parts_say():
    rng, y = np.random.default_rng(1), np.repeat([0, 1], (60, 140))  # 0 is the positive class
    val, test = ((np.clip(rng.normal(0.5 + 0.2 * (y == 0), 0.2), 0, 1), y) for _ in range(2))
    table = achieved(val, test, positive=0, aims=("screening", "confirmation", "youden"))
    for aim, row in table.iterrows():
        point = operating_point(*val, positive=0, aim=aim)
        scores = evaluate(*test, task="binary", positive=0, thresholds=row.threshold)
        chosen = (point.threshold, point.sensitivity, point.specificity)
        assert (row.threshold, row.val_sensitivity, row.val_specificity) == chosen
        names = [
            f"{name}{end}"
            for name in ("sensitivity", "specificity")
            for end in ("", "_low", "_high")
        ]
        assert row[names].tolist() == [getattr(scores, name) for name in names]
    assert table.loc["screening", "kept"] == (table.sensitivity["screening"] >= 0.95)
    assert table.kept["youden"] is None
    assert table.promise["screening"] == pytest.approx(float(promise(3, 60)))
    assert np.isnan(table.promise["youden"])
    assert table.promise["confirmation"] == pytest.approx(float(promise(7, 140)))
    row = achieved(val, test, positive=0, aims=["screening"], at_least=0.8).loc["screening"]
    point = operating_point(*val, positive=0, at_least=0.8)
    assert (row.threshold, row.val_sensitivity) == (point.threshold, point.sensitivity)
    assert row.promise == pytest.approx(float(promise(12, 60, at_least=0.8)))
    assert row.kept == (row.sensitivity >= 0.8)


def test_predictive_values_are_bayes_and_lie_in_their_intervals():
    table = predictive_values(rates(40, 36, 100, 80), [0.01, 0.2, 0.5])
    # of 10 000 people at 1 %: 90 of 100 found, 1 980 of 9 900 called in vain
    assert table.ppv[0.01] == pytest.approx(90 / 2070)
    assert table.npv[0.01] == pytest.approx(7920 / 7930)
    assert table.called[0.01] == pytest.approx(0.207)
    for name in ("ppv", "npv"):
        assert ((table[f"{name}_low"] < table[name]) & (table[name] < table[f"{name}_high"])).all()
    assert table.ppv.is_monotonic_increasing and table.npv.is_monotonic_decreasing
    mirrored = predictive_values(rates(100, 80, 40, 36), [0.99, 0.8, 0.5])
    assert table[["ppv", "ppv_low", "ppv_high"]].values == pytest.approx(
        mirrored[["npv", "npv_low", "npv_high"]].values
    )


def test_predictive_intervals_are_where_the_interval_of_a_difference_reaches_zero():
    """Donner & Zou: the ratio of shares a / b is at least θ where a - θ b, with both intervals put
    together, is above 0."""
    known = rates(40, 36, 100, 80)
    found, spared = (
        [getattr(known, name + end) for end in ("_low", "", "_high")]
        for name in ("sensitivity", "specificity")
    )
    (a_low, a, a_high), (b_low, b, b_high) = [1 - x for x in spared[::-1]], found
    low = brentq(lambda t: a - t * b - np.hypot(a - a_low, t * (b_high - b)), 0, a / b)
    high = brentq(lambda t: a - t * b + np.hypot(a_high - a, t * (b - b_low)), a / b, 9)
    row = predictive_values(known, 0.2).iloc[0]
    assert (row.ppv_low, row.ppv, row.ppv_high) == pytest.approx(
        [1 / (1 + 4 * ratio) for ratio in (high, a / b, low)]
    )


@pytest.mark.parametrize(
    "counts", [(20, 20, 30, 30), (20, 0, 30, 30), (20, 0, 30, 0), (20, 20, 30, 0), (20, 1, 30, 29)]
)
def test_predictive_values_at_the_edges(counts):
    row = predictive_values(rates(*counts), 0.1).iloc[0]
    for name in ("ppv", "npv"):
        low, value, high = (row[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert 0 <= low < high <= 1 and (np.isnan(value) or low <= value <= high), (
            name,
            low,
            value,
            high,
        )
    assert np.isnan(row.ppv) == (counts == (20, 0, 30, 30))
    with pytest.raises(ValueError, match="above 0 and below 1, such as 0.01"):
        predictive_values(rates(*counts), [0.1, 1])


@pytest.mark.parametrize(
    "n1, n0, sensitivity, specificity, prevalence",
    [(42, 114, 0.9, 0.6, 0.01), (20, 20, 0.95, 0.95, 0.2)],
)
def test_predictive_intervals_cover_exactly_summed(n1, n0, sensitivity, specificity, prevalence):
    """Over every outcome that matters, weighted by its probability: 93.5 to 96.5 % of intervals
    hold the truth."""
    odds, held, total = (1 - prevalence) / prevalence, np.zeros(2), 0.0
    truth = (
        1 / (1 + odds * (1 - specificity) / sensitivity),
        1 / (1 + (1 - sensitivity) / specificity / odds),
    )
    for k1, k0 in np.ndindex(n1 + 1, n0 + 1):
        if (weight := binom_pmf[n1, sensitivity][k1] * binom_pmf[n0, specificity][k0]) > 1e-6:
            row, total = (
                predictive_values(rates(n1, k1, n0, k0), prevalence).iloc[0],
                total + weight,
            )
            held += weight * np.array(
                [row.ppv_low <= truth[0] <= row.ppv_high, row.npv_low <= truth[1] <= row.npv_high]
            )
    assert total > 0.998 and (0.935 <= held / total).all() and (held / total <= 0.965).all()


binom_pmf = {
    (n, p): binom.pmf(np.arange(n + 1), n, p) for n, p in ((42, 0.9), (114, 0.6), (20, 0.95))
}


def test_the_roc_figure_holds_the_curve_and_its_points():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from sklearn.metrics import roc_curve

    from effml import roc

    rng, y = np.random.default_rng(2), np.repeat([0, 1], (60, 40))
    p = np.clip(rng.normal(0.4 + 0.2 * y, 0.2), 0, 1).round(2)
    points = achieved((p, y), (p, y), positive=1)
    figure, axes = plt.subplots()
    roc(axes, p, y == 1, points, name="model")
    fpr, tpr, _ = roc_curve(y, p, drop_intermediate=False)
    assert axes.lines[0].get_xydata() == pytest.approx(np.column_stack([fpr, tpr]))
    for row, drawn in zip(points.itertuples(), axes.containers, strict=True):
        assert drawn[0].get_xydata()[0] == pytest.approx([1 - row.specificity, row.sensitivity])
        ends = np.sort(np.concatenate([line.get_segments()[0] for line in drawn[2]]), axis=0)
        assert ends[[0, -1]] == pytest.approx(
            np.array(
                [
                    [1 - row.specificity_high, row.sensitivity_low],
                    [1 - row.specificity_low, row.sensitivity_high],
                ]
            )
        )
    plt.close(figure)
