"""What a run builds on: the weights that earlier runs left in the store, compressed or not, and
what these runs cost."""

import math
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from effml.compression.saving import load_with_recipe
from effml.data import Dataset
from effml.models import WeightsUnavailable, build_model
from effml.recipe import Recipe
from effml.results import NO_RUN, find_run


def shape(data: Dataset) -> dict[str, int]:
    """The arguments of build_model that a data set asks for."""
    return {
        "in_channels": data.train.images.shape[1],
        "classes": len(data.classes),
        "size": data.train.images.shape[-1],
    }


def build_for(
    name: str, data: Dataset, weights: str, seed: int
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """A model, and the steps in which it was compressed if `weights` are of a compressed one."""
    if not (weights.endswith(".safetensors") and Path(weights).with_suffix(".json").is_file()):
        return build_model(name, **shape(data), weights=weights, seed=seed), []
    model, made = load_with_recipe(weights)
    if made["base"] != name or made["build"] != shape(data):
        raise ValueError(
            f"weights={weights} are a compressed {made['base']} for {made['build']}, but "
            f"model={name!r} and data ask for {shape(data)}."
        )
    return model, made["steps"]


def find_teacher(recipe: Recipe, data: Dataset, store: Path | None) -> nn.Module | None:
    """The model that the run `recipe.teacher` of this store left; None where no teacher is asked
    for. WeightsUnavailable where it is not there, ValueError where it answers for other classes or
    channels than those of `data`: a last layer drawn anew would teach noise."""
    if recipe.teacher == "none":
        return None
    weights, row = ancestor(recipe.teacher, store)
    if row is None:
        raise WeightsUnavailable(
            f"teacher={recipe.teacher!r} is no run in this store. Sweep the teacher's recipe "
            "first, with keep_weights=True."
        )
    if row["model"].startswith("own:"):
        raise ValueError(
            f"teacher={recipe.teacher!r} is {row['model']}, which is not at hand here: call "
            "effml.train(…, teacher=model)."
        )
    try:
        teacher = build_for(row["model"], data, weights, row["seed"])[0]
    except WeightsUnavailable:
        teacher = None
    left, made = load_file(weights), {} if teacher is None else teacher.state_dict()
    if {name: t.shape for name, t in left.items()} != {name: t.shape for name, t in made.items()}:
        raise ValueError(
            f"teacher={recipe.teacher!r} is a {row['model']} that learned {row['data']} at "
            f"{row['size']} px: its weights do not fit {shape(data)}."
        )
    return teacher


def lineage(store: Path | None, *asked: str | None) -> dict[str, float]:
    """What the runs cost that `weights` and `teacher` ask for, and all that these build on, each
    once. NaN where one is unknown: a file, a run that was interrupted or is not in the store."""
    waiting, costs = list(asked), {}
    while waiting:
        name = waiting.pop()
        if name not in NO_RUN and name not in costs:
            kept, newest = find_run(name, store)
            row = kept or newest or {}
            costs[name] = [row.get(f"train_{cost}") for cost in ("seconds", "energy_j")]
            waiting += [row.get("weights"), row.get("teacher")]
    columns = zip(("lineage_seconds", "lineage_energy_j"), zip(*costs.values()))
    return {name: math.nan if None in column else sum(column) for name, column in columns}


def ancestor(asked: str, store: Path | None) -> tuple[str, dict[str, Any] | None]:
    """The weights file that an earlier run left, and its record. Other weights pass through,
    without a record."""
    parent, known = find_run(asked, store)
    if parent is not None:
        return str(store / f"{parent['run_id']}.safetensors"), parent
    if known:
        raise WeightsUnavailable(
            f"The run {asked} is in the store, but the weights that it left are not (they were not "
            "kept, or have changed since): sweep it again with keep_weights=True."
        )
    return asked, None
