"""Selection by classes alone, and any selection class by class."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from effml.selection.checks import as_float, checked, one_label, shuffle


@checked
def random(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
    """Any k images: the baseline that is hard to beat (Guo et al. 2022)."""
    return shuffle(len(features), seed)[:k]


@checked
def class_balanced(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
    """Random images, the same number of each class; rare classes are kept whole."""
    shuffled = shuffle(len(features), seed)
    labels = one_label(labels)[shuffled]
    turn = torch.empty_like(labels)  # of each image, how many before it have its label
    for label in labels.unique():
        mine = labels == label
        turn[mine] = torch.arange(int(mine.sum()))
    return shuffled[torch.argsort(turn, stable=True)[:k]]


random.needs_features = class_balanced.needs_features = False


def per_class(selector: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`selector` within each class, which keeps its share of k (`quotas`). Classes take turns, so
    that a prefix has nearly the same shares. Scores are those of all images together."""

    @checked
    @functools.wraps(selector)
    def select(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
        labels, picked, place = one_label(labels), [], []
        if hasattr(selector, "values"):
            scores = selector.values(features, labels, scores)
        for label, quota in quotas(labels, k).items():
            index = (labels == label).nonzero()[:, 0]
            part = features[index if isinstance(features, Tensor) else index.numpy()]
            own = None if scores is None else as_float(scores)[index]
            picked.append(index[selector(part, labels[index], quota, seed=seed, scores=own)])
            place.append((torch.arange(quota) + 0.5) / quota)
        return torch.cat(picked)[torch.argsort(torch.cat(place), stable=True)]

    return select


def quotas(labels: Any, k: int) -> dict[int, int]:
    """How many of k images each class gets: its share, by largest remainder, and one at least."""
    classes, counts = one_label(labels).unique(return_counts=True)
    share = counts.double() * k / counts.sum()
    given = share.floor().clamp(min=float(k >= len(classes)))
    while left := k - int(given.sum()):  # a few at most
        wish = share - given if left > 0 else torch.where(given > 1, given - share, -torch.inf)
        given[wish.argmax()] += 1 if left > 0 else -1
    return {int(label): int(number) for label, number in zip(classes, given) if number}
