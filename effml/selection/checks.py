"""What every selector is asked before it selects: a registry entry is `checked`."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST = 1e16  # the squared distance of two rows of 100 000 such numbers is still a float32


def checked(select: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`select` behind the checks of k, features, labels and, where needed, scores."""

    @functools.wraps(select)
    def wrapper(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
        n, shape = len(features), tuple(features.shape)
        if not n:
            wrong = "there are no images. Give at least one"
        elif isinstance(k, bool) or k not in range(1, n + 1):
            wrong = f"k={k} of {n} images cannot be selected. Give a whole number from 1 to {n}"
        elif len(shape) != 2 or not shape[1]:
            wrong = f"features have shape {shape}. Give (N, D): images.flatten(1), say"
        elif (row := _overflowing(features)) is not None:
            big = f"NaN, infinity or numbers beyond {LARGEST:g}, whose squares overflow"
            wrong = f"features of row {row} hold {big}. Leave such images out"
        elif labels is not None and len(labels) != n:
            wrong = f"{len(labels)} labels for {n} images. Give one label per image"
        elif getattr(select, "needs_scores", False):
            wrong = _scores(scores, n)
        else:
            wrong = ""
        if wrong:
            raise ValueError(f"{select.__name__}: {wrong}.")
        return select(features, labels, int(k), seed=seed, scores=scores)

    return wrapper


def _overflowing(features: Any) -> int | None:
    for start in range(0, len(features), 8192):
        least, most = as_float(features[start : start + 8192]).aminmax()
        if not max(-least, most) <= LARGEST:  # nor is NaN
            part = as_float(features[start : start + 8192])
            return start + int((part.abs() <= LARGEST).all(1).int().argmin())
    return None


def _scores(scores: Any, n: int) -> str:
    if scores is None:
        return "it goes by a proxy. Give scores (N,) or probabilities (N, K) or (N, epochs, K)"
    if len(scores) == n and as_float(scores).isfinite().all():
        return ""
    some = ", some of them not finite" * (len(scores) == n)
    return f"scores must be {n} finite numbers or rows, one per image; got {len(scores)}{some}"


def as_float(part: Any) -> Tensor:
    if isinstance(part, Tensor):
        return part.detach().float()
    return torch.from_numpy(np.array(part, dtype=np.float32))


def several(labels: Any) -> bool:
    return labels is not None and len(labels.shape) == 2 and labels.shape[1] > 1


def one_label(labels: Any) -> Tensor:
    """Labels (N,) or (N, 1) as (N,) whole numbers."""
    if labels is None:
        raise ValueError("This selection goes by classes and got no labels: give them, (N,).")
    labels = labels if isinstance(labels, Tensor) else torch.from_numpy(np.array(labels))
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        raise ValueError(
            f"Labels {tuple(labels.shape)} are several an image. Choose a selection that does not "
            "go by classes: random, kcenter, entropy, say; of one-hot rows give labels.argmax(1)."
        )
    return labels.reshape(-1).long()


def shuffle(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
