"""What a run builds on: the weights that earlier runs left in the store, compressed or not, and what these runs cost."""
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
    return {"in_channels": data.train.images.shape[1], "classes": len(data.classes), "size": data.train.images.shape[-1]}


def build_for(name: str, data: Dataset, weights: str, seed: int) -> "tuple[nn.Module, list[dict[str, Any]]]":
    """A model, and the steps in which it was compressed if `weights` are those of a compressed one."""
    if not (weights.endswith(".safetensors") and Path(weights).with_suffix(".json").is_file()):
        return build_model(name, **shape(data), weights=weights, seed=seed), []
    model, made = load_with_recipe(weights)
    if made["base"] != name or made["build"] != shape(data):
        raise ValueError(f"weights={weights} are a compressed {made['base']} for {made['build']}, but model={name!r} and data "
                         f"ask for {shape(data)}: give that model and data like those it was made for.")
    return model, made["steps"]


def find_teacher(recipe: Recipe, data: Dataset, store: Path | None) -> "tuple[nn.Module | None, dict[str, Any] | None]":
    if recipe.teacher == "none":
        return None, None
    weights, row = ancestor(recipe.teacher, store)
    if row is None:
        raise WeightsUnavailable(f"teacher={recipe.teacher!r} is no run in this store. Sweep the teacher's recipe first, with "
                                 "keep_weights=True, and give its id.")
    return build_for(row["model"], data, weights, row["seed"])[0], row


def lineage(*rows: dict[str, Any] | None) -> dict[str, float]:
    """What the runs that this one builds on cost, their own lineages included."""
    rows = tuple(row for row in rows if row)
    return {f"lineage_{name}": sum((row[f"train_{name}"] or 0) + (row.get(f"lineage_{name}") or 0) for row in rows)
            for name in ("seconds", "energy_j") if rows}


def ancestor(asked: str, store: Path | None) -> tuple[str, dict[str, Any] | None]:
    """The weights file that an earlier run left, and its record. Other weights pass through, without a record."""
    rows = [row for row in (read_records(store)[0] if store else [])
            if row["recipe_id"] == asked and row["status"] == "ok"]
    if not rows:
        return asked, None
    kept = [row for row in rows if (store / f"{row['run_id']}.safetensors").is_file()]
    if not kept:
        raise WeightsUnavailable(f"The run {asked} is in the store, but its weights were not kept: sweep it again with "
                                 "keep_weights=True.")
    parent = max(kept, key=lambda row: row["finished_utc"])
    return str(store / f"{parent['run_id']}.safetensors"), parent
