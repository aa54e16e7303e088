"""Batch splicing: many small images on one canvas, so that a fully convolutional model takes them
as one image, and apart again (Yuan 2025; Thakur 2025).

Zeros between two images are not enough: after the first bias they are no longer zero, and what
comes of one image reaches the next. It is exact where the gutter is made zero anew before each
layer that looks around, as the padding at the edge of an image is."""

import math
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def columns(n: int) -> int:
    """Of the grid of n images, which is as square as can be."""
    return math.ceil(math.sqrt(n))


def splice(images: np.ndarray, gutter: int = 0) -> np.ndarray:
    """Images (N, C, H, W) in rows on a canvas (1, C, …), with `gutter` pixels of zero between them,
    and where the grid has more places than there are images."""
    n, channels, height, width = images.shape
    across = columns(n)
    down, tall, wide = math.ceil(n / across), height + gutter, width + gutter
    canvas = np.zeros((1, channels, down * tall - gutter, across * wide - gutter), images.dtype)
    for i, image in enumerate(images):
        top, left = i // across * tall, i % across * wide
        canvas[0, :, top : top + height, left : left + width] = image
    return canvas


def apart(canvas: np.ndarray, n: int, side: tuple[int, int], gutter: int = 0) -> np.ndarray:
    """The n images (N, C, H, W), `side` pixels high and wide, of a canvas as `splice` makes it."""
    (height, width), across = side, columns(n)
    corners = ((i // across * (height + gutter), i % across * (width + gutter)) for i in range(n))
    return np.stack([canvas[0, :, y : y + height, x : x + width] for y, x in corners])


def masked(model: "torch.nn.Module", places: np.ndarray) -> "torch.nn.Module":
    """A copy of the model for canvases (1, C, H, W): before each layer that looks around, what lies
    where `places` (1, 1, H, W) has 0 is made zero. On another resolution `places` is thinned out
    evenly."""
    import torch

    kinds = torch.nn.modules.conv._ConvNd, *_pools()
    copy, hook = deepcopy(model).eval(), Gutter(torch.from_numpy(places))
    for layer in copy.modules():
        if isinstance(layer, kinds) and _looks_around(layer):
            layer.register_forward_pre_hook(hook)
    return copy


def exact(
    model: "torch.nn.Module", shape: tuple[int, int, int], n: int, gutter: int
) -> "torch.nn.Module":
    """A copy of the model for canvases of n images: what it gives for a canvas is, apart again,
    what the model gives for each image.

    Args:
        model: Gives (N, K, H, W) for images (N, C, H, W).
        shape: That of an image.
        n: Images on the canvas.
        gutter: Pixels between them; at the coarsest resolution of the model one is needed: a
            multiple of its stride, 8 for `unet`.

    Raises:
        ValueError: The copy does not give what the model gives.
    """
    import torch

    places = splice(np.ones((n, 1, *shape[1:]), np.float32), gutter)
    copy = masked(model, places)
    images = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model.eval()(images).numpy()
        given = _try(copy, torch.from_numpy(splice(images.numpy(), gutter)))
    off = np.inf
    if given.ndim == 4 and given.shape[2:] == places.shape[2:]:
        off = np.abs(apart(given, n, shape[1:], gutter) - wanted).max()
    if not off <= 1e-4 * np.abs(wanted).max():
        raise ValueError(
            f"On a canvas with a gutter of {gutter} px {type(model).__name__} gives other logits "
            f"for images of {shape[1]}×{shape[2]} px ({off:.3g} off). Give a gutter, and images "
            "with sides, that are multiples of the model's stride (8 for unet); a model that "
            "gives no logits per pixel cannot be spliced."
        )
    return copy


def _try(model: "torch.nn.Module", canvas: "torch.Tensor") -> np.ndarray:
    """What it gives; nothing where it does not take a canvas."""
    try:
        return model(canvas).numpy()
    except Exception:  # of many kinds: the model's own, and sides that do not fit
        return np.empty(0)


class Gutter:
    """A hook that makes the gutter zero before a layer looks at it."""

    def __init__(self, places: "torch.Tensor") -> None:
        self.places = places

    def __call__(self, module: "torch.nn.Module", given: tuple) -> tuple:
        step = -(-self.places.shape[2] // given[0].shape[2])
        return given[0] * self.places[:, :, ::step, ::step].to(given[0]), *given[1:]


def _pools() -> tuple[type, ...]:
    from torch.nn.modules import pooling

    return pooling._MaxPoolNd, pooling._AvgPoolNd


def _looks_around(layer: "torch.nn.Module") -> bool:
    size = layer.kernel_size
    return max(size if isinstance(size, tuple) else (size,)) > 1
