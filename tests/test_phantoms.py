"""The phantoms keep the MedMNIST layout, repeat byte for byte, and are not solved by looking at the brightness."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from effml.data.phantoms import PHANTOMS, SPLITS, make_phantom


@pytest.fixture(scope="module", params=list(PHANTOMS))
def named(request):
    return request.param, make_phantom(request.param)


def test_layout_is_medmnist(named):
    name, data = named
    phantom = PHANTOMS[name]
    channels = (3,) if name == "phantom-skin" else ()
    for split, count in zip(SPLITS, phantom.counts):
        images, labels = data[f"{split}_images"], data[f"{split}_labels"]
        assert images.shape == (count, 28, 28, *channels) and images.dtype == np.uint8
        assert labels.shape == (count, 1) and labels.dtype == np.uint8
    assert list(data["label_names"]) == list(phantom.classes)
    assert ("positive" in data) == (len(phantom.classes) == 2)
    assert phantom.modality and "not patients" in phantom.source


def test_classes_have_their_frequency_and_are_in_every_split(named):
    name, data = named
    for split in SPLITS:
        numbers = np.bincount(data[f"{split}_labels"][:, 0], minlength=len(data["label_names"]))
        assert numbers.min() >= 5
        np.testing.assert_allclose(numbers / numbers.sum(), list(PHANTOMS[name].classes.values()), atol=0.015)


def test_images_are_exposed(named):
    images = named[1]["train_images"]
    assert images.std() > 25 and ((images == 0) | (images == 255)).mean() < 0.15


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_seed_repeats_and_nothing_else_does(name):
    first, again, other = (make_phantom(name, seed=s, counts=(40, 35, 35)) for s in (3, 3, 4))
    assert all(first[key].tobytes() == again[key].tobytes() for key in first)
    assert not np.array_equal(first["train_images"], other["train_images"])
    every = np.concatenate([first[f"{split}_images"] for split in SPLITS])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == len(every)


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_seed_shows_the_same_patients_at_every_size(name):
    small, large = (make_phantom(name, size=size, counts=(60, 7, 7)) for size in (32, 64))
    assert large["train_images"].shape[1:3] == (64, 64)
    assert np.array_equal(small["train_labels"], large["train_labels"])
    a = small["train_images"].reshape(60, 32, 32, -1).astype(float)
    b = large["train_images"].reshape(60, 32, 2, 32, 2, -1).mean((2, 4))
    assert np.corrcoef((a - a.mean(0)).ravel(), (b - b.mean(0)).ravel())[0, 1] > 0.95


def test_brightness_does_not_betray_the_opacities():
    data = make_phantom("phantom-chest")
    train, test = (data[f"{split}_images"].reshape(-1, 28 * 28) / 255 for split in ("train", "test"))
    levels = np.linspace(0.05, 0.95, 10)
    for feature in (lambda x: x.mean(1, keepdims=True), lambda x: np.quantile(x, levels, axis=1).T):
        model = LogisticRegression(C=100, max_iter=1000).fit(feature(train), data["train_labels"][:, 0])
        assert roc_auc_score(data["test_labels"][:, 0], model.predict_proba(feature(test))[:, 1]) < 0.75


def test_difficulty_makes_opacities_fainter():
    """The same patients and noise: only the opacities, so only images with label 1, may change."""
    easy, hard = (make_phantom("phantom-chest", difficulty=d, counts=(100, 2, 2)) for d in (0.0, 1.0))
    change = (easy["train_images"].astype(int) - hard["train_images"]).mean((1, 2))
    positive = easy["train_labels"][:, 0] == easy["positive"]
    assert (change[positive] > 0).all() and (change[~positive] == 0).all()


@pytest.mark.parametrize("count", [7, 8, 13, 20, 35, 41])
def test_small_splits_hold_every_class(count):
    labels = make_phantom("phantom-skin", size=16, counts=(count,) * 3)["val_labels"][:, 0]
    assert len(labels) == count and np.bincount(labels, minlength=7).min() >= min(5, count // 7)


@pytest.mark.parametrize("arguments, message", [
    (dict(name="phantom-knee"), r"Choose from: phantom-chest, phantom-skin"),
    (dict(name="phantom-chest", size=15), "size >= 16"),
    (dict(name="phantom-chest", difficulty=2), "difficulty from 0"),
    (dict(name="phantom-skin", counts=(100, 6, 100)), "at least 7"),
])
def test_errors_say_what_to_give(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(**arguments)
