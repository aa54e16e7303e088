"""Image files to 8-bit pixels: PNG, JPEG, TIFF, BMP, WebP (by Pillow) and DICOM (by pydicom, if it
is installed).
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from effml.data.identity import key
from effml.machine import available_memory_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

Window = tuple[float, float] | str | None
PLAIN = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
SUFFIXES = (*PLAIN, ".dcm", ".dicom")
COLOURS = ("auto", "grey", "rgb")
FITS = ("pad", "stretch")
_FORMATS = (
    "PNG",
    "JPEG",
    "TIFF",
    "BMP",
    "WEBP",
)  # Pillow knows dozens more, some of them a risk and none of them hospital pictures
_BLOCK = 128  # pictures decoded before their pixels are put in place
_FRAMES = "it holds {} frames: export the one that counts as a picture of its own"
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Picture:
    """What an import needs of one image file."""

    pixels: np.ndarray  # uint8 (size, size), or (size, size, 3) where the picture has colour
    shape: tuple[int, int]  # height and width in the file, pixels
    digest: str  # SHA-256 of the 8-bit pixels before resizing: equal for copies in other lossless formats
    thumbnail: np.ndarray  # float32 (16, 16), grey, without padding
    done: tuple[str, ...]  # what was converted, in words
    group: str | None = None  # DICOM: 12 hex digits that stand for the PatientID
    date: str | None = None  # DICOM: StudyDate as it is, YYYYMMDD


def read_picture(
    data: bytes, *, size: int, window: Window = None, colour: str = "auto", fit: str = "pad"
) -> Picture:
    """Decode the bytes of an image file, turn it as EXIF says, bring it to 8 bit and to `size` × `size` pixels.

    `window` maps 16-bit and DICOM pixels to 0…255: (low, high) in stored units, which are HU for CT after slope and
    intercept; "max" for 0 to the picture's maximum; None for the window stated in the DICOM file, else the 0.5th to the
    99.5th percentile of the picture. 8-bit pixels stay as they are. A sigmoid window is taken as linear. MONOCHROME1 (and
    TIFF's WhiteIsZero) is inverted, so that air is black. `colour` is "grey", "rgb", or "auto": grey where the three
    channels are equal. `fit` is "pad" (keep the aspect, black borders) or "stretch". Shrinking averages areas.

    Raises ValueError, OSError or SyntaxError with the reason why a file is no picture for us, and ModuleNotFoundError
    where a DICOM file meets a machine without pydicom.
    """
    done: list[str] = []
    about: dict[str, str] = {}
    if not data:
        raise ValueError("the file is empty")
    image = (
        _dicom(data, window, done, about)
        if is_dicom(data)
        else _plain(_open(data, done), window, done)
    )
    if image.mode == "RGB" and colour != "rgb":
        red, green, blue = (band.tobytes() for band in image.split())
        if red == green == blue:
            image = image.getchannel(0)
        elif colour == "grey":
            image = image.convert("L")
            done.append("colour to grey (luminance)")
    extremes = np.reshape(image.getextrema(), (-1, 2))
    if (extremes[:, 0] == extremes[:, 1]).all():
        raise ValueError("all its pixels have the same value")
    digest = hashlib.sha256(image.tobytes() + repr(image.size).encode()).hexdigest()
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
    return Picture(
        pixels, (image.height, image.width), digest, thumbnail(small), tuple(done), **about
    )


def read_mask(
    data: bytes, *, size: int, shape: tuple[int, int], fit: str = "pad"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The mask of a picture of `shape` (height, width): uint8 (size, size), 1 above half the file's maximum, and what was done.

    Resized to the nearest pixel, so that no values arise. A mask without a structure stays empty.
    """
    done: list[str] = []
    image = _open(data, done)
    if image.mode not in ("1", "L", "P", *_DEEP):  # of a palette the index counts, not its colour
        image = image.convert("RGB").convert("L")
    values = np.asarray(image)
    if values.shape != tuple(shape):
        raise ValueError(
            f"its mask is {values.shape[1]}×{values.shape[0]} pixels, the picture {shape[1]}×{shape[0]}"
        )
    if len(np.unique(values)) > 2:
        done.append("mask of more than two values cut at half its maximum")
    from PIL import Image

    whole = Image.fromarray(np.uint8(values > values.max() / 2))
    return np.asarray(_centred(_resized(whole, size, fit, nearest=True), size)), tuple(done)


def thumbnail(image: "Image") -> np.ndarray:
    """Means of 16 × 16 areas, float32: enough to know a copy again after JPEG, resizing or a brighter display."""
    from PIL import Image

    return np.asarray(image.convert("F").resize((16, 16), Image.Resampling.BOX))


def is_dicom(data: bytes) -> bool:
    """Whether the first 132 bytes are those of a DICOM file; its name may be anything."""
    return data[128:132] == b"DICM"


def _open(data: bytes, done: list[str]) -> "Image":
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ValueError("no PNG, JPEG, TIFF, BMP or DICOM picture") from None
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a telephone's JPEG with a preview behind it
        raise ValueError(_FRAMES.format(frames))
    image.load()
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
        done.append("turned as EXIF says")
    return image


def _plain(image: "Image", window: Window, done: list[str]) -> "Image":
    """An opened picture of any mode as 8-bit "L" or "RGB"."""
    if image.mode in _DEEP:
        white_is_zero = (
            getattr(image, "tag_v2", {}).get(262) == 0
        )  # Pillow inverts such a TIFF for 8 bit only
        return _windowed(np.asarray(image), window, None, white_is_zero, done)
    if image.mode in ("L", "RGB"):
        return image
    done.append(f"mode {image.mode} to grey or RGB, without alpha")
    return image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")


def _dicom(data: bytes, window: Window, done: list[str], about: dict[str, str]) -> "Image":
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
    except ImportError:
        raise ModuleNotFoundError(
            "DICOM files need pydicom: pip install pydicom, or export the pictures as PNG."
        ) from None
    from PIL import Image

    file = pydicom.dcmread(BytesIO(data))
    if "PixelData" not in file:
        raise ValueError("a DICOM file without pixels")
    if (frames := int(file.get("NumberOfFrames") or 1)) > 1:
        raise ValueError(_FRAMES.format(frames))
    if file.Rows * file.Columns > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise ValueError(
            f"{file.Columns}×{file.Rows} pixels are more than Pillow's limit against decompression bombs"
        )
    if file.get("BurnedInAnnotation") == "YES":
        raise ValueError(
            "text is burned into its pixels, perhaps a name (BurnedInAnnotation): blank it out first"
        )
    if identity := str(file.get("PatientID") or ""):
        about["group"] = hashlib.sha256(key(identity).encode()).hexdigest()[:12]
    if day := str(file.get("StudyDate") or ""):
        about["date"] = day
    pixels, kind = pixel_array(file), file.get("PhotometricInterpretation", "")
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, file)
        pixels = np.uint8(pixels >> 8) if pixels.dtype.itemsize > 1 else pixels
        done.append("palette to RGB")
    if pixels.ndim == 3:
        if pixels.dtype != np.uint8:
            raise ValueError(f"colour of {file.BitsStored} bits: export it as an 8-bit picture")
        return Image.fromarray(pixels)
    stated = None
    if "WindowCenter" in file and "WindowWidth" in file:
        centre, width = (
            float(np.atleast_1d(file[key].value)[0]) for key in ("WindowCenter", "WindowWidth")
        )
        exact = file.get("VOILUTFunction", "LINEAR") != "LINEAR"
        half = width / 2 if exact else (width - 1) / 2  # DICOM PS3.3 C.11.2.1.2
        stated = (
            (centre - half, centre + half) if exact else (centre - 0.5 - half, centre - 0.5 + half)
        )
    return _windowed(apply_modality_lut(pixels, file), window, stated, kind == "MONOCHROME1", done)


def _windowed(
    values: np.ndarray,
    window: Window,
    stated: tuple[float, float] | None,
    invert: bool,
    done: list[str],
) -> "Image":
    """Grey values of any type (H, W) to 8 bit, halves rounded up; what is outside the window saturates."""
    from PIL import Image

    if values.dtype != np.uint8 or stated or window:
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("not all its pixels are finite numbers")
        if isinstance(window, tuple):
            (low, high), how = window, f"window given, {window[0]:g} to {window[1]:g}"
        elif window == "max":
            low, high, how = 0.0, float(values.max()), "divided by the picture's maximum"
        elif stated:
            (low, high), how = stated, "window stated in the file"
        else:
            (low, high), how = (
                np.percentile(values, (0.5, 99.5)),
                "0.5th to 99.5th percentile of the picture",
            )
        done.append(f"to 8 bit: {how}")
        values -= low
        values *= 255 / max(high - low, 1e-6)
        values += 0.5
        values = np.clip(values, 0, 255, out=values).astype(np.uint8)
    if invert:
        values = 255 - values
        done.append("inverted (MONOCHROME1)")
    return Image.fromarray(values)


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
    """What `read_all` makes of N rows: images uint8 (N, S, S) or (N, S, S, 3), masks uint8 (N, S, S) or None, and for
    `partition.copies` digests (N,) and thumbnails float32 (N, 16, 16)."""

    images: np.ndarray
    masks: np.ndarray | None
    digests: np.ndarray
    thumbnails: np.ndarray


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
    from PIL import Image

    n, channels = len(paths), (3,) if how.get("colour") == "rgb" else ()
    need, free = n * size * size * (sum(channels) or 1), available_memory_bytes()
    if free is not None and need > free:
        raise ValueError(
            f"{n} pictures of {size} px need {need / 1e9:.1f} GB of memory, this machine has {free / 1e9:.1f}: "
            "choose a smaller size, or import parts."
        )
    images = np.zeros((n, size, size, *channels), np.uint8)
    cut = None if masks is None else np.zeros((n, size, size), np.uint8)
    digests, thumbnails, found = np.zeros(n, "U64"), np.zeros((n, 16, 16), np.float32), {}
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # a decoder's doubts about metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
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
                digests[i], thumbnails[i] = picture.digest, picture.thumbnail
                if cut is not None:
                    cut[i] = mask
                found[i] = replace(
                    picture, pixels=picture.pixels[:0], thumbnail=picture.thumbnail[:0]
                )
    return Pixels(images, cut, digests, thumbnails), found


def _one(
    path: Path, mask: Path | None, *, size: int, how: dict[str, Any]
) -> tuple[Picture | str, np.ndarray | None, int]:
    """A picture, its mask and the bytes of its file; in place of the picture the reason why it cannot be used."""
    count, what = 0, path
    try:
        count = len(data := path.read_bytes())
        picture = read_picture(data, size=size, **how)
        if mask is None:
            return picture, None, count
        what = mask
        cut, done = read_mask(
            mask.read_bytes(), size=size, shape=picture.shape, fit=how.get("fit", "pad")
        )
        return replace(picture, done=(*picture.done, *done)), cut, count
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # decoders fail in a dozen ways; one file must not end an import
        reason = " ".join(
            str(getattr(error, "strerror", None) or error or type(error).__name__).split()
        )
        return (
            ("its mask: " if what is mask else "") + reason.replace(str(what), what.name)[:300],
            None,
            count,
        )
