"""The training loop: images stay uint8 tensors in memory, and a batch is an index."""
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from effml.data import Dataset, Split, normalize
from effml.evaluation import evaluate
from effml.optimizers import make_optimizer
from effml.precision import autocast, dtype_of
from effml.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

EVAL_PIXELS = 2_000_000  # of a batch that is only looked at: 512 images up to 62 px, 39 of 224 px


class Diverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class History:
    """What happened, epoch by epoch; the model is left with the weights of `best_epoch`."""

    train_loss: list[float] = field(default_factory=list)
    val_auroc: list[float] = field(default_factory=list)
    best_epoch: int = 0
    precision_used: str = ""


def train(model: "nn.Module", data: Dataset, *, recipe: Recipe, sampler: None = None, teacher: None = None) -> History:
    """Train `model` in place on `data.train` as the recipe says; keep the epoch with the best validation AUROC (the last,
    if there is no validation split). The test split is not looked at.

    Raises Diverged when the loss is not finite and ValueError for a task without labels or an unknown name.
    """
    import torch
    if data.train is None or data.train.labels is None:
        raise ValueError(f"{data.name} has no labelled training images (its task is {data.task}).")
    if sampler is not None or teacher is not None:
        raise ValueError("train takes no sampler and no teacher yet: leave both at None.")
    if recipe.schedule not in SCHEDULES:
        raise ValueError(f"Unknown schedule {recipe.schedule!r}. Choose from: {', '.join(SCHEDULES)}")
    device = next(model.parameters()).device.type
    split, labels = data.train.to(device), data.train.labels.to(device)
    model.to(memory_format=torch.channels_last)
    loss_of = _loss(data.task)
    optimizer = make_optimizer(recipe.optimizer, model.parameters(), recipe.learning_rate)
    lone = len(labels) > 1 < recipe.batch_size and len(labels) % recipe.batch_size == 1
    used = len(labels) - lone  # batch normalisation has no variance over a last batch of one image
    schedule = SCHEDULES[recipe.schedule](optimizer, recipe.epochs * math.ceil(used / recipe.batch_size))
    order = torch.Generator().manual_seed(recipe.seed)
    history, best, kept = History(), -math.inf, None
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        total = 0.0
        for index in torch.randperm(len(labels), generator=order)[:used].to(device).split(recipe.batch_size):
            batch = normalize(split.take(index).to(device)).contiguous(memory_format=torch.channels_last)
            with autocast(recipe.precision, device):
                outputs = model(batch)
            loss = loss_of(outputs.float(), labels[index])
            if not math.isfinite(value := loss.item()):
                raise Diverged(f"The loss became {value} in epoch {epoch}. Lower learning_rate={recipe.learning_rate:g}.")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += value * len(index)
        history.train_loss.append(total / used)
        history.precision_used = dtype_of(outputs)
        score = _validate(model, data, recipe.precision)
        history.val_auroc.append(score)
        if score >= best or not math.isfinite(score):
            best, history.best_epoch = (score if math.isfinite(score) else best), epoch
            kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        elif recipe.patience and epoch - history.best_epoch >= recipe.patience:
            break
    model.load_state_dict(kept)
    model.eval()
    return history


def predict(model: "nn.Module", split: Split, *, task: str, precision: str = "fp32") -> "np.ndarray":
    """Probabilities float32 (N, K) of every image of a split, in its order; sigmoid per label if multi-label."""
    import torch
    model.eval()
    device = next(model.parameters()).device.type
    with torch.inference_mode(), autocast(precision, device):
        step = min(512, max(1, EVAL_PIXELS // split.images[0, 0].numel()))
        batches = (split.take(slice(start, start + step)).to(device) for start in range(0, len(split), step))
        logits = torch.cat([model(normalize(batch).contiguous(memory_format=torch.channels_last)).float() for batch in batches])
    return (logits.sigmoid() if task == "multi-label" else logits.softmax(1)).cpu().numpy()


def _validate(model: "nn.Module", data: Dataset, precision: str) -> float:
    if data.val is None:
        return math.nan
    probabilities = predict(model, data.val, task=data.task, precision=precision)
    if not math.isfinite(probabilities.sum()):
        raise Diverged("The model's outputs on the validation split are not finite numbers. Lower learning_rate.")
    return evaluate(probabilities, data.val.labels.numpy(), task=data.task, positive=data.positive).auroc


def _loss(task: str) -> Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]:
    from torch.nn import functional
    if task == "multi-label":
        return lambda logits, labels: functional.binary_cross_entropy_with_logits(logits, labels.float())
    return functional.cross_entropy


def _cosine(optimizer: "torch.optim.Optimizer", steps: int) -> "torch.optim.lr_scheduler.LRScheduler":
    """From the learning rate to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    from torch.optim.lr_scheduler import CosineAnnealingLR
    return CosineAnnealingLR(optimizer, steps)


def _constant(optimizer: "torch.optim.Optimizer", steps: int) -> "torch.optim.lr_scheduler.LRScheduler":
    from torch.optim.lr_scheduler import ConstantLR
    return ConstantLR(optimizer, factor=1.0)


SCHEDULES = {"cosine": _cosine, "constant": _constant}
