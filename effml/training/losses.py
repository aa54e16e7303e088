"""What is minimised, by task, and how rare classes are weighted."""

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[..., torch.Tensor]


def make_loss(task: str, labels: torch.Tensor, classes: int, class_weights: str) -> Loss:
    """The loss of (logits float32, labels or masks) for a task; weights are counted on `labels`, those of training.

    Classification: cross-entropy (per label for multi-label; ordinal as MedMNIST does, as classes). Segmentation: soft Dice
    of the structure + cross-entropy (as in nnU-Net, Isensee et al. 2021), with masks (N,H,W) or (N,D,H,W). Cross-entropy of
    one label an image also takes `each`, weights (N,) of the images, for importance sampling.
    """
    if class_weights not in CLASS_WEIGHTS:
        raise ValueError(
            f"Unknown class_weights {class_weights!r}. Choose from: {', '.join(CLASS_WEIGHTS)}"
        )
    if task == "segmentation":
        return lambda logits, masks: (
            functional.cross_entropy(logits, masks.long()) + soft_dice_loss(logits, masks)
        )
    if task == "multi-label":
        positives = labels.float().mean(0).clamp(1e-6, 1)
        weight = (1 / positives - 1) if class_weights == "balanced" else None
        return lambda logits, truth: functional.binary_cross_entropy_with_logits(
            logits, truth.float(), pos_weight=weight
        )
    weight = CLASS_WEIGHTS[class_weights](torch.bincount(labels, minlength=classes).float())

    def loss(
        logits: torch.Tensor, truth: torch.Tensor, each: torch.Tensor | None = None
    ) -> torch.Tensor:
        if each is None:
            return functional.cross_entropy(logits, truth, weight=weight)
        return (
            each * functional.cross_entropy(logits, truth, weight=weight, reduction="none")
        ).mean()

    return loss


def distillation_loss(
    logits: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> torch.Tensor:
    """T² KL(softmax(z_teacher / T) ‖ softmax(z / T)), mean over the batch, of logits (N, K). The factor keeps its gradients in
    step with those of the labels (Hinton et al. 2015, §2)."""
    goal = (teacher / temperature).log_softmax(1)
    return temperature**2 * functional.kl_div(
        (logits / temperature).log_softmax(1), goal, reduction="batchmean", log_target=True
    )


def soft_dice_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """1 - 2|P∩M| / (|P|+|M|) with the probabilities P of class 1, over the whole batch, so that empty masks do no harm
    (Milletari et al. 2016)."""
    probability, masks = logits.softmax(1)[:, 1], masks.float()
    return 1 - (2 * (probability * masks).sum() + 1) / (probability.sum() + masks.sum() + 1)


def _balanced(counts: torch.Tensor) -> torch.Tensor:
    """N / (K n_c), as scikit-learn's `balanced`; a class without images weighs nothing."""
    return (counts.sum() / (counts > 0).sum() / counts).nan_to_num(0, 0, 0)


def _none(counts: torch.Tensor) -> None:
    return None


CLASS_WEIGHTS = {"none": _none, "balanced": _balanced}
