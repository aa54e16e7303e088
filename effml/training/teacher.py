"""A teacher's answers to the batches of a training (distillation, Hinton et al. 2015)."""

import torch
from torch import nn

from effml.data import Dataset
from effml.precision import Arithmetic
from effml.recipe import Recipe
from effml.training.prediction import channels_last, forward, logits_of


class Teacher:
    """Logits (B, K) of a model for a batch, from its index and images; computed once for all images
    unless augmentation varies them."""

    def __init__(
        self, model: nn.Module, data: Dataset, recipe: Recipe, number_format: Arithmetic
    ) -> None:
        one_label = data.task in ("binary", "multi-class", "ordinal")
        if not one_label or recipe.sampler != "uniform":
            raise ValueError(
                "Distillation needs one label an image and sampler=uniform; the task is "
                f"{data.task}, sampler={recipe.sampler!r}. Leave teacher out, or choose another "
                "set or sampler."
            )
        model.to(number_format.device).eval().requires_grad_(False)
        self.model, self.number_format = number_format.prepare(channels_last(model)), number_format
        self.logits: torch.Tensor | None = None
        if recipe.augment == "none":
            logits = logits_of(model, data.train, number_format, data.task)
            self.logits = logits.to(number_format.device)

    def __call__(self, index: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        if self.logits is not None:
            return self.logits[index]
        with torch.no_grad():
            return forward(self.model, images, self.number_format).float()
