"""PNG, JPEG, TIFF, BMP, GIF and WebP files to arrays, each by the library that reads it rightly."""

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from effml.importing.dicom import FRAMES, TOO_LARGE
from effml.importing.grey import Unusable

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

PLAIN = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
_KNOWN = {  # how a file begins. Pillow knows dozens more, some a risk and none a hospital picture
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": b"BM",
    "GIF": b"GIF8",
    "WEBP": b"RIFF",
}
_ALPHA = (1, 2)  # TIFF's ExtraSamples: associated and unassociated alpha
_BY_PILLOW = ("bool", "uint8", "uint16", "int16", "int32", "float32")  # TIFF of one channel
_WHITE_BY_PILLOW = ("bool", "uint8", "uint16", "float32")  # the same where white is zero
_MODES = {"1": "black and white to grey", "P": "palette to RGB", "PA": "palette to RGB"}
_MODES |= {"CMYK": "CMYK to RGB", "YCbCr": "YCbCr to RGB"}


class Raster(NamedTuple):
    """What stands in a file: rows from the top, after turning as EXIF says."""

    values: np.ndarray  # (H, W) grey or (H, W, 3) RGB, of the file's number type
    alpha: np.ndarray | None = None  # (H, W), where there is one and it is not opaque all over
    white_is_zero: bool = False  # a TIFF that says so: a picture's values have to be inverted


def read_raster(data: bytes, done: list[str], *, index: bool = False) -> Raster:
    """Decode the bytes of an image file; `index`: of a palette its indices, not its colours.

    What was done is appended to `done`. Raises Unusable with the reason.
    """
    kind = _kind(data)
    if kind == "PNG" and data[24:25] == b"\x10" and data[25:26] in (b"\2", b"\4", b"\6"):
        why = "of which Pillow keeps the high byte alone: save it as TIFF or as 8-bit PNG"
        raise Unusable(f"a PNG of 16 bits with colour or alpha, {why}")
    try:
        return _tiff(data, done, index) if kind == "TIFF" else _by_pillow(data, kind, done, index)
    except (Unusable, MemoryError, ModuleNotFoundError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = "Pillow's limit against decompression bombs"
        raise Unusable(f"it has more pixels than {limit}") from None
    except Exception as error:  # decoders fail in a dozen ways, and say it in their own words
        package = "tifffile" if kind == "TIFF" else "Pillow"
        fault = f"are damaged, cut off, or of a kind that {package} cannot decode"
        if "truncated" in str(error):
            fault = f"end early, after {len(data)} bytes"
        raise Unusable(f"its {kind} data {fault}") from error


def _kind(data: bytes) -> str:
    """The format by the first bytes, whatever the name says. Raises Unusable for no picture."""
    for kind, starts in _KNOWN.items():
        if data.startswith(starts) and (kind != "WEBP" or data[8:12] == b"WEBP"):
            return kind
    known = "PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM picture"
    raise Unusable(f"it starts with {str(data[:8])[1:]}, as no {known} does")


def _by_pillow(data: bytes, kind: str, done: list[str], index: bool) -> Raster:
    image = Image.open(BytesIO(data), formats=("JPEG", "MPO") if kind == "JPEG" else (kind,))
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format == "MPO":  # a telephone's JPEG with a preview behind it
        done.append(f"the first of {frames} pictures in the JPEG")
    elif frames > 1 and kind != "TIFF":
        raise Unusable(FRAMES.format(frames))
    if kind != "TIFF":
        image.load()  # before getexif, which decodes a PNG too: what it finds broken would be lost
    try:
        exif = dict(image.getexif())
    except Exception:
        exif = {}
    if not exif and image.info.get("exif"):
        done.append("not turned: nothing in its EXIF data can be read")
    image.load()
    values, alpha, _ = _of_image(image, done, index)
    if (turn := exif.get(0x0112)) in range(2, 9):
        done.append("turned as EXIF says")
        if kind != "TIFF":  # Pillow turns a TIFF itself, in load
            values, alpha = _turned(values, turn), None if alpha is None else _turned(alpha, turn)
    return Raster(values, alpha)


def _of_image(image: Image.Image, done: list[str], index: bool) -> Raster:
    """A decoded picture of any of Pillow's modes."""
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert(image.mode.upper())
    alpha, mode, grey = None, image.mode, image.mode in ("1", "L", "LA")
    if mode == "LAB":
        raise Unusable("its colours are CIE L*a*b*: save it as RGB")
    if image.has_transparency_data and not mode.startswith("I"):
        alpha = np.asarray(image.convert("LA" if grey else "RGBA").getchannel("A"))
        alpha = alpha if (alpha < 255).any() else None
    if mode == "P" and index:
        values, light = np.asarray(image), np.asarray(image.convert("RGB").convert("L"))
        if values.flat[light.argmax()] < values.flat[light.argmin()]:
            done.append("palette by its index, although a lighter colour has a lower one")
        return Raster(values, alpha)
    if mode in _MODES:
        done.append(_MODES[mode])
    if not mode.startswith(("I", "F")):
        image = image.convert("L" if grey else "RGB")
    return Raster(np.asarray(image), alpha)


def _tiff(data: bytes, done: list[str], index: bool) -> Raster:
    """TIFF by Pillow, where it reads the number type rightly, else by tifffile."""
    try:
        import tifffile
    except ImportError:
        raise ModuleNotFoundError("TIFF files need tifffile: pip install tifffile.") from None
    with tifffile.TiffFile(BytesIO(data), is_ome=False) as file:
        page = _only_page(file)
        end = max(at + count for at, count in zip(page.dataoffsets, page.databytecounts))
        if end > len(data):
            raise Unusable(f"its TIFF data end early: they need {end} bytes, not {len(data)}")
        extra, samples = tuple(int(one) for one in page.extrasamples), page.samplesperpixel
        base = samples - len(extra)
        if base not in (1, 3, 4) or (base == 1 and not set(extra) <= set(_ALPHA)):
            raise Unusable(f"it holds {samples} channels: export one, or three as RGB")
        white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        kinds = () if white_is_zero else ("uint8",)
        if samples == 1:
            kinds = _WHITE_BY_PILLOW if white_is_zero else _BY_PILLOW
        if page.dtype not in kinds or len(extra) > 1 or page.index:
            raster = _by_tifffile(page, base, extra, done)
        else:
            raster = _by_pillow(data, "TIFF", done, index)
            if white_is_zero and page.dtype in ("bool", "uint8"):  # which Pillow inverts
                raster = raster._replace(values=255 - raster.values)
        return raster._replace(white_is_zero=white_is_zero)


def _only_page(file: "TiffFile") -> "TiffPage":
    """The page of a TIFF with one picture (previews and masks do not count)."""
    whole = [one for one in file.series if not (one.keyframe.is_reduced or one.keyframe.is_mask)]
    series = whole or file.series
    page = series[0].keyframe
    frames = sum(one.size // max(one.keyframe.size, 1) for one in series) * page.imagedepth
    if frames > 1:
        raise Unusable(FRAMES.format(frames))
    if page.imagewidth * page.imagelength > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Unusable(TOO_LARGE.format(page.imagewidth, page.imagelength))
    return page


def _by_tifffile(page: "TiffPage", base: int, extra: tuple[int, ...], done: list[str]) -> Raster:
    name = page.photometric.name
    if name not in ("MINISBLACK", "MINISWHITE", "RGB"):
        raise Unusable(f"a TIFF of {page.dtype} in {name} colours: save it as RGB or grey")
    try:
        values = page.asarray()
    except Exception as error:
        if "imagecodecs" not in str(error):
            raise
        advice = "save it without compression, or pip install imagecodecs"
        how = f"of {page.dtype}, compressed by {page.compression.name}"
        raise Unusable(f"a TIFF {how}: {advice}") from error
    if "S" in page.axes:
        values = np.moveaxis(values, page.axes.index("S"), -1)
    values = values.reshape(page.imagelength, page.imagewidth, -1)
    if (turn := page.tags.valueof(274, default=1)) in range(2, 9):
        values = _turned(values, turn)
        done.append("turned as EXIF says")
    alpha, others = None, len(extra)
    if extra and extra[0] in _ALPHA:
        alpha, others = values[..., base], others - 1
        alpha = None if alpha.min() == alpha.max() != 0 else alpha
    if others:
        done.append(f"{others} extra channel{'s' * (others > 1)} left out")
    return Raster(values[..., 0] if base == 1 else values[..., :base], alpha)


def _turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Stored rows and columns as they are to be looked at, by EXIF's orientation from 1 to 8."""
    pixels = np.swapaxes(pixels, 0, 1) if turn > 4 else pixels
    return np.flip(pixels, ((), 1, (0, 1), 0)[(turn - 1) % 4])
