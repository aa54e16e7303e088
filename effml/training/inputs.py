"""What a training is asked to do: the recipe, the data set, and what in it is learned."""

from typing import Any

import torch
from torch import nn

from effml.convolutions import text
from effml.data import Dataset
from effml.models import first_weight
from effml.recipe import Recipe

FIELDS = (
    "epochs batch_size learning_rate weight_decay optimizer precision half_repair activation_bits "
    "gradient_bits accumulate checkpointing bit_schedule convolutions schedule patience stopping "
    "augment class_weights sampler temperature teacher_share seed"
).split()
"""Fields of a recipe that a training goes by; the others belong to what is done before or after."""

WORK = ("selection features proxy trainable prune merge factorize calibration_images").split()
"""Fields of a recipe that ask for work before a training."""


def recipe_of(recipe: Recipe | None, fields: dict[str, Any], teacher: nn.Module | None) -> Recipe:
    """The recipe, with these fields changed."""
    if foreign := [name for name in fields if name not in FIELDS]:
        menu = ", ".join(FIELDS)
        raise ValueError(f"train does not go by {', '.join(foreign)}. Choose from: {menu}")
    if isinstance(fields.get("convolutions"), dict):  # as a History has them
        fields = fields | {"convolutions": text(fields["convolutions"])}
    if not isinstance(recipe, Recipe | None):
        raise ValueError(f"recipe={recipe!r:.60} is no Recipe: give effml.Recipe(epochs=3), say.")
    recipe = recipe or Recipe()
    if fields and teacher is not None and recipe.teacher == "none":
        fields = fields | {"teacher": "given"}  # temperature and teacher_share serve one
    return recipe.but(**fields)


def check_all_done(recipe: Recipe, teacher: nn.Module | None) -> None:
    """ValueError for a recipe that asks for what a training does not do."""
    undone = [name for name in WORK if name in recipe.changed]
    undone += ["teacher"] if teacher is None and recipe.teacher != "none" else []
    if undone:
        advice = "effml.run does; here select, compress or freeze first, and give teacher=model"
        told = ", ".join(f"{name}={getattr(recipe, name)!r}" for name in undone)
        raise ValueError(f"train does not go by {told} of the recipe: {advice}.")


def check_model(model: Any) -> torch.device:
    """The device of a model that can be trained; ValueError for others."""
    weight = first_weight(model)
    if weight.dtype == torch.float64:
        raise ValueError(
            "The weights are float64, and training would cut them. Give model.float()."
        )
    if not any(p.requires_grad for p in model.parameters()):
        advice = "Set requires_grad_(True) on the layers to train."
        raise ValueError(f"All parameters are frozen: nothing can learn. {advice}")
    return weight.device


def dataset_of(data: Any, labels: Any, val: tuple[Any, Any] | None) -> Dataset:
    """A Dataset as it is, or one of plain images and labels."""
    if not isinstance(data, Dataset):
        if labels is None:
            raise ValueError("Images need labels: train(model, images, labels), or give a Dataset.")
        return Dataset.of(data, labels, val=val)
    if labels is not None or val is not None:
        raise ValueError("A Dataset has its own labels and validation split: leave labels and val.")
    return data


def target_of(data: Dataset) -> str:
    """What is learned, `masks` or `labels`; ValueError where there are none."""
    target = "masks" if data.task == "segmentation" else "labels"
    if data.train is None or getattr(data.train, target) is None:
        raise ValueError(f"{data.name} ({data.task}) has no training images with {target}.")
    return target
