"""A picture to a square of some pixels: padded or stretched."""

from PIL import Image

FITS = ("pad", "stretch")


def inside(sides: tuple[int, int], size: int, fit: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height that a picture of `sides` (width, height) has in the square, and where its
    upper left corner lies there."""
    shape = tuple(max(1, round(side * size / max(sides))) for side in sides)
    shape = (size, size) if fit == "stretch" else shape
    return shape, ((size - shape[0]) // 2, (size - shape[1]) // 2)


def squared(
    image: Image.Image, size: int, fit: str, done: list[str], nearest: bool = False
) -> Image.Image:
    """The picture with its longer side (both, if stretched) at `size` pixels, black around it.

    What was done is appended to `done`. `nearest` makes no new values, for masks.
    """
    (width, height), longest = image.size, max(image.size)
    shape, corner = inside(image.size, size, fit)
    how = Image.Resampling.LANCZOS if longest < size else Image.Resampling.BOX  # BOX averages areas
    if shape != image.size:
        image = image.resize(shape, Image.Resampling.NEAREST if nearest else how)
        said = "enlarged (Lanczos)" if longest < size else "areas averaged"
        done.append(f"resized to {size} px, {said}")
    if fit == "stretch" and width != height:
        done.append("stretched to a square")
    if shape == (size, size):
        return image
    done.append("padded with black to a square")
    square = Image.new(image.mode, (size, size))
    square.paste(image, corner)
    return square
