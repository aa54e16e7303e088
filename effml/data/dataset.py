"""What a data set is here: splits of uint8 tensors, a task, a passport; and every check it must pass to become one."""

import functools
import mmap
import sys
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.data import catalogue
from effml.data.classes import positive_of
from effml.data.identity import key, listed, spellings

if TYPE_CHECKING:
    import torch

SPLITS = ("train", "val", "test")
_TASKS = {
    "binary-class": "binary",
    "multi-label, binary-class": "multi-label",
    "multi-class": "multi-class",
    "ordinal-regression": "ordinal",
}


@dataclass(frozen=True)
class Split:
    """Images uint8 (N,C,H,W), or (N,C,D,H,W) for volumes; labels int64 (N,), or (N,L) of 0/1 if multi-label;
    masks uint8 in {0,1}, (N,H,W) or (N,D,H,W); groups (N,), for instance patient ids. None where there are none.
    `meta` holds what else is known of each image, such as site and year, as arrays of N rows.

    Images larger than memory are a memory map that `take` reads from; the tensor looks the same."""

    images: "torch.Tensor"
    labels: "torch.Tensor | None" = None
    masks: "torch.Tensor | None" = None
    groups: np.ndarray | None = None
    meta: dict[str, np.ndarray] = field(default_factory=dict)
    maps: tuple[mmap.mmap, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: "torch.Tensor | slice") -> "torch.Tensor":
        """The images of a batch, uint8 in the order of `index`."""
        rows = self.images.movedim(
            1, -1
        )  # RGB files store the channels last: whole rows are copied
        batch = (
            rows[index] if isinstance(index, slice) else rows.index_select(0, index.to(rows.device))
        ).movedim(-1, 1)
        if self.maps:
            batch = batch.clone()  # a slice is a view of the pages that go now
            self.release()
        return batch

    def release(self) -> None:
        """Give the pages of memory maps back to the system, so that this process stays small."""
        for pages in self.maps:
            pages.madvise(mmap.MADV_DONTNEED)

    def to(self, device: str) -> "Split":
        """This split with its images on `device`; memory maps stay where they are, and `take` moves their batches."""
        return self if self.maps else replace(self, images=self.images.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set and its passport: where it comes from, what is in it, what was assumed."""

    name: str
    task: str  # binary, multi-class, ordinal, multi-label or segmentation
    classes: tuple[str, ...]
    positive: int | None  # the class sensitivity is about; None unless binary
    passport: dict[str, Any] = field(repr=False)
    train: Split | None = field(default=None, repr=False)
    val: Split | None = field(default=None, repr=False)
    test: Split | None = field(default=None, repr=False)

    def only(self, index: "torch.Tensor") -> "Dataset":
        """This data set with these of its training images, in this order (a selection)."""
        train, rows = self.train, index.numpy()
        kept = {
            name: None if (value := getattr(train, name)) is None else value[rows]
            for name in ("labels", "masks", "groups")
        }
        meta = {name: value[rows] for name, value in train.meta.items()}
        return replace(self, train=Split(train.take(index), **kept, meta=meta))


def normalize(images: "torch.Tensor") -> "torch.Tensor":
    """uint8 0…255 as float32 −1…1 (mean and standard deviation 0.5, as MedMNIST and Inception-style weights expect)."""
    return images.div(127.5).sub_(1)


def assemble(
    name: str, arrays: dict[str, np.ndarray], passport: dict[str, Any], size: int
) -> Dataset:
    """Arrays in MedMNIST's layout as a Dataset. Raises ValueError for whatever is not right in them."""
    splits = {split: _split(name, split, arrays) for split in SPLITS if f"{split}_images" in arrays}
    if not splits:
        raise ValueError(
            f"{name} holds no images. Expected train_images, val_images or test_images; found "
            f"{', '.join(arrays) or 'nothing'}."
        )
    first = next(iter(splits.values()))
    for split, part in splits.items():
        part.release()
        if part.images.shape[1:] != first.images.shape[1:] or (part.labels is None) != (
            first.labels is None
        ):
            raise ValueError(
                f"{name}: the {split} split is {tuple(part.images.shape[1:])} with "
                f"{'no ' if part.labels is None else ''}labels, unlike the first split."
            )
    if size not in (28, first.images.shape[-1]):
        raise ValueError(
            f"{name} has images of {first.images.shape[-1]} px, not {size}: leave size out, or give its own."
        )
    groups = _disjoint(name, splits)
    info = catalogue.medmnist(name)[1]
    named = [str(label) for label in arrays.get("label_names", [*info.get("label", {}).values()])]
    if not named and "label_names" in arrays:
        raise ValueError(f"{name}: label_names is empty. Name every class, or leave it out.")
    if not info and (columns := _one_hot(splits)):
        splits, named = _numbered(name, splits, columns, named)
        passport = passport | {
            "labels": f"one-hot columns, read as class numbers 0 to {columns - 1}"
        }
        _tell_once(
            f"{name}: in each row of the labels exactly one of {columns} columns is 1: taken for one class an image, "
            "not for several labels."
        )
    classes, task = _classes(name, splits, named, info)
    positive, why = _positive(name, task, classes, arrays, bool(info))
    passport = {
        "name": name,
        "positive_from": why,
        **_with_absent(name, splits, classes, passport),
        "task": task,
        "classes": list(classes),
        "positive": positive,
        "image": "×".join(map(str, first.images.shape[1:])),
        "counts": {split: len(part) for split, part in splits.items()},
        "groups": groups,
        "masks": first.masks is not None,
        "meta": sorted(first.meta),
    }
    if first.labels is not None and task != "multi-label":
        shown = splits.get("test") or next(iter(splits.values()))
        count = np.bincount(shown.labels.numpy(), minlength=len(classes))
        passport["majority_rate"] = float(count.max() / count.sum())
    return Dataset(
        name=name, task=task, classes=classes, positive=positive, passport=passport, **splits
    )


def _split(name: str, split: str, arrays: dict[str, np.ndarray]) -> Split:
    import torch

    images = arrays[f"{split}_images"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4, 5) or not images.size:
        raise ValueError(
            f"{name}: {split}_images is {images.dtype} {images.shape}. Expected uint8 (N,H,W), (N,H,W,3) or "
            "volumes (N,D,H,W), with at least one image: scale floats to 0…255 and cast, leave an absent split out."
        )
    rgb = images.shape[-1] == 3 and images.ndim > 3
    if images.ndim == 5 and not rgb or images.ndim == 4 and not rgb and min(images.shape[1:]) < 8:
        raise ValueError(
            f"{name}: {split}_images {images.shape} is neither RGB (N,H,W,3) nor volumes (N,D,H,W) of at least 8 "
            "px a side: put the colours last, leave out a channel axis of 1 and transparency."
        )
    rest = {
        column.removeprefix(f"{split}_"): value
        for column, value in arrays.items()
        if column.startswith(f"{split}_") and column != f"{split}_images"
    }
    for column, value in rest.items():
        if value.shape[:1] != images.shape[:1]:
            raise ValueError(
                f"{name}: {split}_{column} has {len(value) if value.ndim else 'no'} rows for {len(images)} images."
            )
    maps = tuple(
        array._mmap for array in (images, rest.get("masks")) if isinstance(array, np.memmap)
    )
    pixels = np.moveaxis(images, -1, 1) if rgb else images[:, None]
    found = Split(
        torch.from_numpy(pixels),
        _labels(name, split, rest.pop("labels", None)),
        _masks(name, split, rest.pop("masks", None), pixels.shape[2:]),
        rest.pop("groups", None),
        rest,
        maps if hasattr(mmap, "MADV_DONTNEED") else (),
    )
    if found.groups is not None and (
        found.groups.ndim != 1 or found.groups.dtype.kind not in "iuUS"
    ):
        raise ValueError(
            f"{name}: {split}_groups must be names or whole numbers (N,); found {found.groups.dtype} "
            f"{found.groups.shape}."
        )
    return found


def _labels(name: str, split: str, labels: np.ndarray | None) -> "torch.Tensor | None":
    import torch

    if labels is None:
        return None
    if (
        labels.dtype.kind not in "biuf"
        or labels.ndim > 2
        or not labels.size
        or not np.isfinite(labels).all()
        or not np.array_equal(labels, np.floor(labels))
        or labels.min() < 0
    ):
        raise ValueError(
            f"{name}: {split}_labels must be whole numbers from 0 in shape (N,1); found {labels.dtype} "
            f"{labels.shape}."
        )
    labels = labels.reshape(len(labels), -1)
    if labels.max() > (1 if labels.shape[1] > 1 else 65_535):
        raise ValueError(
            f"{name}: {split}_labels holds {labels.max():g}. Give class numbers from 0 in shape (N,1), or 0 and 1 "
            "for each of several labels."
        )
    labels = torch.from_numpy(labels.astype(np.int64))
    return labels.squeeze(1) if labels.shape[1] == 1 else labels


def _one_hot(splits: dict[str, Split]) -> int:
    """Of how many columns the labels are, if every row of every split holds one 1 and else 0;
    otherwise 0."""
    labels = [part.labels for part in splits.values()]
    if any(part is None or part.ndim != 2 or not (part.sum(1) == 1).all() for part in labels):
        return 0
    return labels[0].shape[1] if len({part.shape[1] for part in labels}) == 1 else 0


def _numbered(
    name: str, splits: dict[str, Split], columns: int, named: list[str]
) -> tuple[dict[str, Split], list[str]]:
    """The splits with the number of the column that holds the 1 as label, and a name for each
    column."""
    if named and len(named) != columns:
        raise ValueError(
            f"{name}: the labels have {columns} columns, but {len(named)} classes are named: {', '.join(named)}"
        )
    numbered = {
        split: replace(part, labels=part.labels.argmax(1)) for split, part in splits.items()
    }
    return numbered, named or [str(k) for k in range(columns)]


def _with_absent(
    name: str, splits: dict[str, Split], classes: tuple[str, ...], passport: dict[str, Any]
) -> dict[str, Any]:
    """The passport with a remark on classes that have no image to learn from, or to choose an epoch by."""
    told = []
    for split, kind in (("train", "training"), ("val", "validation")):
        labels = splits[split].labels if split in splits else None
        if labels is None:
            continue
        has = np.zeros(len(classes), bool)
        seen = labels.numpy()
        has[np.unique(seen) if seen.ndim == 1 else np.flatnonzero(seen.any(0))] = True
        names = [classes[k] for k in np.flatnonzero(~has)]
        if names:
            some = ", ".join(names[:5]) + ", …" * (len(names) > 5)
            many = f"class{'es' * (len(names) > 1)} {some} {'have' if len(names) > 1 else 'has'}"
            told.append(f"{many} no {kind} image")
    if not told:
        return passport
    _tell_once(f"{name}: {'; '.join(told)}.")
    return passport | {"labels": "; ".join(filter(None, [passport.get("labels"), *told]))}


@functools.cache
def _tell_once(note: str) -> None:
    print(f"effml: {note}", file=sys.stderr)


def _masks(
    name: str, split: str, masks: np.ndarray | None, shape: tuple[int, ...]
) -> "torch.Tensor | None":
    import torch

    if masks is None:
        return None
    if (
        masks.shape[1:] != shape
        or masks.dtype.kind not in "biu"
        or masks.max() > 1
        or masks.min() < 0
    ):
        raise ValueError(
            f"{name}: {split}_masks must be 0 or 1 in the images' shape {shape}; found {masks.dtype} "
            f"{masks.shape[1:]} from {masks.min()} to {masks.max()}."
        )
    return torch.from_numpy(
        masks.view(np.uint8) if masks.dtype.itemsize == 1 else masks.astype(np.uint8)
    )


def _disjoint(name: str, splits: dict[str, Split]) -> dict[str, int] | None:
    """How many groups each split has, as they are spelt. None may be on two sides, in whatever
    spelling: what is learnt by heart would look like skill.
    """
    groups = {
        split: set(part.groups.tolist())
        for split, part in splits.items()
        if part.groups is not None
    }
    named = {
        split: {key(one[0]): one for one in spellings(groups[split]).values()} for split in groups
    }
    for one, other in combinations(named, 2):
        if leak := sorted(set(named[one]) & set(named[other])):
            both = [sorted({*named[one][group], *named[other][group]}) for group in leak]
            raise ValueError(
                f"{name}: {len(leak)} groups are in {one} and in {other}, such as {listed(both, 3)}. "
                "Split by group, for instance with python -m effml data import."
            )
    return {split: len(found) for split, found in groups.items()} or None


def _classes(
    name: str, splits: dict[str, Split], named: list[str], info: dict[str, Any]
) -> tuple[tuple[str, ...], str]:
    labels = [part.labels for part in splits.values() if part.labels is not None]
    if not labels:
        if any(part.masks is None for part in splits.values()):
            raise ValueError(
                f"{name} has neither labels nor masks for every split: add {{split}}_labels or {{split}}_masks."
            )
        return tuple(named) or ("background", "structure"), "segmentation"
    several = labels[0].ndim == 2
    if len({part.shape[1:] for part in labels}) > 1:
        raise ValueError(
            f"{name}: the splits have labels of different widths: {[tuple(part.shape[1:]) for part in labels]}."
        )
    count = labels[0].shape[1] if several else max(int(part.max()) for part in labels) + 1
    if named and (count > len(named) or several and count < len(named)):
        raise ValueError(
            f"{name}: the labels go up to {count - 1}, but {len(named)} classes are named: {', '.join(named)}"
        )
    if not named and not several:
        seen = np.unique(np.concatenate([part.numpy() for part in labels]))
        if len(seen) < count and "train" in splits:
            absent = sorted(set(range(count)) - set(seen.tolist()))
            raise ValueError(
                f"{name}: the labels go up to {count - 1}, but no image has {', '.join(map(str, absent[:5]))}. "
                "Number the classes from 0 without gaps, or name them all in label_names."
            )
    classes = tuple(named) or tuple(str(k) for k in range(max(count, 2)))
    task = (
        _TASKS[info["task"]]
        if info
        else "multi-label"
        if several
        else "binary"
        if len(classes) == 2
        else "multi-class"
    )
    return classes, task


def _positive(
    name: str, task: str, classes: tuple[str, ...], arrays: dict[str, np.ndarray], official: bool
) -> tuple[int | None, str]:
    if task != "binary":
        return None, "not binary"
    if "positive" not in arrays and official:
        return catalogue.positive_of(name), "MedMNIST's labels"
    if "positive" not in arrays:
        return positive_of(classes) if "label_names" in arrays else (1, "assumed: the last class")
    positive = arrays["positive"].ravel()
    if len(positive) != 1 or positive[0] not in (0, 1):
        raise ValueError(
            f"{name}: positive={arrays['positive']!r} must be 0 or 1, the class that sensitivity is about."
        )
    return int(positive[0]), "stated in the data"
