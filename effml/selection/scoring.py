"""What a proxy's predictions say of each training image, and selection by it: the largest score
first.

`predictions` are probabilities of the training images, (N, K), or of every epoch of the proxy's
training, (N, E, K); `labels` (N,) or (N, 1), or (N, L) of 0/1 where an image has several labels,
whose L probabilities are then apart. Each function gives one score per image, (N,); the larger, the
more worth keeping."""

from collections.abc import Callable
from typing import Any

import torch

from effml.selection.checks import as_float, checked, one_label, several

Score = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def least_confidence(
    predictions: torch.Tensor, labels: torch.Tensor, features: torch.Tensor
) -> torch.Tensor:
    """1 − the largest probability (Coleman et al. 2020). With several labels an answer is one of
    2^L sets of labels, and its probability the product over the labels."""
    p = _last(predictions)
    if several(labels):
        return 1 - p.maximum(1 - p).prod(1)
    return 1 - p.amax(1)


def margin(predictions: torch.Tensor, labels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """1 − (the largest probability − the second); with several labels, of the sets of labels as in
    `least_confidence`. The second differs from the largest in the label that is least sure."""
    p = _last(predictions)
    if several(labels):
        sure = p.maximum(1 - p)
        least = sure.amin(1)
        return 1 - sure.prod(1) * (2 - 1 / least)
    top = p.topk(2, dim=1).values
    return 1 - (top[:, 0] - top[:, 1])


def entropy(
    predictions: torch.Tensor, labels: torch.Tensor, features: torch.Tensor
) -> torch.Tensor:
    """−Σ p log p, nats (Coleman et al. 2020); with several labels the sum of their binary
    entropies."""
    p = _last(predictions)
    other = torch.special.entr(1 - p).sum(1) if several(labels) else 0
    return torch.special.entr(p).sum(1) + other


def forgetting(
    predictions: torch.Tensor, labels: torch.Tensor, features: torch.Tensor
) -> torch.Tensor:
    """How often an image was right after one epoch and wrong after the next (Toneva et al. 2019); never right: more than any."""
    if predictions.ndim != 3:
        raise ValueError(
            f"forgetting counts over epochs: give scores of shape (N, E, K), not {tuple(predictions.shape)}."
        )
    right = predictions.argmax(2) == one_label(labels)[:, None]
    forgotten = (right[:, :-1] & ~right[:, 1:]).sum(1)
    return torch.where(right.any(1), forgotten, predictions.shape[1]).float()


def el2n(predictions: torch.Tensor, labels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """‖p − y‖₂, mean over the epochs given (Paul et al. 2021, definition 2.3, whose mean is over networks at one epoch)."""
    return _error(predictions, labels).norm(dim=-1).reshape(len(predictions), -1).mean(1)


def grand(predictions: torch.Tensor, labels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Norm of the loss's gradient (Paul et al. 2021, definition 2.1), of the last linear layer alone, where it is exactly
    ‖p − y‖ √(‖h‖² + 1) with `features` h, the inputs of that layer."""
    inputs = torch.cat(
        [as_float(features[i : i + 8192]).square().sum(1) for i in range(0, len(features), 8192)]
    )
    return _error(_last(predictions), labels).norm(dim=1) * (inputs + 1).sqrt()


def clean(predictions: torch.Tensor, labels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Noise removal by confident learning (Northcutt et al. 2021): the probability of the label, less the largest other one,
    each over the mean confidence of its class. Images whose label is likely wrong come last. The predictions should be of a
    model that did not see the image with its label (cross-validation), or saw it for few epochs."""
    p = _last(predictions)
    mine = torch.nn.functional.one_hot(one_label(labels), p.shape[1]).bool()
    mean = (
        torch.where(mine, p, torch.nan).nanmean(0).nan_to_num(1.0)
    )  # a class without images has no threshold
    ratio = p / mean.clamp(min=1e-12)
    return ratio[mine] - ratio.masked_fill(mine, -torch.inf).amax(1)


def by_score(score: Score, features_too: bool = False) -> Callable[..., torch.Tensor]:
    """The selector that takes the images with the largest `score` first; equal ones in random order. `features_too`: the score
    is of the features as well. `selector.values` gives the scores of all images, (N,)."""

    def values(features: Any, labels: Any, scores: Any) -> torch.Tensor:
        scores = as_float(scores)
        if scores.ndim == 1:
            return scores
        _check(score.__name__, scores, labels)
        return score(scores, labels, features)

    def selector(
        features: Any, labels: Any, k: int, *, seed: int = 0, scores: Any = None
    ) -> torch.Tensor:
        found = values(features, labels, scores)
        shuffled = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
        return shuffled[torch.argsort(found[shuffled], descending=True, stable=True)[:k]]

    selector.__name__, selector.__doc__ = score.__name__, score.__doc__
    selector.needs_scores, selector.needs_features = True, features_too
    selector.values = values
    return checked(selector)


def _check(name: str, predictions: torch.Tensor, labels: Any) -> None:
    """Raises ValueError unless the predictions are probabilities of one class an image, or of as
    many labels as there are."""
    got, total = predictions.aminmax(), predictions.sum(-1)
    width = labels.shape[1] if several(labels) else None
    if got.min < 0 or got.max > 1.01 or width is None and not ((total - 1).abs() < 0.02).all():
        raise ValueError(
            f"{name}: scores must be probabilities, here from {got.min:g} to {got.max:g}, with sums from "
            f"{total.min():g} to {total.max():g}. Give each image's softmax over the classes; where images have "
            "several labels, the sigmoid of each, and labels (N, L) of 0 and 1."
        )
    if width not in (None, predictions.shape[-1]):
        raise ValueError(
            f"{name}: {predictions.shape[-1]} probabilities an image for {width} labels. Give one for each label."
        )


def _last(predictions: torch.Tensor) -> torch.Tensor:
    return predictions if predictions.ndim == 2 else predictions[:, -1]


def _error(predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    target = torch.nn.functional.one_hot(one_label(labels), predictions.shape[-1])
    return predictions - (target if predictions.ndim == 2 else target[:, None])
