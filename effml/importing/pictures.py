"""Image files to 8-bit pixels of one size, and masks to 0 and 1: one, or a list in threads."""

import logging
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from effml.importing.copies import Look, Looks, look
from effml.importing.dicom import is_dicom, read_dicom
from effml.importing.grey import Unusable, Window, to_8_bit
from effml.importing.rasters import PLAIN, Raster, read_raster
from effml.machine import available_memory_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (*PLAIN, ".dcm", ".dicom")
COLOURS = ("auto", "grey", "rgb")
FITS = ("pad", "stretch")
_BLOCK = 128  # pictures decoded before their pixels are put in place
_FEW = 32  # a mask whose highest value is no larger, and has more than two, is one of labels


@dataclass(frozen=True)
class Picture:
    """What an import needs of one image file."""

    pixels: np.ndarray  # uint8 (size, size), or (size, size, 3) where the picture has colour
    shape: tuple[int, int]  # height and width in the file, pixels
    look: Look | None  # to know its copies again: of the 8-bit pixels before resizing
    done: tuple[str, ...]  # what was converted, in words
    group: str | None = None  # DICOM: 12 hex digits that stand for the PatientID
    date: str | None = None  # DICOM: StudyDate as it is, YYYYMMDD


def read_picture(
    data: bytes, *, size: int, window: Window = None, colour: str = "auto", fit: str = "pad"
) -> Picture:
    """Decode the bytes of an image file to 8 bit and `size` × `size` pixels, turned as EXIF says.

    `window` maps what has more than 8 bits, and DICOM's grey values, to 0…255: (low, high) in the
    file's values, which are HU for CT after slope and intercept; "max" for 0 to the picture's
    maximum; None for the window or lookup table stated in the DICOM file, else the 0.5th to the
    99.5th percentile of the picture. 8-bit pixels stay as they are. DICOM's padding is black.
    MONOCHROME1 and TIFF's WhiteIsZero are inverted, so that air is black. Alpha is left out.
    `colour` is "grey", "rgb", or "auto": grey where the three channels are equal. `fit` is "pad"
    (keep the aspect, black borders) or "stretch". Shrinking averages areas.

    Raises Unusable, a ValueError, with the reason why a file is no picture for us, and
    ModuleNotFoundError where a DICOM file meets a machine without pydicom.
    """
    done: list[str] = []
    about: dict[str, str] = {}
    if not data:
        raise Unusable("it is empty (0 bytes)")
    if is_dicom(data):
        image = read_dicom(data, window, done, about)
    else:
        image = _plain(read_raster(data, done), window, done)
    if image.mode == "RGB" and colour != "rgb":
        red, green, blue = (band.tobytes() for band in image.split())
        if red == green == blue:
            image = image.getchannel(0)
        elif colour == "grey":
            image = image.convert("L")
            done.append("colour to grey (luminance)")
    extremes = np.reshape(image.getextrema(), (-1, 2))
    if (extremes[:, 0] == extremes[:, 1]).all():
        raise Unusable("all its pixels have the same value")
    small = _resized(image, size, fit)
    if small.size != image.size:
        done.append(
            f"resized to {size} px, "
            + ("enlarged (Lanczos)" if max(image.size) < size else "areas averaged")
        )
    if small.size != (size, size):
        done.append("padded with black to a square")
    elif fit == "stretch" and image.width != image.height:
        done.append("stretched to a square")
    pixels = np.asarray(_centred(small.convert("RGB") if colour == "rgb" else small, size))
    return Picture(pixels, (image.height, image.width), look(image), tuple(done), **about)


def _plain(raster: Raster, window: Window, done: list[str]) -> "Image":
    """What stands in an image file as 8-bit "L" or "RGB", without alpha."""
    from PIL import Image

    values, alpha, white_is_zero = raster
    if alpha is not None and not alpha.any():
        raise Unusable("it is transparent all over")
    if alpha is not None:
        done.append("alpha channel left out")
    if values.dtype == np.int8 and window is None:
        values = values.view(np.uint8) ^ 128
        done.append("signed bytes: -128 to 127 as 0 to 255")
    why = "WhiteIsZero" if white_is_zero else ""
    if values.dtype != np.uint8:
        return to_8_bit(values, window, done, inverted=why)
    if window:
        done.append("8 bit already: the window was not used")
    if alpha is not None and (values == values[:1, :1]).all():
        raise Unusable("all its pixels have the same value: what it shows is in its alpha channel")
    if why:
        values = 255 - values
        done.append(f"inverted ({why})")
    return Image.fromarray(values)


def read_mask(
    data: bytes, *, size: int, shape: tuple[int, int], fit: str = "pad"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The mask of a picture of `shape` (height, width): uint8 (size, size) of 0 and 1.

    1 is what lies above the middle of the file's values, or of its alpha channel where the rest is
    the same all over. The values count as they are stored: of a palette the index, not its colour,
    and of a TIFF no matter whether 0 is to be shown white. Resized to the nearest pixel, so that no
    values arise. A mask without a structure stays empty. Returns the mask and what was
    done. Raises Unusable where it is not sure which pixels are the structure: labels of several
    structures, several colours, grey values and alpha that differ.
    """
    from PIL import Image

    done: list[str] = []
    if not data:
        raise Unusable("it is empty (0 bytes)")
    if is_dicom(data):
        raise Unusable("a DICOM file: save the mask as PNG")
    raster = read_raster(data, done, index=True)
    height, width = raster.values.shape[:2]
    if (height, width) != tuple(shape):
        raise Unusable(f"it has {width}×{height} pixels, the picture {shape[1]}×{shape[0]}")
    whole = Image.fromarray(np.uint8(_structure(raster, done)))
    return np.asarray(_centred(_resized(whole, size, fit, nearest=True), size)), tuple(done)


def _structure(raster: Raster, done: list[str]) -> np.ndarray:
    """Where a mask of 0 and 1, 0 and 255, or soft edges has its structure: bool (H, W)."""
    values, alpha, white_is_zero = raster
    flat = (values == values[:1, :1]).all()
    if alpha is not None and flat:
        done.append("mask taken from the alpha channel: the rest is the same all over")
        return _cut(alpha, done)
    if values.ndim == 3:
        values = _one_colour(values)
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


def _one_colour(values: np.ndarray) -> np.ndarray:
    """A mask in RGB (H, W, 3) as grey values. Raises Unusable unless grey, or one colour on black."""
    red, green, blue = np.moveaxis(values, -1, 0)
    if (red == green).all() and (green == blue).all():
        return red
    shades = np.unique(values.reshape(-1, 3), axis=0)
    if len(shades) == 2 and not shades[0].any():
        return values.max(2)
    raise Unusable(
        f"it has {len(shades)} colours, so that its structure is not known: save it as 0 and 255"
    )


def _cut(values: np.ndarray, done: list[str]) -> np.ndarray:
    """Above the middle of the values. Raises Unusable if they are labels of several structures."""
    low, high = values.min(), values.max()
    if low == high:
        return values > 0
    levels = np.unique(values)
    if len(levels) > 2:
        if values.dtype.kind != "f" and (high <= _FEW or len(levels) <= 4 or _plateau(values)):
            few = ", ".join(f"{level}" for level in levels[:5]) + ", …" * (len(levels) > 5)
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


def _resized(image: "Image", size: int, fit: str, *, nearest: bool = False) -> "Image":
    """The picture with its longer side (both, if stretched) at `size` pixels."""
    from PIL import Image

    longest = max(image.size)
    shape = (
        (size, size)
        if fit == "stretch"
        else tuple(max(1, round(side * size / longest)) for side in image.size)
    )
    how = (
        Image.Resampling.NEAREST
        if nearest
        else Image.Resampling.LANCZOS
        if longest < size
        else Image.Resampling.BOX
    )
    return image if shape == image.size else image.resize(shape, how)


def _centred(image: "Image", size: int) -> "Image":
    from PIL import Image

    if image.size == (size, size):
        return image
    square = Image.new(image.mode, (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


class Pixels(NamedTuple):
    """What `read_all` makes of N rows: images uint8 (N, S, S) or (N, S, S, 3), masks uint8
    (N, S, S) or None, and what `find_copies` needs."""

    images: np.ndarray
    masks: np.ndarray | None
    looks: Looks


def read_all(
    paths: list[Path],
    masks: list[Path] | None,
    tell: Callable[[int], None],
    *,
    size: int,
    **how: Any,
) -> tuple[Pixels, dict[int, Picture | str]]:
    """Decode files in threads and blocks, straight into arrays; `how` as in `read_picture`.

    Returns the arrays and for every row what is known of the picture (without its pixels), or the reason why it could not
    be read; then its pixels are 0. `tell` is called with the bytes of every file. The first picture in colour makes the
    images RGB.

    Raises ValueError if memory does not suffice, or if pydicom is needed and not installed.
    """
    n, channels = len(paths), (3,) if how.get("colour") == "rgb" else ()
    need, free = n * size * size * (sum(channels) or 1), available_memory_bytes()
    if free is not None and need > free:
        raise ValueError(
            f"{n} pictures of {size} px need {need / 1e9:.1f} GB of memory, this machine has {free / 1e9:.1f}: "
            "choose a smaller size, or import parts."
        )
    images = np.zeros((n, size, size, *channels), np.uint8)
    cut = None if masks is None else np.zeros((n, size, size), np.uint8)
    looks, found = Looks.of(n), {}
    with _quiet(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, n, _BLOCK):
            block = slice(start, start + _BLOCK)
            results = pool.map(
                partial(_one, size=size, how=how),
                paths[block],
                masks[block] if masks else [None] * _BLOCK,
            )
            for i, (found[i], mask, count) in enumerate(results, start):
                tell(count)
                if isinstance(picture := found[i], str):
                    continue
                if picture.pixels.ndim == images.ndim:  # the first colour: make room for it
                    grey, images = images, np.zeros((n, size, size, 3), np.uint8)
                    images[:i] = grey[:i, ..., None]
                images[i] = (
                    picture.pixels
                    if picture.pixels.ndim == images.ndim - 1
                    else picture.pixels[..., None]
                )
                looks.put(i, picture.look)
                if cut is not None:
                    cut[i] = mask
                found[i] = replace(picture, pixels=picture.pixels[:0], look=None)
    return Pixels(images, cut, looks), found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the decoders' doubts about metadata; what they cannot read is refused by us."""
    from PIL import Image

    loggers = [logging.getLogger(name) for name in ("pydicom", "tifffile")]
    before = [logger.disabled for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            for logger in loggers:
                logger.disabled = True
            yield
        finally:
            for logger, was in zip(loggers, before):
                logger.disabled = was


def _one(
    path: Path, mask: Path | None, *, size: int, how: dict[str, Any]
) -> tuple[Picture | str, np.ndarray | None, int]:
    """A picture, its mask and the bytes of its file; in place of the picture the reason why it cannot be used."""
    count, mine = 0, ""
    try:
        count = len(data := _bytes(path))
        picture = read_picture(data, size=size, **how)
        if mask is None:
            return picture, None, count
        mine = "its mask: "
        fit = how.get("fit", "pad")
        cut, done = read_mask(_bytes(mask), size=size, shape=picture.shape, fit=fit)
        return replace(picture, done=(*picture.done, *done)), cut, count
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from None
    except Unusable as reason:
        return f"{mine}{reason}", None, count
    except MemoryError:
        return f"{mine}memory did not suffice to decode it", None, count
    except Exception as error:  # our own mistake; it must not end an import
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        return f"{mine}effml failed on it, please report this ({where})", None, count


def _bytes(path: Path) -> bytes:
    """What is in a file. Raises Unusable with the reason why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise Unusable("a link to a file that is not there") from None
        if path.is_dir():
            raise Unusable("a folder, not a file") from None
        if isinstance(error, PermissionError):
            raise Unusable("there is no permission to read it") from None
        raise Unusable(f"it cannot be read ({error.strerror})") from None
