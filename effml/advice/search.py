"""The search: pilots, the plain baselines, and a strategy that says which recipe is next."""

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from effml.advice.costs import Budget, Costs, Parts
from effml.advice.ranking import Quality, judged
from effml.machine import cpu
from effml.recipe import Recipe, Record
from effml.results import CARD, RecordWriter, load_arrays, plain_row
from effml.sweeping.executors import Here, run_fresh
from effml.sweeping.expected import kind
from effml.sweeping.order import LEFT_OUT
from effml.sweeping.plan import recorded

SUBSET = {"selection": "random_per_class", "train_fraction": 0.25}
FAST = {"learning_rate": 4e-3}
"""For timm's nets in few epochs: better than the default's 1e-3 on validation images of three
phantoms (ResNet-10, 5 epochs, two seeds: AUROC 0.92, 0.89, 0.74 for 0.77, 0.84, 0.67)."""

BF16 = {"precision": "amp_bf16"}
"""Left out where the CPU has no arithmetic of its own for it."""

MENUS: dict[str, list[dict[str, Any]]] = {
    "images": [
        {},
        SUBSET,
        {"model": "mlp"},
        {"epochs": 30, "learning_rate": 3e-3},
        {"model": "resnet10t", "epochs": 15, **FAST},
        {"model": "resnet18", "epochs": 10, **FAST, **BF16},
        {"model": "mobilenetv3_small_050", "epochs": 20, **FAST},
        {"model": "resnet18", "epochs": 10, **FAST},
        {"model": "resnet10t", "epochs": 15, **FAST, "prune": "channels", "channel_fraction": 0.5},
        {"model": "resnet10t", "epochs": 15, **FAST, **BF16},
        {"model": "resnet10t", "epochs": 5, **FAST},
        {"model": "resnet10t", "epochs": 5, **FAST, **SUBSET},
        {"model": "mobilenetv3_small_050", "epochs": 5, **FAST},
        {"epochs": 3},
    ],
    "volumes": [
        {"model": "resnet18_3d"},
        {"model": "resnet18_3d", **SUBSET},
        {"model": "slices:mobilenetv3_small_050"},
        {"model": "slices:resnet10t"},
        {"model": "resnet18_3d", **BF16},
        {"model": "resnet18_3d", "epochs": 3},
    ],
}
"""By what the data are. The first three are the plain baselines: the default recipe, a random
subset of its images, a small net. The others come by what they promise: what is tried first."""

BASELINES = ("default recipe", "random subset", "small net")

PILOT_SHARE = 0.15
"""Of the budget: after so much no pilot starts but the first, and none takes longer."""

PILOT_IMAGES, PILOT_EPOCHS = 256, 2
"""Of a pilot; the second of its epochs tells the pace."""

LATE = 2.0
"""A run that takes so many times as long as foretold, and 2 s, is ended with the epochs it has."""

PATIENCE = 8
"""Neighbours of the best run that bring no better one, after which `climb` ends."""


class Search:
    """A search in progress: `tried` holds a row per run, `judged` what it gave on validation."""

    def __init__(
        self, base: Recipe, budget: Budget, store: Path, aim: str, menu: Sequence[Recipe] | None
    ) -> None:
        self.base, self.budget, self.store, self.aim = base, budget, store, aim
        self.own, self.menu, self.costs = menu, [], Costs()
        self.tried: list[dict[str, Any]] = []
        self.task: dict[str, Any] = {}  # of the data: task, positive
        self.classes: list[str] = []
        self.needs = math.nan  # minutes that the default recipe would need

    def __enter__(self) -> Self:
        self.writer = RecordWriter(self.store)
        self.writer.begin()
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.__exit__(*error)

    def pilots(self) -> None:
        """Short runs of each kind on the menu, as long as there is time. ValueError where the data
        do not fit any."""
        for menu in MENUS.values():
            menu = menu if self.own is None else menu[: len(BASELINES)]
            self.menu = [self.base.but(**one) for one in menu]
            if self._pilot(self.menu[0], 0.25, 0.5)["status"] != "unsupported":
                break
        else:
            why = self.tried[0]["reason"]
            raise ValueError(f"{why} advise ranks classifiers; sweep takes any recipe.")
        self.tried = self.tried[-1:]  # of volumes nobody asks what a model of pictures says
        if "bf16" not in cpu()[1]:
            self.menu = [one for one in self.menu if one.precision != BF16["precision"]]
        self.menu += self.own or []
        known, began = {kind(self.menu[0].to_dict())}, self.budget.spent
        for recipe in self.menu:
            if (name := kind(recipe.to_dict())) in known:
                continue
            told = self.costs.of(self.menu[0])
            over = self.budget.spent - began > PILOT_SHARE * self.budget.seconds
            if over or not told or told.seconds > self.budget.left / 1.5:  # baselines come first
                break
            known.add(name)
            self._pilot(recipe, min(PILOT_IMAGES / self.costs.whole, 1.0))

    def _pilot(self, recipe: Recipe, share: float, most: float = PILOT_SHARE) -> dict[str, Any]:
        """Two epochs of this share of the images, by the usual learning rate."""
        usual = {name: getattr(self.base, name) for name in ("learning_rate", "weights")}
        if recipe.weights == "imagenet":
            del usual["weights"]
        some = {"selection": "none", "train_fraction": 1.0}
        if share < 1:
            some = {**SUBSET, "train_fraction": round(share, 4)}
        pilot = recipe.but(epochs=PILOT_EPOCHS, patience=0, **some, **usual)
        return self.run(pilot, "pilot", most * self.budget.seconds)

    def baselines(self) -> None:
        """The default recipe, a random subset, a small net: the cheapest first, the first of them
        with fewer epochs where the budget is too small for it."""
        told = self.costs.of(default := self.menu[0])
        if told:
            known = [one for one in map(self.costs.of, self.menu[: len(BASELINES)]) if one]
            asked = sum(one.seconds for one in known) + self.tried[0]["ended_s"] + 1
            self.needs = 1.1 * asked / (1 - 2 * PILOT_SHARE) / 60
        named = zip(self.menu, BASELINES)
        known = [(one, name) for one, name in named if self.costs.of(one)]
        for recipe, name in sorted(known, key=lambda one: self.costs.of(one[0]).seconds):
            fits = self.costs.within(recipe, self.budget.left, 0.0 if recipe is default else 1.0)
            if fits:
                self.run(fits, name if fits == recipe else f"{name}, fewer epochs")

    def open(
        self, recipes: Sequence[Recipe], share: float = 0.95, least: float = 0.5
    ) -> list[Recipe]:
        """Those that can be tried within this share of the time left, cheapest first, some with
        fewer epochs, at least that share of them."""
        tried, allowed = {row["recipe_id"] for row in self.tried}, self.budget.memory
        fitting = []
        for recipe in recipes:
            fits = self.costs.within(recipe, share * self.budget.left, least)
            too_large = fits and allowed and self.costs.of(fits).memory[1] > allowed
            if fits and not too_large and fits.id not in tried:
                fitting.append(fits)
        return sorted(fitting, key=lambda one: self.costs.of(one).seconds)

    def best(self) -> tuple[Quality, Recipe] | None:
        """The best run so far."""
        runs = [row for row in self.tried if "judged" in row]
        best = max(runs, key=lambda row: row["judged"], default=None)
        return best and (best["judged"], Recipe.from_dict(best))

    def run(self, recipe: Recipe, role: str, most: float = math.inf) -> dict[str, Any]:
        """Do it in a fresh process, which ends in time: its row."""
        told, left, began = self.costs.of(recipe), self.budget.left, self.budget.spent
        if told:
            most = min(most, LATE * told.seconds + 2)
        row = plain_row(self._record(recipe, max(min(most, left), 0.05)))
        row |= {"role": role, "began_s": began, "ended_s": self.budget.spent}
        row |= {"told_seconds": told and told.seconds, "told_j": told and told.joules}
        row["told_memory_mb"] = told and told.memory[1] / 1e6
        self.tried.append(row)
        if row["status"] == "ok":
            self._learn(row)
        return row

    def _record(self, recipe: Recipe, limit: float) -> Record:
        """Of a run that has so many seconds: training ends early enough for what comes after it;
        a process that is there when they are over is killed."""
        now, after = time.time(), self.costs.after(recipe)
        job = {
            "recipe": recipe.to_dict(),
            "store": str(self.store),
            "records": self.writer.begin().name,
            "folder": os.getcwd(),
            "environment": {n: x for n, x in os.environ.items() if n.startswith("EFFML_")},
            "device": "cpu",
            "keep_weights": True,
            "deadline": now + limit,
            "answer_by": now + limit + 0.5,
            "until": now + limit - min(1.3 * after, limit / 2),
            "memory_bytes": self.budget.memory or math.inf,
        }
        record = recorded(recipe, Here().submit(run_fresh, job), self.store, "cpu")
        late = record.status == "failed" and time.time() >= job["deadline"]  # the helper was killed
        if late or record.status == LEFT_OUT:
            told = f"It did not answer in {limit:.1f} s and was ended: no epoch is kept"
            record.update(status="timed out", reason=told, timeout_s=limit)
        self.writer.append(record)
        return record

    def _learn(self, row: dict[str, Any]) -> None:
        arrays = load_arrays(self.store, row["run_id"])
        if "val_labels" not in arrays:
            told = f"{self.base.data} has no validation images to choose a recipe on"
            raise ValueError(f"{told}: add some, as `data import` does.")
        if not self.task:
            self._look(row["run_id"], set(arrays["val_labels"].ravel().tolist()))
        self.budget.ended(row)
        self.costs.learn(row, Parts.of(row, arrays))
        if row["role"] != "pilot":
            row["judged"] = judged(self, row, arrays)

    def _look(self, run_id: str, labels: set[int]) -> None:
        """What the data are, from a run's card. ValueError where no choice can be made on them."""
        card = json.loads((self.store / f"{run_id}{CARD}").read_text(encoding="utf-8"))
        if absent := [name for i, name in enumerate(card["classes"]) if i not in labels]:
            raise ValueError(
                f"{self.base.data} has no validation image of {', '.join(absent)}: no recipe can "
                "be chosen there. Split the data so that every class is in each part."
            )
        self.task = {name: card[name] for name in ("task", "positive")}
        self.classes = card["classes"]


def climb(search: Search) -> Iterator[Recipe]:
    """The rest of the menu in its order, each recipe that fits into three quarters of the time
    left: there are others; then neighbours of the best: other rates, twice the epochs."""
    for recipe in search.menu[len(BASELINES) :]:
        yield from search.open([recipe], 0.75)
    since, before = 0, search.best()
    while before and since < PATIENCE and (near := search.open(_neighbours(before[1]), least=1.0)):
        yield near[0]
        after = search.best()
        since, before = (since + 1, before) if after[0] == before[0] else (0, after)


def _neighbours(recipe: Recipe) -> list[Recipe]:
    rate = recipe.learning_rate
    changes = [{"epochs": 2 * recipe.epochs}, {"learning_rate": 3 * rate}]
    changes += [{"learning_rate": rate / 3}, {"epochs": 4 * recipe.epochs}]
    return [recipe.but(**one) for one in changes]


def halving(search: Search) -> Iterator[Recipe]:
    """Successive halving (Jamieson and Talwalkar 2016): the whole menu with a quarter of its
    epochs, the better half of it with a half, the better half of these with all."""
    stage = [*search.menu]
    for share in (0.25, 0.5, 1.0):
        short = {one.id: one.but(epochs=max(round(share * one.epochs), 1)) for one in stage}
        for recipe in short.values():
            yield from search.open([recipe])
        found = {row["recipe_id"]: row["judged"] for row in search.tried if "judged" in row}
        done = [one for one in stage if short[one.id].id in found]
        done.sort(key=lambda one: found[short[one.id].id], reverse=True)
        stage = done[: math.ceil(len(done) / 2)]


def at_random(search: Search) -> Iterator[Recipe]:
    """The menu's kinds with epochs, share of the images and learning rate drawn, as long as there
    is time: the peer of the others."""
    rng, misses = random.Random(search.base.seed), 0
    while misses < 50 and search.budget.left > 0:
        recipe = rng.choice(search.menu).but(
            epochs=round(2 ** rng.uniform(1, 5)), learning_rate=10 ** rng.uniform(-3.5, -2)
        )
        some = rng.choice([0.25, 0.5, 1.0])
        chosen = SUBSET["selection"] if some < 1 else "none"
        ready = search.open([recipe.but(selection=chosen, train_fraction=some)])
        misses = 0 if ready else misses + 1
        yield from ready


STRATEGIES: dict[str, Callable[[Search], Iterator[Recipe]]] = {
    "climb": climb,
    "halving": halving,
    "random": at_random,
}
"""Each yields the next recipe until nothing is left that fits."""
