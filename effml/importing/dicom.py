"""DICOM files to 8-bit pixels, by pydicom: padding, slope and intercept, lookup tables, windows."""

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from effml.data.spelling import key
from effml.importing.grey import Span, Unusable, Window, to_8_bit

if TYPE_CHECKING:
    from pydicom import Dataset

FRAMES = "it holds {} frames: export the one that counts as a picture of its own"
TOO_LARGE = "{}×{} pixels are more than Pillow's limit against decompression bombs"
_NEEDED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation")
_NEEDED += ("BitsAllocated", "BitsStored", "PixelRepresentation")
_OF_FRAMES = ("PixelMeasuresSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence")
_FIRST = (0x0000, 0x0001, 0x0002, 0x0005, 0x0008, 0x0010, 0x0012, 0x0016, 0x0018)
_HEAD = ((0, 2), (2, 4), (4, 8))  # where an element says group, element and length
_VRS = (b"UL", b"OB", b"UI", b"SH", b"CS", b"DA", b"TM")  # of the elements that come first


def is_dicom(data: bytes) -> bool:
    """Whether 132 first bytes are DICOM's, or start without a preamble by group 0002 or 0008."""
    if data[128:132] == b"DICM":
        return True
    group, element, length = (int.from_bytes(data[i:j], "little") for i, j in _HEAD)
    even = 0 < length <= 256 and length % 2 == 0
    return group in (2, 8) and element in _FIRST and (even or data[4:6] in _VRS)


def read_dicom(data: bytes, window: Window, done: list[str], about: dict[str, str]) -> Image.Image:
    """A DICOM file of one frame as an 8-bit picture, mode "L" or "RGB".

    What was done is appended to `done`; `about` gets group (12 hex digits for the PatientID) and
    date (StudyDate). Raises Unusable, and ModuleNotFoundError without pydicom.
    """
    try:
        import pydicom
    except ImportError:
        raise ModuleNotFoundError("DICOM files need pydicom: pip install pydicom.") from None
    damaged = f"its DICOM header is damaged: pydicom {pydicom.__version__} cannot read it"
    try:
        file = dataset(data)
    except Exception:  # of many kinds
        raise Unusable(damaged) from None
    try:
        return _picture(file, window, done, about)
    except NotImplementedError:  # pydicom reads an element when it is asked for
        raise Unusable(damaged) from None


def _picture(
    file: "Dataset", window: Window, done: list[str], about: dict[str, str]
) -> Image.Image:
    from pydicom.pixels import apply_color_lut

    check(file)
    patient(file, about)
    if aspect := _aspect(file):
        done.append(f"pixels of {aspect} (height to width) taken for squares")
    pixels, kind = decoded(file), file.PhotometricInterpretation
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        return grey(file, pixels, window, done)
    if kind == "PALETTE COLOR":
        try:
            pixels = apply_color_lut(pixels, file)
        except Exception:
            raise Unusable("its palette is missing or incomplete") from None
        pixels = np.uint8(pixels >> 8) if pixels.dtype.itemsize > 1 else pixels
        done.append("palette to RGB")
    elif pixels.dtype != np.uint8 or file.BitsStored != 8:
        raise Unusable(f"colour of {file.BitsStored} bits: export it as an 8-bit picture")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise Unusable(f"its colours are {kind} with {file.SamplesPerPixel} samples a pixel")
    if window:
        done.append("8-bit colour: the window was not used")
    return Image.fromarray(pixels)


def patient(file: "Dataset", about: dict[str, str]) -> None:
    """Put into `about` what stands for the patient, and the day."""
    if identity := str(file.get("PatientID") or ""):
        about["group"] = hashlib.sha256(key(identity).encode()).hexdigest()[:12]
    if day := str(file.get("StudyDate") or ""):
        about["date"] = day


def dataset(data: bytes) -> "Dataset":
    """The header, with what the functional groups of an Enhanced file say of its first frame."""
    import pydicom
    from pydicom import uid

    file = pydicom.dcmread(BytesIO(data), force=data[128:132] != b"DICM")
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (file.get(groups) or [])[:1]:
            for item in (one for name in _OF_FRAMES for one in (group.get(name) or [])[:1]):
                file.update(item)
    if not getattr(file, "file_meta", None):
        file.file_meta = pydicom.dataset.FileMetaDataset()
    if not file.file_meta.get("TransferSyntaxUID"):
        implicit, plain = file.original_encoding[0], uid.ExplicitVRLittleEndian
        file.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else plain
    return file


def check(file: "Dataset") -> None:
    """Raises Unusable for what is no single picture, or may not be used."""
    if "PixelData" not in file:
        raise Unusable("a DICOM file without PixelData, or cut off before it")
    if missing := [name for name in _NEEDED if file.get(name) in (None, "")]:
        raise Unusable(f"its DICOM header lacks {', '.join(missing)}")
    if (frames := int((numbers(file, "NumberOfFrames") or [1])[0])) > 1:
        raise Unusable(FRAMES.format(frames))
    if file.Rows * file.Columns > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Unusable(TOO_LARGE.format(file.Columns, file.Rows))
    if file.get("BurnedInAnnotation") == "YES":
        raise Unusable("text is burned into its pixels (BurnedInAnnotation): blank it out first")


def decoded(file: "Dataset") -> np.ndarray:
    """The stored values (H, W), or RGB (H, W, 3). Raises Unusable."""
    from pydicom.pixels import pixel_array

    syntax, kind = file.file_meta.TransferSyntaxUID, file.PhotometricInterpretation
    try:
        pixels, plain = pixel_array(file), not syntax.is_encapsulated
    except Exception:  # of many kinds
        what = f"its {file.BitsAllocated}-bit {kind} pixels ({syntax.name})"
        advice = "pip install python-gdcm for compressed ones, or export it uncompressed"
        raise Unusable(f"{what} are cut off, damaged, or not known to pydicom: {advice}") from None
    if plain and file.get("HighBit") not in (None, file.get("BitsStored", 0) - 1):
        raise Unusable("its values do not lie in the lowest bits, by its HighBit")
    return pixels


def grey(file: "Dataset", pixels: np.ndarray, window: Window, done: list[str]) -> Image.Image:
    """Stored values (H, W) to 8 bit: padding, modality LUT or slope, then window or VOI LUT."""
    hidden, stated = _padding(file, pixels), None
    values, unit = _rescaled(file, pixels)
    if isinstance(window, tuple):
        _fits(file, unit, done)
    elif window is None:
        values, stated = _shown(file, values, done)
        as_stored = stated is None and values is pixels and pixels.dtype.kind == "u"
        if as_stored and file.BitsStored <= 8:
            full = 2**file.BitsStored - 1
            how = "" if full == 255 else f"{file.BitsStored}-bit values spread over 0 to 255"
            stated = 0.0, float(full), how
    inverse = file.get("PresentationLUTShape") == "INVERSE"  # says the same of MONOCHROME1
    why = "PresentationLUTShape INVERSE" if inverse else ""
    why = "MONOCHROME1" if file.PhotometricInterpretation == "MONOCHROME1" else why
    return to_8_bit(values, window, done, stated=stated, hidden=hidden, inverted=why)


def _aspect(file: "Dataset") -> str:
    """Height to width of a pixel as text, such as "2:1"; "" for squares, or where nothing says."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        sides = numbers(file, name)
        if len(sides) == 2 and min(sides) > 0 and not np.isclose(*sides, rtol=0.01):
            return f"{sides[0]:g}:{sides[1]:g}"
    return ""


def _padding(file: "Dataset", pixels: np.ndarray) -> np.ndarray | None:
    """Where stored values are padding, (H, W) bool; None if the file names no such value."""
    if not (value := numbers(file, "PixelPaddingValue")):
        return None
    ends = np.array([value[0], *numbers(file, "PixelPaddingRangeLimit")[:1]])
    ends = ends.astype(np.int64).astype(pixels.dtype)  # 63536 for -2000 is the same 16 bits
    return (pixels >= ends.min()) & (pixels <= ends.max())


def _rescaled(file: "Dataset", pixels: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Values after the modality LUT or slope and intercept, and their unit; None: stored values."""
    if tables := file.get("ModalityLUTSequence"):
        values, _ = _looked_up(pixels, tables[0], "modality LUT")
        return values, str(tables[0].get("ModalityLUTType") or "US")
    slope, intercept = numbers(file, "RescaleSlope"), numbers(file, "RescaleIntercept")
    if slope and slope[0] == 0:
        raise Unusable("its RescaleSlope is 0")
    if len(slope) != len(intercept):
        raise Unusable("it has one of RescaleSlope and RescaleIntercept, not both")
    if not slope:
        return pixels, None
    unit = str(file.get("RescaleType") or ("HU" if file.get("Modality") == "CT" else "not named"))
    same = (slope[0], intercept[0]) == (1, 0)
    return pixels if same else pixels * slope[0] + intercept[0], unit


def _fits(file: "Dataset", unit: str | None, done: list[str]) -> None:
    """Say what the window given is taken for, or raise Unusable where it cannot be meant."""
    if file.get("Modality") == "CT" and not (unit or "").startswith("HU"):
        raise Unusable(f"the window is in HU, its CT values are {unit or 'without slope'}")
    what = "stored values: the file has no slope and intercept"
    if unit is not None:
        what = f"values after the file's slope or table (unit: {unit})"
    if unit != "HU":
        done.append(f"window taken for {what}")


def _shown(file: "Dataset", values: np.ndarray, done: list[str]) -> tuple[np.ndarray, Span | None]:
    """Values and the window which the file states for them (PS3.3 C.11.2), the first of several."""
    if tables := file.get("VOILUTSequence"):
        values, bits = _looked_up(values, tables[0], "VOI LUT")
        first = f", the first of {len(tables)}" if len(tables) > 1 else ""
        return values, (0.0, 2.0**bits - 1, f"VOI LUT of the file{first}")
    centres, widths = numbers(file, "WindowCenter"), numbers(file, "WindowWidth")
    if not centres or not widths:
        return values, None
    centre, width, name = centres[0], widths[0], str(file.get("VOILUTFunction") or "LINEAR")
    if name not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Unusable(f"its VOILUTFunction is {name}: LINEAR, LINEAR_EXACT and SIGMOID are known")
    if width < 1 if name == "LINEAR" else width <= 0:
        done.append(f"window stated in the file not used: its width is {width:g}")
        return values, None
    count = min(len(centres), len(widths))
    how = "window stated in the file" + (f", the first of {count}" if count > 1 else "")
    if name == "SIGMOID":
        power = np.clip(-4 * (values - centre) / width, -700, 700)  # exp has no overflow there
        return 1 / (1 + np.exp(power)), (0.0, 1.0, f"sigmoid {how}")
    if name == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return values, (centre - width / 2, centre + width / 2, how)


def _looked_up(values: np.ndarray, item: "Dataset", name: str) -> tuple[np.ndarray, int]:
    """Values through the lookup table of an item, and the bits of its entries; pydicom's own
    functions do not know all of them."""
    try:
        entries, first, bits = (int(number) for number in item.LUTDescriptor)
        entries, raw = entries or 65536, item.LUTData
        if isinstance(raw, bytes):
            raw = np.frombuffer(raw, np.uint8 if len(raw) < 2 * entries else "<u2")
        lut = np.asarray(raw).astype(np.int64)[:entries]
        fits = len(lut) == entries and 1 <= bits <= 16 and lut.max() < 2**bits
    except Exception:
        fits = False
    if not fits:
        raise Unusable(f"its {name} is damaged: LUTDescriptor and LUTData do not fit")
    if first > 32767 and values.min() < 0:  # signed, written as unsigned
        first -= 65536
    return lut[np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)], bits


def numbers(file: "Dataset", name: str) -> list[float]:
    """The numbers of an element; none where it is absent or empty. Raises Unusable for text."""
    try:
        value = file.get(name)
        several = value if hasattr(value, "__len__") and not isinstance(value, str) else [value]
        return [float(one) for one in several if one not in (None, "")]
    except (TypeError, ValueError):
        raise Unusable(f"its {name} is no number") from None
