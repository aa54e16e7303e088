"""What every selector is asked before it selects: a registry entry is `checked`."""

import functools
from collections.abc import Callable
from typing import Any

import torch

LARGEST = 1e16
"""The squared distance of two rows of a hundred thousand such numbers is still a float32."""


def checked(select: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`select` behind the checks of its arguments. Raises ValueError for k outside 1…N, features that are not (N, D), not
    finite or beyond LARGEST, labels of another length, and, where they are needed, labels or scores that are missing, of another
    length or not finite."""

    @functools.wraps(select)
    def wrapper(
        features: Any, labels: Any, k: int, *, seed: int = 0, scores: Any = None
    ) -> torch.Tensor:
        name, n = select.__name__, len(features)
        if isinstance(k, bool) or k not in range(1, n + 1):
            raise ValueError(
                f"{name}: k={k} of {n} images cannot be selected. Give a whole number from 1 to {n}."
            )
        if len(features.shape) != 2 or not features.shape[1]:
            raise ValueError(
                f"{name}: features have shape {tuple(features.shape)}. Give (N, D): images.flatten(1), say."
            )
        for start in range(0, n, 8192):
            if (
                not torch.stack(as_float(features[start : start + 8192]).aminmax()).abs().max()
                <= LARGEST
            ):  # nor is NaN
                raise ValueError(
                    f"{name}: features from row {start} on hold NaN, infinity or numbers beyond {LARGEST:g}, whose "
                    "squares overflow. Look at what computed them, or leave these images out."
                )
        if labels is not None and len(labels) != n:
            raise ValueError(
                f"{name}: {len(labels)} labels for {n} images. Give one label per image."
            )
        if getattr(select, "needs_scores", False):
            if scores is None:
                raise ValueError(
                    f"{name} goes by the scores of a proxy and got none. Give scores: (N,), the largest first, or "
                    "the proxy's probabilities, (N, K) or (N, epochs, K)."
                )
            if len(scores) != n or not as_float(scores).isfinite().all():
                raise ValueError(
                    f"{name}: scores must be {n} finite numbers or rows, one per image; got {len(scores)}"
                    f"{', some of them not finite' * (len(scores) == n)}."
                )
        return select(features, labels, int(k), seed=seed, scores=scores)

    return wrapper


def as_float(part: Any) -> torch.Tensor:
    """Rows of a tensor, an array or a memory map as float32."""
    import numpy as np

    return (
        part.detach().float()
        if isinstance(part, torch.Tensor)
        else torch.from_numpy(np.array(part, dtype=np.float32))
    )


def several(labels: Any) -> bool:
    """Whether images have several labels each: (N, L) with L above 1."""
    return labels is not None and len(labels.shape) == 2 and labels.shape[1] > 1


def one_label(labels: Any) -> torch.Tensor:
    """Labels (N,) or (N, 1) as (N,) whole numbers; ValueError for several labels per image."""
    import numpy as np

    if labels is None:
        raise ValueError(
            "This selection goes by classes and got no labels. Give labels: (N,) or (N, 1), one per image."
        )
    labels = labels if isinstance(labels, torch.Tensor) else torch.from_numpy(np.array(labels))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"Labels have shape {tuple(labels.shape)}, but classes need one label per image. Choose a selection "
            "that does not go by classes: random, kmeans, kcenter, herding, facility_location, entropy, margin or "
            "least_confidence."
        )
    return labels.long()
