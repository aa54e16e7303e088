"""The training loop: images stay uint8 tensors in memory, and a batch is an index."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effml.compression.bit_width import WeightBits
from effml.convolutions import fast_convolutions
from effml.data import Dataset
from effml.machine import seeded
from effml.metering.waiting import Waiting
from effml.optimizers import make_optimizer, state_report
from effml.optimizers.half import LostUpdates, repair_half
from effml.precision import arithmetic
from effml.recipe import Recipe
from effml.training.augmentation import augment
from effml.training.checkpoints import Checkpoint
from effml.training.history import Diverged, History, Step, dtypes_in_memory, zero_weights
from effml.training.inputs import check_all_done, check_model, dataset_of, recipe_of, target_of
from effml.training.losses import Teacher, distillation_loss, make_loss
from effml.training.prediction import channels_last, forward, validate
from effml.training.recomputing import recompute_blocks
from effml.training.sampling import SAMPLERS, Uniform, gradient_norm
from effml.training.saved import ErrorFeedback, Saved, pack_activations
from effml.training.schedules import SCHEDULES
from effml.training.stopping import STOPPING

OnStep = Callable[[Step], None] | None
OnEpoch = Callable[[], None] | None


def train(
    model: nn.Module,
    data: Any,
    labels: Any = None,
    *,
    val: tuple[Any, Any] | None = None,
    recipe: Recipe | None = None,
    sampler: Uniform | str | None = None,
    teacher: nn.Module | None = None,
    checkpoint: Path | str | None = None,
    after_step: OnStep = None,
    after_epoch: OnEpoch = None,
    **fields: Any,
) -> History:
    """Train your model in place and keep its best epoch by the validation images (the last, if
    there are none). The test split of a Dataset is not looked at.

    Args:
        model: gives logits (N, classes) for float images −1…1 (N, C, H, W), on the device to train
            on. With frozen parameters it stays in eval mode (a linear probe).
        data: a Dataset, or training images: uint8 (N, C, H, W), a tensor or an array.
        labels: of images: class numbers (N,), or 0 and 1 (N, L).
        val: (images, labels) to choose the epoch by.
        recipe: how to train.
        sampler: what draws the batches, or its name; by default the recipe's.
        teacher: a model whose logits are learned too (Hinton et al. 2015).
        checkpoint: a file to go on from with the same results; removed at the end.
        after_step: called with a Step after each update.
        after_epoch: called after each epoch, before validation.
        fields: of the recipe, as keywords: epochs=3, optimizer="adam8bit", seed=1.

    Returns:
        A History. With epochs=0 the model is only validated.

    Raises:
        Diverged: the loss is not finite.
        ValueError: an unknown name or field, no labels, or logits of another shape.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
        >>> images = torch.randint(0, 256, (90, 1, 8, 8), dtype=torch.uint8)
        >>> history = effml.train(net, images, torch.arange(90) % 2, epochs=2, batch_size=30)
        >>> len(history.train_loss), history.steps
        (2, 6)
    """
    if isinstance(sampler, str):
        fields, sampler = fields | {"sampler": sampler}, None
    recipe, data = recipe_of(recipe, fields, teacher), dataset_of(data, labels, val)
    check_all_done(recipe, teacher)
    how = sampler, teacher, checkpoint, after_step, after_epoch
    with Waiting(torch.get_num_threads()):
        return carry_out(model, data, recipe, *how)


def carry_out(
    model: Any,
    data: Dataset,
    recipe: Recipe,
    sampler: Any = None,
    teacher: Any = None,
    checkpoint: Any = None,
    after_step: OnStep = None,
    after_epoch: OnEpoch = None,
    until: float = math.inf,
) -> History:
    """`train` by a recipe whose other work is done. At `until`, in seconds of the epoch, it ends
    after the step in progress: what it learned by then is validated, and the best epoch is kept."""
    checkpoint = checkpoint and Path(checkpoint)
    with seeded(recipe.seed):
        training = Training(model, data, recipe, sampler, teacher)
        with training.bits as bits:
            training.until = until
            history = training.run(Checkpoint(checkpoint, training), after_step, after_epoch)
        history.stored = bits.stored
        return history


class Training:
    """A training in progress: all its parts, and a method for each of its steps."""

    until = math.inf
    """When it ends with what it has learned, in seconds of the epoch."""

    def __init__(
        self, model: nn.Module, data: Dataset, recipe: Recipe, sampler: Any, teacher: Any
    ) -> None:
        target, device = target_of(data), str(check_model(model))
        self.model, self.data, self.recipe, self.masks = model, data, recipe, target == "masks"
        self.number_format = arithmetic(recipe.precision, device)
        self.split, self.truth = data.train.to(device), getattr(data.train, target).to(device)
        self.number_format.prepare(channels_last(model), recipe.half_repair)
        self.forward = partial(forward, model, number_format=self.number_format)
        self.loss_of = make_loss(data.task, self.truth, len(data.classes), recipe.class_weights)
        learning = [p for p in model.parameters() if p.requires_grad]
        self.frozen = len(learning) < len(list(model.parameters()))
        rates = recipe.learning_rate, recipe.weight_decay
        self.optimizer = make_optimizer(recipe.optimizer, learning, *rates)
        repair_half(self.optimizer, recipe.half_repair, seed=recipe.seed)
        half = self.number_format.weights != "float32"
        counting = {"most": 4096, "every": 1 if device.startswith("cpu") else 10}
        self.lost = LostUpdates(model, self.optimizer, **counting) if half else None
        self.feedback = ErrorFeedback(learning, recipe.gradient_bits)
        self.scaler = self.number_format.scaler()
        n, size = len(self.truth), recipe.batch_size
        single_leftover = n > 1 < size and n % size == 1
        self.used = n - single_leftover  # batch normalisation has no variance over one image
        self.batches = math.ceil(self.used / size)
        self.schedule = SCHEDULES[recipe.schedule](self.optimizer, recipe.epochs * self.batches)
        self.order = torch.Generator().manual_seed(recipe.seed)
        self.stopping, self.history = STOPPING[recipe.stopping](recipe.patience), History()
        self.bits = WeightBits(model, recipe.bit_schedule, recipe.epochs)
        self.sampler = sampler or SAMPLERS[recipe.sampler](n, size)
        self.uniform = type(self.sampler) is Uniform
        if not self.uniform and (self.masks or self.truth.ndim > 1):
            told = f"sampler={recipe.sampler!r} needs one label an image"
            raise ValueError(f"{told}; the task is {data.task}. Choose uniform.")
        self.teacher = teacher and Teacher(teacher, data, recipe, self.number_format)

    def run(self, checkpoint: Checkpoint, after_step: OnStep, after_epoch: OnEpoch) -> History:
        """All epochs, from that of the checkpoint on; the model is left with its best weights."""
        recipe, history, model = self.recipe, self.history, self.model
        zeros, first = zero_weights(model), checkpoint.resume() + 1
        if self.lost:
            self.lost.renew()
        again = recompute_blocks(model) if recipe.checkpointing != "none" else nullcontext()
        with fast_convolutions(model, recipe.convolutions, history.convolutions), again:
            for epoch in range(first, recipe.epochs + 1):
                settled = self.bits.begin(epoch)
                began = time.monotonic()
                history.train_loss.append(self.epoch(epoch, after_step))
                if after_epoch:
                    after_epoch()
                found = self.validate()
                history.epoch_seconds.append(time.monotonic() - began)
                if settled and self.stopping.better(found):
                    history.best_epoch = epoch
                    checkpoint.best = {n: t.clone() for n, t in model.state_dict().items()}
                if self.stopping.enough():
                    history.notes += _why(epoch, recipe, history.val_score)
                    break
                if epoch < recipe.epochs and time.time() >= self.until:
                    history.ended_early = True
                    history.notes.append(f"its deadline ended it in epoch {epoch}")
                    break
                checkpoint.save(epoch)
        if self.lost:
            history.unmoved = self.lost.unmoved
        if not recipe.epochs:
            self.validate("Nothing was trained: the weights themselves are at fault.")
        elif not history.steps:
            kind = f"gradients in {self.number_format.products} overflowed in every step"
            history.notes.append(f"not trained: {kind}, and none was taken")
        model.load_state_dict(checkpoint.best or model.state_dict())
        if (left := zero_weights(model)) < zeros / 2:
            history.notes.append(
                f"of {zeros} weights that were zero before training {left} are zero after it: what "
                "magnitude pruning removed has grown back (training keeps no mask)"
            )
        model.eval()
        checkpoint.remove()
        return history

    def epoch(self, epoch: int, after_step: OnStep) -> float:
        """One pass over the images; the mean loss."""
        self.model.train(not self.frozen)
        index = torch.randperm(len(self.truth), generator=self.order)[: self.used]
        total, seen, first = 0.0, 0, (epoch - 1) * self.batches + 1
        batches = index.to(self.number_format.device).split(self.recipe.batch_size)
        for number, batch in enumerate(batches, first):
            loss = self.step(batch, epoch)
            total, seen = total + loss * len(batch), seen + len(batch)
            if after_step:
                told = {"number": number, "epoch": epoch, "loss": loss}
                after_step(Step(model=self.model, optimizer=self.optimizer, **told))
            if time.time() >= self.until:
                break
        return total / seen

    def step(self, index: Tensor, epoch: int) -> float:
        """One update by a batch, which the sampler may replace; its loss before."""
        history, scaler = self.history, self.scaler
        index, weights = self.sampler.draw(index, self.score, self.order)
        history.importance_steps += weights is not None
        outputs, goals, value = self.gradients(index, weights, epoch)
        if self.feedback.bits < 32:
            scaler.unscale_(self.optimizer)
            self.feedback.step()
        scale = scaler.get_scale()
        scaler.step(self.optimizer)
        scaler.update()
        if scaler.get_scale() >= scale:  # it falls where the step was skipped
            history.steps += 1
            self.schedule.step()
        if self.lost:
            lost, all_ = self.lost()
            history.updates += all_
            history.updates_lost += lost
        if weights is None and not self.uniform:
            self.sampler.observe(gradient_norm(torch.cat(outputs).float(), torch.cat(goals)))
        if history.steps and not history.dtypes:
            history.dtypes = dtypes_in_memory(self.model, outputs[0], self.optimizer)
            history.optimizer_state = state_report(self.optimizer)
            history.saved = self.saved.columns() if self.saved else {}
            history.saved |= {"gradient_bytes": self.feedback.sent_bytes or None}
        return value

    def gradients(
        self, index: Tensor, weights: Tensor | None, epoch: int
    ) -> tuple[list[Tensor], list[Tensor], float]:
        """Outputs and goals by parts of the batch, and its loss, whose gradients are then there."""
        parts = max(1, min(self.recipe.accumulate, len(index) // 2))
        each = [None] * parts if weights is None else weights.tensor_split(parts)
        outputs, goals, value = [], [], 0.0
        for number, (part, weight) in enumerate(zip(index.tensor_split(parts), each)):
            share = len(part) / len(index)
            with self.packing(number) as self.saved:
                output, goal, loss = self.loss(part, weight)
            value += loss.item() * share
            if not math.isfinite(value):
                advice = f"Lower learning_rate={self.recipe.learning_rate:g}."
                raise Diverged(f"The loss became {value} in epoch {epoch}. {advice}")
            if not number:
                self.optimizer.zero_grad()
            self.scaler.scale(loss if parts == 1 else loss * share).backward()
            outputs.append(output.detach())
            goals.append(goal)
        return outputs, goals, value

    def packing(self, part: int) -> AbstractContextManager[Saved | None]:
        """What is saved for the backward pass is packed, or counted once, as the recipe asks."""
        recipe, steps = self.recipe, self.history.steps
        counted = recipe.accumulate > 1 or recipe.allocator == "mmap"
        if recipe.activation_bits == 32 and (
            steps or not counted or recipe.checkpointing != "none"
        ):
            return nullcontext()
        seed = (recipe.seed * 1_000_003 + steps) * recipe.accumulate + part
        return pack_activations(self.model, bits=recipe.activation_bits, seed=seed)

    def loss(self, index: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs for a batch, augmented, what they should be, and the loss."""
        recipe, goal = self.recipe, self.truth[index]
        images = self.split.take(index).to(self.number_format.device)
        masks = goal if self.masks else None
        images, masks = augment(recipe.augment, images, masks, self.order)
        goal = goal if masks is None else masks
        outputs, n, k = self.forward(images), len(images), len(self.data.classes)
        shape = tuple(getattr(outputs, "shape", ()))
        if shape[:2] != (n, k):
            given = f"The model gives {shape or type(outputs).__name__} for {n} images"
            raise ValueError(f"{given} of {self.data.name}: give one whose logits are ({n}, {k}).")
        logits, each = outputs.float(), () if weights is None else (weights,)
        loss = self.loss_of(logits, goal, *each)
        if self.teacher:
            soft = distillation_loss(logits, self.teacher(index, images), recipe.temperature)
            loss = (1 - recipe.teacher_share) * loss + recipe.teacher_share * soft
        return outputs, goal, loss

    def validate(self, advice: str = "Lower learning_rate.") -> dict[str, float]:
        found = validate(self.model, self.data, self.number_format, self.loss_of, advice)
        for name, value in found.items():
            getattr(self.history, f"val_{name}").append(value)
        return found

    def score(self, index: Tensor) -> Tensor:
        """How much each of these images would move the weights, for importance sampling."""
        self.model.eval()
        with torch.no_grad():
            outputs = self.forward(self.split.take(index).to(self.number_format.device))
        self.model.train(not self.frozen)
        return gradient_norm(outputs.float(), self.truth[index])


def _why(epoch: int, recipe: Recipe, scores: list[float]) -> list[str]:
    """What must be said where patience ended a training whose score could not get better."""
    told = f"stopped after epoch {epoch} by patience={recipe.patience}: the validation score "
    if all(map(math.isnan, scores)):
        return [told + "is not defined (NaN), and the last epoch is kept"]
    return [told + f"was {scores[0]:g} in every epoch"] if len({*scores}) == 1 else []
