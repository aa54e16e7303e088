"""Grey values and colours of any number type to 8 bit, through a window."""

import numpy as np
from PIL import Image

Window = tuple[float, float] | str | None
Span = tuple[float, float, str]  # what becomes black, what becomes white, and who says so
ONE_VALUE = "all its pixels have the same value"


class Unusable(ValueError):
    """A file that is no picture for us. The message is the reason: a fact about the file."""


def to_8_bit(
    values: np.ndarray,
    window: Window,
    done: list[str],
    *,
    stated: Span | None = None,
    hidden: np.ndarray | None = None,
    inverted: str = "",
) -> Image.Image:
    """Values (H, W) or (H, W, 3) to 8 bit, halves rounded up; what is outside the window saturates.

    `window` is that of `read_picture`; without one `stated` holds, else percentiles (of the three
    colours together, so that the hue stays). `hidden` (H, W) marks padding, which becomes black.
    `inverted` says why black is white. What was done is appended to `done`. Raises Unusable.
    """
    if values.dtype.kind not in "biuf":
        raise Unusable(f"its values are {values.dtype.name}: save its magnitude as a picture")
    short = values.dtype.kind != "f" and values.dtype.itemsize <= 2
    values = values.astype(np.float32 if short else np.float64)
    shown = np.ones(values.shape[:2], bool) if hidden is None else ~hidden
    seen = values[shown]
    if not seen.size:
        raise Unusable("all its pixels are padding")
    if not np.isfinite(seen).all():
        raise Unusable("not all its pixels are finite numbers")
    low, high, how = _span(seen, window, stated)
    if how:
        done.append(f"to 8 bit: {how}")
    if not shown.all():
        values[~shown] = low
        done.append("padding left out of the grey values and shown black")
    if low < high:
        values -= low
        values *= 255 / (high - low)
        values += 0.5
    else:  # a step
        values = np.where(values > low, 255, 0)
    eight = np.clip(values, 0, 255).astype(np.uint8)
    if np.ptp(eight[shown]) == 0:
        span = f"its values go from {seen.min():g} to {seen.max():g}"
        same = seen.min() == seen.max()
        raise Unusable(ONE_VALUE if same else f"its window shows nothing: {span}")
    if inverted:
        eight = 255 - eight
        done.append(f"inverted ({inverted})")
    eight[~shown] = 0
    return Image.fromarray(eight)


def _span(seen: np.ndarray, window: Window, stated: Span | None) -> Span:
    if isinstance(window, tuple):
        return *window, f"window given, {window[0]:g} to {window[1]:g}"
    least, most = float(seen.min()), float(seen.max())
    if window == "max":
        if most <= 0:
            raise Unusable(f"its highest value is {most:g}: nothing lies between 0 and the maximum")
        below = ", values below 0 shown black" if least < 0 else ""
        return 0.0, most, f"divided by the picture's maximum{below}"
    if stated:
        return stated
    low, high = map(float, np.percentile(seen, (0.5, 99.5)))
    if low < high:
        return low, high, "0.5th to 99.5th percentile of the picture"
    if least == most:
        raise Unusable(ONE_VALUE)
    return least, most, "lowest to highest value (the percentiles are equal)"
