"""What runs will take, told by records of runs like them on the same machine.

Seconds = those outside training + what training does once + seconds an epoch × epochs. Records of
several numbers of epochs give a line, by least squares; one number counts as epochs alone."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from statistics import fmean, median
from typing import Any

from effml.machine import cpu
from effml.recipe import NUMERICS, Recipe

FREE = (
    "epochs train_fraction seed learning_rate weight_decay schedule temperature teacher_share "
    "class_weights patience stopping weights"
).split()
"""Fields in which runs may differ and cost the same, an epoch of so many images each."""

DEFAULTS = Recipe().to_dict()
_KIND = [name for name in DEFAULTS if name not in (*FREE, "selection")]

CHEAP = ("none", "random", "class_balanced", "random_per_class")
"""Ways to select that take no time; each other one is a kind of its own."""

VALIDATION = 0.05
"""What an epoch's validation costs, in epochs of all images: a seventh of them, forward only."""

SPREAD = {"records": (0.7, 1.5), "pilot": (0.7, 1.7), "guess": (0.1, 10.0)}
"""Seconds taken / foretold, at least and at most. Of 30 held-out recipes (`python -m tests.bench
plan`, two shared CPUs that slowed down under load) nine of ten took 1.08 to 1.62 times what pilots
foretold, and 0.91 to 1.41 times what records did. A guess knows parameters × pixels × images alone:
a power of ten is no surprise."""

SPREAD_MEMORY = (0.9, 1.1)
"""The same of the peak of memory; there nine of ten had 0.97 to 1.02."""

PILOTS, SHORT_S = (1, 3), 5.0
"""Epochs of a pilot. The second is done where the first trained for less than SHORT_S: then what
happens once is too large a part of it."""

WINDOWS = ("prepare", "train", "infer")

RUN_S, START_S = 0.1, (4.0, 2.0, 15.0)
"""What no record holds: seconds to hand over a run and write its record (0.09 to 0.12 s,
`python -m tests.bench sweep`); and once for each sweep or worker, to import torch and timm, with
its range (3.7 s on two quiet CPUs, some 10 beside other programs)."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a run will take; NaN is unknown. `watts` and `memory` have a lower and an upper end."""

    seconds: float
    basis: str  # a name of SPREAD
    source: str
    watts: tuple[float, float, float] = (math.nan,) * 3
    memory: tuple[float, float] = (math.nan,) * 2

    @property
    def joules(self) -> float:
        return self.seconds * self.watts[0]

    def columns(self) -> dict[str, Any]:
        """For people: minutes, kWh and MB, each with its range."""
        low, high = SPREAD[self.basis]
        kwh = [self.seconds * watt / 3.6e6 for watt in self.watts]
        return {
            "minutes": (self.seconds + RUN_S) / 60,
            "minutes_low": (low * self.seconds + RUN_S) / 60,
            "minutes_high": (high * self.seconds + RUN_S) / 60,
            "kwh": kwh[0],
            "kwh_low": low * kwh[1],
            "kwh_high": high * kwh[2],
            "memory_mb": self.memory[1] / 1e6,
            "memory_mb_low": SPREAD_MEMORY[0] * self.memory[0] / 1e6,
            "memory_mb_high": SPREAD_MEMORY[1] * self.memory[1] / 1e6,
            "source": self.source,
        }


UNKNOWN = Expected(seconds=math.nan, basis="guess", source="unknown")


class Forecast:
    """What is known from `rows` of a store. `anyones`: records of other machines count as ours (of
    a cluster's workers); else they count as a guess, where there are no better ones."""

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], device: str, anyones: bool = False
    ) -> None:
        self.device, self.anyones = device_of(device), anyones
        self.alike: dict[tuple, list[Mapping[str, Any]]] = {}
        self.pace: dict[str, float] = {}  # by run, seconds for a unit of `work`
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take note of a record."""
        row = {**DEFAULTS, **{name: value for name, value in row.items() if value is not None}}
        now = row.get("device") == self.device and row.get("numerics") == NUMERICS
        whole = (
            row.get("status") == "ok" and not row.get("resumed_epoch") and "train_seconds" in row
        )
        if now and whole and (seconds := run_seconds(row)):
            self.alike.setdefault(kind(row), []).append(row)
            if row.get("params"):
                self.pace[row.get("run_id")] = seconds / work(row, row["params"])

    def of(self, recipe: Recipe) -> Expected | None:
        """What records of runs like this say; None without any."""
        rows, foreign = self.known(recipe)
        rows = [row for row in rows if row.get("shared") != 1] or rows
        trained = [row for row in rows if row.get("epochs_run")]
        if not rows or recipe.epochs and not trained:
            return None
        seconds = median(run_seconds(row) - _training(row) for row in rows)
        if recipe.epochs:
            done = [row["epochs_run"] * _images(row) for row in trained]
            took = [max(_training(row), 1e-3) for row in trained]
            once, each = _line(done, took)
            seconds += once + each * recipe.epochs * _images(recipe.to_dict())
        longest = max(row.get("epochs_run") or 0 for row in rows)
        source = f"{len(rows)} records" if len(rows) > 1 else "1 record"
        if pilot := longest <= PILOTS[-1] and longest < recipe.epochs:
            source = "pilot"
        basis = "guess" if foreign else "pilot" if pilot else "records"
        peaks = [max(_of(row, f"{window}_peak_memory_bytes") for window in WINDOWS) for row in rows]
        return Expected(
            seconds=seconds,
            basis=basis,
            source=f"{source}, other CPUs" if foreign else source,
            watts=tuple(map(fmean, zip(*map(watts_of, rows)))),
            memory=(min(peaks), max(peaks)) if min(peaks) else (math.nan, math.nan),
        )

    def known(self, recipe: Recipe) -> tuple[list[Mapping[str, Any]], bool]:
        """The records of runs like this, and whether they are of other machines or threads."""
        rows = self.alike.get(kind(recipe.to_dict()), [])
        ours = [row for row in rows if self.anyones or _ours(row, recipe)]
        return ours or rows, not ours

    def guess(self, recipe: Recipe) -> Expected:
        """The same where no run like it is known: by parameters × pixels, as others took."""
        seconds = work(recipe.to_dict(), parameters(recipe.model, recipe.size))
        if not self.pace:
            return UNKNOWN
        source = f"guess: {len(self.pace)} other runs"
        return Expected(seconds=seconds * median(self.pace.values()), basis="guess", source=source)


def cheapest_first(recipes: list[Recipe], forecast: Forecast) -> list[Recipe]:
    """By foretold seconds; where nothing foretells any, by parameters × pixels × images. Equals
    stay in their order."""

    def cost(recipe: Recipe) -> float:
        told = forecast.of(recipe) or forecast.guess(recipe)
        if not math.isnan(told.seconds):
            return told.seconds
        return work(recipe.to_dict(), parameters(recipe.model, recipe.size))

    return sorted(recipes, key=cost)


def pilots(recipes: Iterable[Recipe], forecast: Forecast) -> dict[tuple, Recipe]:
    """By kind a run of one epoch, or of three where that was short, where one is needed."""
    asked: dict[tuple, Recipe] = {}
    for recipe in recipes:
        known = forecast.known(recipe)[0]
        longest = max((row.get("epochs_run") or 0 for row in known), default=-1)
        short = all(_of(row, "train_seconds") < SHORT_S for row in known)
        first, second = PILOTS
        if longest < min(recipe.epochs, first) or short and longest < second < recipe.epochs:
            epochs = min(recipe.epochs, first if longest < first else second)
            drawn = recipe.weights if recipe.weights in ("random", "imagenet") else "random"
            pilot = recipe.but(epochs=epochs, weights=drawn, patience=0)
            asked.setdefault(kind(recipe.to_dict()), pilot)
    return asked


def work(fields: Mapping[str, Any], params: float) -> float:
    """Parameters × pixels × images, of all epochs and once more for the rest."""
    return params * fields["size"] ** 2 * (1 + fields["epochs"] * _images(fields))


@cache
def parameters(model: str, size: int) -> float:
    """How many a model has; 0 where it does not build (its run will say why, at once)."""
    import torch

    from effml.models import build_model

    try:
        with torch.device("meta"):  # shapes alone: no memory, no numbers drawn
            return sum(p.numel() for p in build_model(model, size=size).parameters())
    except Exception:  # each of a thousand architectures has its own way to refuse a size
        return 0.0


def _line(done: list[float], took: list[float]) -> tuple[float, float]:
    """Seconds once and for each epoch of all images; both at least 0, errors relative."""
    if len(set(done)) == 1:
        return 0.0, median(took) / done[0]
    from scipy.optimize import nnls

    (once, each), _ = nnls([[1 / t, x / t] for x, t in zip(done, took)], [1.0] * len(took))
    return once, each


def kind(row: Mapping[str, Any]) -> tuple:
    """What two runs must share to cost the same."""
    selection = "none" if row["selection"] in CHEAP else row["selection"]
    return *(row[name] for name in _KIND), selection


def _ours(row: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether it ran on a CPU or GPU like this machine's, with the threads that the recipe asks."""
    here = row.get("device_name") == _device_name(row["device"])
    return here and (recipe.threads > 0 or row.get("threads_used") in (None, _threads()))


@cache
def _threads() -> int:
    import torch

    return torch.get_num_threads()


@cache
def _device_name(device: str) -> str:
    if device != "cuda":
        return cpu()[0]
    import torch

    return torch.cuda.get_device_name()


def device_of(device: str) -> str:
    """What `auto` will be. Torch's answer starts CUDA's driver: never ask in the server."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _images(row: Mapping[str, Any]) -> float:
    return row["train_fraction"] + VALIDATION


def _of(row: Mapping[str, Any], column: str) -> float:
    """A column; what is unknown counts 0."""
    return row.get(column) or 0.0


def run_seconds(row: Mapping[str, Any]) -> float:
    """What a run took without the time it stood still for others; 0: unknown."""
    try:
        began, ended = (
            datetime.fromisoformat(row[f"{word}_utc"]) for word in ("started", "finished")
        )
        return max((ended - began).total_seconds() - _of(row, "turns_seconds"), 0.0)
    except (KeyError, TypeError, ValueError):
        return 0.0


def _training(row: Mapping[str, Any]) -> float:
    """Its part of these."""
    seconds = run_seconds(row)
    return row["train_seconds"] * seconds / (seconds + _of(row, "turns_seconds"))


def watts_of(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Mean of the three windows, with its range; NaN where a joule is unknown."""
    seconds = sum(_of(row, f"{window}_seconds") for window in WINDOWS)
    ends = ("energy_j", "energy_low_j", "energy_high_j")
    joules = [[row.get(f"{window}_{end}") for window in WINDOWS] for end in ends]
    known = [math.nan if None in each else sum(each) for each in joules]
    return tuple(each / seconds if seconds else math.nan for each in known)
