"""What a model makes of images: logits, probabilities, and its scores on the validation split."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from effml.data import Dataset, Split, normalize
from effml.evaluation import TASKS, evaluate
from effml.machine import choose
from effml.models import answer, first_weight
from effml.precision import Arithmetic, arithmetic
from effml.training.history import Diverged

EVAL_PIXELS = 2_000_000  # of a batch without gradients: 512 images up to 62 px, 39 of 224 px


def channels_last(thing: Any) -> Any:
    """A model or a batch (N,C,H,W) in channels-last layout; volumes stay as they are."""
    if isinstance(thing, torch.Tensor) and thing.ndim != 4:
        return thing.contiguous()
    if isinstance(thing, nn.Module) and any(p.ndim == 5 for p in thing.parameters()):
        return thing
    return thing.to(memory_format=torch.channels_last)


def forward(model: nn.Module, images: torch.Tensor, number_format: Arithmetic) -> torch.Tensor:
    """Logits of uint8 images, as the model computes them in this number format."""
    with number_format.context():
        return answer(model, channels_last(number_format.cast(normalize(images))))


def logits_of(model: nn.Module, split: Split, number_format: Arithmetic, task: str) -> torch.Tensor:
    """On the CPU: float32 (N, K), or float16 (N, 2, …) for masks, which are large."""
    step = min(512, max(1, EVAL_PIXELS // split.images[0, 0].numel()))
    kind = ("cpu", torch.float16 if task == "segmentation" else torch.float32)
    parts = (slice(start, start + step) for start in range(0, len(split), step))
    batches = (split.take(part).to(number_format.device) for part in parts)
    model.eval()
    with torch.inference_mode():
        return torch.cat([forward(model, batch, number_format).to(*kind) for batch in batches])


def predict(
    model: nn.Module, images: Any, *, task: str = "multi-class", precision: str = "fp32"
) -> np.ndarray:
    """Probabilities of every image, in order. The model is left in eval mode.

    Args:
        model: gives logits (N, K) for float images −1…1; for masks (N, 2, H, W) or (N, 2, D, H, W).
        images: a Split (`data.test`), or uint8 images (N, C, H, W), a tensor or an array.
        task: binary, multi-class, ordinal, multi-label or segmentation.
        precision: a name of PRECISIONS; weights of another type are converted in a copy.

    Returns:
        float32 (N, K); for segmentation float16 (N, H, W) or (N, D, H, W), of the structure.

    Raises:
        ValueError: unknown task or precision, images or logits that do not fit.
        Diverged: the outputs are not finite.

    Example:
        >>> test, net = effml.load_dataset("phantom-chest").test, effml.build_model("lenet5")
        >>> effml.predict(net, test.images[:5], task="binary").shape
        (5, 2)
    """
    if choose("task", task, TASKS + ("segmentation",)) and not isinstance(images, Split):
        images = Split(_images(images))
    weight = first_weight(model)
    number_format = arithmetic(precision, str(weight.device))
    model.eval()
    if weight.dtype != getattr(torch, number_format.weights):
        model = number_format.prepare(deepcopy(model))
    logits = logits_of(model, images, number_format, task)
    return probabilities_of(logits, images.images, task)


def probabilities_of(logits: torch.Tensor, images: torch.Tensor, task: str) -> np.ndarray:
    """What `predict` gives for these logits of these images. ValueError where they do not fit,
    Diverged where they are not finite."""
    logits = logits.half() if task == "segmentation" else logits
    _check_logits(logits, images, task)
    return _probabilities(logits, task)


def _images(images: Any) -> torch.Tensor:
    """Images as `predict` takes them; ValueError for others."""
    try:
        images = torch.as_tensor(images)
        given = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
    except (TypeError, ValueError, RuntimeError):  # torch's, for a loader, a path, a list of names
        given = f"a {type(images).__name__}"
    if "uint8 (" not in given or images.ndim not in (4, 5) or not len(images):
        advice = "images[:, None] adds a channel; of a Dataset give a split, data.test, say"
        raise ValueError(f"images must be uint8 (N, C, H, W), at least one; got {given}: {advice}.")
    return images


def _check_logits(logits: torch.Tensor, images: torch.Tensor, task: str) -> None:
    shape, wanted = tuple(logits.shape), "(N, K), K above 1: of one logit the softmax is always 1"
    fits = len(shape) == 2 and shape[1] > (0 if task == "multi-label" else 1)
    if task == "segmentation":
        wanted, fits = "(N, 2) and the sides of the images", shape[2:] == images.shape[2:]
        fits = fits and shape[1] == 2
    if not fits:
        advice = "give a model that does, or the task it was trained for (multi-label: sigmoids)"
        raise ValueError(f"{task} needs logits {wanted}; the model gives {shape}: {advice}.")
    if not logits.isfinite().all():
        advice = "Give one whose training went well (lower learning_rate)."
        raise Diverged(f"The model's outputs are not all finite numbers. {advice}")


def _probabilities(logits: torch.Tensor, task: str) -> np.ndarray:
    if task == "segmentation":
        return (logits[:, 1] - logits[:, 0]).sigmoid().numpy()
    return (logits.sigmoid() if task == "multi-label" else logits.softmax(1)).numpy()


def validate(
    model: nn.Module, data: Dataset, number_format: Arithmetic, loss_of: Callable, advice: str
) -> dict[str, float]:
    """Score, loss and accuracy (of masks: over all pixels) on the validation split; NaN without
    one."""
    if data.val is None:
        return dict.fromkeys(("score", "loss", "accuracy"), math.nan)
    logits = logits_of(model, data.val, number_format, data.task)
    if not logits.isfinite().all():
        raise Diverged(f"The model's outputs on the validation split are not finite. {advice}")
    masks, device = data.task == "segmentation", number_format.device
    probabilities, truth = _probabilities(logits, data.task), data.val.labels
    truth = data.val.masks if masks else truth
    loss = float(loss_of(logits.float().to(device), truth.to(device)))
    if masks:
        score, accuracy = _dice(probabilities >= 0.5, truth.numpy() >= 0.5)
        return {"score": score, "loss": loss, "accuracy": accuracy}
    scores = evaluate(probabilities, truth.numpy(), task=data.task, positive=data.positive)
    return {"score": scores.auroc, "loss": loss, "accuracy": scores.accuracy}


def _dice(guess: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """The mean Dice of the images, 1 where both masks are empty, and the accuracy of pixels."""
    guess, masks = (array.reshape(len(array), -1) for array in (guess, masks))
    overlap, size = (guess & masks).sum(1), guess.sum(1) + masks.sum(1)
    dice = np.where(size > 0, 2 * overlap / np.maximum(size, 1), 1.0)
    return float(dice.mean()), float((guess == masks).mean())
