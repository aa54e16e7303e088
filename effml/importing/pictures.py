"""Image files to 8-bit pixels of one size: one, or a list in threads."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from effml.importing.copies import Thumbprint, Thumbprints, thumbprint
from effml.importing.decoding import as_imported, decoded, mistake, quiet, resized
from effml.importing.grey import Unusable, Window
from effml.importing.masks import read_mask
from effml.importing.square import FITS
from effml.importing.volumes import LARGEST, cubed, fitted, read_cut, read_volume, spacing_of
from effml.machine import available_memory_bytes, choose

COLOURS = ("auto", "grey", "rgb")
_BLOCK = 128  # pictures decoded before their pixels are put in place


@dataclass(frozen=True)
class Picture:
    """What an import needs of one image file."""

    pixels: np.ndarray  # uint8 (size, size), (size, size, 3) with colour; a volume (size,) * 3
    shape: tuple[int, ...]  # height and width in the file, pixels; of a volume in its cube, voxels
    thumbprint: Thumbprint | None  # to know its copies again: of the pixels before resizing
    done: tuple[str, ...]  # what was converted, in words
    group: str | None = None  # DICOM: 12 hex digits that stand for the PatientID
    date: str | None = None  # DICOM: StudyDate as it is, YYYYMMDD
    spacing: tuple = ()  # of a volume: mm of a voxel (D, H, W) in the file, and in its cube


class Pixels(NamedTuple):
    """Of N pictures: images uint8 (N, S, S) or (N, S, S, 3), masks uint8 (N, S, S) or None; of
    volumes both (N, S, S, S)."""

    images: np.ndarray
    masks: np.ndarray | None
    thumbprints: Thumbprints
    spacing: np.ndarray | None = None  # of volumes: mm of a voxel (N, 3)


def check_how(*, size: int, window: Window, colour: str, fit: str, volumes: bool = False) -> None:
    """Raises ValueError if these are not what `read_picture` takes, or an import of volumes."""
    choose("colour", colour, COLOURS)
    choose("fit", fit, FITS)
    if not 8 <= size <= 4096:
        raise ValueError(f"size={size}: give 8 to 4096 pixels, such as 224.")
    if volumes and size > LARGEST:
        raise ValueError(
            f"size={size}: cubes have 8 to {LARGEST} voxels a side. Give size=64, say."
        )
    if volumes and colour == "rgb":
        raise ValueError('colour="rgb" is for pictures, and volumes are grey. Leave colour.')
    pair = isinstance(window, tuple) and len(window) == 2 and window[0] < window[1]
    if window not in (None, "max") and not pair:
        raise ValueError(f'window={window!r}: give (low, high) with low < high, "max", or None.')


def preprocess(
    path: str | os.PathLike, preprocessing: Mapping[str, Any], told: list[str] | None = None
) -> np.ndarray:
    """One picture of any supported kind, treated as an import treated its pictures.

    Args:
        path: the picture's file, of any kind that `import_folder` reads; a folder of a series.
        preprocessing: size, fit, colour (auto: all were grey), window and, if so, volumes of an
            import, as `load_dataset("mine.npz").passport["preprocessing"]` holds them.
        told: a list to which is added what was converted, beyond shrinking and padding.

    Returns:
        uint8 (C, size, size), of a volume (1, size, size, size), bit for bit what an import makes
        of the same file.

    Raises:
        ValueError: why `path` cannot be used, or what is wrong with `preprocessing`.

    Example:
        >>> from PIL import Image
        >>> Image.linear_gradient("L").save("new.png")
        >>> how = {"size": 28, "fit": "pad", "colour": "grey", "window": None}
        >>> effml.importing.preprocess("new.png", how).shape
        (1, 28, 28)
    """
    how = dict(preprocessing)
    if how.keys() - {"volumes"} != {"size", "fit", "colour", "window"}:
        raise ValueError(f"preprocessing={how}: give size, fit, colour and window, and no more.")
    how["window"] = tuple(how["window"]) if isinstance(how["window"], list) else how["window"]
    check_how(**how)
    if how.get("volumes"):
        with quiet():
            picture, _, _ = _one(Path(path), None, **how)
        if isinstance(picture, str):
            raise ValueError(f"{path} cannot be used: {picture}.")
        if told is not None:
            told += picture.done
        return picture.pixels[None]
    found: list[str] = []
    try:
        pixels, _ = as_imported(Path(path), how, found)
    except Unusable as error:
        raise ValueError(f"{path} cannot be used: {error}.") from error
    if told is not None:
        told += found
    return pixels


def read_picture(
    data: bytes, *, size: int, window: Window = None, colour: str = "auto", fit: str = "pad"
) -> Picture:
    """Decode the bytes of an image file to 8 bit and `size` × `size` pixels, turned as EXIF says.

    `window` maps what has more than 8 bits, and DICOM's grey values, to 0…255: (low, high) in the
    file's values (HU for CT); "max" for 0 to the picture's maximum; None for what the DICOM file
    states, else the 0.5th to the 99.5th percentile. `colour` "auto" is grey where the channels are
    equal. Raises Unusable with the reason, and ModuleNotFoundError for a package that is missing.
    """
    done: list[str] = []
    about: dict[str, str] = {}
    image = decoded(data, window, colour, done, about)
    pixels = resized(image, size, fit, colour, done)
    return Picture(
        pixels=pixels, shape=image.size[::-1], thumbprint=thumbprint(image), done=(*done,), **about
    )


def read_all(
    paths: list[Path], masks: list[Path] | None, tell: Callable[[int], None], **how: Any
) -> tuple[Pixels, dict[int, Picture | str]]:
    """Decode files in threads and blocks, straight into arrays; `how` as in `read_picture`.

    Returns the arrays and for every row what is known of the picture (without its pixels), or why
    it could not be read. `tell` is called with the bytes of every file. The first picture in colour
    makes the images RGB. Raises ValueError for too little memory or a package that is missing.
    """
    n, size, channels = len(paths), how["size"], (3,) * (how.get("colour") == "rgb")
    volumes = how.get("volumes", False)
    shape = (n, *(size,) * (3 if volumes else 2))
    need, free = np.prod(shape) * (3 if channels else 1), available_memory_bytes()
    if free is not None and need > free:
        said = f"need {need / 1e9:.1f} GB of memory, this machine has {free / 1e9:.1f}"
        raise ValueError(f"{n} pictures of {size} px {said}: choose a smaller size.")
    images = np.zeros((*shape, *channels), np.uint8)
    cuts = None if masks is None else np.zeros(shape, np.uint8)
    prints, found = Thumbprints.of(n), {}
    workers = 1 if volumes else min(8, os.cpu_count() or 1)  # a volume may take half a gigabyte
    with quiet(), ThreadPoolExecutor(workers) as pool:
        for start in range(0, n, _BLOCK):
            rows = slice(start, start + _BLOCK)
            theirs = masks[rows] if masks else [None] * _BLOCK
            results = pool.map(partial(_one, **how), paths[rows], theirs)
            for i, (picture, cut, count) in enumerate(results, start):
                tell(count)
                found[i] = picture
                if isinstance(picture, str):
                    continue
                pixels = picture.pixels
                if pixels.ndim == images.ndim:  # the first colour: make room for it
                    images = np.repeat(images[..., None], 3, axis=-1)
                images[i] = pixels if pixels.ndim == images.ndim - 1 else pixels[..., None]
                prints.put(i, picture.thumbprint)
                if cuts is not None:
                    cuts[i] = cut
                found[i] = replace(picture, pixels=pixels[:0], thumbprint=None)
    return Pixels(images=images, masks=cuts, thumbprints=prints), found


def _one(path: Path, mask: Path | None, **how: Any) -> tuple[Picture | str, np.ndarray | None, int]:
    """A picture, or why it cannot be used; its mask, and the bytes of its file."""
    count, whose = 0, ""
    try:
        if how.pop("volumes", False):
            return _volume(path, mask, **how)
        count = len(data := path.read_bytes())
        picture = read_picture(data, **how)
        if mask is None:
            return picture, None, count
        whose, fit = "its mask: ", how.get("fit", "pad")
        cut, done = read_mask(mask.read_bytes(), size=how["size"], shape=picture.shape, fit=fit)
        return replace(picture, done=(*picture.done, *done)), cut, count
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from None
    except Unusable as error:
        reason = str(error)
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
    except Exception as error:  # our own mistake; it must not end an import
        reason = mistake(error)
    return whose + reason, None, count


def _volume(
    path: Path, mask: Path | None, *, size: int, window: Window, fit: str, colour: str
) -> tuple[Picture, np.ndarray | None, int]:
    """As `_one`, of a volume. Raises Unusable where it cannot be used."""
    done: list[str] = []
    about: dict[str, str] = {}
    whole, cut = read_volume(path, window, done, about), None
    values, spacing = np.asarray(whole.dataobj).T, spacing_of(whole)
    inner = fitted(values.shape, spacing, size, fit)
    pixels = (cubed(values, inner, size, done) + 0.5).astype(np.uint8)
    if mask is not None:
        try:
            cut = (cubed(read_cut(mask, whole, done), inner, size, []) >= 0.5).astype(np.uint8)
        except Unusable as error:
            raise Unusable(f"its mask: {error}") from None
    now = tuple(step * n / m for step, n, m in zip(spacing, values.shape, inner.tolist()))
    middle = thumbprint(Image.fromarray(pixels[size // 2]))[2]
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    picture = Picture(
        pixels=pixels,
        shape=tuple(inner.tolist()),
        thumbprint=(digest, digest, middle),
        done=(*done,),
        spacing=(spacing, now),
        **about,
    )
    return picture, cut, bytes_of(path)


def bytes_of(path: Path) -> int:
    """The bytes of a file, or of the files in the folder of a series; 0 of what cannot be read."""
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return sum(one.stat().st_size for one in files if one.is_file())
    except OSError:
        return 0
