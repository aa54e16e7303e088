"""What is minimised, by task, and how rare classes are weighted."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from effml.data import Dataset
from effml.models import first_weight
from effml.precision import Arithmetic
from effml.recipe import Recipe
from effml.training.prediction import channels_last, forward, logits_of

Loss = Callable[..., Tensor]


def make_loss(task: str, labels: Tensor, classes: int, class_weights: str) -> Loss:
    """The loss of (logits float32, labels or masks) for a task; weights are counted on `labels`.

    Classification: cross-entropy (per label for multi-label; ordinal as MedMNIST does, as classes),
    with one label an image also `each`, weights (N,) of the images. Segmentation: soft Dice of the
    structure + cross-entropy (as in nnU-Net, Isensee et al. 2021)."""
    if task == "segmentation":
        return _outlining
    if task == "multi-label":
        positives = labels.float().mean(0).clamp(1e-6, 1)
        weight = (1 / positives - 1) if class_weights == "balanced" else None
        return partial(_several, weight=weight)
    counts = torch.bincount(labels, minlength=classes).float()
    return partial(_one, weight=CLASS_WEIGHTS[class_weights](counts))


def _outlining(logits: Tensor, masks: Tensor) -> Tensor:
    return functional.cross_entropy(logits, masks.long()) + soft_dice_loss(logits, masks)


def _several(logits: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, truth.float(), pos_weight=weight)


def _one(logits: Tensor, truth: Tensor, each: Tensor | None = None, *, weight: Tensor | None):
    if each is None:
        return functional.cross_entropy(logits, truth, weight=weight)
    return (each * functional.cross_entropy(logits, truth, weight=weight, reduction="none")).mean()


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(z_teacher / T) ‖ softmax(z / T)), mean over the batch, of logits (N, K). The
    factor keeps its gradients in step with those of the labels (Hinton et al. 2015, §2)."""
    goal = (teacher / temperature).log_softmax(1)
    return temperature**2 * functional.kl_div(
        (logits / temperature).log_softmax(1), goal, reduction="batchmean", log_target=True
    )


class Teacher:
    """Logits (B, K) of a trained model for a batch, from its index and images; computed once for
    all images unless augmentation varies them, by a copy: the model is left as it is."""

    def __init__(
        self, model: nn.Module, data: Dataset, recipe: Recipe, number_format: Arithmetic
    ) -> None:
        one_label = data.task in ("binary", "multi-class", "ordinal")
        if not one_label or recipe.sampler != "uniform":
            raise ValueError(
                "Distillation needs one label an image and sampler='uniform'; here "
                + (f"sampler={recipe.sampler!r}" if one_label else f"the task is {data.task}")
                + (": leave sampler." if one_label else ": leave teacher.")
            )
        first_weight(model, "teacher")
        model = deepcopy(model).to(number_format.device).eval().requires_grad_(False)
        self.model, self.number_format = number_format.prepare(channels_last(model)), number_format
        self.logits, self.classes = None, len(data.classes)
        if recipe.augment == "none":
            logits = logits_of(model, data.train, number_format, data.task)
            self.logits = self._checked(logits).to(number_format.device)

    def __call__(self, index: Tensor, images: Tensor) -> Tensor:
        if self.logits is not None:
            return self.logits[index]
        with torch.no_grad():
            return self._checked(forward(self.model, images, self.number_format).float())

    def _checked(self, logits: Tensor) -> Tensor:
        if logits.shape[1:] != (self.classes,):
            wanted = f"give one of these classes, with logits (N, {self.classes})"
            raise ValueError(f"The teacher's logits are {tuple(logits.shape)}: {wanted}.")
        return logits


def soft_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - 2|P∩M| / (|P|+|M|) with the probabilities P of class 1, over the whole batch (Milletari
    et al. 2016)."""
    probability, masks = logits.softmax(1)[:, 1], masks.float()
    return 1 - (2 * (probability * masks).sum() + 1) / (probability.sum() + masks.sum() + 1)


def _balanced(counts: Tensor) -> Tensor:
    """N / (K n_c), as scikit-learn's `balanced`; a class without images weighs nothing."""
    return (counts.sum() / (counts > 0).sum() / counts).nan_to_num(0, 0, 0)


def _none(counts: Tensor) -> None:
    return None


CLASS_WEIGHTS = {"none": _none, "balanced": _balanced}
