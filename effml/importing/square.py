"""A picture to a square of some pixels: padded or stretched."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FITS = ("pad", "stretch")


def resized(image: "Image", size: int, fit: str, *, nearest: bool = False) -> "Image":
    """The picture with its longer side (both, if stretched) at `size` pixels."""
    from PIL.Image import Resampling

    longest = max(image.size)
    shape = tuple(max(1, round(side * size / longest)) for side in image.size)
    shape = (size, size) if fit == "stretch" else shape
    how = Resampling.LANCZOS if longest < size else Resampling.BOX  # BOX averages areas
    if shape == image.size:
        return image
    return image.resize(shape, Resampling.NEAREST if nearest else how)


def centred(image: "Image", size: int) -> "Image":
    """The picture in the middle of a black square."""
    from PIL import Image

    if image.size == (size, size):
        return image
    square = Image.new(image.mode, (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square
