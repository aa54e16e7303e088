"""Which training images to keep before training: a selector takes features (N, D), labels (N,) and
k, and gives k indices in the order picked. Those that go by a proxy need `scores`: (N,), the
largest first, or the proxy's probabilities, (N, K) or (N, E, K) over epochs."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from effml.machine import choose
from effml.selection import coverage, scoring
from effml.selection.classes import class_balanced, per_class, random
from effml.selection.inputs import gather
from effml.selection.scoring import by_score

Selector = Callable[..., Tensor]

PER_CLASS = "_per_class"  # behind a selector's name: each class keeps its share

SELECTORS: dict[str, Selector] = {
    "random": random,
    "class_balanced": class_balanced,
    "kmeans": coverage.kmeans,
    "kcenter": coverage.kcenter,
    "herding": coverage.herding,
    "facility_location": coverage.facility_location,
    "least_confidence": by_score(scoring.least_confidence),
    "margin": by_score(scoring.margin),
    "entropy": by_score(scoring.entropy),
    "forgetting": by_score(scoring.forgetting),
    "el2n": by_score(scoring.el2n),
    "grand": by_score(scoring.grand, features_too=True),
    "clean": by_score(scoring.clean),
}


def get_selector(name: str) -> Selector:
    """The entry of SELECTORS; with `_per_class` behind its name, class by class."""
    plain = name.removesuffix(PER_CLASS)
    if plain not in SELECTORS:
        choose("selection", name, SELECTORS, f", each also with {PER_CLASS} behind it")
    return per_class(SELECTORS[plain]) if plain != name else SELECTORS[plain]


def select(
    name: str,
    features_or_model: Any,
    data: Any = None,
    *,
    labels: Any = None,
    fraction: float | None = None,
    k: int | None = None,
    scores: Any = None,
    seed: int = 0,
) -> Tensor:
    """Which of your images to keep for training, from features, scores, or your own model.

    Args:
        name: a name of SELECTORS; with `_per_class` behind it each class keeps its share.
        features_or_model: features (N, D) or images (N, C, H, W), a list, array or tensor; a model
            that gives logits (N, K), with `data`; None where scores or labels are enough.
        data: with a model: images as it takes them, or a loader of batches (images or (images,
            labels)) in a fixed order. uint8 is brought to −1…1, as in `train`.
        labels: class numbers (N,), or 0 and 1 (N, L); by default those of the loader.
        fraction: of the images to keep, above 0 and at most 1. Give this or `k`.
        k: the number of images to keep.
        scores: probabilities (N, K), over epochs (N, E, K), for the selectors that go by them; by
            default the model's.
        seed: of what is drawn.

    Returns:
        int64 indices (k,) in the order picked: prefixes are smaller selections.

    Raises:
        ValueError: an unknown name, or what is missing or does not fit.

    Example:
        >>> effml.select("entropy", None, scores=[[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]], k=2)
        tensor([1, 2])
        >>> features = [[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.1, 5.0]]
        >>> sorted(effml.select("kmeans", features, fraction=0.5) // 2)
        [tensor(0), tensor(1)]
    """
    selector = get_selector(name)
    features, labels, scores = gather(name, selector, features_or_model, data, labels, scores)
    if (fraction is None) == (k is None):
        raise ValueError("Give either fraction or k: how much to keep.")
    if not isinstance(seed, Integral):
        raise ValueError(f"seed={seed!r} must be a whole number.")
    if fraction is not None and not (isinstance(fraction, Real) and 0 < fraction <= 1):
        raise ValueError(
            f"fraction={fraction!r} is the fraction kept: give more than 0, at most 1."
        )
    k = max(1, round(fraction * len(features))) if k is None else k
    return selector(features, labels, k, seed=seed, scores=scores)
