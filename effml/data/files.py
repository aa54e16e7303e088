"""From a file to plain arrays: safely, and without holding in memory what does not fit.

Nothing is unpickled. Arrays that would take more than a third of the memory at hand are unpacked
once into a cache (`EFFML_CACHE`, else ~/.cache/effml) and memory-mapped.
"""

import gzip
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np

from effml.data.catalogue import remote_files
from effml.data.places import digest
from effml.machine import available_memory_bytes

Arrays = dict[str, np.ndarray]


class NoRoom(OSError):
    """The disk is too full to unpack a file."""


def read(path: Path) -> tuple[Arrays, str]:
    """The arrays of a file (of MNIST: a folder) and what had to be converted, or ValueError."""
    try:
        if path.is_dir():
            return _mnist(path), "MNIST's idx files"
        with zipfile.ZipFile(path) as file:
            sizes = {one.filename: one.file_size for one in file.infolist()}
        total = sum(sizes.values())
        label = f"{path.stem}-{digest(path, 'sha256')[:16]}"
        if "jpeg_bytes.npy" in sizes:
            filled = cached(label, lambda folder: _jpegs(_load(path), folder), total)
            return filled, "decoded from JPEG"
        if total > _memory() / 3:
            return cached(label, lambda folder: _unpack(path, folder), total), "none"
        return _load(path), "none"
    except (FileNotFoundError, PermissionError, NoRoom):
        raise
    except Exception as error:  # zipfile, zlib, numpy and PIL raise a dozen kinds for damaged bytes
        raise ValueError(
            f"{path} cannot be read as an .npz of plain arrays ({error or type(error).__name__}). "
            "It may be incomplete or not be such a file: get it again."
        ) from error


def _load(path: Path) -> Arrays:
    arrays = {}
    with zipfile.ZipFile(path) as file:
        for member in file.namelist():
            if member.endswith(".npy"):
                with file.open(member) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
                    if stream.read(1):  # also makes zipfile compare the checksum
                        raise ValueError(f"{member} holds more than {array.shape} {array.dtype}")
                arrays[member.removesuffix(".npy")] = array
    return arrays


def _memory() -> float:
    return available_memory_bytes() or 4e9


def cached(label: str, fill: Callable[[Path], None], size: int) -> Arrays:
    """The arrays that `fill` writes as .npy files into a folder, once per label."""
    from filelock import FileLock

    cache = Path(os.environ.get("EFFML_CACHE") or Path.home() / ".cache" / "effml").expanduser()
    folder = cache / label
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(cache).free:
            raise NoRoom(
                f"{label} takes {size / 1e9:.1f} GB, more than is free in {cache}: set EFFML_CACHE."
            )
        # the second of two processes waits for what the first is writing
        with FileLock(cache / f".{label}.lock"):
            if not folder.is_dir():
                _filled(folder, fill)
    files = {file: file.stat().st_size for file in sorted(folder.glob("*.npy"))}
    large = sum(files.values()) > _memory() / 3
    return {  # "c": a user who writes to the images changes a private page, not the cache
        file.stem: np.load(file, mmap_mode="c" if large and size > 1e6 else None)
        for file, size in files.items()
    }


def _filled(folder: Path, fill: Callable[[Path], None]) -> None:
    """`folder` with what `fill` writes, which appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        filled = Path(temporary) / "filled"
        filled.mkdir()
        fill(filled)
        os.rename(filled, folder)


def _unpack(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            if name.endswith(".npy") and "/" not in name and "\\" not in name:
                file.extract(name, folder)


def _jpegs(arrays: Arrays, folder: Path) -> None:
    """`jpeg_bytes` and `jpeg_offsets` (N+1,), `split` (N,) of 0 train, 1 val, 2 test (0, 1 if there
    is no 2: train and test)."""
    from PIL import Image

    data, offsets, split = (arrays.pop(f) for f in ("jpeg_bytes", "jpeg_offsets", "split"))
    if len(split) != len(offsets) - 1 or offsets[0] < 0 or offsets[-1] > len(data):
        raise ValueError("jpeg_offsets and split do not fit the bytes")

    def picture(i: int) -> np.ndarray:
        with Image.open(BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())) as image:
            return np.asarray(image.convert("RGB"))

    for k, name in enumerate(("train", "val", "test") if split.max() == 2 else ("train", "test")):
        if len(rows := np.flatnonzero(split == k)):
            np.save(folder / f"{name}_images.npy", np.stack([picture(row) for row in rows]))
            known = {"label": "labels", "lesion_id": "groups"}
            for key, values in arrays.items():
                if values.shape[:1] == split.shape:
                    np.save(folder / f"{name}_{known.get(key, key)}.npy", values[rows])
    np.save(folder / "label_names.npy", arrays["label_names"])


def _mnist(folder: Path) -> Arrays:
    arrays = [_idx(folder / Path(file.path).name) for file in remote_files("mnist")]
    names = "train_images", "train_labels", "test_images", "test_labels"
    return {**dict(zip(names, arrays)), "label_names": np.array([str(k) for k in range(10)])}


def _idx(path: Path) -> np.ndarray:
    """Two zero bytes, the type (8 = uint8), the number of axes, their lengths, the bytes."""
    with gzip.open(path) as file:
        content = bytearray(file.read(100_000_000))
        if file.read(1) or content[:3] != b"\0\0\x08" or content[3] not in (1, 3):
            raise ValueError(f"{path.name} is no idx file of bytes")
    shape = np.frombuffer(content, ">u4", content[3], offset=4).tolist()
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
