"""The bytes of a picture to 8-bit pixels of one size. With the files that it imports it is also a
part of every deployed folder, and needs NumPy and Pillow alone (TIFF: tifffile, DICOM: pydicom)."""

import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effml.importing.dicom import is_dicom, read_dicom
from effml.importing.grey import ONE_VALUE, Unusable, Window, to_8_bit
from effml.importing.rasters import Raster, read_raster
from effml.importing.square import squared


def decoded(
    data: bytes, window: Window, colour: str, done: list[str], about: dict[str, str]
) -> Image.Image:
    """The bytes of an image file as an 8-bit picture, "L" or "RGB", turned as EXIF says; as
    `read_picture`. What was done is appended to `done`; `about` gets what DICOM says."""
    if not data:
        raise Unusable("it is empty (0 bytes)")
    if is_dicom(data):
        image = read_dicom(data, window, done, about)
    else:
        image = _plain(read_raster(data, done), window, done)
    if image.mode == "RGB" and colour != "rgb":
        pixels = np.asarray(image)
        if (pixels == pixels[..., :1]).all():
            image = image.getchannel(0)
            done[:] = [what.replace("palette to RGB", "palette to grey") for what in done]
        elif colour == "grey":
            image = image.convert("L")
            done.append("colour to grey (luminance)")
    if (np.ptp(np.reshape(image.getextrema(), (-1, 2)), axis=1) == 0).all():
        raise Unusable(ONE_VALUE)
    return image


def resized(image: Image.Image, size: int, fit: str, colour: str, done: list[str]) -> np.ndarray:
    """A decoded picture, uint8 (size, size), or (size, size, 3) where it has colour."""
    small = squared(image, size, fit, done)
    return np.asarray(small.convert("RGB") if colour == "rgb" else small)


def as_imported(path: Path, how: Mapping[str, Any], told: list[str]) -> tuple[np.ndarray, Any]:
    """A picture as the import that says `how` treated its own: uint8 (C, size, size), and the
    (width, height) it has in its file. `told` gets what a reader should know. Raises Unusable."""
    window = tuple(how["window"]) if isinstance(how["window"], list) else how["window"]
    done: list[str] = []
    try:
        with quiet():
            image = decoded(path.read_bytes(), window, how["colour"], done, {})
            pixels = resized(image, how["size"], how["fit"], how["colour"], done)
    except Unusable:
        raise
    except ModuleNotFoundError as error:
        raise Unusable(str(error).rstrip(".")) from None
    except OSError as error:
        raise Unusable(f"it cannot be read ({error.strerror})") from None
    except Exception as error:  # our own mistake; it must not end the others
        raise Unusable(mistake(error)) from error
    if pixels.ndim == 3 and how["colour"] == "auto":
        raise Unusable("it is in colour, those of the import were grey")
    told += unusual(pixels, image.size, done, how["colour"])
    return np.array(np.moveaxis(np.atleast_3d(pixels), -1, 0), order="C"), image.size


def averaged(image: np.ndarray, side: int) -> np.ndarray:
    """(C, S, S) at a whole part of its side, as `load_dataset(…, size=side)` has it: means over
    squares of pixels. Another side stays as it is."""
    channels, whole, _ = image.shape
    if whole % side or whole == side:
        return image
    parts = image.reshape(channels, side, whole // side, side, whole // side)
    return np.rint(parts.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def mistake(error: Exception) -> str:
    """A reason for what should not happen."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
    return f"effml failed on it, please report this ({where})"


def unusual(pixels: np.ndarray, sides: tuple[int, int], done: list[str], colour: str) -> list[str]:
    """What was done to a picture that whoever reads the answer for it should know."""
    found = [what for what in done if not what.endswith(("averaged", "to a square"))]
    if colour == "rgb" and (pixels == pixels[..., :1]).all():
        found.append("grey made RGB")
    if max(sides) > 4 * min(sides):
        found.append(f"{sides[1]} × {sides[0]} px: a side over 4 times the other")
    return found


def _plain(raster: Raster, window: Window, done: list[str]) -> Image.Image:
    """What stands in an image file as 8-bit "L" or "RGB", without alpha."""
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
        raise Unusable(f"{ONE_VALUE}: what it shows is in its alpha channel")
    if why:
        values = 255 - values
        done.append(f"inverted ({why})")
    return Image.fromarray(values)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the decoders' doubts about metadata; what they cannot read is refused by us."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        logging.disable()
        try:
            yield
        finally:
            logging.disable(before)
