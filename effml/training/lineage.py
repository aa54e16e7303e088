"""What a run builds on: the weights that earlier runs left in the store, compressed or not, and what these runs cost."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effml.compression.saving import load_with_recipe
from effml.data import Dataset
from effml.models import WeightsUnavailable, build_model
from effml.recipe import Recipe
from effml.results import read_records

if TYPE_CHECKING:
    from torch import nn


def shape(data: Dataset) -> dict[str, int]:
    """The arguments of build_model that a data set asks for."""
    return {
        "in_channels": data.train.images.shape[1],
        "classes": len(data.classes),
        "size": data.train.images.shape[-1],
    }


def build_for(
    name: str, data: Dataset, weights: str, seed: int
) -> "tuple[nn.Module, list[dict[str, Any]]]":
    """A model, and the steps in which it was compressed if `weights` are those of a compressed one."""
    if not (weights.endswith(".safetensors") and Path(weights).with_suffix(".json").is_file()):
        return build_model(name, **shape(data), weights=weights, seed=seed), []
    model, made = load_with_recipe(weights)
    if made["base"] != name or made["build"] != shape(data):
        raise ValueError(
            f"weights={weights} are a compressed {made['base']} for {made['build']}, but model={name!r} and data "
            f"ask for {shape(data)}: give that model and data like those it was made for."
        )
    return model, made["steps"]


def find_teacher(
    recipe: Recipe, data: Dataset, store: Path | None
) -> "tuple[nn.Module | None, dict[str, Any] | None]":
    """The model that the run `recipe.teacher` of this store left, and its record; two None where no teacher is asked for.

    Raises WeightsUnavailable where there is no such run or its weights were not kept, ValueError where it answers for other
    classes or other channels than those of `data`: a last layer drawn anew would teach noise."""
    if recipe.teacher == "none":
        return None, None
    weights, row = ancestor(recipe.teacher, store)
    if row is None:
        raise WeightsUnavailable(
            f"teacher={recipe.teacher!r} is no run in this store. Sweep the teacher's recipe first, with "
            "keep_weights=True, and give its id."
        )
    try:
        teacher = build_for(row["model"], data, weights, row["seed"])[0]
    except WeightsUnavailable:
        teacher = None
    if teacher is None or _shapes(weights) != {
        name: list(tensor.shape) for name, tensor in teacher.state_dict().items()
    }:
        raise ValueError(
            f"teacher={recipe.teacher!r} is a {row['model']} that learned {row['data']} at {row['size']} px: its "
            f"weights do not fit {shape(data)}. Give a teacher that learned the same classes in such images."
        )
    return teacher, row


def _shapes(weights: str) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(weights, "pt") as opened:
        return {name: opened.get_slice(name).get_shape() for name in opened.keys()}


def lineage(store: Path | None, *rows: dict[str, Any] | None) -> dict[str, float]:
    """What the runs that this one builds on cost, and those that these build on: each run once, however many ways lead to it.
    A cost that one of them does not know makes the sum unknown, NaN."""
    waiting, costs = [row for row in rows if row], {}
    while waiting:
        row = waiting.pop()
        parents = [_find(row.get(field) or "none", store)[0] for field in ("weights", "teacher")]
        gone = not any(
            parents
        )  # no runs of this store, or no longer: their sum stands in the record
        costs[row["run_id"]] = [
            _known(row[f"train_{name}"]) + gone * (row.get(f"lineage_{name}") or 0)
            for name in _COSTS
        ]
        waiting += [parent for parent in parents if parent and parent["run_id"] not in costs]
    return {f"lineage_{name}": sum(column) for name, column in zip(_COSTS, zip(*costs.values()))}


_COSTS = ("seconds", "energy_j")


def _known(cost: float | None) -> float:
    return math.nan if cost is None else cost


def ancestor(asked: str, store: Path | None) -> tuple[str, dict[str, Any] | None]:
    """The weights file that an earlier run left, and its record. Other weights pass through, without a record."""
    parent, known = _find(asked, store)
    if parent is None and known:
        raise WeightsUnavailable(
            f"The run {asked} is in the store, but its weights were not kept: sweep it again with "
            "keep_weights=True."
        )
    return (
        (asked, None)
        if parent is None
        else (str(store / f"{parent['run_id']}.safetensors"), parent)
    )


def _find(asked: str, store: Path | None) -> tuple[dict[str, Any] | None, bool]:
    """Of the runs of a recipe id the newest that left its weights, and whether the store knows any."""
    rows = [
        row
        for row in (read_records(store)[0] if store else [])
        if row["recipe_id"] == asked and row["status"] == "ok"
    ]
    kept = [row for row in rows if (store / f"{row['run_id']}.safetensors").is_file()]
    return max(kept, key=lambda row: row["finished_utc"], default=None), bool(rows)
