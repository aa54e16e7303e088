"""Glands and ulcers come in all stains and skins, and no threshold on a colour outlines them."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from effml.phantoms import make_phantom

NAMES = ("phantom-tissue", "phantom-wound")
STAINS = np.linalg.inv(
    [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]
)  # Ruifrok and Johnston


@pytest.fixture(scope="module", params=NAMES)
def named(request):
    return request.param, make_phantom(request.param, size=64, counts=(150, 2, 50))


@pytest.fixture(scope="module")
def at_difficulty():
    """The same patients, easy to hard: images in [0, 1] and masks."""
    drawn = {
        name: [
            make_phantom(name, size=64, difficulty=d, counts=(60, 1, 1)) for d in (0.0, 0.5, 1.0)
        ]
        for name in NAMES
    }
    return {
        name: [(data["train_images"] / 255, data["train_masks"] > 0) for data in each]
        for name, each in drawn.items()
    }


def test_masks_are_hard_and_of_sensible_area(named):
    name, data = named
    masks = data["train_masks"]
    assert masks.dtype == np.uint8
    assert masks.shape == data["train_images"].shape[:3]
    assert set(np.unique(masks)) == {0, 1}
    area = masks.mean((1, 2))
    low, mean, high = {"phantom-tissue": (0.1, 0.38, 0.75), "phantom-wound": (0.01, 0.11, 0.55)}[
        name
    ]
    assert area.min() > low and abs(area.mean() / mean - 1) < 0.15 and area.max() < high


@pytest.mark.parametrize("name", NAMES)
def test_small_images_hold_a_mask_that_is_the_large_one_seen_from_afar(name):
    small, large = (
        make_phantom(name, size=size, counts=(60, 1, 1))["train_masks"] for size in (16, 64)
    )
    assert small.any((1, 2)).all()
    seen = large.reshape(60, 16, 4, 16, 4).mean((2, 4)) > 0.5
    assert (seen == small).mean() > 0.93


def test_several_glands_to_an_image():
    glands = [
        label(mask)[1]
        for mask in make_phantom("phantom-tissue", size=128, counts=(60, 1, 1))["train_masks"]
    ]
    assert min(glands) >= 2 and np.median(glands) >= 4


def test_an_ulcer_is_in_one_place():
    pieces = []
    for mask in make_phantom("phantom-wound", size=64, counts=(60, 1, 1))["train_masks"]:
        sizes = np.bincount(label(mask)[0].ravel())[1:]
        pieces.append(sizes.max() / sizes.sum())
    assert (
        np.median(pieces) == 1 and np.quantile(pieces, 0.1) > 0.9
    )  # a finger or a ruler may cut one in two


def test_stain_varies_from_slide_to_slide():
    density = -np.log(
        (make_phantom("phantom-tissue", size=64, counts=(100, 1, 1))["train_images"] + 1.0) / 256
    )
    amounts = np.median((density @ STAINS).reshape(100, -1, 3), 1)[:, :2]
    assert (amounts.std(0) / amounts.mean(0) > 0.15).all()
    assert (
        np.median(density, (1, 2)).argmax(1) == 1
    ).mean() > 0.95  # yet all are pink and purple: they absorb green


def test_wounds_are_on_skin_of_all_tones():
    data = make_phantom("phantom-wound", size=64, counts=(150, 1, 1))
    skin = []
    for image, mask in zip(data["train_images"].mean(-1), data["train_masks"]):
        skin.append(
            np.median(
                image[binary_dilation(mask, iterations=7) & ~binary_dilation(mask, iterations=4)]
            )
        )
    assert (np.histogram(skin, [0, 60, 90, 120, 150, 256])[0] >= 10).all()


def test_ulcers_hold_red_yellow_and_black():
    data = make_phantom("phantom-wound", size=64, difficulty=0, counts=(150, 1, 1))
    red, green, blue = (data["train_images"][data["train_masks"] > 0] / 255).T
    granulation, slough, necrosis = (
        red > 2 * green,
        (green > 0.6 * red) & (green > 1.2 * blue),
        red + green + blue < 0.7,
    )
    assert all(0.1 < tissue.mean() < 0.6 for tissue in (granulation, slough, necrosis))


@pytest.mark.parametrize("name", NAMES)
def test_difficulty_makes_structure_and_background_more_alike(name, at_difficulty):
    """By the colour without the light: in the epithelium and the stroma, which are not white, or on
    both sides of a rim."""
    differences = []
    for images, masks in at_difficulty[name]:
        chroma = images / images.sum(-1, keepdims=True).clip(0.1)
        apart = []
        for colour, mask, image in zip(chroma, masks, images):
            near = (
                image.min(-1) < 0.7
                if name == "phantom-tissue"
                else binary_dilation(mask, iterations=6)
            )
            apart.append(
                np.abs(np.median(colour[mask & near], 0) - np.median(colour[~mask & near], 0)).sum()
            )
        differences.append(np.mean(apart))
    assert differences[0] > 1.2 * differences[1] > 1.2 * 1.2 * differences[2]
    easy, _, hard = at_difficulty[name]
    assert np.array_equal(easy[1], hard[1])  # the same patients


def test_no_threshold_on_a_colour_outlines_them(named):
    """The best of all colours, sides and levels, the level chosen on the training images or by Otsu
    for each image."""
    name, data = named
    train, test = (data[f"{split}_masks"][:40] > 0 for split in ("train", "test"))
    scores = {"all": [], "largest": []}
    for seen, new in zip(_features(data["train_images"][:40]), _features(data["test_images"][:40])):
        for sign in (1, -1):
            levels = np.quantile(sign * seen, np.linspace(0.05, 0.95, 10))
            otsu = np.array([_otsu(image) for image in sign * new])[:, None, None]
            for rule, found in scores.items():
                best = max(
                    levels, key=lambda level: _dice(sign * seen[::2] > level, train[::2], rule)
                )
                found += [
                    _dice(sign * new > best, test, rule),
                    _dice(sign * new > otsu, test, rule),
                ]
    assert len(scores["all"]) == 48
    assert max(scores["largest"]) < 0.60 and max(scores["all"]) < 0.75
    assert max(scores["all"]) > _dice(
        np.ones_like(test), test, "all"
    )  # the thresholds are at least worth trying


def _features(images):
    """Twelve greys (N, H, W) of each image: channels, their differences and shares, saturation,
    hue, two stains."""
    values = np.maximum(images.astype(np.float32), 1) / 255
    red, green, blue = np.moveaxis(values, -1, 0)
    shares = values / values.sum(-1, keepdims=True)
    stains = -np.log(values) @ STAINS.astype(np.float32)
    hue = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
    return [
        red,
        green,
        blue,
        values.mean(-1),
        red - green,
        *np.moveaxis(shares, -1, 0),
        1 - values.min(-1) / values.max(-1),
        hue,
        stains[..., 0],
        stains[..., 1],
    ]


def _otsu(image):
    number, edges = np.histogram(image, 64)
    middle = (edges[1:] + edges[:-1]) / 2
    below, total = number.cumsum()[:-1], (number * middle).cumsum()
    return middle[
        np.argmax(
            (total[-1] * below / number.sum() - total[:-1]) ** 2 / (below * (number.sum() - below))
        )
    ]


def _dice(found, masks, rule):
    """Mean Dice with holes filled, and of the largest piece alone where `rule` says so."""
    scores = []
    for piece, mask in zip(found, masks):
        holes = label(~piece)[0]
        at_border = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
        piece = piece | ~np.isin(holes, at_border)
        if rule == "largest" and piece.any():
            pieces = label(piece)[0]
            piece = pieces == np.bincount(pieces[pieces > 0]).argmax()
        scores.append(2 * (piece & mask).sum() / (piece.sum() + mask.sum()))
    return np.mean(scores)
