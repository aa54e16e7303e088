"""Moved pixels force DRAWING to be raised: by it, not by the pixels, a phantom's data is known."""

import numpy as np
import pytest

from effml.phantoms import DRAWING, PHANTOMS, SPLITS, make_phantom

# For DRAWING = 1: mean, standard deviation and position-weighted mean of the images in grey levels,
# at the defaults and then hard (difficulty 0.9) and shifted (1); masks and labels by position, in
# percent.
EXPECTED = {
    "phantom-chest": [125.54, 69.1, 195.76, 113.67, 66.99, 173.43, 0.0, 35.4],
    "phantom-nodule": [66.67, 54.81, 83.9, 59.4, 50.99, 79.83, 9.76, 40.15],
    "phantom-skin": [98.5, 47.11, 135.3, 86.43, 46.48, 116.4, 0.0, 332.94],
    "phantom-brain": [56.35, 56.66, 65.34, 59.86, 57.16, 67.65, 34.31, 0.0],
    "phantom-brain3d": [48.13, 52.8, 49.15, 44.2, 50.7, 39.06, 18.76, 0.0],
    "phantom-tissue": [174.76, 35.98, 234.79, 164.19, 43.96, 217.65, 50.28, 0.0],
    "phantom-wound": [109.97, 62.27, 149.12, 105.91, 61.8, 142.74, 12.97, 0.0],
}


def weighted(values):
    """A mean that moves when images, rows or columns change places."""
    n, y, x = (np.linspace(0, 2, length) for length in values.shape[:3])
    weights = n[:, None, None] * y[:, None] * x**2
    return (values.reshape(*values.shape[:3], -1).mean(-1) * weights).mean()


def numbers(name):
    """What moves when pixels do, and hardly with the rounding of another CPU."""
    counts, found = (4, 2, 2) if name.endswith("3d") else (60, 14, 14), []
    for options in ({}, {"difficulty": 0.9, "shift": 1.0, "seed": 1}):
        data = make_phantom(name, counts=counts, **options)
        joined = {
            kind: np.concatenate([data[f"{split}_{kind}"] for split in SPLITS]).astype(float)
            for kind in ("images", "masks", "labels")
            if f"train_{kind}" in data
        }
        images, masks = joined["images"], joined.get("masks")
        found += [images.mean(), images.std(), weighted(images)]
    found.append(0.0 if masks is None else 100 * weighted(masks))
    labels = joined.get("labels", np.zeros((1, 1)))[:, 0]
    found.append(100 * (labels * np.linspace(0, 2, len(labels))).mean())
    return [round(float(value), 2) for value in found]


@pytest.mark.parametrize("name", PHANTOMS)
def test_pixels_that_move_force_the_number_of_the_drawing_to_be_raised(name):
    now = numbers(name)
    same = np.allclose(now, EXPECTED[name], rtol=0, atol=0.05)
    assert DRAWING == 1 and same, (
        f"{name} looks different: raise DRAWING in effml/phantoms/__init__.py and write the new "
        f"values here:\n    {name!r}: {now},"
    )
