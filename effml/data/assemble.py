"""From arrays to a Dataset, and every check that they must pass."""

import functools
import hashlib
import mmap
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.data.catalogue import known
from effml.data.classes import positive_of
from effml.data.dataset import SPLITS, Dataset, Split
from effml.data.spelling import key, listed, spellings
from effml.machine import choose

if TYPE_CHECKING:
    import torch

Splits = dict[str, Split]
TASKS = ("binary", "multi-class", "ordinal", "multi-label")


def assemble(
    name: str, arrays: dict[str, np.ndarray], passport: dict[str, Any], size: int
) -> Dataset:
    """Arrays in MedMNIST's layout as a Dataset. Raises ValueError for what is not right in them."""
    splits = {split: _split(name, split, arrays) for split in SPLITS if f"{split}_images" in arrays}
    if not splits:
        found = ", ".join(arrays) or "nothing"
        raise ValueError(f"{name} holds no images, but {found}. Give train_, val_ or test_images.")
    side = next(iter(splits.values())).images.shape[-1]
    if size not in (28, side):
        splits = {split: _averaged(name, part, side, size) for split, part in splits.items()}
        passport["resized"] = f"{size} px: means over {side // size} × {side // size} pixels"
    task, names, positive, stated = None, None, arrays.get("positive"), "stated in the data"
    if (official := known(name)) and official.task:
        task, names = official.task, list(official.classes)
        if positive is None:
            positive, stated = np.array(official.positive), "MedMNIST's labels"
    if "label_names" in arrays:
        names = [str(label) for label in arrays["label_names"]]
    return _checked(name, splits, passport, names, task, positive, stated)


def _averaged(name: str, part: Split, side: int, size: int) -> Split:
    """The split at a whole part of its images' side: each pixel the mean of those it stands for,
    a mask's what most of them are."""
    import torch
    from torch.nn.functional import avg_pool2d

    images, factor = part.images, side // size
    if size * factor != side or images.ndim != 4 or images.shape[-2] % factor:
        parts = [str(side // k) for k in range(2, side // 4 + 1) if side % k == 0]
        smaller = f", or a whole part of it: {', '.join(parts)}" if images.ndim == 4 else ""
        given = f"{name} has images of {side} px, not {size}"
        raise ValueError(f"{given}: give that size{smaller}; or leave size out.")
    small = [avg_pool2d(some.float(), factor).round().byte() for some in images.split(256)]
    masks = part.masks
    if masks is not None:
        masks = (avg_pool2d(masks[:, None].float(), factor)[:, 0] >= 0.5).byte()
    part.release()
    return replace(part, images=torch.cat(small), masks=masks, maps=())


def from_arrays(
    name: str,
    pairs: dict[str, tuple[Any, Any] | None],
    task: str | None,
    classes: Sequence[str] | None,
    positive: int | str | None,
) -> Dataset:
    """The work of `Dataset.of`."""
    if task is not None:
        choose("task", task, TASKS)
    splits, digest = {}, hashlib.sha256()
    for split, pair in pairs.items():
        if pair is not None:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ValueError(f"Give {split}=(images, labels), a pair.")
            splits[split] = part = _pair(name, split, *pair)
            for values in (part.images, part.labels):
                digest.update(f"{split} {tuple(values.shape)}".encode())
                digest.update(np.ascontiguousarray(values.numpy()))
    if isinstance(classes, str):
        raise ValueError(f"classes={classes!r} is one text: give a list of names, ['a', 'b'], say.")
    names = None if classes is None else [str(label) for label in classes]
    if isinstance(positive, str):
        names = names or ["0", "1"]
        positive = names.index(choose("class", positive, names))
    passport = {
        "source": "arrays given in Python",
        "licence": "see the arrays' source",
        "sha256": digest.hexdigest(),
        "checksum": "none to compare with",
        "converted": "none",
        "phantom": False,
        "task_from": "stated by you" if task else "guessed from the labels",
    }
    passport["duplicates"] = copies = _copied(splits)
    if copies != "none":
        _tell_once(f"{name}: {copies}. Leave them out of one side: scores would be too good.")
    stated = None if positive is None else np.array(positive)
    data = _checked(name, splits, passport, names, task, stated, "stated by you")
    if positive is not None and data.task != "binary":
        raise ValueError(f"{name}: positive is for binary tasks, and this is {data.task}.")
    return data


def _copied(splits: Splits) -> str:
    """How many images of each later split are in an earlier one to the byte, in words."""
    seen, found = set(), []
    for split, part in splits.items():
        mine = [hash(image.tobytes()) for image in part.images.numpy()]
        if same := sum(one in seen for one in mine):
            found.append(f"{same} of {len(mine)} images of {split} are in an earlier split too")
        seen |= {*mine}
    return "; ".join(found) or "none"


def _checked(
    name: str,
    splits: Splits,
    passport: dict[str, Any],
    names: list[str] | None,
    task: str | None,
    positive: np.ndarray | None,
    stated: str,  # by whom positive was stated
) -> Dataset:
    """The splits as a Dataset whose parts fit each other. Without a task it is guessed."""
    first = next(iter(splits.values()))
    for split, part in splits.items():
        part.release()
        shape, bare = tuple(part.images.shape[1:]), part.labels is None
        if shape != first.images.shape[1:] or bare != (first.labels is None):
            found = f"{shape} {'without' if bare else 'with'} labels"
            raise ValueError(f"{name}: the {split} split is {found}, unlike the first split.")
    if names is not None and not names:
        raise ValueError(f"{name}: its classes have no names. Name every class, or give no names.")
    groups, named = _disjoint(name, splits), names is not None
    if task != "multi-label" and (columns := _one_hot(splits)):
        if names and len(names) != columns:
            found = f"{columns} columns, but {len(names)} classes are named: {', '.join(names)}"
            raise ValueError(f"{name}: the labels have {found}")
        names = names or [str(k) for k in range(columns)]
        splits = {k: replace(part, labels=part.labels.argmax(1)) for k, part in splits.items()}
        said = f"one-hot columns, read as class numbers 0 to {columns - 1}"
        passport = passport | {"labels": said}
        _tell_once(
            f"{name}: in each row of the labels exactly one of {columns} columns is 1: "
            "taken for one class an image, not for several labels."
        )
    classes, task = _classes(name, splits, names, task)
    sign, why = _positive(name, task, classes, named, positive, stated)
    passport = {
        "name": name,
        "positive_from": why,
        **_with_absent(name, splits, classes, passport),
        "task": task,
        "classes": list(classes),
        "positive": sign,
        "image": "×".join(map(str, first.images.shape[1:])),
        "counts": {split: len(part) for split, part in splits.items()},
        "groups": groups,
        "masks": first.masks is not None,
        "meta": sorted(first.meta),
    }
    if first.labels is not None and task != "multi-label":
        count = splits.get("test", next(iter(splits.values()))).labels.bincount()
        passport["majority_rate"] = int(count.max()) / int(count.sum())
    made = {"name": name, "task": task, "classes": classes, "positive": sign}
    return Dataset(**made, passport=passport, **splits)


def _split(name: str, split: str, arrays: dict[str, np.ndarray]) -> Split:
    import torch

    images = arrays[f"{split}_images"]
    rgb = images.ndim > 3 and images.shape[-1] == 3
    right = images.ndim == 3 or images.ndim == 4 and min(images.shape[1:]) >= 8 or rgb
    if images.dtype != np.uint8 or images.ndim > 5 or not right or not images.size:
        raise ValueError(
            f"{name}: {split}_images is {images.dtype} {images.shape}. Expected uint8 (N,H,W), "
            "RGB (N,H,W,3) or volumes (N,D,H,W) of at least 8 px a side, with at least one image: "
            "scale floats and 16 bits to 0…255 and cast, all images alike, put colours last, leave "
            "out an absent split, transparency and a channel axis of 1."
        )
    mine = [column for column in arrays if column.startswith(f"{split}_")]
    rest = {column.removeprefix(f"{split}_"): arrays[column] for column in mine}
    del rest["images"]
    for column, value in rest.items():
        _rows(name, f"{split}_{column}", value, len(images))
    pixels = np.moveaxis(images, -1, 1) if rgb else images[:, None]
    maps = [one._mmap for one in (images, rest.get("masks")) if isinstance(one, np.memmap)]
    labels, masks, groups = (rest.pop(column, None) for column in ("labels", "masks", "groups"))
    if groups is not None and (groups.ndim != 1 or groups.dtype.kind not in "iuUS"):
        found = f"are {groups.dtype} {groups.shape}"
        raise ValueError(f"{name}: {split}_groups {found}. Give names or whole numbers (N,).")
    return Split(
        images=torch.from_numpy(pixels),
        labels=_labels(name, split, labels),
        masks=_masks(name, split, masks, pixels.shape[2:]),
        groups=groups,
        meta=rest,
        maps=tuple(maps) if hasattr(mmap, "MADV_DONTNEED") else (),
    )


def _pair(name: str, split: str, images: Any, labels: Any) -> Split:
    """A split of the arrays or tensors that `Dataset.of` was given."""
    import torch

    if not isinstance(images, torch.Tensor):
        images = np.asarray(images)
    kind, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
    right = len(shape) == 3 or len(shape) in (4, 5) and shape[1] < 8
    if kind != "uint8" or not right or not min(shape):
        raise ValueError(
            f"{name}: the {split} images are {kind} {shape}. Give uint8 (N, C, H, W), C below 8, "
            "or (N, H, W), with at least one image: scale floats to 0…255 and cast, and 16 bits "
            "too, move colours from the last axis to axis 1, give volumes as (N, 1, D, H, W)."
        )
    if not isinstance(images, torch.Tensor):
        images = np.require(images, requirements="W")  # torch takes no read-only array …
        images = torch.from_numpy(images.copy() if min(images.strides) < 0 else images)  # … or flip
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    labels = np.asarray(labels)
    _rows(name, f"{split}_labels", labels, len(images))
    return Split(
        images=images.cpu() if len(shape) > 3 else images.cpu()[:, None],
        labels=_labels(name, split, labels),
    )


def _rows(name: str, column: str, value: np.ndarray, count: int) -> None:
    if value.shape[:1] != (count,):
        found = len(value) if value.ndim else "no"
        raise ValueError(f"{name}: {column} has {found} rows for {count} images.")


def _labels(name: str, split: str, labels: np.ndarray | None) -> "torch.Tensor | None":
    import torch

    if labels is None:
        return None
    plain = labels.dtype.kind in "biuf" and labels.ndim < 3 and labels.size
    with np.errstate(invalid="ignore"):
        whole = plain and (labels == np.floor(labels)).all() and (labels >= 0).all()
    if not whole or np.isinf(labels).any():
        found = f"are {labels.dtype} {labels.shape}"
        raise ValueError(f"{name}: {split}_labels {found}. Give whole numbers from 0 (N,1).")
    labels = labels.reshape(len(labels), -1)
    if labels.max() > (1 if labels.shape[1] > 1 else 65_535):
        wanted = "class numbers from 0 (N,1), or 0 and 1 for each of several labels"
        raise ValueError(f"{name}: {split}_labels holds {labels.max():g}. Give {wanted}.")
    labels = torch.from_numpy(labels.astype(np.int64))
    return labels.squeeze(1) if labels.shape[1] == 1 else labels


def _one_hot(splits: Splits) -> int:
    """The columns of the labels if every row of every split holds a single 1; else 0."""
    labels = [part.labels for part in splits.values()]
    if any(part is None or part.ndim != 2 or not (part.sum(1) == 1).all() for part in labels):
        return 0
    return labels[0].shape[1] if len({part.shape[1] for part in labels}) == 1 else 0


def _with_absent(
    name: str, splits: Splits, classes: tuple[str, ...], passport: dict[str, Any]
) -> dict[str, Any]:
    """The passport with a remark on classes without an image to learn from or choose by."""
    told = []
    for split, kind in (("train", "training"), ("val", "validation")):
        if split not in splits or (labels := splits[split].labels) is None:
            continue
        has = labels if labels.ndim == 1 else labels.any(0).nonzero()
        if names := [label for k, label in enumerate(classes) if not (has == k).any()]:
            some = ", ".join(names[:5]) + ", …" * (len(names) > 5)
            many = f"classes {some} have" if len(names) > 1 else f"class {some} has"
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
    fits = masks.shape[1:] == shape and masks.dtype.kind in "biu"
    if not fits or masks.max() > 1 or masks.min() < 0:
        found = f"{masks.dtype} {masks.shape[1:]} from {masks.min()} to {masks.max()}"
        raise ValueError(f"{name}: {split}_masks is {found}. Give 0 or 1 in the shape {shape}.")
    small = masks.dtype.itemsize == 1  # a memory map stays one
    return torch.from_numpy(masks.view(np.uint8) if small else masks.astype(np.uint8))


def _disjoint(name: str, splits: Splits) -> dict[str, int] | None:
    """How many groups each split has. None may be on two sides, in whatever spelling."""
    known = {split: part.groups for split, part in splits.items() if part.groups is not None}
    groups = {split: set(names.tolist()) for split, names in known.items()}
    named = {
        split: {key(one): same for one, same in spellings(groups[split]).items()}
        for split in groups
    }
    for one, other in combinations(named, 2):
        if leak := sorted(set(named[one]) & set(named[other])):
            both = [sorted({*named[one][group], *named[other][group]}) for group in leak]
            found = f"{len(leak)} groups are in {one} and in {other}, such as {listed(both, 3)}"
            raise ValueError(
                f"{name}: {found}. Split by group, as python -m effml data import does."
            )
    return {split: len(found) for split, found in groups.items()} or None


def _classes(
    name: str, splits: Splits, names: list[str] | None, task: str | None
) -> tuple[tuple[str, ...], str]:
    labels = [part.labels for part in splits.values() if part.labels is not None]
    if not labels:
        if any(part.masks is None for part in splits.values()):
            raise ValueError(f"{name} has neither labels nor masks for every split: add them.")
        return tuple(names or ("background", "structure")), "segmentation"
    if len({part.shape[1:] for part in labels}) > 1:
        widths = [tuple(part.shape[1:]) for part in labels]
        raise ValueError(f"{name}: the splits have labels of different widths: {widths}.")
    several = labels[0].ndim == 2
    count = labels[0].shape[1] if several else max(int(part.max()) for part in labels) + 1
    if names and (count > len(names) or several and count < len(names)):
        found = f"{count - 1}, but {len(names)} classes are named: {', '.join(names)}"
        raise ValueError(f"{name}: the labels go up to {found}")
    if not names and not several:
        seen = np.unique(np.concatenate([part.numpy() for part in labels])).tolist()
        if len(seen) < count and "train" in splits:
            absent = ", ".join(map(str, sorted({*range(count)} - {*seen})[:5]))
            found = f"the labels go up to {count - 1}, but no image has {absent}"
            raise ValueError(f"{name}: {found}. Number the classes without gaps, or name them all.")
    classes = tuple(names or map(str, range(max(count, 2))))
    if len(spelt := spellings(classes)) < len(classes):
        twice = next((same for same in spelt.values() if len(same) > 1), [*classes])
        alike = " and ".join(map(repr, twice))  # a space at the end is seen in quotes alone
        raise ValueError(
            f"{name}: the classes {alike} are one name. Give every class one of its own."
        )
    guess = "multi-label" if several else "binary" if len(classes) == 2 else "multi-class"
    if task not in (None, guess) and (task != "ordinal" or several):
        found = f"its labels are {guess} ({len(classes)} classes), not {task}"
        raise ValueError(f"{name}: {found}. Give other labels, or no task.")
    return classes, task or guess


def _positive(
    name: str, task: str, classes: tuple[str, ...], named: bool, positive: Any, stated: str
) -> tuple[int | None, str]:
    if task != "binary":
        if stated == "stated in the data" and positive is not None:
            _tell_once(f"{name}: positive={positive} is not used: the task is {task}, not binary.")
        return None, "not binary"
    if positive is None:
        return positive_of(classes) if named else (1, "assumed: the last class")
    number = positive.ravel()
    if len(number) != 1 or number[0] not in (0, 1):
        raise ValueError(f"{name}: positive={positive!r} must be 0 or 1.")
    return int(number[0]), stated
