"""What `select` goes by: rows of arrays, or what your model makes of images."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from effml.data import Split
from effml.models import answer, as_input, check_linear, embed, first_weight, visiting
from effml.selection.checks import several


def gather(
    name: str, selector: Callable[..., Tensor], given: Any, data: Any, labels: Any, scores: Any
) -> tuple[Any, Tensor | None, Any]:
    """Features, labels and scores as the selector takes them. ValueError for what is missing."""
    by_scores = getattr(selector, "needs_scores", False)
    by_features = getattr(selector, "needs_features", True)
    if scores is not None and not by_scores:
        raise ValueError(f"{name} does not go by scores: leave scores, or choose entropy, say.")
    if isinstance(model := given, nn.Module):
        batches = Batches(data)
        logits = _logits(model, batches) if by_scores and scores is None else None
        if by_features and by_scores:
            check_linear(model, next(iter(batches)))
        given = embed(model, batches) if by_features else batches.blank()
        labels = as_labels(batches.labels if labels is None else labels)
        if logits is not None:
            if logits.ndim != 2 or logits.shape[1] < 2 and not several(labels):
                shape = tuple(logits.shape)
                raise ValueError(f"{name} needs two logits an image, (N, 2), or more; got {shape}.")
            scores = logits.sigmoid() if several(labels) else logits.softmax(1)
    elif data is not None:
        raise ValueError("data is for a model: give features alone, or a model and data.")
    labels = as_labels(labels)
    scores = None if scores is None else as_rows(scores, "scores", flat=False)
    if scores is not None and scores.ndim == 1:
        advice = "Of sigmoids p give numpy.stack([1 - p, p], 1)"
        rank = "to go by numbers of your own, numpy.argsort(-scores)[:k]"
        raise ValueError(f"{name} goes by probabilities (N, K), not (N,). {advice}; {rank}.")
    if given is not None:
        return as_rows(given, "features"), labels, scores
    known = labels if scores is None else scores
    if by_features or known is None:
        needs = "features, (N, D) or images" if by_features else "labels or scores"
        raise ValueError(f"{name} needs {needs}, or a model and its data.")
    return torch.zeros(len(known), 1), labels, scores


def as_rows(values: Any, name: str, flat: bool = True) -> Any:
    """Numbers, a row an image, from a list, an array or a tensor; images are made `flat`."""
    if isinstance(values, (list, tuple)):
        values = [row.detach().cpu().numpy() if torch.is_tensor(row) else row for row in values]
        if len({np.shape(row) for row in values}) > 1:
            raise ValueError(f"{name}: the rows have different lengths. Give each image as many.")
    if torch.is_tensor(values):
        values = values.detach().cpu()
    elif (values := np.asanyarray(values)).dtype.kind not in "biuf" or not values.ndim:
        raise ValueError(f"{name} are not numbers: give a list, an array or a tensor, (N, D).")
    return values.reshape(len(values), -1) if flat and values.ndim > 2 else values


def as_labels(labels: Any) -> Tensor | None:
    """Whole numbers (N,) or (N, L); None where there are none."""
    if labels is None:
        return None
    values = labels.detach().cpu().numpy() if torch.is_tensor(labels) else np.asarray(labels)
    if values.dtype.kind not in "biuf" or not (values % 1 == 0).all() or (values < 0).any():
        numbers = "for names give numpy.unique(labels, return_inverse=True)[1]"
        raise ValueError(f"labels must be whole numbers from 0, (N,) or (N, L): {numbers}.")
    return torch.from_numpy(values.astype(np.int64))


class Batches:
    """Images as a model takes them, batch by batch, as often as asked for; `n` and `labels` are
    those met."""

    def __init__(self, data: Any) -> None:
        if data is None:
            raise ValueError("A model needs data: give images, or a loader of batches.")
        self.whole = isinstance(data, (DataLoader, np.ndarray, Tensor, Split))
        if isinstance(data, DataLoader) and not (
            type(getattr(data.batch_sampler, "sampler", data.sampler)) is SequentialSampler
            and type(data.batch_sampler) in (BatchSampler, type(None))
            and not getattr(data.batch_sampler, "drop_last", data.drop_last)
        ):
            need = "shuffle=False, drop_last=False and no sampler of its own"
            raise ValueError(f"Indices need a fixed order: give a DataLoader with {need}.")
        if isinstance(data, Split):
            parts = (data.images, data.labels)[: 1 + (data.labels is not None)]
            data = list(zip(*(part.split(256) for part in parts)))
        elif isinstance(data, (np.ndarray, Tensor)):
            data = torch.as_tensor(data).split(256)
        elif iter(data) is data:  # a generator goes by once only
            data = list(data)
        self.data, self.labels, self.n = data, None, 0

    def __iter__(self) -> Iterator[Tensor]:
        met, n = [], 0
        for batch in self.data:
            images, *rest = batch if isinstance(batch, (tuple, list)) else (batch,)
            images, n = torch.as_tensor(images), n + len(images)
            if images.ndim == 3 and not self.whole:
                raise ValueError("A batch is (N, C, H, W): stack single images to one tensor.")
            met += map(torch.as_tensor, rest[:1])
            yield as_input(images)
        self.labels, self.n = torch.cat(met) if met else None, n

    def blank(self) -> Tensor:
        return torch.zeros(self.n or sum(map(len, self)), 1)


def _logits(model: nn.Module, batches: Batches) -> Tensor:
    """The model's answers, (N, K) float32 on the CPU."""
    weight = first_weight(model)
    with visiting(model), torch.inference_mode():
        return torch.cat([answer(model, batch.to(weight)).float().cpu() for batch in batches])
