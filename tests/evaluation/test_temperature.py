"""The temperature: beside scikit-learn, brute force, and data of which it is known."""

import numpy as np
import pytest
from scipy.special import expit, log_softmax, logit, softmax

from effml.evaluation import evaluate, fit_temperature, with_temperature


def made(classes, temperature, n=4000, seed=0):
    """Labels drawn from the true probabilities, and logits that are `temperature` times too wide."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (n, classes))
    labels = (softmax(z, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return temperature * z, labels


def test_binary_is_the_slope_of_a_logistic_regression_without_intercept():
    from sklearn.linear_model import LogisticRegression

    z, y = made(2, 3.0)
    z = z[:, 1] - z[:, 0]
    slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(z[:, None], y).coef_
    found = fit_temperature(expit(z), y, task="binary", positive=1)
    assert found == pytest.approx(1 / slope.item(), rel=1e-4)
    for p, positive in ((np.stack([1 - expit(z), expit(z)], 1), 1), (expit(-z), 0)):
        assert fit_temperature(p, y, task="binary", positive=positive) == pytest.approx(found)


def test_several_classes_beside_brute_force_and_the_temperature_they_were_made_with():
    z, y = made(4, 2.0)
    p = softmax(z, axis=1)
    found = fit_temperature(p, y, task="multi-class")
    tried = np.linspace(1.5, 2.5, 2001)
    losses = [-log_softmax(z / t, axis=1)[np.arange(len(y)), y].mean() for t in tried]
    assert found == pytest.approx(tried[np.argmin(losses)], abs=1e-3)
    assert found == pytest.approx(2.0, abs=0.1)
    timid, labels = made(4, 0.4)
    assert fit_temperature(softmax(timid, axis=1), labels, task="multi-class") == pytest.approx(
        0.4, abs=0.02
    )
    assert np.allclose(with_temperature(p, found, task="multi-class"), softmax(z / found, axis=1))
    before, after = (
        evaluate(x, y, task="multi-class")
        for x in (p, with_temperature(p, found, task="multi-class"))
    )
    assert after.ece < before.ece / 3 and after.brier < before.brier
    assert after.auroc == pytest.approx(before.auroc, abs=0.01)
    assert after.accuracy == before.accuracy


def test_labels_of_their_own_are_cooled_one_by_one():
    rng = np.random.default_rng(1)
    z = rng.normal(0, 1.5, (3000, 3))
    y = (rng.random(z.shape) < expit(z)).astype(int)
    found = fit_temperature(expit(2.5 * z), y, task="multi-label")
    assert found == pytest.approx(2.5, abs=0.15)
    cooled = with_temperature(expit(2.5 * z), 2.5, task="multi-label")
    assert np.allclose(cooled, expit(z)) and np.allclose(logit(cooled), z)
    assert np.allclose(with_temperature(expit(z[:, 0]), 2.0, task="binary"), expit(z[:, 0] / 2))


def test_a_temperature_of_one_changes_nothing_and_the_sure_stay_finite():
    p = np.array([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7]])
    assert np.allclose(with_temperature(p, 1.0, task="binary"), p)
    assert np.isfinite(with_temperature(p, 3.0, task="binary")).all()
    with pytest.warns(UserWarning, match="the higher the better"):
        assert np.isfinite(fit_temperature(p, [0, 0, 1], task="binary", positive=1))
    for wrong in (0, -1, np.inf, np.nan, "two", None):
        with pytest.raises(ValueError, match="above 0"):
            with_temperature(p, wrong, task="binary")
    with pytest.raises(ValueError, match="softmax or sigmoid to logits"):
        with_temperature(np.array([[-3.0, 2.0]]), 2.0, task="binary")
    with pytest.raises(ValueError, match="Choose from: binary"):
        with_temperature(p, 2.0, task="multiclass")
    for shape, task in (((3,), "multi-class"), ((2, 3, 4), "multi-class"), ((5, 3), "binary")):
        with pytest.raises(ValueError, match=f"do not fit {task}: pass"):
            with_temperature(np.full(shape, 0.3), 2.0, task=task)


def test_where_none_is_best_an_end_is_reached_and_told_and_uniform_needs_none():
    labels = [1, 1, 1, 0, 0]
    for p, end, why in (
        ([0.9, 0.8, 0.7, 0.2, 0.1], -5, "the lower the better"),
        ([0.1, 0.2, 0.3, 0.8, 0.9], 5, "the higher the better"),
    ):
        with pytest.warns(UserWarning, match=why):
            assert fit_temperature(p, labels, task="binary", positive=1) == np.exp(end)
    assert fit_temperature(np.full((6, 3), 1 / 3), [0, 1, 2] * 2, task="multi-class") == 1
    assert fit_temperature(np.full(5, 0.5), labels, task="binary", positive=1) == 1
