"""Phantoms keep the MedMNIST layout, repeat byte for byte, and are not solved by brightness."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from effml.phantoms import PHANTOMS, SPLITS, make_phantom


@pytest.fixture(scope="module", params=list(PHANTOMS))
def named(request):
    return request.param, make_phantom(request.param)


def test_layout_is_medmnist(named):
    name, data = named
    phantom = PHANTOMS[name]
    shape = (
        (28, 28, 28)
        if name.endswith("3d")
        else (28, 28, 3)
        if name in ("phantom-skin", "phantom-tissue", "phantom-wound")
        else (28, 28)
    )
    for split, count in zip(SPLITS, phantom.counts):
        images = data[f"{split}_images"]
        assert images.shape == (count, *shape) and images.dtype == np.uint8
        assert data[f"{split}_site"].shape == data[f"{split}_year"].shape == (count,)
        if phantom.classes:
            assert data[f"{split}_labels"].shape == (count, 1)
            assert data[f"{split}_labels"].dtype == np.uint8
        if phantom.structure or name == "phantom-nodule":
            masks = data[f"{split}_masks"]
            assert masks.shape == (count, *shape[: 3 if name.endswith("3d") else 2])
            assert set(np.unique(masks)) == {0, 1}
    assert list(data["label_names"]) == (list(phantom.classes) or ["background", phantom.structure])
    assert ("positive" in data) == (len(phantom.classes) == 2)
    assert phantom.modality


def test_classes_have_their_frequency_and_are_in_every_split(named):
    name, data = named
    for split in SPLITS if PHANTOMS[name].classes else ():
        numbers = np.bincount(data[f"{split}_labels"][:, 0], minlength=len(data["label_names"]))
        assert numbers.min() >= 5
        np.testing.assert_allclose(
            numbers / numbers.sum(), list(PHANTOMS[name].classes.values()), atol=0.015
        )


def test_images_are_exposed(named):
    images = named[1]["train_images"]
    assert images.std() > 25 and ((images == 0) | (images == 255)).mean() < 0.15


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_seed_repeats_and_nothing_else_does(name):
    first, again, other = (make_phantom(name, seed=s, counts=(20, 15, 15)) for s in (3, 3, 4))
    assert all(first[key].tobytes() == again[key].tobytes() for key in first)
    assert not np.array_equal(first["train_images"], other["train_images"])
    every = np.concatenate([first[f"{split}_images"] for split in SPLITS])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == len(every)


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_seed_shows_the_same_patients_at_every_size(name):
    n = 4 if name.endswith("3d") else 60
    small, large = (make_phantom(name, size=size, counts=(n, 7, 7)) for size in (32, 64))
    assert large["train_images"].shape[1:3] == (64, 64)
    assert np.array_equal(small["train_year"], large["train_year"])
    if PHANTOMS[name].classes:
        assert np.array_equal(small["train_labels"], large["train_labels"])
    a = small["train_images"].astype(float)
    b = large["train_images"].astype(float)
    for axis in range(1, 4 if name.endswith("3d") else 3):
        b = (b.take(range(0, 64, 2), axis) + b.take(range(1, 64, 2), axis)) / 2
    assert np.corrcoef((a - a.mean(0)).ravel(), (b - b.mean(0)).ravel())[0, 1] > 0.95


@pytest.mark.parametrize("name", [name for name in PHANTOMS if PHANTOMS[name].positive is not None])
def test_brightness_does_not_betray_the_disease(name):
    data = make_phantom(name)
    train, test = (
        data[f"{split}_images"].reshape(-1, 28 * 28) / 255 for split in ("train", "test")
    )
    levels = np.linspace(0.05, 0.95, 10)
    for feature in (lambda x: x.mean(1, keepdims=True), lambda x: np.quantile(x, levels, axis=1).T):
        model = LogisticRegression(C=100, max_iter=1000).fit(
            feature(train), data["train_labels"][:, 0]
        )
        assert (
            roc_auc_score(data["test_labels"][:, 0], model.predict_proba(feature(test))[:, 1])
            < 0.75
        )


def test_difficulty_makes_opacities_fainter():
    """The same patients and noise: only the opacities, so only images with label 1, may change."""
    easy, hard = (
        make_phantom("phantom-chest", difficulty=d, counts=(100, 2, 2)) for d in (0.0, 1.0)
    )
    change = (easy["train_images"].astype(int) - hard["train_images"]).mean((1, 2))
    positive = easy["train_labels"][:, 0] == easy["positive"]
    assert (change[positive] > 0).all() and (change[~positive] == 0).all()


@pytest.mark.parametrize("count", [7, 8, 13, 20, 35, 41])
def test_small_splits_hold_every_class(count):
    labels = make_phantom("phantom-skin", size=16, counts=(count,) * 3)["val_labels"][:, 0]
    assert len(labels) == count and np.bincount(labels, minlength=7).min() >= min(5, count // 7)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(name="phantom-knee"), r"Choose from: phantom-chest, phantom-nodule, phantom-skin"),
        (dict(name="phantom-chest", size=15), "size >= 16"),
        (dict(name="phantom-chest", difficulty=2), "difficulty from 0"),
        (dict(name="phantom-chest", shift=-1), "shift from 0"),
        (dict(name="phantom-wound", label_noise=0.1), "no labels, so no label_noise"),
        (dict(name="phantom-skin", counts=(100, 6, 100)), "at least 7"),
    ],
)
def test_errors_say_what_to_give(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(**arguments)


def test_label_noise_is_exact_reversible_and_in_training_only():
    clean, noisy = make_phantom("phantom-skin"), make_phantom("phantom-skin", label_noise=0.3)
    assert (noisy["train_true_labels"] == clean["train_labels"]).all()
    assert (noisy["train_labels"] != clean["train_labels"]).sum() == round(0.3 * 1400)
    for key in ("train_images", "val_labels", "test_labels", "test_images"):
        assert np.array_equal(clean[key], noisy[key])


@pytest.mark.parametrize("name", PHANTOMS)
def test_sites_and_years_change_the_images_and_nothing_else(name):
    plain, shifted = (make_phantom(name, shift=s, counts=(30, 30, 30)) for s in (0.0, 1.0))
    for key in plain:
        assert key.endswith(("_images", "_year")) or np.array_equal(plain[key], shifted[key]), key
    for part in SPLITS:
        change = np.abs(plain[f"{part}_images"].astype(int) - shifted[f"{part}_images"])
        change = change.reshape(len(change), -1).mean(1)
        first = shifted[f"{part}_site"] == "A"
        assert change[first].mean() < change[~first].mean()
    assert set(shifted["test_site"]) == set("ABCD")
    assert "D" not in {
        *shifted["train_site"],
        *shifted["val_site"],
    }
    assert shifted["train_year"].max() <= 2021 and shifted["test_year"].max() == 2023


def test_the_prevalence_rises_with_the_shift():
    for shift, rises in ((0.0, False), (1.0, True)):
        data = make_phantom("phantom-chest", shift=shift, counts=(4, 4, 3000), size=16)
        ill, late = data["test_labels"][:, 0] == 1, data["test_year"] >= 2020
        assert (ill[late].mean() - ill[~late].mean() > 0.2) == rises
