"""What a selection looks at: raw pixels, or what a small model makes of the training images."""

from dataclasses import dataclass, field

import torch

from effml.data import Dataset, normalize
from effml.models import build_model, check_linear, embed
from effml.recipe import Recipe
from effml.selection import get_selector
from effml.training.loop import predict, train

EPOCHS = 5
"""Of a proxy whose recipe does not say."""


@dataclass
class Look:
    """`features` (N, D); `predictions`, the proxy's probabilities after each epoch, (N, E, K), or None."""

    features: torch.Tensor
    predictions: torch.Tensor | None = field(default=None)


def select_images(data: Dataset, recipe: Recipe, *, device: str = "cpu") -> torch.Tensor:
    """Indices of the training images that the recipe keeps, in the order picked. A proxy computes
    on `device`.

    `recipe.proxy` is `none` (raw pixels), or a model's name with @ and the number of epochs it is
    trained for (@0: a random network), or @imagenet. `recipe.features` says what a selector by
    features sees: `pixels`, or `embedding`, the inputs of the proxy's last layer; `none` means the
    embedding if there is a proxy. Raises ValueError for what does not fit together."""
    selector, k = (
        get_selector(recipe.selection),
        max(1, round(recipe.train_fraction * len(data.train))),
    )
    needs = hasattr(selector, "needs_scores")
    if needs and (recipe.proxy == "none" or recipe.proxy.endswith(("@0", "@imagenet"))):
        raise ValueError(
            f"selection={recipe.selection!r} goes by the scores of a trained proxy. Give a model and the "
            f"epochs it is trained for, such as proxy='lenet5@{EPOCHS}'."
        )
    features = getattr(selector, "needs_features", True)
    if needs and features and recipe.features == "pixels":
        raise ValueError(
            f"selection={recipe.selection!r} is of the proxy's last layer: features='pixels' does not go with it. "
            "Leave features, or give features='embedding'."
        )
    if data.train.labels is None:
        raise ValueError(
            f"{data.name} has no labels to train a proxy on or to select by. Leave selection='none'."
        )
    seen = look(
        data,
        recipe,
        device=device,
        embedding=features,
        predictions=needs,
        linear=needs and features,
    )
    return selector(
        seen.features,
        data.train.labels,
        k,
        seed=recipe.seed,
        scores=seen.predictions if needs else None,
    )


def look(
    data: Dataset,
    recipe: Recipe,
    *,
    device: str = "cpu",
    embedding: bool = True,
    predictions: bool = True,
    linear: bool = False,
) -> Look:
    """Features of the training images (pixels where no `embedding` is asked for) and, of a trained
    proxy, its probabilities after each epoch, where these are asked for. `linear`: the proxy must
    end with one linear layer (`check_linear`)."""
    epochs, pixels = _epochs(recipe), data.train.images.flatten(1)
    name, _, how = recipe.proxy.partition("@")
    if name == "none":
        return Look(pixels)
    model = build_model(
        name,
        in_channels=data.train.images.shape[1],
        classes=len(data.classes),
        size=data.train.images.shape[-1],
        weights="imagenet" if how == "imagenet" else "random",
        seed=recipe.seed,
    )
    model.to(device)
    if linear:
        check_linear(model, normalize(data.train.images[:1]))
    history: list[torch.Tensor] = []

    def note() -> None:
        history.append(
            torch.from_numpy(predict(model, data.train, task=data.task, precision=recipe.precision))
        )

    if epochs:
        train(
            model,
            data,
            after_epoch=note if predictions else None,
            recipe=Recipe(
                model=name,
                epochs=epochs,
                precision=recipe.precision,
                batch_size=recipe.batch_size,
                learning_rate=recipe.learning_rate,
                seed=recipe.seed,
            ),
        )
    pixels_do = recipe.features == "pixels" or not embedding
    batches = (data.train.take(slice(start, start + 512)) for start in range(0, len(pixels), 512))
    features = pixels if pixels_do else embed(model, batches)
    return Look(features, torch.stack(history, 1) if history else None)


def _epochs(recipe: Recipe) -> int:
    """For how many epochs the proxy is trained; ValueError for what is no proxy, or no scores that
    go with it."""
    if (
        recipe.features not in ("none", "pixels", "embedding")
        or recipe.features == "embedding"
        and recipe.proxy == "none"
    ):
        raise ValueError(
            f"features={recipe.features!r} with proxy={recipe.proxy!r}: choose features from none, pixels, embedding; "
            "an embedding is that of a proxy."
        )
    _, _, how = recipe.proxy.partition("@")
    epochs = EPOCHS if not how else 0 if how == "imagenet" else int(how) if how.isdecimal() else -1
    if epochs < 0:
        raise ValueError(
            f"proxy={recipe.proxy!r}: after @ comes a number of epochs, or imagenet, as in lenet5@5, "
            "lenet5@0 (a random network) or mobilenetv3_small_100@imagenet."
        )
    return epochs
