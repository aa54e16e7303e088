"""Operating points: brute force over scikit-learn's ROC curve, ties, and what validation cannot
support."""

from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from conftest import seeds
from effml.evaluation import AIMS, achieved, evaluate, operating_point


def sample(seed, n=150, decimals=None, prevalence=0.35):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) >= prevalence * n).astype(
        int
    )  # 0 is positive, as malignant is in BreastMNIST
    p = 1 / (1 + np.exp(-rng.normal(1.3 * (y == 0), 1)))
    return (p if decimals is None else p.round(decimals)), y


@pytest.mark.parametrize("at_least", [0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("decimals", [None, 2, 1])
@pytest.mark.parametrize("seed", seeds(2, 4))
def test_thresholds_by_brute_force(seed, decimals, at_least):
    p, y = sample(seed, decimals=decimals)
    fpr, tpr, cuts = roc_curve(y == 0, p, drop_intermediate=False)  # cuts fall from inf
    spec = 1 - fpr
    screening = operating_point(p, y, positive=0, aim="screening", at_least=at_least)
    assert screening.threshold == max(
        cut for cut, sens in zip(cuts, tpr) if sens >= at_least - 1e-12
    )
    confirmation = operating_point(p, y, positive=0, aim="confirmation", at_least=at_least)
    expected = min(cut for cut, s in zip(cuts, spec) if s >= at_least - 1e-12)
    assert confirmation.threshold == (
        expected if np.isfinite(expected) else min(np.nextafter(p.max(), 2), 1)
    )
    youden = operating_point(p, y, positive=0, aim="youden")
    assert youden.sensitivity + youden.specificity == pytest.approx((tpr + spec).max(), abs=1e-12)
    assert (
        youden.threshold
        == cuts[np.flatnonzero(np.isclose(tpr + spec, (tpr + spec).max(), atol=1e-12))[-1]]
    )
    for point in (
        screening,
        confirmation,
        youden,
    ):  # evaluate, on the same split, gives the very same figures
        again = evaluate(p, y, task="binary", positive=0, thresholds=point.threshold)
        ends = ("", "_low", "_high")
        assert all(
            getattr(point, n + e) == getattr(again, n + e)
            for n in ("sensitivity", "specificity")
            for e in ends
        )
        assert (point.n_positive, point.n_negative) == ((y == 0).sum(), (y == 1).sum())


def test_the_aim_is_about_the_malignant():
    """malignant = 0: of 20 malignant and 60 benign cases screening may miss one malignant, whatever
    becomes of the benign."""
    y = np.repeat([0, 1], (20, 60))
    malignant = np.concatenate([[0.1, 0.35], np.linspace(0.4, 0.9, 18), np.linspace(0.02, 0.6, 60)])
    point = operating_point(np.column_stack([malignant, 1 - malignant]), y, positive=0)
    assert point.threshold == 0.35
    assert point.sensitivity == 0.95
    assert point.specificity == (malignant[20:] < 0.35).mean() < 0.6
    assert point.notes == () and 0.75 < point.sensitivity_low < 0.95
    other = operating_point(1 - malignant, y, positive=1)
    assert other.threshold != pytest.approx(0.35) and other.n_positive == 60


@pytest.mark.parametrize("constant", [0.0, 0.4, 1.0])
def test_constant_scores(constant):
    p, y = np.full(60, constant), np.repeat([0, 1], 30)
    screening = operating_point(p, y, positive=0)
    assert (screening.threshold, screening.sensitivity, screening.specificity) == (constant, 1, 0)
    assert screening.notes == ("this threshold calls every image of validation positive",)
    confirmation = operating_point(p, y, positive=0, aim="confirmation")
    if constant < 1:
        assert constant < confirmation.threshold < constant + 1e-9
        assert (confirmation.sensitivity, confirmation.specificity) == (0, 1)
        assert confirmation.notes == ("this threshold calls no image of validation positive",)
    else:
        assert (confirmation.threshold, confirmation.specificity) == (1, 0)
        assert "no threshold has specificity >= 0.95" in confirmation.notes[0]
    assert operating_point(p, y, positive=0, aim="youden").threshold == constant
    evaluate(p, y, task="binary", positive=0, thresholds=confirmation.threshold)


def test_too_few_cases_are_noted():
    p, y = sample(0, n=60, prevalence=0.2)
    assert operating_point(p, y, positive=0).notes == (
        "only 12 positive cases on validation, fewer than 20: one of them moves "
        "sensitivity by 0.083",
    )
    assert operating_point(p, y, positive=0, aim="confirmation").notes == ()
    assert "12 positive" in operating_point(p, y, positive=0, aim="youden").notes[0]
    strict = operating_point(p, y, positive=0, aim="confirmation", at_least=0.99)
    assert "48 negative cases on validation, fewer than 100" in strict.notes[0]
    p, y = sample(0, n=200, prevalence=0.5)
    assert operating_point(p, y, positive=0, at_least=0.9).notes == ()
    for positives, noted in ((19, True), (20, False)):
        p, y = np.linspace(0, 1, 60), np.repeat([1, 0], (60 - positives, positives))
        for how in ({}, {"at_least": 0.8}, {"aim": "youden"}):
            assert bool(operating_point(p, y, positive=0, **how).notes) == noted


def test_where_no_threshold_is_specific_enough_the_highest_is_taken():
    p, y = np.array([0.3, 1, 0.6, 0.4, 0.2, 1]), np.array([0, 0, 0, 1, 1, 1])
    point = operating_point(p, y, positive=0, aim="confirmation")
    assert (point.threshold, point.sensitivity, point.specificity) == pytest.approx(
        (1, 1 / 3, 2 / 3)
    )
    assert any("no threshold has specificity >= 0.95" in note for note in point.notes)


@pytest.mark.parametrize("aim", AIMS)
def test_order_and_names_do_not_matter(aim):
    p, y = sample(5, decimals=2)
    order = np.random.default_rng(0).permutation(len(p))
    point = operating_point(p, y, positive=0, aim=aim)
    assert (
        point
        == operating_point(p[order], y[order], positive=0, aim=aim)
        == operating_point(p, 1 - y, positive=1, aim=aim)
    )
    float32 = operating_point(p.astype(np.float32), y[:, None], positive=0, aim=aim)
    assert astuple(float32)[3:] == astuple(point)[3:]
    assert float32.threshold == pytest.approx(point.threshold, rel=1e-6)
    assert (
        0 <= operating_point(np.where(p > 0.9, 1 + 5e-7, p), y, positive=0, aim=aim).threshold <= 1
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(aim="triage"), "Unknown aim .triage.. Choose from: screening, confirmation"),
        (dict(at_least=0), "at_least=0 is not allowed: give a fraction above 0"),
        (dict(at_least=95), "at_least=95 is not allowed"),
        (
            dict(labels=[1, 1, 1]),
            "0 of 3 images are positive: choose a threshold on a validation split that",
        ),
        (dict(labels=[0, 0, 0]), "3 of 3 images are positive"),
        (dict(positive=None), "BreastMNIST: 0, malignant"),
        (dict(probabilities=[0.1, 2, 0.3]), "apply softmax or sigmoid"),
    ],
)
def test_refusals_instruct(change, message):
    given = dict(probabilities=[0.1, 0.2, 0.3], labels=[0, 1, 1], positive=0) | change
    with pytest.raises(ValueError, match=message):
        operating_point(given.pop("probabilities"), given.pop("labels"), **given)


@pytest.mark.parametrize("absent", [0, 1])
def test_an_aim_about_a_class_that_test_lacks_is_unknown_not_broken(absent):
    """positive = 0: screening is about class 0, confirmation about class 1."""
    p, y = sample(1, n=200)
    there = y != absent
    table = achieved((p, y), (p[there], y[there]), positive=0, aims=tuple(AIMS))
    aim, side = [("screening", "sensitivity"), ("confirmation", "specificity")][absent]
    assert table.kept[aim] is None and np.isnan(table[side][aim])
    assert f"no {['positive', 'negative'][absent]} case on test: {side} and kept" in table.note[aim]
    other = ["confirmation", "screening"][absent]
    assert table.kept[other] in (True, False) and "on test" not in table.note[other]
    assert table.kept["youden"] is None and "on test" not in table.note["youden"]
    whole = achieved((p, y), (p, y), positive=0)
    assert whole.kept.tolist() == [True, True] and not whole.note.str.contains("on test").any()
