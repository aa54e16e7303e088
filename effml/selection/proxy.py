"""Small models that select images on behalf of the model to be trained, or raw pixels instead."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from effml.data import Dataset, normalize
from effml.models import build_model, check_linear, embed
from effml.recipe import Recipe
from effml.selection import get_selector
from effml.training import predict, train

EPOCHS = 5  # of a proxy whose recipe does not say


@dataclass(kw_only=True)
class ProxyView:
    """`features` (N, D); `predictions`, the proxy's probabilities after each epoch, (N, E, K), or
    None; `convolutions` of its training (see History)."""

    features: Tensor
    predictions: Tensor | None = None
    convolutions: dict[str, str] = field(default_factory=dict)


def select_images(
    data: Dataset, recipe: Recipe, *, device: str = "cpu"
) -> tuple[Tensor, dict[str, str]]:
    """Indices of the training images that the recipe keeps, in the order picked, and the
    convolutions of a proxy, which computes on `device`. ValueError for what does not fit
    together."""
    selector = get_selector(recipe.selection)
    needs = hasattr(selector, "needs_scores")
    features = getattr(selector, "needs_features", True)
    name = f"selection={recipe.selection!r}"
    if needs and (recipe.proxy == "none" or recipe.proxy.endswith(("@0", "@imagenet"))):
        raise ValueError(f"{name} needs a trained proxy, such as proxy='lenet5@{EPOCHS}'.")
    if needs and features and recipe.features == "pixels":
        raise ValueError(f"{name} is of the proxy's last layer: give features='embedding'.")
    if data.train.labels is None:
        raise ValueError(f"{data.name} has no labels to select by: leave selection='none'.")
    what = {"embedding": features, "predictions": needs, "linear": needs and features}
    seen = view(data, recipe, device=device, **what)
    k = max(1, round(recipe.train_fraction * len(data.train)))
    scores = seen.predictions if needs else None
    chosen = selector(seen.features, data.train.labels, k, seed=recipe.seed, scores=scores)
    return chosen, seen.convolutions


def view(
    data: Dataset,
    recipe: Recipe,
    *,
    device: str = "cpu",
    embedding: bool = True,
    predictions: bool = True,
    linear: bool = False,
) -> ProxyView:
    """Features of the training images and, of a trained proxy, its probabilities after each epoch,
    where these are asked for. `linear`: the proxy must end with one linear layer."""
    images, (name, _, how) = data.train.images, recipe.proxy.partition("@")
    epochs = 0 if how == "imagenet" else int(how or EPOCHS)
    if name == "none":
        return ProxyView(features=images.flatten(1))
    shape = {"in_channels": images.shape[1], "classes": len(data.classes), "size": images.shape[-1]}
    weights = "imagenet" if how == "imagenet" else "random"
    model = build_model(name, **shape, weights=weights, seed=recipe.seed).to(device)
    if linear:
        check_linear(model, normalize(images[:1]))
    history: list[Tensor] = []
    convolutions: dict[str, str] = {}

    def note() -> None:
        found = predict(model, data.train, task=data.task, precision=recipe.precision)
        history.append(torch.from_numpy(found))

    if epochs:
        shared = ("precision", "convolutions", "batch_size", "learning_rate", "seed")
        asked = {field: getattr(recipe, field) for field in shared}
        asked = Recipe(model=name, epochs=epochs, **asked)
        told = train(model, data, recipe=asked, after_epoch=note if predictions else None)
        convolutions = told.convolutions
    features = images.flatten(1)
    if embedding and recipe.features != "pixels":
        parts = (slice(start, start + 512) for start in range(0, len(images), 512))
        features = embed(model, map(data.train.take, parts))
    seen = torch.stack(history, 1) if history else None
    return ProxyView(features=features, predictions=seen, convolutions=convolutions)
