"""Patches of pictures that have masks, as a set of two classes: with the structure, and without."""

import re

import numpy as np

Arrays = dict[str, np.ndarray]


def asked(name: str) -> tuple[str, int]:
    """`foot_ulcer_128:patches=64` as the set and the side of its patches; 0 where none is asked."""
    whole, _, side = name.rpartition(":patches=")
    if not whole:
        return name, 0
    if not re.fullmatch("[0-9]{1,4}", side) or int(side) < 8:
        raise ValueError(f"{name}: give whole pixels from 8 on, such as {whole}:patches=64.")
    return whole, int(side)


def cut(name: str, arrays: Arrays, side: int) -> tuple[Arrays, str]:
    """The arrays of pictures (N, H, W[, 3]) as those of their patches, and what was done, in words.

    A patch is of class 1 where its mask holds a pixel. Those of one picture have one group, its own
    or that of its patient; those without any contrast (padding) are left out.
    """
    splits = [key.removesuffix("_images") for key in arrays if key.endswith("_images")]
    what = str(arrays["label_names"][1]) if len(arrays.get("label_names", ())) == 2 else "structure"
    found: Arrays = {"label_names": np.array([f"without {what}", what])}
    for split in splits:
        mine = [key for key in arrays if key.startswith(f"{split}_")]
        rest = {key.removeprefix(f"{split}_"): arrays[key] for key in mine}
        images, masks = rest.pop("images"), rest.pop("masks", None)
        if masks is None or masks.ndim != 3 or masks.shape[1] % side or masks.shape[2] % side:
            given = f"{split}_images {images.shape}, {'no' if masks is None else 'with'} masks"
            raise ValueError(
                f"{name}: {given}. Patches need pictures with masks, and a side that "
                "divides theirs."
            )
        pictures, tiles = len(images), _tiles(images, side)
        shown = np.ptp(tiles.reshape(len(tiles), -1), axis=1) > 0
        of = np.repeat(np.arange(pictures), len(tiles) // max(pictures, 1))[shown]
        rest.setdefault("groups", np.array([f"{split} {i}" for i in range(pictures)]))
        rest.pop("labels", None)
        found |= {f"{split}_{key}": values[of] for key, values in rest.items()}
        found[f"{split}_images"] = tiles[shown]
        ill = _tiles(masks, side).reshape(len(tiles), -1).any(1)[shown]
        found[f"{split}_labels"] = ill.astype(np.uint8)[:, None]
    return found, f"{side} × {side} px; {what}: at least one pixel of it; padding left out"


def _tiles(images: np.ndarray, side: int) -> np.ndarray:
    """(N, H, W, …) as (N · H/side · W/side, side, side, …), picture by picture."""
    n, height, width, *rest = images.shape
    parts = images.reshape(n, height // side, side, width // side, side, *rest)
    return parts.swapaxes(2, 3).reshape(-1, side, side, *rest)
