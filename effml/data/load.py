"""From a name or a path to uint8 tensors with a passport. Nothing is downloaded and nothing is substituted.

The layout is MedMNIST's (Yang et al. 2023): an .npz with `{train,val,test}_images` (N,H,W[,3]) uint8 and
`{split}_labels` (N,1), where there are any also `{split}_masks` (N,H,W), `{split}_groups` (N,), `label_names`,
and `positive`, the index of the class that sensitivity is about.
"""
import ast
import hashlib
import importlib.util
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.data import phantoms
from effml.data.phantoms import PHANTOMS, make_phantom
from effml.machine import ROOT

if TYPE_CHECKING:
    import torch

SPLITS = ("train", "val", "test")
_POSITIVE = {"breastmnist": 0}  # 0 = malignant; in MedMNIST's other binary sets the disease is class 1
_LIKE = {"pneumoniamnist_reordered": ("pneumoniamnist", "the official images, training order shuffled")}
_TASKS = {"binary-class": "binary", "multi-label, binary-class": "multi-label", "multi-class": "multi-class",
          "ordinal-regression": "ordinal"}


@dataclass(frozen=True)
class Split:
    """Images uint8 (N,C,H,W), or (N,C,D,H,W) for volumes; labels int64 (N,), or (N,L) of 0/1 if multi-label;
    masks uint8 (N,H,W) in {0,1}; groups (N,), for instance patient ids. None where there are none."""

    images: "torch.Tensor"
    labels: "torch.Tensor | None" = None
    masks: "torch.Tensor | None" = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A data set and its passport: where it comes from, what is in it, what was assumed."""

    name: str
    task: str                        # binary, multi-class, ordinal, multi-label or segmentation
    classes: tuple[str, ...]
    positive: int | None             # the class sensitivity is about; None unless binary
    passport: dict[str, Any] = field(repr=False)
    train: Split | None = field(default=None, repr=False)
    val: Split | None = field(default=None, repr=False)
    test: Split | None = field(default=None, repr=False)


def load_dataset(name_or_path: str | os.PathLike, *, size: int = 28, root: str | os.PathLike | None = None) -> Dataset:
    """A MedMNIST set (checked against its official MD5), an .npz in its layout by name or path, or a phantom.

    Names are looked up in `root`, `EFFML_DATA` and one level below it, `data/`, and MedMNIST's cache. `size` picks the
    variant of a MedMNIST set or phantom, in pixels; a file comes as it is, so a size other than the default 28 must be
    its own.

    Raises FileNotFoundError (what was looked for, where, and what to do) and ValueError (what is wrong in the file).
    """
    name = os.fspath(name_or_path)
    if name in PHANTOMS:
        arrays = make_phantom(name, size=size)
        passport = {"source": "simulated, not patients", "licence": "Apache-2.0", "sha256": fingerprint(name, size=size),
                    "checksum": "made from seed 0", "phantom": True}
    else:
        path = _find(name, size, root)
        arrays = _read(path)
        _, info = _known(name)
        passport = {"source": "MedMNIST v2, " + info["url"].partition("?")[0] if info else f"local file {path.name}",
                    "licence": info.get("license", "see the file's source"), "sha256": fingerprint(name, size=size, root=root),
                    "checksum": "none to compare with", "phantom": False}
        if info:
            official = _digest(path, "md5") in {value for key, value in info.items() if key.startswith("MD5")}
            passport["checksum"] = "official MD5" if official else "not the official one"
        if Path(name).stem in _LIKE:
            passport["source"] += f" ({_LIKE[Path(name).stem][1]})"
    return _assemble(name, arrays, passport, size)


def at_hand(ladder: str, *, size: int = 28, root: str | os.PathLike | None = None) -> str:
    """The first name of `"a|b|phantom-c"` whose data is on this machine. A damaged file is an error, not a rung."""
    names = [name.strip() for name in ladder.split("|") if name.strip()]
    for name in names:
        if name in PHANTOMS:
            return name
        try:
            _find(name, size, root)
            return name
        except FileNotFoundError as error:
            missing = error
    if not names:
        raise ValueError("The ladder is empty. Give names such as 'pneumoniamnist|phantom-chest'.")
    raise FileNotFoundError(f"None of {', '.join(names)} is on this machine. The last one: {missing}")


def fingerprint(name_or_path: str | os.PathLike, *, size: int = 28, root: str | os.PathLike | None = None) -> str:
    """SHA-256 of the file a name stands for on this machine, or of the code that draws a phantom. Needs no torch."""
    name = os.fspath(name_or_path)
    if name in PHANTOMS:
        drawing = Path(phantoms.__file__).read_text(encoding="utf-8")  # the pixels may differ by rounding between CPUs
        return hashlib.sha256(f"{name} {size} px\n{drawing}".encode()).hexdigest()
    return _digest(_find(name, size, root), "sha256")


def normalize(images: "torch.Tensor") -> "torch.Tensor":
    """uint8 0…255 as float32 −1…1 (mean and standard deviation 0.5, as MedMNIST and Inception-style weights expect)."""
    return images.div(127.5).sub_(1)


@lru_cache
def medmnist_info() -> dict[str, dict[str, Any]]:
    """MedMNIST's own passports, read as a literal: importing the package would import torch and make a folder at home."""
    spec = importlib.util.find_spec("medmnist")
    if spec is None or spec.origin is None:
        return {}
    tree = ast.parse(Path(spec.origin).with_name("info.py").read_text(encoding="utf-8"))
    return next(ast.literal_eval(node.value) for node in tree.body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "INFO")


def _known(name: str) -> tuple[str, dict[str, Any]]:
    """The MedMNIST set that a name or a path stands for, and its passport; an empty one for other data."""
    stem = Path(name).stem if name.endswith(".npz") else name
    base = _LIKE.get(stem, (re.sub(r"_(64|128|224)$", "", stem),))[0]
    return base, medmnist_info().get(base, {})


def _folders(root: str | os.PathLike | None) -> Iterator[Path]:
    if root is not None:
        yield Path(root)
    if given := os.environ.get("EFFML_DATA"):
        given = Path(given).expanduser()
        folder = given if given.is_dir() else ROOT / given  # notebooks run in their own folder
        if not folder.is_dir():
            raise ValueError(f"EFFML_DATA={given} is no folder. Set it to the folder which holds your data, or unset it.")
        yield folder
        yield from sorted(path for path in folder.iterdir() if path.is_dir())
    yield from (Path("data"), ROOT / "data", Path.home() / ".medmnist")


def _find(name: str, size: int, root: str | os.PathLike | None) -> Path:
    if name.endswith(".npz") or Path(name).is_file():
        if Path(name).is_file():
            return Path(name)
        raise FileNotFoundError(f"There is no file {name}. Check the path; relative paths start at {Path.cwd()}.")
    info = medmnist_info().get(name)
    suffix = "" if size == 28 or not info else f"_{size}"
    md5 = info and info.get(f"MD5{suffix}")
    if info and not md5:
        sizes = [28, *(int(key[4:]) for key in info if key.startswith("MD5_"))]
        raise ValueError(f"{name} has no variant of {size} px. Choose from: {', '.join(map(str, sizes))}")
    folders = list(dict.fromkeys(_folders(root)))
    damaged = []
    for path in (folder / f"{name}{suffix}.npz" for folder in folders):
        if path.is_file():
            if not md5 or _digest(path, "md5") == md5:
                return path
            damaged.append(path)
    if damaged:
        raise ValueError(f"{damaged[0]} is not the official {name}: its MD5 is {_digest(damaged[0], 'md5')}, MedMNIST's is "
                         f"{md5}. Get the file again, or load it by its path if the difference is meant.")
    where = f" 1. Get {info[f'url{suffix}']} 2. Check its MD5, {md5}. 3. Put it into {folders[0]}." if info else ""
    raise FileNotFoundError(f"{name}{suffix}.npz was not found in {', '.join(map(str, folders))}.{where} Or set EFFML_DATA "
                            f"to the folder which holds it, give a path, or choose a phantom: {', '.join(PHANTOMS)}")


def _digest(path: Path, kind: str) -> str:
    stat = path.stat()
    return _digest_of(path, kind, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _digest_of(path: Path, kind: str, _mtime: int, _bytes: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, TypeError) as error:  # TypeError: a bare .npy
        raise ValueError(f"{path} cannot be read as an .npz of plain arrays ({error}). It may be incomplete: get it again.") \
            from error


def _assemble(name: str, arrays: dict[str, np.ndarray], passport: dict[str, Any], size: int) -> Dataset:
    splits = {split: _split(name, split, arrays) for split in SPLITS if f"{split}_images" in arrays}
    if not splits:
        raise ValueError(f"{name} holds no images. Expected train_images, val_images or test_images; found "
                         f"{', '.join(arrays) or 'nothing'}.")
    first = next(iter(splits.values()))
    for split, part in splits.items():
        if part.images.shape[1:] != first.images.shape[1:] or (part.labels is None) != (first.labels is None):
            raise ValueError(f"{name}: the {split} split is {tuple(part.images.shape[1:])} with "
                             f"{'no ' if part.labels is None else ''}labels, unlike the first split.")
    if size not in (28, first.images.shape[-1]):
        raise ValueError(f"{name} has images of {first.images.shape[-1]} px, not {size}: leave size out, or give its own.")
    base, info = _known(name)
    named = [str(label) for label in arrays["label_names"]] if "label_names" in arrays else list(info.get("label", {}).values())
    classes, task = _classes(name, splits, named, info)
    positive, why = None, "not binary"
    if task == "binary":
        positive, why = (arrays["positive"].ravel()[0], "stated in the data") if "positive" in arrays else \
                        (_POSITIVE.get(base, 1), "MedMNIST's labels") if info else (1, "assumed: the last class")
        if positive not in (0, 1):
            raise ValueError(f"{name}: positive={positive!r} must be 0 or 1, the class that sensitivity is about.")
        positive = int(positive)
    passport = {"name": name, **passport, "task": task, "classes": list(classes), "positive": positive,
                "positive_from": why, "image": "×".join(map(str, first.images.shape[1:])),
                "counts": {split: len(part) for split, part in splits.items()}}
    if first.labels is not None and task != "multi-label":
        count = np.bincount((splits.get("test") or first).labels.numpy(), minlength=len(classes))
        passport["majority_rate"] = float(count.max() / count.sum())
    return Dataset(name=name, task=task, classes=classes, positive=positive, passport=passport, **splits)


def _split(name: str, split: str, arrays: dict[str, np.ndarray]) -> Split:
    import torch
    images = arrays[f"{split}_images"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4, 5) or not len(images):
        raise ValueError(f"{name}: {split}_images is {images.dtype} {images.shape}. Expected uint8 (N,H,W), (N,H,W,3) or "
                         "volumes (N,D,H,W), with at least one image: scale floats to 0…255 and cast, leave an absent split out.")
    rgb = images.shape[-1] == 3 and images.ndim > 3
    images = np.ascontiguousarray(np.moveaxis(images, -1, 1)) if rgb else images[:, None]
    found = {key: arrays.get(f"{split}_{key}") for key in ("labels", "masks", "groups")}
    for key, value in found.items():
        if value is not None and len(value) != len(images):
            raise ValueError(f"{name}: {split}_{key} has {len(value)} rows for {len(images)} images.")
    labels, masks = found["labels"], found["masks"]
    if labels is not None:
        if not (np.issubdtype(labels.dtype, np.number) or labels.dtype == bool) or labels.ndim > 2 \
                or not np.all(labels == np.floor(labels)) or labels.min() < 0:
            raise ValueError(f"{name}: {split}_labels must be whole numbers from 0 in shape (N,1); found {labels.dtype} "
                             f"{labels.shape}.")
        labels = torch.from_numpy(labels.reshape(len(labels), -1).astype(np.int64))
        labels = labels.squeeze(1) if labels.shape[1] == 1 else labels
    if masks is not None:
        if masks.shape[1:] != images.shape[2:] or masks.max(initial=0) > 1:
            raise ValueError(f"{name}: {split}_masks must be 0 or 1 in the images' shape {images.shape[2:]}; found "
                             f"{masks.dtype} {masks.shape[1:]} up to {masks.max(initial=0)}.")
        masks = torch.from_numpy(masks.astype(np.uint8))
    return Split(torch.from_numpy(images), labels, masks, found["groups"])


def _classes(name: str, splits: dict[str, Split], named: list[str], info: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    labels = [part.labels for part in splits.values() if part.labels is not None]
    if not labels:
        if any(part.masks is None for part in splits.values()):
            raise ValueError(f"{name} has neither labels nor masks for every split: add {{split}}_labels or {{split}}_masks.")
        return ("background", "structure"), "segmentation"
    several = labels[0].ndim == 2
    count = labels[0].shape[1] if several else max(int(part.max()) for part in labels) + 1
    if named and count > len(named):
        raise ValueError(f"{name}: a label is {count - 1}, but only {len(named)} classes are named: {', '.join(named)}")
    classes = tuple(named) or tuple(str(k) for k in range(max(count, 2)))
    task = _TASKS[info["task"]] if info else "multi-label" if several else "binary" if len(classes) == 2 else "multi-class"
    return classes, task
