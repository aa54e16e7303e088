"""The training loop: images stay uint8 tensors in memory, and a batch is an index."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, MultiStepLR, OneCycleLR

from effml.data import Dataset, Split, normalize
from effml.evaluation import evaluate
from effml.machine import seeded
from effml.optimizers import make_optimizer, state_report
from effml.precision import Arithmetic, arithmetic
from effml.recipe import Recipe
from effml.training.augmentation import augment
from effml.training.checkpoints import Checkpoint
from effml.training.importance import Uniform, make_sampler
from effml.training.losses import distillation_loss, make_loss
from effml.training.stopping import make_stopping

EVAL_PIXELS = 2_000_000  # of a batch that is only looked at: 512 images up to 62 px, 39 of 224 px


class Diverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class History:
    """What happened, epoch by epoch; the model is left with the weights of `best_epoch`.
    `val_score` is the AUROC, or for masks the mean Dice; `dtypes` and `optimizer_state` what was
    found in memory after the first step that the optimizer took (a loss scale that is too large
    skips some); `steps` counts these, and `notes` say what a reader must know."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    best_epoch: int = 0
    resumed_epoch: int = 0
    steps: int = 0
    importance_steps: int = 0
    dtypes: dict[str, str] = field(default_factory=dict)
    optimizer_state: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, found: dict[str, float]) -> dict[str, float]:
        """Append what validation found."""
        for name, value in found.items():
            getattr(self, f"val_{name}").append(value)
        return found


def _from_its_seed(train: Callable[..., History]) -> Callable[..., History]:
    @functools.wraps(train)
    def seeding(*given: Any, recipe: Recipe, **others: Any) -> History:
        with seeded(recipe.seed):
            return train(*given, recipe=recipe, **others)

    return seeding


@_from_its_seed
def train(
    model: nn.Module,
    data: Dataset,
    *,
    recipe: Recipe,
    sampler: Uniform | None = None,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    after_epoch: Callable[[], None] | None = None,
) -> History:
    """Train `model` in place on `data.train` as the recipe says; keep the best epoch on the
    validation split (the last, if there is none). The test split is not looked at.

    Batches are drawn by `sampler`, else as the recipe says; parameters that need no gradient stay
    as they are, and then the model is not in training mode (a linear probe). `after_epoch` is
    called after each epoch, before validation. The logits of a `teacher` (for the same images and
    classes) are learned too (Hinton et al. 2015); recipe.class_weights weigh the labels alone. With
    recipe.epochs = 0 the model is only validated. Dropout is drawn from torch's global generators,
    which begin at recipe.seed and are afterwards as they were. With `checkpoint`, a file, the state
    after an epoch is kept there, and training goes on from it with the same results; it is removed
    at the end; `notes` say where it was of no use, or another process's. Raises Diverged when the
    loss is not finite and ValueError for a task without labels or masks, or an unknown name."""
    target = _target(data, recipe)
    device = str(next(model.parameters()).device)
    numbers = arithmetic(recipe.precision, device)
    split, truth = data.train.to(device), getattr(data.train, target).to(device)
    numbers.prepare(_channels_last(model))
    loss_of = make_loss(data.task, truth, len(data.classes), recipe.class_weights)
    learning = [p for p in model.parameters() if p.requires_grad]
    frozen = len(learning) < len(list(model.parameters()))
    optimizer = make_optimizer(
        recipe.optimizer, learning, recipe.learning_rate, recipe.weight_decay
    )
    scaler = numbers.scaler()
    lone = len(truth) > 1 < recipe.batch_size and len(truth) % recipe.batch_size == 1
    used = len(truth) - lone  # batch normalisation has no variance over a last batch of one image
    schedule = SCHEDULES[recipe.schedule](
        optimizer, recipe.epochs * math.ceil(used / recipe.batch_size)
    )
    order = torch.Generator().manual_seed(recipe.seed)
    stopping, history = make_stopping(recipe), History()
    sampler = sampler or make_sampler(recipe.sampler, len(truth), recipe.batch_size)
    if type(sampler) is not Uniform and (target == "masks" or truth.ndim > 1):
        raise ValueError(
            f"sampler={recipe.sampler!r} needs one label an image; the task is {data.task}. Choose uniform."
        )
    guide = None if teacher is None else _guide(teacher, data, recipe, numbers)
    keep = Checkpoint(
        checkpoint, recipe, model, optimizer, schedule, scaler, order, stopping, history, sampler
    )

    def forward(images: torch.Tensor) -> torch.Tensor:
        with numbers.context():
            return model(_channels_last(numbers.cast(normalize(images))))

    def score(index: torch.Tensor) -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            scores = _gradient_norm(forward(split.take(index).to(device)).float(), truth[index])
        model.train(not frozen)
        return scores

    for epoch in range(keep.resume() + 1, recipe.epochs + 1):
        model.train(not frozen)
        total = 0.0
        for index in (
            torch.randperm(len(truth), generator=order)[:used].to(device).split(recipe.batch_size)
        ):
            index, weights = sampler.draw(index, score, order)
            history.importance_steps += weights is not None
            images, goal = split.take(index).to(device), truth[index]
            images, masks = augment(
                recipe.augment, images, goal if target == "masks" else None, order
            )
            goal = goal if masks is None else masks
            outputs = forward(images)
            loss = (
                loss_of(outputs.float(), goal)
                if weights is None
                else loss_of(outputs.float(), goal, weights)
            )
            if guide:
                soft = distillation_loss(outputs.float(), guide(index, images), recipe.temperature)
                loss = (1 - recipe.teacher_share) * loss + recipe.teacher_share * soft
            if not math.isfinite(value := loss.item()):
                raise Diverged(
                    f"The loss became {value} in epoch {epoch}. Lower learning_rate={recipe.learning_rate:g}."
                )
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= scale:  # it falls where the step was skipped
                history.steps += 1
                schedule.step()
            total += value * len(index)
            if weights is None and type(sampler) is not Uniform:
                sampler.observe(_gradient_norm(outputs.detach().float(), goal))
            if history.steps and not history.dtypes:
                history.dtypes = _dtypes(model, outputs, optimizer)
                history.optimizer_state = state_report(optimizer)
        history.train_loss.append(total / used)
        if after_epoch:
            after_epoch()
        found = history.note(_validate(model, data, numbers, loss_of))
        if stopping.better(found):
            history.best_epoch = epoch
            keep.best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if stopping.enough():
            history.notes += _why(epoch, recipe, history.val_score)
            break
        keep.save(epoch)
    if not recipe.epochs:
        why = "Nothing was trained: the weights themselves are at fault."
        history.note(_validate(model, data, numbers, loss_of, why))
    elif not history.steps:
        history.notes.append(
            f"not trained: gradients in {numbers.products} overflowed in every step, and none was taken"
        )
    model.load_state_dict(keep.best or model.state_dict())
    model.eval()
    keep.remove()
    return history


def _target(data: Dataset, recipe: Recipe) -> str:
    """What is learned, masks or labels; ValueError where there are none, or for an unknown
    schedule."""
    target = "masks" if data.task == "segmentation" else "labels"
    if data.train is None or getattr(data.train, target) is None:
        raise ValueError(
            f"{data.name} has no training images with {target} (its task is {data.task})."
        )
    if recipe.schedule not in SCHEDULES:
        raise ValueError(
            f"Unknown schedule {recipe.schedule!r}. Choose from: {', '.join(SCHEDULES)}"
        )
    return target


def _why(epoch: int, recipe: Recipe, scores: list[float]) -> list[str]:
    """What must be said where patience ended a training whose validation score could not get
    better."""
    told = f"stopped after epoch {epoch} by patience={recipe.patience}: the validation score "
    if all(map(math.isnan, scores)):
        return [told + "is not defined (NaN), and the last epoch is kept"]
    return [told + f"was {scores[0]:g} in every epoch"] if len({*scores}) == 1 else []


def predict(model: nn.Module, split: Split, *, task: str, precision: str = "fp32") -> np.ndarray:
    """Probabilities of every image of a split, in its order: float32 (N, K), sigmoid per label if multi-label; for
    segmentation float16 (N, H, W) or (N, D, H, W), of the structure."""
    return _probabilities(
        _logits(model, split, arithmetic(precision, str(next(model.parameters()).device)), task),
        task,
    )


def _logits(model: nn.Module, split: Split, numbers: Arithmetic, task: str) -> torch.Tensor:
    """On the CPU: float32 (N, K), or float16 (N, 2, …) for masks, which are large."""
    model.eval()
    step = min(512, max(1, EVAL_PIXELS // split.images[0, 0].numel()))
    dtype = torch.float16 if task == "segmentation" else torch.float32
    batches = (
        split.take(slice(start, start + step)).to(numbers.device)
        for start in range(0, len(split), step)
    )
    with torch.inference_mode(), numbers.context():
        return torch.cat(
            [
                model(_channels_last(numbers.cast(normalize(batch)))).to("cpu", dtype)
                for batch in batches
            ]
        )


def _probabilities(logits: torch.Tensor, task: str) -> np.ndarray:
    if task == "segmentation":
        return (logits[:, 1] - logits[:, 0]).sigmoid().numpy()
    return (logits.sigmoid() if task == "multi-label" else logits.softmax(1)).numpy()


def _validate(
    model: nn.Module,
    data: Dataset,
    numbers: Arithmetic,
    loss_of: Callable,
    advice: str = "Lower learning_rate.",
) -> dict[str, float]:
    """Score, loss and accuracy (of masks: over all pixels) on the validation split; NaN without one."""
    if data.val is None:
        return {"score": math.nan, "loss": math.nan, "accuracy": math.nan}
    logits = _logits(model, data.val, numbers, data.task)
    if not logits.isfinite().all():
        raise Diverged(
            f"The model's outputs on the validation split are not finite numbers. {advice}"
        )
    probabilities = _probabilities(logits, data.task)
    truth = data.val.masks if data.task == "segmentation" else data.val.labels
    loss = float(loss_of(logits.float().to(numbers.device), truth.to(numbers.device)))
    if data.task == "segmentation":
        guess, masks = (
            (array >= 0.5).reshape(len(array), -1) for array in (probabilities, truth.numpy())
        )
        overlap, size = (guess & masks).sum(1), guess.sum(1) + masks.sum(1)
        dice = np.where(size > 0, 2 * overlap / np.maximum(size, 1), 1.0)  # both empty: right
        return {
            "score": float(dice.mean()),
            "loss": loss,
            "accuracy": float((guess == masks).mean()),
        }
    scores = evaluate(probabilities, truth.numpy(), task=data.task, positive=data.positive)
    return {"score": scores.auroc, "loss": loss, "accuracy": scores.accuracy}


def _guide(teacher: nn.Module, data: Dataset, recipe: Recipe, numbers: Arithmetic) -> Callable:
    """Logits (B, K) of the teacher for a batch, from its index and images; computed once for all images unless they vary."""
    if data.task not in ("binary", "multi-class", "ordinal") or recipe.sampler != "uniform":
        raise ValueError(
            f"Distillation needs one label an image and sampler=uniform; the task is {data.task}, sampler="
            f"{recipe.sampler!r}. Leave teacher out, or choose another set or sampler."
        )
    teacher.to(numbers.device).eval().requires_grad_(False)
    numbers.prepare(_channels_last(teacher))
    if recipe.augment == "none":
        logits = _logits(teacher, data.train, numbers, data.task).to(numbers.device)
        return lambda index, images: logits[index]

    def look(index: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), numbers.context():
            return teacher(_channels_last(numbers.cast(normalize(images)))).float()

    return look


def _gradient_norm(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """‖p − y‖₂, (N,): the norm of the gradient of cross-entropy with respect to the logits."""
    return (logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])).norm(dim=1)


def _channels_last(thing: Any) -> Any:
    """A model or a batch (N,C,H,W) in channels-last layout; volumes stay as they are."""
    if isinstance(thing, torch.Tensor) and thing.ndim != 4:
        return thing.contiguous()
    if isinstance(thing, torch.nn.Module) and any(p.ndim == 5 for p in thing.parameters()):
        return thing
    return thing.to(memory_format=torch.channels_last)


def _dtypes(
    model: nn.Module, outputs: torch.Tensor, optimizer: torch.optim.Optimizer
) -> dict[str, str]:
    """What is in memory after a step: the dtypes of weights, outputs, gradients and optimiser state, commonest first."""

    def of(tensors: Any) -> str:
        sizes: dict[str, int] = {}
        for tensor in tensors:
            if tensor is not None and tensor.numel() > 1:  # a step counter is no state to speak of
                name = str(tensor.dtype).removeprefix("torch.")
                sizes[name] = sizes.get(name, 0) + tensor.numel()
        return "+".join(sorted(sizes, key=lambda name: -sizes[name])) or "none"

    states = (
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    return {
        "weights": of(model.parameters()),
        "activations": of([outputs]),
        "gradients": of(p.grad for p in model.parameters()),
        "optimizer": of(states),
    }


def _cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """From the learning rate to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    return CosineAnnealingLR(optimizer, steps)


def _constant(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    return ConstantLR(optimizer, factor=1.0)


def _step(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """A tenth after half, and again after three quarters, of the steps, as MedMNIST's own training does."""
    return MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], gamma=0.1)


def _onecycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Up to the learning rate in the first 30 %, then down to nothing (Smith & Topin 2018)."""
    return OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps=steps + 1)


SCHEDULES = {"cosine": _cosine, "constant": _constant, "step": _step, "onecycle": _onecycle}
