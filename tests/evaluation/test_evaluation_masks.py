"""Segmentation: tiny masks by hand, Hausdorff distances by brute force over all pairs of surface
pixels."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from effml.evaluation import dice_of_each, evaluate_masks


def blobs(shape, n=12, seed=0, shift=0.0):
    """Smooth masks (N, *shape) with several parts, some of which touch the border, and a
    probability that is like them."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(n, *shape)), (0, *(2,) * len(shape)), mode="nearest")
    noise /= noise.std()
    other = (
        noise
        + 0.5 * gaussian_filter(rng.normal(size=(n, *shape)), (0, *(1.5,) * len(shape))) / 0.2
        + shift
    )
    return 1 / (1 + np.exp(-4 * (other - 0.7))), noise > 0.7


def surface(mask):
    """Coordinates of the pixels of `mask` with a neighbour across an edge or face that is not in
    it."""
    padded = np.pad(mask, 1)
    inner = np.logical_and.reduce(
        [np.roll(padded, step, axis) for axis in range(mask.ndim) for step in (1, -1)]
    )
    return np.argwhere(padded & ~inner) - 1


@pytest.mark.parametrize(
    "shape, spacing",
    [((17, 23), 1), ((17, 23), (0.5, 2.0)), ((6, 11, 9), 1), ((6, 11, 9), (3, 0.7, 0.7))],
)
def test_hausdorff_by_brute_force(shape, spacing):
    p, masks = blobs(shape)
    expected = []
    for answer, truth in zip(p >= 0.5, masks):
        assert answer.any() and truth.any()
        distances = cdist(
            surface(answer) * np.asarray(spacing), surface(truth) * np.asarray(spacing)
        )
        expected.append(
            max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))
        )
    s = evaluate_masks(p, masks, spacing=spacing)
    assert (s.hausdorff95, s.hausdorff95_median) == pytest.approx(
        (np.mean(expected), np.median(expected)), abs=1e-9
    )
    assert s.hausdorff95 > 0 and s.notes == ()


def test_by_hand():
    truth, answer = np.zeros((2, 4, 5)), np.zeros((2, 4, 5))
    truth[0, 1, 1:4], answer[0, 1, 2:5] = 1, 0.9  # three pixels each, two in common, one beside
    truth[1], answer[1, 0, 0] = 1, 0.5  # all twenty against one of them, 5 px from the far corner
    s = evaluate_masks(answer, truth)
    assert s.dice == pytest.approx((4 / 6 + 2 / 21) / 2)
    assert s.iou == pytest.approx((2 / 4 + 1 / 20) / 2)
    assert (s.dice_pooled, s.pixel_sensitivity, s.pixel_precision) == pytest.approx(
        (2 * 3 / 27, 3 / 23, 3 / 4)
    )
    ring = [
        np.hypot(i, j) for i in range(4) for j in range(5) if i in (0, 3) or j in (0, 4)
    ]  # the surface of a full image
    first = np.percentile([1, 0, 0], 95)
    assert s.hausdorff95 == pytest.approx((first + np.percentile(ring, 95)) / 2, abs=1e-12)
    assert evaluate_masks(answer, truth, threshold=0.6).dice == pytest.approx((4 / 6 + 0) / 2)
    assert evaluate_masks(truth, truth).as_columns("test_")["test_dice"] == 1


def test_dice_of_each_by_hand():
    true = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]])
    said = np.array([[[1, 0], [1, 1]], [[0, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]])
    for a, b in ((true, said), (said == 1, true == 1), (said.astype(float), true)):
        assert dice_of_each(a, b).tolist() == [0.4, 1, 0, 0]
    assert evaluate_masks(said, true).dice == pytest.approx(1.4 / 4)


def test_empty_masks_are_defined_and_counted():
    full, none = np.ones((1, 4, 4)), np.zeros((1, 4, 4))
    s = evaluate_masks(
        np.concatenate([none, full, none, full]), np.concatenate([none, none, full, full])
    )
    assert (s.n, s.n_empty, s.n_one_empty, s.dice, s.iou, s.hausdorff95) == (4, 2, 2, 0.5, 0.5, 0)
    assert s.notes == (
        "images without a structure in which none was found: 1, Dice 1, no distance",
        "images of which one mask is empty, the other not: 2, Dice 0, no distance",
    )
    s = evaluate_masks(none, none)
    assert s.dice == s.dice_low == 1
    assert np.isnan([s.hausdorff95, s.hausdorff95_median, s.dice_pooled, s.pixel_precision]).all()
    assert all(type(x) in (int, float) for x in s.as_columns().values())
    assert len(s.as_columns()) == 12


def test_patients_not_images_are_drawn():
    """Ten identical slices of each patient must not narrow the interval; without groups they do."""
    p, masks = blobs((16, 16), n=14, shift=0.3)
    once = evaluate_masks(p, masks)
    many, truth, patients = (np.repeat(x, 10, axis=0) for x in (p, masks, np.arange(14)))
    grouped, loose = evaluate_masks(many, truth, groups=patients), evaluate_masks(many, truth)

    def width(s):
        return s.dice_high - s.dice_low

    assert grouped.dice == pytest.approx(once.dice)
    assert width(grouped) == pytest.approx(width(once), rel=1e-6)
    assert width(loose) < 0.5 * width(grouped) and once.dice_low < once.dice < once.dice_high
    dice = [2 * (a & t).sum() / (a.sum() + t.sum()) for a, t in zip(p >= 0.5, masks)]
    assert width(once) == pytest.approx(2 * 1.96 * np.std(dice) / 14**0.5, rel=0.1)
    assert once == evaluate_masks(p, masks) != evaluate_masks(p, masks, seed=1)


def test_order_axes_and_types_do_not_matter():
    p, masks = blobs((15, 19))
    s, order = evaluate_masks(p, masks), np.random.default_rng(0).permutation(12)
    assert (
        evaluate_masks(p[:, None].astype(np.float32), masks.astype(np.uint8))
        == s
        == evaluate_masks(p >= 0.5, masks[:, None])
        == evaluate_masks(p.tolist(), masks.tolist())
    )
    turned = [x[:, ::-1].swapaxes(1, 2) for x in (p, masks)]
    for other in (evaluate_masks(p[order], masks[order]), evaluate_masks(*turned)):
        names = [name for name in s.as_columns() if not name.startswith("dice_")]
        assert [getattr(other, n) for n in names] == pytest.approx(
            [getattr(s, n) for n in names], abs=1e-12
        )


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(masks=np.zeros((2, 4, 5))),
            r"probabilities \(2, 4, 4\) and masks \(2, 4, 5\) do not fit: pass \(N, H, W\)",
        ),
        (dict(probabilities=np.zeros((0, 4, 4)), masks=np.zeros((0, 4, 4))), "N > 0"),
        (dict(probabilities=np.zeros((2, 3, 4, 4))), "one structure at a time"),
        (dict(probabilities=np.full((2, 4, 4), 3.0)), "apply sigmoid"),
        (dict(probabilities=np.full((2, 4, 4), np.nan)), "must be finite"),
        (dict(masks=np.full((2, 4, 4), 2)), "masks == index"),
        (dict(threshold=0), "threshold=0, "),
        (dict(spacing=(1, 1, 1)), "one number or 2"),
        (dict(spacing=-1), "above 0"),
        (dict(groups=["a"]), r"groups \(1,\) must name the patient of each of 2"),
    ],
)
def test_refusals_instruct(change, message):
    given = dict(probabilities=np.zeros((2, 4, 4)), masks=np.zeros((2, 4, 4))) | change
    with pytest.raises(ValueError, match=message):
        evaluate_masks(given.pop("probabilities"), given.pop("masks"), **given)
