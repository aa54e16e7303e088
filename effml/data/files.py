"""From a file to plain arrays: safely, and without holding in memory what does not fit.

Nothing is unpickled. What a file says of its own size is checked before memory is taken. Arrays that would take more than
a third of the memory at hand are unpacked once into a cache (`EFFML_CACHE`, else ~/.cache/effml) and memory-mapped.
"""

import gzip
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from effml.data.catalogue import MNIST_FILES, digest, images_of_masks
from effml.machine import available_memory_bytes

Arrays = dict[str, np.ndarray]
DEFLATE = 1032  # the most that zip's compression can gain


class NoRoom(OSError):
    """The disk is too full to unpack a file."""


LIMIT_GB = 64.0  # unpacked; EFFML_LIMIT_GB changes it. The largest MedMNIST set, PathMNIST at 224 px, has 16
RATIO = 100  # a file that unpacks to more than 1 GB and more than this often its own size is no file of images


def read(path: Path) -> tuple[Arrays, str]:
    """The arrays of a file (of MNIST: a folder) and what had to be converted. Raises ValueError for what cannot be read."""
    try:
        if path.is_dir():
            return _mnist(path), "MNIST's idx files"
        with zipfile.ZipFile(path) as file:
            shapes = {
                info.filename.removesuffix(".npy"): _header(file, info)
                for info in file.infolist()
                if info.filename.endswith(".npy")
            }
        total = sum(_check(key, *shape) for key, shape in shapes.items())
        limit = float(os.environ.get("EFFML_LIMIT_GB") or LIMIT_GB) * 1e9
        if total > limit or total > max(1e9, RATIO * path.stat().st_size):
            raise ValueError(
                f"it would unpack to {total / 1e9:.2f} GB, which is over {limit / 1e9:g} GB (EFFML_LIMIT_GB) or "
                f"over {RATIO} times the file"
            )
        if convert := next((convert for key, convert in CONTAINERS.items() if key in shapes), None):
            return cached(
                _label(path), lambda folder: convert(path, _load(path), folder), total
            ), CONVERTED[convert.__name__]
        if total > _memory() / 3:
            return cached(_label(path), lambda folder: _unpack(path, folder), total), "none"
        return _load(path), "none"
    except (FileNotFoundError, PermissionError, MemoryError, NoRoom):
        raise
    except Exception as error:  # zipfile, zlib, numpy and PIL raise a dozen kinds for damaged bytes
        raise ValueError(
            f"{path} cannot be read as an .npz of plain arrays ({error or type(error).__name__}). It may be "
            "incomplete or not be such a file: get it again."
        ) from error


def _header(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype and promised bytes of an array in a zip."""
    with file.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{info.filename} is of .npy version {version}")
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(stream)
        if info.file_size > DEFLATE * info.compress_size + 1000:
            raise ValueError(
                f"{info.filename} claims more bytes than its {info.compress_size} can unpack to"
            )
        return shape, dtype, info.file_size - stream.tell()


def _check(key: str, shape: tuple[int, ...], dtype: np.dtype, promised: int) -> int:
    if dtype.hasobject:
        raise ValueError(
            f"{key} holds Python objects, which would have to be unpickled: save numbers or text"
        )
    size = dtype.itemsize
    for axis in shape:  # Python's whole numbers do not overflow
        size *= axis
    if min(shape, default=1) < 0 or size != promised:
        raise ValueError(f"{key} says {shape} {dtype}, {size} bytes, but holds {promised}")
    return size


def _load(path: Path) -> Arrays:
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {key: file[key] for key in file.files if f"{key}.npy" in file.zip.namelist()}


def _memory() -> float:
    return available_memory_bytes() or 4e9


def _label(path: Path) -> str:
    return f"{path.stem}-{digest(path, 'sha256')[:16]}"


def cached(label: str, fill: Callable[[Path], None], size: int) -> Arrays:
    """The arrays that `fill` writes as .npy files into a folder: done once per label, and never seen half done."""
    cache = Path(os.environ.get("EFFML_CACHE") or Path.home() / ".cache" / "effml").expanduser()
    folder = cache / label
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(cache).free:
            raise NoRoom(
                f"{label} takes {size / 1e9:.1f} GB, more than is free in {cache}: set EFFML_CACHE."
            )
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as temporary:
            fill(Path(temporary) / "filled")
            try:
                os.rename(Path(temporary) / "filled", folder)
            except OSError:
                if not folder.is_dir():  # another process was faster: its folder is as good
                    raise
    files = sorted(folder.glob("*.npy"))
    large = sum(file.stat().st_size for file in files) > _memory() / 3
    return {
        file.stem: np.load(
            file, allow_pickle=False, mmap_mode="c" if large and file.stat().st_size > 1e6 else None
        )
        for file in files
    }  # "c": a user who writes to the images changes a private page, not the cache


def write(folder: Path, arrays: Arrays) -> None:
    """A new folder of .npy files, as `cached` wants it filled."""
    folder.mkdir()
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)


def _unpack(path: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            if name.endswith(".npy") and "/" not in name and "\\" not in name:
                file.extract(name, folder)


def _jpegs(path: Path, arrays: Arrays, folder: Path) -> None:
    """`jpeg_bytes` and `jpeg_offsets` (N+1,), `split` (N,) of 0 train, 1 val, 2 test (0, 1 if no 2: train and test)."""
    from PIL import Image

    folder.mkdir()
    data, offsets = arrays["jpeg_bytes"], arrays["jpeg_offsets"]
    rows = len(offsets) - 1
    if (
        len(arrays["split"]) != rows
        or not 0 <= offsets.min() <= offsets.max() <= len(data)
        or (np.diff(offsets) <= 0).any()
    ):
        raise ValueError("jpeg_offsets and split do not fit the bytes")

    def picture(i: int) -> Image.Image:
        return Image.open(BytesIO(data[offsets[i] : offsets[i + 1]].tobytes()))

    width, height = picture(0).size
    if rows * width * height * 3 > LIMIT_GB * 1e9:
        raise ValueError(f"{rows} images of {width}×{height} px are over {LIMIT_GB:g} GB")
    for split, index in _rows_of(arrays["split"]).items():
        images = np.lib.format.open_memmap(
            folder / f"{split}_images.npy", "w+", np.uint8, (len(index), height, width, 3)
        )

        def decode(at: int) -> None:
            with picture(index[at]) as image:
                if image.size != (width, height):
                    raise ValueError(
                        f"image {index[at]} is {image.size}, the first {(width, height)}"
                    )
                images[at] = np.asarray(image.convert("RGB"))

        with ThreadPoolExecutor() as pool:
            list(pool.map(decode, range(len(index))))
        images.flush()
        names = {"label": "labels", "lesion_id": "groups"}
        for key, values in arrays.items():
            if values.shape[:1] == (rows,) and key != "split":
                np.save(folder / f"{split}_{names.get(key, key)}.npy", values[index])
    np.save(folder / "label_names.npy", arrays["label_names"])


def _packed_masks(path: Path, arrays: Arrays, folder: Path) -> None:
    """`masks_packed`, bits of masks in `shape`, for the images of the same `image_id` in the JPEG container beside it."""
    beside = images_of_masks(path)
    if beside is None:
        raise FileNotFoundError(
            f"{path.name} holds masks only; its images, {path.stem.split('_masks')[0]}_…_jpeg.npz, must lie "
            "in the same folder."
        )
    _jpegs(beside, _load(beside), folder)
    height, width = (int(n) for n in arrays["shape"])
    masks = np.unpackbits(arrays["masks_packed"], axis=1)[:, : height * width].reshape(
        -1, height, width
    )
    order = {image: row for row, image in enumerate(arrays["image_id"].tolist())}
    for ids in sorted(folder.glob("*_image_id.npy")):
        split = ids.name.removesuffix("_image_id.npy")
        np.save(
            folder / f"{split}_masks.npy", masks[[order[image] for image in np.load(ids).tolist()]]
        )
        (folder / f"{split}_labels.npy").unlink()  # the task is the mask
    np.save(folder / "label_names.npy", np.array(["background", "lesion"]))


def _rows_of(split: np.ndarray) -> dict[str, np.ndarray]:
    names = ("train", "val", "test") if split.max() == 2 else ("train", "test")
    return {name: rows for k, name in enumerate(names) if len(rows := np.flatnonzero(split == k))}


def _mnist(folder: Path) -> Arrays:
    arrays = [_idx(folder / file) for file in MNIST_FILES]
    return dict(zip(("train_images", "train_labels", "test_images", "test_labels"), arrays)) | {
        "label_names": np.array([str(digit) for digit in range(10)])
    }


def _idx(path: Path) -> np.ndarray:
    """Yann LeCun's idx: two zero bytes, the type (8 = uint8), the number of axes, their lengths (big-endian), the bytes."""
    with gzip.open(path) as file:
        zeros, kind, axes = (int.from_bytes(file.read(n)) for n in (2, 1, 1))
        shape = [int.from_bytes(file.read(4)) for _ in range(axes)]
        if zeros or kind != 8 or axes not in (1, 3) or np.prod(shape, dtype=float) > 1e9:
            raise ValueError(f"{path.name} is no idx file of bytes")
        return np.frombuffer(bytearray(_exactly(file, int(np.prod(shape)))), np.uint8).reshape(
            shape
        )


def _exactly(file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise ValueError(f"{count - len(content)} bytes are missing")
    return content


CONTAINERS = {"jpeg_bytes": _jpegs, "masks_packed": _packed_masks}
CONVERTED = {"_jpegs": "decoded from JPEG", "_packed_masks": "decoded from JPEG, masks from bits"}
