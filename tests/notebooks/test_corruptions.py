"""The corruptions of notebook 51: no harm at severity 0, more at each further one, and their errors."""

import numpy as np
import pandas
import pytest

from corruptions import CORRUPTIONS, SEVERITIES, corrupt, relative_errors
from effml.phantoms import make_phantom

GREY = make_phantom("phantom-chest", size=28, counts=(2, 2, 60))["test_images"][:, None]
COLOUR = np.moveaxis(make_phantom("phantom-skin", size=28, counts=(7, 7, 40))["test_images"], -1, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("images", (GREY, COLOUR), ids=("grey", "colour"))
def test_each_severity_is_further_from_the_picture_and_stays_one(name, images):
    before, off = images.copy(), [0.0]
    assert np.array_equal(corrupt(images, name, 0), images)
    for severity in SEVERITIES:
        worse = corrupt(images, name, severity)
        assert worse.dtype == np.uint8 and worse.shape == images.shape
        assert np.array_equal(worse, corrupt(images, name, severity))
        off.append(float(((worse / 255 - images / 255) ** 2).mean() ** 0.5))
    assert all(a < b for a, b in zip(off, off[1:])), off
    assert np.array_equal(images, before)


def test_what_each_factor_does_on_pictures_whose_answer_is_known():
    flat = np.full((2, 1, 8, 8), 100, np.uint8)
    for name in ("pixelate", "blur", "contrast up", "contrast down"):  # a flat picture has nothing
        assert np.array_equal(corrupt(flat, name, 5), flat), name
    assert (corrupt(flat, "brightness up", 1) == 110).all()
    assert (corrupt(flat, "brightness down", 5) == 50).all()
    assert (corrupt(flat, "gamma up", 3) == round(255 * (100 / 255) ** 1.3)).all()
    two = np.concatenate([flat[:1, :, :4], flat[:1, :, 4:] + 50], axis=2)  # 100 and 150
    assert set(corrupt(two, "contrast down", 2).ravel()) == {105, 145}
    assert (corrupt(np.zeros_like(flat), "speckle noise", 5) == 0).all()  # it grows with the light
    unlike = flat + np.array([0, 90], np.uint8)[:, None, None, None]  # each has a mean of its own
    assert np.array_equal(corrupt(unlike, "contrast down", 5), unlike)


def test_noise_has_the_share_and_the_width_it_says():
    flat = np.full((50, 1, 64, 64), 128, np.uint8)
    struck = corrupt(flat, "impulse noise", 5) != 128
    assert struck.mean() == pytest.approx(0.02, rel=0.05)
    assert corrupt(flat, "gaussian noise", 3).std() == pytest.approx(0.06 * 255, rel=0.02)
    shot = corrupt(flat, "shot noise", 5) / 255
    assert shot.std() == pytest.approx((128 / 255 / 80) ** 0.5, rel=0.02)
    least, most = (corrupt(flat, "gaussian noise", k).astype(float) for k in (1, 5))
    assert np.corrcoef(least.ravel(), most.ravel())[0, 1] > 0.99  # the same grain, stronger
    assert (struck | (corrupt(flat, "impulse noise", 1) == 128)).all()
    other = corrupt(flat, "gaussian noise", 3, seed=1)
    assert (other != corrupt(flat, "gaussian noise", 3)).any()


def test_errors_say_what_to_give():
    for name, severity, images, told in (
        ("fog", 1, GREY, "Choose from: pixelate"),
        ("blur", 6, GREY, "1 to 5"),
        ("blur", 1, GREY[:, 0], "N, 1, H, W"),
        ("blur", 1, GREY / 255, "uint8"),
    ):
        with pytest.raises(ValueError, match=told):
            corrupt(images, name, severity)


def test_relative_errors_by_hand():
    """The reference errs 0.1 clean, 0.2 and 0.4 under two kinds; the small one 0.2, 0.3 and 0.4."""
    index = [(m, k) for m in ("whole", "small") for k in ("noise", "blur")]
    index = pandas.MultiIndex.from_tuples(index, names=["model", "corruption"])
    errors = pandas.DataFrame({1: [0.1, 0.3, 0.2, 0.4], 2: [0.3, 0.5, 0.4, 0.4]}, index)
    clean = pandas.Series({"whole": 0.1, "small": 0.2})
    found = relative_errors(errors, clean, "whole")
    assert found.loc["whole"].tolist() == [1, 1]
    assert found.BE["small"] == pytest.approx((0.3 / 0.2 + 0.4 / 0.4) / 2)
    assert found.rBE["small"] == pytest.approx((0.35 - 0.2) / (0.3 - 0.1))
