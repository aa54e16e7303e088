"""Augmentation of whole batches of uint8 tensors on their device, each image with its own draw, and
its mask the same way: (N,C,H,W) and (N,H,W), or (N,C,D,H,W) and (N,D,H,W)."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from effml.machine import choose

Pair = tuple[Tensor, Tensor | None]
REACH = 1 / 14  # of the side that an image is shifted at most: 2 of 28 pixels


def augment(name: str, images: Tensor, masks: Tensor | None, generator: Generator) -> Pair:
    """The batch as `name` changes it."""
    return AUGMENTATIONS[choose("augment", name, AUGMENTATIONS)](images, masks, generator)


def _none(images: Tensor, masks: Tensor | None, generator: Generator) -> Pair:
    return images, masks


def _flip(images: Tensor, masks: Tensor | None, generator: Generator) -> Pair:
    """Half of the images mirrored left to right: right for all but anatomy with a side."""
    return _mirror(images, masks, generator, -1)


def _flips(images: Tensor, masks: Tensor | None, generator: Generator) -> Pair:
    """Mirrored along both axes of the image independently: for cells, tissue, skin, which have no
    up and no side."""
    return _mirror(*_mirror(images, masks, generator, -1), generator, -2)


def _shift(images: Tensor, masks: Tensor | None, generator: Generator) -> Pair:
    """Each image moved by up to REACH of its side along both axes; the border repeats."""
    for axis in (-1, -2):
        side = images.shape[axis]
        reach = max(1, round(REACH * side))
        move = torch.randint(-reach, reach + 1, (len(images), 1), generator=generator)
        index = (torch.arange(side) + move).clamp(0, side - 1).to(images.device)
        images = _along(images, index, axis)
        masks = None if masks is None else _along(masks, index, axis)
    return images, masks


def _flip_shift(images: Tensor, masks: Tensor | None, generator: Generator) -> Pair:
    return _shift(*_flip(images, masks, generator), generator)


def _along(tensor: Tensor, index: Tensor, axis: int) -> Tensor:
    """tensor[n, …, index[n], …] along one of the last two axes."""
    shape = [1] * tensor.ndim
    shape[0], shape[axis] = index.shape
    return tensor.gather(axis % tensor.ndim, index.reshape(shape).expand(tensor.shape))


def _mirror(images: Tensor, masks: Tensor | None, generator: Generator, axis: int) -> Pair:
    turned = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)

    def mirrored(tensor: Tensor) -> Tensor:
        return torch.where(turned.reshape(-1, *[1] * (tensor.ndim - 1)), tensor.flip(axis), tensor)

    return mirrored(images), None if masks is None else mirrored(masks)


AUGMENTATIONS: dict[str, Callable[..., Pair]] = {
    "none": _none,
    "flip": _flip,
    "flips": _flips,
    "shift": _shift,
    "flip_shift": _flip_shift,
}
