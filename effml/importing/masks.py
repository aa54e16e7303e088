"""Masks to 0 and 1: which pixels of an image file are the structure, where that is sure."""

import numpy as np
from PIL import Image

from effml.importing.dicom import is_dicom
from effml.importing.grey import Unusable
from effml.importing.rasters import Raster, read_raster
from effml.importing.square import squared

_FEW = 32  # a mask whose highest value is no larger, and has more than two, is one of labels


def read_mask(
    data: bytes, *, size: int, shape: tuple[int, int], fit: str = "pad"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The mask of a picture of `shape` (height, width), uint8 (size, size) of 0 and 1; and what
    was done.

    1 is what lies above the middle of the stored values (of a palette: the index), or of the alpha
    channel where the rest is the same all over. Raises Unusable where it is not sure which pixels
    are the structure: several labels or colours, grey values and alpha that differ.
    """
    done: list[str] = []
    if not data:
        raise Unusable("it is empty (0 bytes)")
    if is_dicom(data):
        raise Unusable("a DICOM file: save the mask as PNG")
    raster = read_raster(data, done, index=True)
    height, width = raster.values.shape[:2]
    if (height, width) != tuple(shape):
        raise Unusable(f"it has {width}×{height} pixels, the picture {shape[1]}×{shape[0]}")
    whole = Image.fromarray(np.uint8(structure(raster, done)))
    return np.asarray(squared(whole, size, fit, [], nearest=True)), tuple(done)


def structure(raster: Raster, done: list[str]) -> np.ndarray:
    """Where a mask of 0 and 1, 0 and 255, or soft edges has its structure: bool (H, W)."""
    values, alpha, white_is_zero = raster
    flat = (values == values[:1, :1]).all()
    if alpha is not None and flat:
        done.append("mask taken from the alpha channel: the rest is the same all over")
        return _cut(alpha, done)
    if values.ndim == 3:
        if not (values == values[..., :1]).all():
            shades = np.unique(values.reshape(-1, 3), axis=0)
            if len(shades) != 2 or shades[0].any():  # one colour on black is sure
                raise Unusable(f"it has {len(shades)} colours: save the structure as 0 and 255")
        values = values.max(2)
    if values.dtype.kind not in "buif" or not np.isfinite(values).all() or values.min() < 0:
        raise Unusable("its values are not all finite numbers from 0: save it as 0 and 255")
    if white_is_zero:  # so does tifffile write a bool array, whose True is the structure
        done.append("mask by its stored values, although its TIFF says WhiteIsZero")
    cut = _cut(values, done)
    if alpha is not None and (_cut(alpha, []) != cut).any():
        raise Unusable("its grey values and its alpha channel show different structures")
    if flat and cut.all():
        done.append("mask that covers the whole picture")
    return cut


def _cut(values: np.ndarray, done: list[str]) -> np.ndarray:
    """Above the middle of the values. Raises Unusable if they are labels of several structures."""
    low, high = values.min(), values.max()
    if low == high:
        return values > 0
    levels = np.unique(values)
    if len(levels) > 2:
        if values.dtype.kind != "f" and (high <= _FEW or len(levels) <= 4 or _plateau(values)):
            few = ", ".join(map(str, levels[:5])) + ", …" * (len(levels) > 5)
            raise Unusable(f"it holds labels ({few}): save the structure that counts as 0 and 255")
        done.append("mask of more than two values cut at the middle of its values")
    return values > (float(low) + float(high)) / 2


def _plateau(values: np.ndarray) -> bool:
    """Whether areas are filled with unlike values, as labels do and soft edges do not."""
    from scipy.ndimage import maximum_filter, minimum_filter

    even = (maximum_filter(values, 3) == minimum_filter(values, 3)) & (values > 0.05 * values.max())
    if not even.any():
        return False
    part = values[even] / np.median(values[even])
    return ((part < 0.8) | (part > 1.2)).mean() > 0.01
