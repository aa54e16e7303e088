"""Notebooks 51 and 52: arms of equal work, rates over patients, thresholds that are chosen again."""

from types import SimpleNamespace

import numpy as np
import pandas
import pytest

import clinic
import effml
from clinic import WHOLE, Source, source
from effml import Recipe
from effml.evaluation import operating_point


class Split(SimpleNamespace):
    def __len__(self):
        return len(self.labels)


BASE = Recipe(
    model="lenet5", epochs=2, selection="random_per_class", train_fraction=0.25, batch_size=50
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    store = tmp_path_factory.mktemp("clinic")
    names = [WHOLE, "half the images", "half the channels", "half, distilled", "INT8"]
    return clinic.trained(BASE, names, [0], store).set_index("arm", drop=False), store


def test_all_arms_take_as_many_steps(done):
    runs, _ = done
    steps = runs.epochs * np.ceil(runs.train_n / runs.batch_size)
    small = runs.weights.str.startswith("r") & (runs.weights != "random") & (runs.epochs > 0)
    steps += np.where(small, clinic.parent(BASE).epochs * 6, 0)
    assert steps.drop("INT8").tolist() == [12] * 4
    assert runs.params["half the channels"] < runs.params[WHOLE] / 2
    assert runs.weights["INT8"] == BASE.id and runs.teacher["half, distilled"] != "none"


def test_a_finished_run_answers_as_it_did_for_its_record_also_in_8_bits(done):
    runs, store = done
    test = effml.load_dataset(BASE.data).test
    for name, run in runs.iterrows():
        kept = effml.load_arrays(store, run.run_id)["test_probabilities"]
        given = clinic.answers(run, store)(test.images)
        assert np.allclose(given, kept, atol=1e-5), name


def test_a_source_is_answered_as_the_run_itself_answered_or_anew(done):
    runs, store = done
    data, run = effml.load_dataset(BASE.data), runs.loc[WHOLE]
    ill, answer = data.positive, clinic.answers(run, store)
    parts = {"validation": source(data.val, ill), "new patients": source(data.test, ill)}
    parts["elsewhere"] = source(data.train, ill, np.array([5, 2]))
    found = clinic.of_sources(run, store, parts, ill)
    for name, at in parts.items():
        assert np.allclose(found[name], answer(at.images)[:, ill], atol=1e-5), name


def test_a_source_is_its_images_who_is_ill_and_whose_each_is():
    images, labels = np.arange(8).reshape(4, 1, 1, 2), np.array([0, 1, 0, 0])
    split = Split(images=images, labels=labels, groups=np.array(["b", "a", "b", "c"]))
    some = source(split, 0, np.array([True, True, False, True]))
    assert some.ill.tolist() == [True, False, True] and some.patient.tolist() == ["b", "a", "c"]
    assert np.array_equal(some.images, images[[0, 1, 3]])
    split.groups = None  # each image is a patient of its own
    assert source(split, 1, np.array([3, 1])).patient.tolist() == [3, 1]


def test_what_is_left_out_was_in_no_training(done):
    runs, store = done
    free = np.flatnonzero(clinic.left_out(runs, store, 400))
    seen = [effml.load_arrays(store, one)["train_index"] for one in runs.run_id]
    assert len(free) == 400 and not set(free) & set(np.concatenate(seen).tolist())


def test_rates_are_those_of_the_images_and_their_ends_those_of_patients():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 25)
    level = rng.normal(0, 1, 40)[patient]  # alike within a patient
    ill = rng.random(1000) < 0.5
    called = level + rng.normal(0, 1, 1000) > np.where(ill, -1, 1)
    found = clinic.rates(called, ill, patient)
    assert found["sensitivity"] == called[ill].mean()
    assert found["specificity"] == (~called[~ill]).mean()
    draws = []
    for _ in range(1000):
        rows = np.concatenate([np.flatnonzero(patient == k) for k in rng.integers(0, 40, 40)])
        draws.append(called[rows][ill[rows]].mean())
    ends = [found["sensitivity_low"], found["sensitivity_high"]]
    assert np.allclose(ends, by_hand := np.percentile(draws, (2.5, 97.5)), atol=0.012)
    assert np.diff(ends) == pytest.approx(np.diff(by_hand), rel=0.08)
    alone = clinic.rates(called, ill, np.arange(1000))
    assert ends[1] - ends[0] > 1.3 * (alone["sensitivity_high"] - alone["sensitivity_low"])


def test_a_change_of_sensitivity_is_that_of_the_ill_and_is_drawn_by_patients():
    rng = np.random.default_rng(4)
    patient, ill = np.repeat(np.arange(30), 20), rng.random(600) < 0.5
    before, called = rng.random(600) < 0.9, rng.random(600) < 0.8
    found = clinic.change(called, before, ill, patient)
    assert found["difference"] == pytest.approx(called[ill].mean() - before[ill].mean())
    draws = []
    for _ in range(1000):
        rows = np.concatenate([np.flatnonzero(patient == k) for k in rng.integers(0, 30, 30)])
        rows = rows[ill[rows]]
        draws.append(called[rows].mean() - before[rows].mean())
    ends = [found["low"], found["high"]]
    assert np.allclose(ends, by_hand := np.percentile(draws, (2.5, 97.5)), atol=0.012)
    assert np.diff(ends) == pytest.approx(np.diff(by_hand), rel=0.08)
    same = clinic.change(before, before, ill, patient)
    assert same == {"difference": 0, "low": 0, "high": 0}


def test_a_threshold_chosen_again_is_never_counted_on_those_it_was_chosen_on():
    rng = np.random.default_rng(1)
    ill = rng.random(600) < 0.5
    p = np.clip(0.3 + 0.2 * ill + rng.normal(0, 0.1, 600), 0, 1)
    at = Source(None, ill, np.repeat(np.arange(120), 5))
    called = clinic.chosen_again(p, at, at_least=0.9)
    half = np.isin(at.patient, np.random.default_rng(0).permutation(120)[:60])
    for here in (half, ~half):
        cut = operating_point(p[~here], ill[~here].astype(int), positive=1, at_least=0.9).threshold
        assert np.array_equal(called[here], p[here] >= cut)
    assert called[ill].mean() == pytest.approx(0.9, abs=0.06)


def test_a_shift_of_all_scores_moves_the_rates_and_choosing_again_brings_them_back():
    rng = np.random.default_rng(2)
    ill = rng.random(4000) < 0.5
    p = np.clip(0.6 + 0.1 * ill + rng.normal(0, 0.05, 4000), 0, 1)
    at = Source(None, ill, np.arange(4000))
    rows = pandas.DataFrame(
        clinic.judged({"validation": p, "darker": p - 0.1}, {"validation": at, "darker": at}, 0.95)
    ).set_index(["source", "aim"])
    here, there = rows.loc["validation", "screening"], rows.loc["darker", "screening"]
    assert here.sensitivity >= 0.95 > 0.5 > there.sensitivity
    sure = rows.loc["validation", "confirmation"]
    assert sure.specificity >= 0.95 > sure.sensitivity and sure.threshold > here.threshold
    assert there.auroc == here.auroc and there.again_sensitivity == pytest.approx(0.95, abs=0.02)
    assert there.again_specificity == pytest.approx(here.specificity, abs=0.05)


def test_masks_keep_the_threshold_of_validation():
    rng = np.random.default_rng(3)
    masks = np.zeros((20, 8, 8), int)
    masks[:, 2:6, 2:6] = 1
    p = np.where(masks == 1, 0.75, 0.45) + rng.normal(0, 0.01, masks.shape)
    (row,) = clinic.masks_judged({"validation": (p, masks), "elsewhere": (p - 0.3, masks)})
    assert row["threshold"] in (0.5, 0.6, 0.7) and row["dice"] == 0  # of 0.45 nothing is called
    assert row["again"] == 1 and row["again_low"] == row["again_high"] == 1


def test_a_cut_chosen_again_is_never_counted_on_the_pictures_it_was_chosen_on():
    masks = np.zeros((20, 8, 8), int)
    masks[:, 2:6, 2:6] = 1
    first = np.random.default_rng(0).permutation(20) < 10  # answered best at 0.3, the rest at 0.7
    inside, outside = np.where(first, 0.35, 0.75), np.where(first, 0.25, 0.65)
    p = np.where(masks == 1, inside[:, None, None], outside[:, None, None])
    (row,) = clinic.masks_judged({"validation": (p[first], masks[first]), "there": (p, masks)})
    of_all = 2 * 16 / (16 + 64)  # at 0.3 all of a picture of the rest is called, at 0.7 nothing
    assert row["again"] == pytest.approx((0 + of_all) / 2) and row["threshold"] == 0.3
    assert row["dice"] == pytest.approx((1 + of_all) / 2)


def test_corrupted_counts_balanced_errors_at_each_models_own_threshold():
    images = np.full((8, 1, 8, 8), 60, np.uint8)
    ill = np.arange(8) < 4
    images[ill] = 180
    at = clinic.balanced(Source(images, ill, np.arange(8)), 4)
    assert at.ill.sum() == 2 == len(at.ill) / 2

    def bright(x):
        p = x.mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - p, p], axis=1)

    found = clinic.corrupted(
        {("a", 0): bright, ("b", 0): bright}, {("a", 0): 0.5, ("b", 0): 0.05}, at, 1
    )
    assert (found.loc["a", 0, "clean"] == 0).all() and (found.loc["b", 0, "clean"] == 0.5).all()
    assert found.loc["a", 0, "brightness down"].tolist() == [0, 0, 0.5, 0.5, 0.5]
    assert (found.loc["a", 0, "contrast down"] == 0).all()  # a flat picture has no contrast
