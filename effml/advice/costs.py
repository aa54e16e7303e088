"""What a recipe will cost on one data set on this machine, from the runs of a search so far; and
the budget of that search."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from effml.recipe import Recipe
from effml.sweeping.expected import WINDOWS, Expected, kind, run_seconds, watts_of


@dataclass(frozen=True)
class Parts:
    """Of one run the seconds `before` training, `once` in it, for each `image` of an epoch, for the
    `val` images of an epoch, and `after` training; its watts and the memory that it, its helper and
    this process held at most."""

    images: int
    before: float
    once: float
    image: float
    val: float
    after: float
    watts: tuple[float, float, float]
    memory: float

    @classmethod
    def of(cls, row: Mapping[str, Any], arrays: Mapping[str, Any]) -> "Parts | None":
        """From a record and its arrays; None where the run tells nothing of an epoch's time."""
        epochs = [float(one) for one in arrays["epoch_seconds"]]
        if row.get("ended_early"):
            epochs = epochs[:-1]  # the last was cut
        if not epochs:
            return None
        forward = row["infer_seconds"] / len(arrays["test_labels"])
        val, later = forward * len(arrays["val_labels"]), median(epochs[1:] or epochs)
        val = min(val, 0.9 * later)
        peaks = [row[f"{window}_peak_memory_bytes"] or 0.0 for window in WINDOWS]
        return cls(
            images=row["train_n"],
            before=row["prepare_seconds"],
            once=max(row["train_seconds"] - later * len(epochs), 0.0),
            image=(later - val) / row["train_n"],
            val=val,
            after=max(run_seconds(row) - row["prepare_seconds"] - row["train_seconds"], 0.0),
            watts=watts_of(row),
            memory=row.get("together_peak_bytes") or max(peaks),
        )


class Costs:
    """Seconds, joules and memory of recipes whose kind has run: same but for epochs, share of the
    images, seed, learning rate and the like (`effml.sweeping.expected.kind`)."""

    def __init__(self) -> None:
        self.kinds: dict[tuple, list[Parts]] = {}
        self.whole = math.nan  # training images without a selection
        self.all: list[Parts] = []

    def learn(self, fields: Mapping[str, Any], parts: Parts | None) -> None:
        """Take note of a run by a recipe of these fields."""
        name = kind(fields)
        if parts and not (fields["epochs"] == 1 and name in self.kinds):  # what is once is in it
            self.all.append(parts)
            self.kinds.setdefault(name, []).append(parts)
            self.whole = parts.images / fields["train_fraction"]

    def nearest(self, recipe: Recipe) -> Parts | None:
        """The run of its kind with about as many images; the last of equals."""
        known = self.kinds.get(kind(recipe.to_dict()), [])
        n = recipe.train_fraction * self.whole
        return min(reversed(known), key=lambda one: abs(math.log(one.images / n)), default=None)

    def of(self, recipe: Recipe) -> Expected | None:
        """What it will take; None where no run of its kind has ended."""
        if not (parts := self.nearest(recipe)):
            return None
        epochs, known = recipe.epochs, self.kinds[kind(recipe.to_dict())]
        before, others = parts.before, [one.before for one in self.all[1:]]
        if parts is self.all[0] and others:  # the first reads the data into the system's memory
            before = min(before, median(others))
        peaks = [one.memory for one in known]
        return Expected(
            seconds=before + parts.once + epochs * self.epoch(recipe) + parts.after,
            basis="records" if len(known) > 1 else "pilot",
            source=f"{len(known)} runs" if len(known) > 1 else "pilot",
            watts=parts.watts,
            memory=(min(peaks), max(peaks)),
        )

    def epoch(self, recipe: Recipe) -> float:
        """Seconds of one of its epochs."""
        parts = self.nearest(recipe)
        return recipe.train_fraction * self.whole * parts.image + parts.val

    def after(self, recipe: Recipe) -> float:
        """Seconds that it needs when its last epoch is over, and of that epoch's validation."""
        parts = self.nearest(recipe)
        return parts.after + parts.val if parts else 1.0

    def within(self, recipe: Recipe, seconds: float, least: float) -> Recipe | None:
        """It, or with as many epochs as fit into the seconds, at least this share of them."""
        told = self.of(recipe)
        if told is None or told.seconds <= seconds:
            return told and recipe
        short = (told.seconds - seconds) / self.epoch(recipe)
        epochs = recipe.epochs - math.ceil(short)
        return recipe.but(epochs=epochs) if epochs >= max(least * recipe.epochs, 1) else None


@dataclass
class Budget:
    """Seconds on the clock since `began` (of the epoch), bytes held by all processes together, and
    Wh: by the most watts that any run took, for all the time. None is no limit."""

    seconds: float
    memory: float | None = None
    wh: float | None = None
    began: float = field(default_factory=time.time)
    watts: float = 0.0

    @property
    def spent(self) -> float:
        return time.time() - self.began

    @property
    def reserve(self) -> float:
        """Seconds kept for the ranking, the test split and what is written."""
        return 1.0 + 0.01 * self.seconds

    @property
    def left(self) -> float:
        limit = self.seconds
        if self.wh is not None and self.watts:
            limit = min(limit, 3600 * self.wh / self.watts)
        return limit - self.reserve - self.spent

    def ended(self, row: Mapping[str, Any]) -> None:
        """A run has ended. ValueError where its joules are unknown and Wh are limited."""
        watts = watts_of(row)[0]
        if self.wh is not None and math.isnan(watts):
            why = row.get("energy_reason") or "its meter is none"
            raise ValueError(f"wh={self.wh:g} cannot be kept: joules are unknown here ({why}).")
        self.watts = max(self.watts, watts)  # max keeps its first argument if the second is NaN
