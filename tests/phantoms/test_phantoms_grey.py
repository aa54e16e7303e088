"""Nodules are told apart by their shape, brains not found by brightness; difficulty hides both."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from effml.phantoms import make_phantom


@pytest.fixture(scope="module")
def nodules():
    return make_phantom("phantom-nodule")


@pytest.fixture(scope="module")
def brains():
    return make_phantom("phantom-brain", size=64, counts=(40, 1, 60))


@pytest.fixture(scope="module")
def heads():
    return make_phantom("phantom-brain3d", counts=(20, 1, 1))


def auroc(data, feature):
    """On test, of logistic regression on a feature (images, masks) -> (N, K)."""
    train, test = (
        feature(
            data[f"{split}_images"].reshape(-1, 28 * 28) / 255,
            data[f"{split}_masks"].reshape(-1, 28 * 28),
        )
        for split in ("train", "test")
    )
    model = LogisticRegression(C=100, max_iter=2000).fit(train, data["train_labels"][:, 0])
    return roc_auc_score(data["test_labels"][:, 0], model.predict_proba(test)[:, 1])


@pytest.mark.parametrize(
    "feature, most",
    [
        (lambda images, masks: images.mean(1, keepdims=True), 0.75),
        (lambda images, masks: np.quantile(images, np.linspace(0.05, 0.95, 10), axis=1).T, 0.75),
        (
            lambda images, masks: (
                np.quantile(images, [0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1], axis=1).T
            ),
            0.77,
        ),
        (lambda images, masks: masks.mean(1, keepdims=True), 0.68),
        (
            lambda images, masks: (
                (images * masks).sum(1, keepdims=True) / masks.sum(1, keepdims=True)
            ),
            0.75,
        ),
    ],
    ids=["mean", "quantiles", "extremes", "area", "mean of the nodule"],
)
def test_neither_brightness_nor_size_betrays_malignancy(nodules, feature, most):
    assert auroc(nodules, feature) < most


def test_nodules_are_outlined_in_the_middle_and_never_in_the_chest_wall(nodules):
    masks = nodules["train_masks"]
    assert set(np.unique(masks)) == {0, 1} and masks.shape == nodules["train_images"].shape
    area = masks.mean((1, 2))
    assert 0.01 < area.min() and area.max() < 0.35 and area.std() > 0.2 * area.mean()
    assert masks[:, 12:16, 12:16].any((1, 2)).all() and not masks[:, [0, -1]].any()
    assert all(ndimage.label(mask, np.ones((3, 3)))[1] == 1 for mask in masks)


def raggedness(masks):
    """How far outlines are from round: perimeter^2 over area."""
    edges = sum(
        np.abs(np.diff(ndimage.gaussian_filter(masks.astype(float), (0, 1, 1)), axis=a)).sum((1, 2))
        for a in (1, 2)
    )
    return edges**2 / masks.sum((1, 2))


def test_difficulty_makes_malignant_outlines_rounder_and_benign_ones_less_so():
    gaps = []
    for difficulty in (0.0, 0.5, 1.0):
        data = make_phantom("phantom-nodule", size=64, difficulty=difficulty, counts=(200, 2, 2))
        ragged, malignant = raggedness(data["train_masks"]), data["train_labels"][:, 0] == 1
        gaps.append(ragged[malignant].mean() - ragged[~malignant].mean())
    assert gaps[0] > gaps[1] > gaps[2] > 0


def largest(inside, filled):
    names, count = ndimage.label(inside)
    part = names == np.bincount(names.ravel())[1:].argmax() + 1 if count else inside
    return ndimage.binary_fill_holes(part) if filled else part


def dice(predicted, masks):
    return np.mean(
        [2 * (p & m).sum() / (p.sum() + m.sum()) for p, m in zip(predicted, masks.astype(bool))]
    )


def otsu(image):
    below = np.cumsum(np.bincount(image.ravel(), minlength=256) / image.size)[:-1]
    moment = np.cumsum(np.bincount(image.ravel(), minlength=256) * np.arange(256) / image.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nanargmax((moment[-1] * below - moment[:-1]) ** 2 / (below * (1 - below)))


@pytest.mark.parametrize("filled", [False, True], ids=["holes", "filled"])
def test_no_threshold_outlines_the_brain(brains, filled):
    images, masks = brains["train_images"], brains["train_masks"]
    levels = range(-1, 256, 32)
    bands = [
        (low, high) for low in levels for high in levels if low < high
    ]  # from -1 or to 255: one threshold

    def outlined(images, low, high):
        return [largest((image > low) & (image <= high), filled) for image in images]

    best = max(bands, key=lambda band: dice(outlined(images, *band), masks))
    images, masks = brains["test_images"], brains["test_masks"]
    assert dice(outlined(images, *best), masks) < 0.9
    assert dice([largest(image > otsu(image), filled) for image in images], masks) < 0.9


def test_brains_are_one_piece_within_the_head(brains):
    for mask, image in zip(brains["test_masks"], brains["test_images"]):
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1 and 0.1 < mask.mean() < 0.5
        assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any()
        assert image[mask == 1].mean() > 2 * image[:4].mean()


@pytest.mark.parametrize("name", ["phantom-brain", "phantom-brain3d"])
def test_difficulty_fades_the_edge_of_the_brain(name):
    contrasts = []
    for difficulty in (0.0, 0.5, 1.0):
        data = make_phantom(name, size=32, difficulty=difficulty, counts=(12, 1, 1))
        images, masks = data["train_images"].astype(float), data["train_masks"] == 1
        near = np.ones((1,) + (3,) * (masks.ndim - 1))
        contrasts.append(
            images[masks].mean() - images[ndimage.binary_dilation(masks, near, 2) & ~masks].mean()
        )
    assert contrasts[0] > contrasts[1] > contrasts[2] > 0


def test_volumes_are_cubes_of_one_head(heads):
    images, masks = heads["train_images"], heads["train_masks"]
    assert images.shape == masks.shape == (20, 28, 28, 28)
    assert images.dtype == masks.dtype == np.uint8
    assert all(ndimage.label(mask)[1] == 1 for mask in masks)
    area = masks.mean((2, 3))
    assert (area.max(1) > 0.2).all() and (
        area[:, -1] == 0
    ).all()  # widest in the middle, nothing above the vertex
    assert (images[:, 1:] != images[:, :-1]).any((2, 3)).all()
    change = np.abs(np.diff(images.astype(float), axis=1)).mean()
    assert (
        change < 0.6 * np.abs(images[1:].astype(float) - images[:-1]).mean()
    )  # neighbouring slices, not other heads
    assert (np.ptp(area, axis=1) > 0.2).all()
