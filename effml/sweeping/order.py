"""What comes next: runs after those they build on, within a budget; and a machine's share."""

import math
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from effml.machine import available_memory_bytes
from effml.recipe import Recipe, Record
from effml.results import NO_RUN
from effml.sweeping.expected import START_S, WINDOWS, Expected, Forecast
from effml.sweeping.others import Claims

if TYPE_CHECKING:
    import pandas

GRACE = 0.05
"""Of max_hours by which a run in progress may go beyond it, before it is ended."""


def parents(recipe: Recipe) -> list[str]:
    """What it builds on: ids of runs, or files."""
    return [name for name in (recipe.weights, recipe.teacher) if name not in NO_RUN]


def share(recipes: Iterable[Recipe], shard: str) -> list[Recipe]:
    """Of the recipes those of shard `i/N`, in the order given. The recipes alone decide; each shard
    has about as many of each model and size, and a run goes with the one that it builds on."""
    recipes = list(recipes)
    by_id = {recipe.id: recipe for recipe in recipes}
    i, _, n = shard.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise ValueError(f"shard={shard!r} is no share: give i/N with 1 ≤ i ≤ N, such as 1/4.")

    def root(recipe: Recipe) -> Recipe:
        known = [by_id[name] for name in parents(recipe) if name in by_id]
        return root(known[0]) if known else recipe

    def size(recipe: Recipe) -> tuple:
        return recipe.epochs * recipe.size**2 * recipe.train_fraction, recipe.model, recipe.id

    roots = sorted((r for r in by_id.values() if root(r) is r), key=size)
    mine = {recipe.id for recipe in roots[int(i) - 1 :: int(n)]}
    return [recipe for recipe in recipes if root(recipe).id in mine]


@dataclass
class Budget:
    """Hours on the clock and kWh of the records; None is no limit. What a run without known joules
    took is reckoned by the watts of the others."""

    max_hours: float | None = None
    max_kwh: float | None = None
    started: float = field(default_factory=lambda: time.monotonic())
    joules: float = 0.0
    seconds: float = 0.0  # in which they were spent
    unpriced: float = 0.0  # seconds of runs whose joules are unknown
    blind: bool = False  # a run ended well and nothing measured it

    def __post_init__(self) -> None:
        for name in ("max_hours", "max_kwh"):
            if (limit := getattr(self, name)) is not None and not 0 < limit < math.inf:
                raise ValueError(f"{name}={limit!r} is no budget: give a number above 0, or None.")

    def __bool__(self) -> bool:
        return self.max_hours is not None or self.max_kwh is not None

    @property
    def deadline(self) -> float | None:
        """When a run in progress is ended, in seconds of the epoch."""
        if self.max_hours is None:
            return None
        left = 3600 * self.max_hours * (1 + GRACE) - (time.monotonic() - self.started)
        return time.time() + left

    def refuses(self, told: Expected | None, running: Collection[Expected | None]) -> str:
        """Why a run may not start; "" if it may. Without a forecast it may as long as any of the
        budget is left."""
        seconds, joules = (told.seconds, told.joules) if told else (0.0, 0.0)
        if self.max_hours is not None:
            left = 3600 * self.max_hours - (time.monotonic() - self.started)
            if left <= 0 or seconds > left:
                return _too_much(seconds / 60, left / 60, "min", f"max_hours={self.max_hours:g}")
        if self.max_kwh is not None:
            if self.blind:
                return "the joules of runs are unknown here, so max_kwh cannot be kept"
            known = [one.joules for one in running if one and not math.isnan(one.joules)]
            left = 3.6e6 * self.max_kwh - self.spent() - sum(known)
            if left <= 0 or joules > left:
                limit = f"max_kwh={self.max_kwh:g}"
                return _too_much(joules / 3.6e6, left / 3.6e6, "kWh", limit)
        return ""

    def foresees(self, runs: "pandas.DataFrame", at_once: int) -> Iterator[str]:
        """What it and the memory leave of a plan of `effml.forecast`, so many runs at a time."""
        fit, limits = runs.minutes.notna(), []
        if self.max_hours is not None:
            fit &= runs.minutes.cumsum() / at_once + START_S[0] / 60 <= 60 * self.max_hours
            limits.append(f"max_hours={self.max_hours:g}")
        if self.max_kwh is not None:
            fit &= runs.kwh.cumsum() <= self.max_kwh
            limits.append(f"max_kwh={self.max_kwh:g}")
        unknown = runs.kwh.isna() if self.max_kwh is not None else runs.minutes.isna()
        if self:
            told = f"{fit.sum()} of these {len(runs)} fit in {' and '.join(limits)}"
            if unknown.any():
                told += f"; {unknown.sum()} without a forecast may start while any of it is left"
            yield told
        free = available_memory_bytes() / 1e6
        if large := int((runs.memory_mb > free).sum()) * (runs.attrs["device"] == "cpu"):
            yield f"{large} need more than the {free:.0f} MB of memory that are free here now"

    def spent(self) -> float:
        """Joules."""
        watts = self.joules / self.seconds if self.seconds else 0.0
        return self.joules + watts * self.unpriced

    def ended(self, record: Record, seconds: float) -> None:
        """Take a run's cost off."""
        joules = [record.get(f"{window}_energy_j") for window in WINDOWS]
        if None not in joules and not math.isnan(sum(joules)):
            self.joules, self.seconds = self.joules + sum(joules), self.seconds + seconds
        else:
            self.unpriced += seconds
            self.blind |= record.status == "ok" and not record.resumed_epoch


def _too_much(needs: float, left: float, unit: str, limit: str) -> str:
    left = f"{max(left, 0):.3g} {unit} of {limit} are left"
    return f"it needs about {needs:.3g} {unit}, {left}" if needs > 0 else left


class Queue:
    """Runs that wait, those that run, and those left out with the reason."""

    def __init__(self, todo: list[Recipe], budget: Budget, forecast: Forecast) -> None:
        self.waiting = {recipe.id: recipe for recipe in todo}
        self.running: dict[str, Expected | None] = {}
        self.left_out: dict[str, str] = {}
        self.budget, self.forecast = budget, forecast

    def take(self, claims: Claims) -> Recipe | None:
        """The first run that may start now; None where all wait for others, or are done by other
        sweeps, or none is left."""
        for recipe in list(self.waiting.values()):
            needs = parents(recipe)
            if any(name in self.waiting or name in self.running for name in needs):
                continue
            told = self.forecast.of(recipe) if self.budget else None
            lost = next((name for name in needs if name in self.left_out), None)
            why = f"it builds on {lost}" if lost else ""
            why = why or self.budget.refuses(told, self.running.values())
            ours = None if why else claims.take(recipe)
            if ours is False:  # another sweep is at it: if that dies, it is ours
                continue
            del self.waiting[recipe.id]
            if why:
                self.left_out[recipe.id] = why
            if ours:
                self.running[recipe.id] = told
                return recipe
        return None

    def ended(self, record: Record, seconds: float) -> None:
        """A run has ended; one that the deadline ended is left out."""
        del self.running[record.recipe_id]
        self.budget.ended(record, seconds)
        self.forecast.add(record)
        if record.status == LEFT_OUT:
            self.left_out[record.recipe_id] = str(record.reason)

    def tell(self, runs: int) -> None:
        """Say what was left out: it is no record."""
        if self.left_out:
            why = next(iter(self.left_out.values()))
            told = f"{len(self.left_out)} of {runs} runs left out, the first because {why}"
            print(f"{told}. The same command with more goes on.", file=sys.stderr)


LEFT_OUT = "left out"
"""Status of a run that the deadline ended, or that came after it: no record is made of it."""
