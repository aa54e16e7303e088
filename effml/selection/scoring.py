"""What a proxy's predictions, (N, K) or (N, E, K) over its epochs, say of each training image, with
labels (N,), or (N, L) of 0/1 where an image has several: one score per image, (N,); the larger, the
more worth keeping."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from effml.selection.checks import as_float, checked, one_label, several, shuffle

Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def least_confidence(predictions: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """1 − the largest probability (Coleman et al. 2020). With several labels an answer is one of
    2^L sets of labels, and its probability the product over the labels."""
    p = _last(predictions)
    if several(labels):
        return 1 - p.maximum(1 - p).prod(1)
    return 1 - p.amax(1)


def margin(predictions: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """1 − (the largest probability − the second). Of the sets of several labels, the second differs
    from the first in the label that is least sure."""
    p = _last(predictions)
    if several(labels):
        sure = p.maximum(1 - p)
        least = sure.amin(1)
        return 1 - sure.prod(1) * (2 - 1 / least)
    top = p.topk(2, dim=1).values
    return 1 - (top[:, 0] - top[:, 1])


def entropy(predictions: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """−Σ p log p, nats (Coleman et al. 2020); with several labels the sum of their binary
    entropies."""
    p = _last(predictions)
    other = torch.special.entr(1 - p).sum(1) if several(labels) else 0
    return torch.special.entr(p).sum(1) + other


def forgetting(predictions: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """How often an image was right after one epoch and wrong after the next (Toneva et al. 2019);
    never right: more than any."""
    if predictions.ndim != 3:
        shape = tuple(predictions.shape)
        raise ValueError(f"forgetting counts over epochs: give scores (N, E, K), not {shape}.")
    right = predictions.argmax(2) == _target(labels, predictions.shape[2]).argmax(1)[:, None]
    forgotten = (right[:, :-1] & ~right[:, 1:]).sum(1)
    return torch.where(right.any(1), forgotten, predictions.shape[1]).float()


def el2n(predictions: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """‖p − y‖₂, mean over the epochs given (Paul et al. 2021, definition 2.3, whose mean is over
    networks at one epoch)."""
    return _error(predictions, labels).norm(dim=-1).reshape(len(predictions), -1).mean(1)


def grand(predictions: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """Norm of the loss's gradient (Paul et al. 2021, definition 2.1), of the last linear layer
    alone, where it is exactly ‖p − y‖ √(‖h‖² + 1) with `features` h, the inputs of that layer."""
    parts = (features[i : i + 8192] for i in range(0, len(features), 8192))
    inputs = torch.cat([as_float(part).square().sum(1) for part in parts])
    return _error(_last(predictions), labels).norm(dim=1) * (inputs + 1).sqrt()


def clean(predictions: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """Confident learning (Northcutt et al. 2021): the probability of the label, less the largest
    other one, each over the mean confidence of its class; likely wrong labels come last. The model
    should not have seen the image with its label, or for few epochs."""
    p = _last(predictions)
    mine = _target(labels, p.shape[1]).bool()
    mean = torch.where(mine, p, torch.nan).nanmean(0).nan_to_num(1.0)  # 1: a class without images
    ratio = p / mean.clamp(min=1e-12)
    return ratio[mine] - ratio.masked_fill(mine, -torch.inf).amax(1)


def by_score(score: Score, features_too: bool = False) -> Callable[..., Tensor]:
    """The selector that takes the largest `score` first, equal ones in random order; its `values`
    are the scores of all images, (N,). `features_too`: the score is of the features as well."""

    def values(features: Any, labels: Any, scores: Any) -> Tensor:
        scores = as_float(scores)
        if scores.ndim == 1:
            return scores
        _check(score.__name__, scores, labels)
        return score(scores, labels, features)

    def selector(features, labels, k: int, *, seed: int = 0, scores=None) -> Tensor:
        found = values(features, labels, scores)
        shuffled = shuffle(len(found), seed)
        return shuffled[torch.argsort(found[shuffled], descending=True, stable=True)[:k]]

    selector.__name__, selector.__doc__ = score.__name__, score.__doc__
    selector.needs_scores, selector.needs_features = True, features_too
    selector.values = values
    return checked(selector)


def _check(name: str, predictions: Tensor, labels: Any) -> None:
    got, total = predictions.aminmax(), predictions.sum(-1)
    width = labels.shape[1] if several(labels) else None
    if got.min < 0 or got.max > 1.01 or width is None and not ((total - 1).abs() < 0.02).all():
        here = f"from {got.min:g} to {got.max:g}, sums from {total.min():g} to {total.max():g}"
        give = "each image's softmax, or of several labels the sigmoids and labels (N, L)"
        raise ValueError(f"{name}: scores are no probabilities, {here}. Give {give}.")
    if width not in (None, k := predictions.shape[-1]):
        raise ValueError(f"{name}: {k} probabilities an image for {width} labels. Give as many.")


def _last(predictions: Tensor) -> Tensor:
    return predictions if predictions.ndim == 2 else predictions[:, -1]


def _error(predictions: Tensor, labels: Tensor) -> Tensor:
    target = _target(labels, predictions.shape[-1])
    return predictions - (target if predictions.ndim == 2 else target[:, None])


def _target(labels: Tensor, classes: int) -> Tensor:
    """Labels as 0 and 1, (N, classes)."""
    if (labels := one_label(labels)).max() >= classes:
        columns = f"the scores have {classes} columns: give those of all classes, from 0"
        raise ValueError(f"The labels go up to {labels.max()}, but {columns}.")
    return one_hot(labels, classes)
