"""Plan: what `effml.forecast` tells of 30 held-out recipes, beside what their runs then took. Ten
kinds of run (model, data, batch), each with a pilot, and three recipes of each which differ in
epochs, share of the images and seed. Five minutes on two cores.

First from the pilots alone; then each from the two other recipes of its kind besides.
"""

import random
import tempfile

import numpy as np

from effml import Recipe, at_hand, forecast, sweep
from effml.results import read_records
from effml.sweeping.expected import Forecast, run_seconds

KINDS = (
    ("mlp", "phantom-chest", 128),
    ("mlp", "pneumoniamnist_reordered|phantom-chest", 128),
    ("lenet5", "phantom-chest", 32),
    ("lenet5", "pneumoniamnist_reordered|phantom-chest", 128),
    ("lenet_srinivas", "breastmnist|phantom-nodule", 64),
    ("mobilenetv2_050", "breastmnist|phantom-nodule", 64),
    ("mobilenetv2_050", "phantom-chest", 128),
    ("resnet10t", "breastmnist|phantom-nodule", 128),
    ("resnet18", "breastmnist|phantom-nodule", 128),
    ("vit_tiny_patch16_224", "breastmnist|phantom-nodule", 64),
)
AIM = 0.4
"""Of what was foretold, by which 8 of 10 runs may be off."""


def held_out() -> list[Recipe]:
    rng, recipes = random.Random(0), []
    for model, data, batch in KINDS:
        for seed in range(3):
            recipe = Recipe(model=model, data=at_hand(data), batch_size=batch, seed=seed)
            recipe = recipe.but(epochs=rng.randint(5, 25))
            if rng.random() < 0.5:
                recipe = recipe.but(selection="random", train_fraction=rng.choice([0.25, 0.5]))
            recipes.append(recipe)
    return recipes


def main() -> None:
    recipes = held_out()
    with tempfile.TemporaryDirectory() as store:
        plan = forecast(recipes, store).set_index("recipe_id")
        pilots = [row for row in read_records(store)[0] if row["status"] == "ok"]
        assert set(plan.source) == {"pilot"}, plan.source.value_counts()
        sweep(recipes, store)
        rows = {row["recipe_id"]: row for row in read_records(store)[0]}
    rows = [rows[recipe.id] for recipe in recipes]
    told, took = [plan.minutes[recipe.id] * 60 for recipe in recipes], list(map(run_seconds, rows))
    for recipe, before, after in zip(recipes, told, took):
        what = (
            f"{recipe.model} on {recipe.data}, {recipe.epochs} epochs of {recipe.train_fraction:g}"
        )
        print(f"{what:62} foretold {before:6.2f} s  took {after:6.2f} s  {after / before:5.2f}×")
    report("pilots", np.array(took) / told)
    others = []
    for recipe, row in zip(recipes, rows):
        known = Forecast(pilots + [one for one in rows if one is not row], row["device"])
        others.append(known.of(recipe).seconds)
    report("records", np.array(took) / others)
    memory = [row["train_peak_memory_bytes"] / 1e6 for row in rows]
    report("memory", np.array(memory) / [plan.memory_mb[recipe.id] for recipe in recipes])
    print(f"all of it: foretold {sum(told) / 60:.2f} min, took {sum(took) / 60:.2f} min")


def report(source: str, ratios: np.ndarray) -> None:
    """Taken over foretold."""
    low, middle, high = np.quantile(ratios, [0.05, 0.5, 0.95])
    within = np.mean(np.abs(ratios - 1) <= AIM)
    print(
        f"{source:8} taken / foretold: median {middle:.2f}, nine of ten {low:.2f}–{high:.2f}, "
        f"within ±{AIM:.0%} {within:.0%} of {len(ratios)} (aim ≥ 80 %)",
        flush=True,
    )
