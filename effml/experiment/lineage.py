"""What a run builds on: the weights that earlier runs left in the store, compressed or not, and
what these runs cost."""

import math
from pathlib import Path
from typing import Any

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
            f"model={name!r} and data ask for {shape(data)}: give those that it was made for."
        )
    return model, made["steps"]


def find_teacher(
    recipe: Recipe, data: Dataset, store: Path | None
) -> tuple[nn.Module | None, dict[str, Any] | None]:
    """The model that the run `recipe.teacher` of this store left, and its record; two None where no
    teacher is asked for.

    Raises WeightsUnavailable where there is no such run or its weights were not kept, ValueError
    where it answers for other classes or channels than those of `data`: a last layer drawn anew
    would teach noise."""
    if recipe.teacher == "none":
        return None, None
    weights, row = ancestor(recipe.teacher, store)
    if row is None:
        raise WeightsUnavailable(
            f"teacher={recipe.teacher!r} is no run in this store. Sweep the teacher's recipe "
            "first, with keep_weights=True, and give its id."
        )
    if row["model"].startswith("own:"):
        raise ValueError(
            f"teacher={recipe.teacher!r} is {row['model']}, which is not at hand here: give the id "
            "of a run of a named model, or call effml.train(…, teacher=model)."
        )
    try:
        teacher = build_for(row["model"], data, weights, row["seed"])[0]
    except WeightsUnavailable:
        teacher = None
    if teacher is None or _shapes(weights) != {
        name: list(tensor.shape) for name, tensor in teacher.state_dict().items()
    }:
        raise ValueError(
            f"teacher={recipe.teacher!r} is a {row['model']} that learned {row['data']} at "
            f"{row['size']} px: its weights do not fit {shape(data)}. Give a teacher that learned "
            "the same classes in such images."
        )
    return teacher, row


def _shapes(weights: str) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(weights, "pt") as opened:
        return {name: opened.get_slice(name).get_shape() for name in opened.keys()}


def lineage(store: Path | None, *rows: dict[str, Any] | None) -> dict[str, float]:
    """What the runs of these rows cost, and all that they build on: each run once, however many
    ways lead to it. NaN where the cost of one of them is unknown: it was interrupted, say, or
    began with a file.

    Of parents that the store no longer has, the row that was made from them knows the sum."""
    waiting, costs = [row for row in rows if row], {}
    while waiting:
        row = waiting.pop()
        behind = _costs(row, "lineage")
        asked = [name for name in map(row.get, _BUILDS_ON) if name not in NO_RUN]
        parents = {name: _parent(name, store, behind) for name in asked}
        found = [parent for parent in parents.values() if parent]
        gone = tuple(name for name in parents if not parents[name])
        costs[row["run_id"]] = _costs(row, "train")
        if gone or not found and not all(map(math.isnan, behind)):
            known = lineage(store, *found)  # part of that sum, and counted run by run
            costs[gone or ("before", row["run_id"])] = [
                total - known.get(f"lineage_{name}", 0.0) for name, total in zip(_COSTS, behind)
            ]
        waiting += [parent for parent in found if parent["run_id"] not in costs]
    return {f"lineage_{name}": sum(column) for name, column in zip(_COSTS, zip(*costs.values()))}


def _parent(asked: str, store: Path | None, behind: list[float]) -> dict[str, Any] | None:
    """The run that left its weights. Where they are gone its record still tells the cost, unless
    the child knew none: then another run of the recipe was its parent."""
    kept, newest = find_run(asked, store)
    return kept or (None if any(map(math.isnan, behind)) else newest)


_COSTS = ("seconds", "energy_j")
_BUILDS_ON = ("weights", "teacher")


def _costs(row: dict[str, Any], of: str) -> list[float]:
    costs = [row.get(f"{of}_{name}") for name in _COSTS]
    return [math.nan if cost is None else cost for cost in costs]


def paid_before(
    recipe: Recipe, store: Path | None, parent: dict[str, Any] | None, master: dict[str, Any] | None
) -> dict[str, float]:
    """`lineage` of the runs that gave weights and teacher; NaN where a file gave the weights, which
    does not say what it cost."""
    if parent is None and recipe.weights not in NO_RUN:
        return {f"lineage_{name}": math.nan for name in _COSTS}
    return lineage(store, parent, master)


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
