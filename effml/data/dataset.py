"""What a data set is here: splits of uint8 tensors, a task, a passport."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """One split of a data set. Images larger than memory are a memory map that `take` reads from;
    the tensor looks the same.

    Args:
        images: uint8 (N, C, H, W), or (N, C, D, H, W) for volumes.
        labels: int64 (N,), or (N, L) of 0 and 1 for several labels an image; None without labels.
        masks: uint8 of 0 and 1, (N, H, W) or (N, D, H, W); None without masks.
        groups: (N,), for instance the patients' ids; None where they are not known.
        meta: what else is known of each image, such as site and year, as arrays of N rows.
        maps: the memory maps behind images and masks.

    Example:
        >>> split = effml.load_dataset("phantom-chest").val
        >>> split.images.shape, split.labels.shape, sorted(split.meta)
        (torch.Size([200, 1, 28, 28]), torch.Size([200]), ['site', 'year'])
    """

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
        rows = self.images.movedim(1, -1)  # RGB files have the channels last: whole rows are copied
        whole = isinstance(index, slice)
        batch = rows[index] if whole else rows.index_select(0, index.to(rows.device))
        batch = batch.movedim(-1, 1)
        if self.maps:
            batch = batch.clone()  # a slice is a view of the pages that go now
            self.release()
        return batch

    def release(self) -> None:
        """Give the pages of memory maps back to the system, so that this process stays small."""
        for pages in self.maps:
            pages.madvise(mmap.MADV_DONTNEED)

    def to(self, device: str) -> "Split":
        """This split with its images on `device`; memory maps stay, and `take` moves batches."""
        return self if self.maps else replace(self, images=self.images.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set and its passport: where it comes from, what is in it, what was assumed.

    Args:
        name: by which it is called.
        task: binary, multi-class, ordinal, multi-label or segmentation.
        classes: their names, in the order of the labels.
        positive: the class that sensitivity is about; None unless binary.
        passport: source, licence, SHA-256, counts and whatever was assumed.
        train: the `Split` to learn from, or None.
        val: the one for choices.
        test: the one for the final figures.

    Example:
        >>> data = effml.load_dataset("phantom-chest")
        >>> data.task, data.classes, data.positive, len(data.train)
        ('binary', ('normal', 'opacity'), 1, 1200)
        >>> effml.Dataset.of(data.val.images, data.val.labels).task
        'binary'
    """

    name: str
    task: str
    classes: tuple[str, ...]
    positive: int | None
    passport: dict[str, Any] = field(repr=False)
    train: Split | None = field(default=None, repr=False)
    val: Split | None = field(default=None, repr=False)
    test: Split | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        images: Any,
        labels: Any,
        *,
        val: tuple[Any, Any] | None = None,
        test: tuple[Any, Any] | None = None,
        task: str | None = None,
        classes: Sequence[str] | None = None,
        positive: int | str | None = None,
        name: str = "yours",
    ) -> "Dataset":
        """A data set from your own arrays or tensors; its passport says what was guessed.

        Args:
            images: uint8 (N, C, H, W) or (N, H, W); volumes (N, C, D, H, W). Of training.
            labels: class numbers from 0, (N,) or (N, 1), or 0 and 1 (N, L) for several labels.
            val, test: pairs (images, labels) of the other splits.
            task: binary, multi-class, ordinal or multi-label; None guesses it from the labels.
            classes: the classes' names in the order of the labels; None numbers them.
            positive: number or name of the class that sensitivity is about, in binary tasks;
                None takes it from the names, else the last class.
            name: by which errors and records call the data.

        Raises:
            ValueError: what does not fit, and what to do.
        """
        from effml.data.assemble import from_arrays

        pairs = {"train": (images, labels), "val": val, "test": test}
        return from_arrays(name, pairs, task, classes, positive)

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
    """uint8 0…255 as float32 −1…1: mean and standard deviation 0.5, as MedMNIST has it."""
    return images.div(127.5).sub_(1)
