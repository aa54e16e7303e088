"""Which training images to keep before training, and how to draw batches during it.

A selector takes features (N, D), labels (N,) or (N, 1) and k, and gives the indices of k images in the order picked, so that a
prefix of them is a smaller selection. Those that go by the scores of a proxy need `scores`: (N,), the largest first, or the
proxy's probabilities, (N, K) or (N, E, K) over epochs.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from effml.selection import coverage, scoring
from effml.selection.checks import as_float, checked, one_label

Selector = Callable[..., torch.Tensor]


PER_CLASS = "_per_class"
"""Behind a selector's name: each class keeps its share."""


@checked
def random(
    features: Any, labels: Any, k: int, *, seed: int = 0, scores: Any = None
) -> torch.Tensor:
    """Any k images: the baseline that is hard to beat (Guo et al. 2022)."""
    return torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:k]


@checked
def class_balanced(
    features: Any, labels: Any, k: int, *, seed: int = 0, scores: Any = None
) -> torch.Tensor:
    """Random images, as many of each class as it has, up to the same number for all: rare classes are kept whole first."""
    shuffled = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    return shuffled[torch.argsort(_turn(one_label(labels)[shuffled]), stable=True)[:k]]


SELECTORS: dict[str, Selector] = {
    "random": random,
    "class_balanced": class_balanced,
    "kmeans": coverage.kmeans,
    "kcenter": coverage.kcenter,
    "herding": coverage.herding,
    "facility_location": coverage.facility_location,
    "least_confidence": scoring.by_score(scoring.least_confidence),
    "margin": scoring.by_score(scoring.margin),
    "entropy": scoring.by_score(scoring.entropy),
    "forgetting": scoring.by_score(scoring.forgetting),
    "el2n": scoring.by_score(scoring.el2n),
    "grand": scoring.by_score(scoring.grand, features_too=True),
    "clean": scoring.by_score(scoring.clean),
}


def get_selector(name: str) -> Selector:
    """The entry of SELECTORS; with `_per_class` behind its name, class by class, each keeping its share."""
    plain = name.removesuffix(PER_CLASS)
    if plain not in SELECTORS:
        raise ValueError(
            f"Unknown selection {name!r}. Choose from: {', '.join(SELECTORS)}, each also with {PER_CLASS} behind it"
        )
    return per_class(SELECTORS[plain]) if plain != name else SELECTORS[plain]


def per_class(selector: Selector) -> Selector:
    """`selector` within each class, which keeps its share of k (largest remainder; at least one
    image, if k allows it). The order takes turns, so that a prefix has nearly the same shares.
    Scores are those of all images together: within a class they are only ranked."""

    @checked
    @functools.wraps(selector)
    def select(
        features: Any, labels: Any, k: int, *, seed: int = 0, scores: Any = None
    ) -> torch.Tensor:
        labels, picked, place = one_label(labels), [], []
        if hasattr(selector, "values"):
            scores = selector.values(features, labels, scores)
        for label, quota in quotas(labels, k).items():
            index = (labels == label).nonzero()[:, 0]
            mine = selector(
                _part(features, index),
                labels[index],
                quota,
                seed=seed,
                scores=None if scores is None else as_float(scores)[index],
            )
            picked.append(index[mine])
            place.append((torch.arange(quota) + 0.5) / quota)
        return torch.cat(picked)[torch.argsort(torch.cat(place), stable=True)]

    return select


def quotas(labels: Any, k: int) -> dict[int, int]:
    """How many of k images each class gets: its share, rounded by largest remainder, and one at least where k allows it."""
    classes, counts = one_label(labels).unique(return_counts=True)
    share = counts.double() * k / counts.sum()
    given = share.floor().clamp(min=float(k >= len(classes)))
    while left := k - int(given.sum()):  # a few at most
        wish = share - given if left > 0 else torch.where(given > 1, given - share, -torch.inf)
        given[wish.argmax()] += 1 if left > 0 else -1
    return {int(label): int(number) for label, number in zip(classes, given) if number}


class _Part:
    """Rows `index` of features that are not in memory, read when they are asked for."""

    def __init__(self, features: Any, index: torch.Tensor) -> None:
        self.features, self.index, self.shape = (
            features,
            index.numpy(),
            (len(index), *features.shape[1:]),
        )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> Any:
        return self.features[self.index[rows]]


def _part(features: Any, index: torch.Tensor) -> Any:
    return features[index] if isinstance(features, torch.Tensor) else _Part(features, index)


def _turn(labels: torch.Tensor) -> torch.Tensor:
    """Of each image, how many before it have its label."""
    turn = torch.empty_like(labels)
    for label in labels.unique():
        mine = labels == label
        turn[mine] = torch.arange(int(mine.sum()))
    return turn
