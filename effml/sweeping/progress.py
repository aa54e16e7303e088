"""How far a sweep is: a bar in a terminal and a notebook; in a file, a line for each run."""

import os
import sys
import time
from textwrap import shorten
from typing import Self

from effml.recipe import Recipe, Record
from effml.sweeping.expected import RUN_S, Forecast, run_seconds


class Progress:
    """Tells how far the runs `todo` are and how long the rest will take: by their forecasts, and
    the mean of the runs so far where there is none."""

    def __init__(self, todo: list[Recipe], forecast: Forecast) -> None:
        from tqdm.std import tqdm  # its bar of text stays on the error stream also in a notebook

        told = {recipe.id: forecast.of(recipe) for recipe in todo}
        self.foretold = {name: one.seconds if one else None for name, one in told.items()}
        self.begun, self.runs, self.done = time.monotonic(), len(todo), 0
        self.spent = self.own = 0.0  # seconds, with and without the starts of processes
        how = {"disable": not _watched(), "file": sys.stderr, "leave": False}
        self.bar = tqdm(total=len(todo), bar_format="|{bar:20}| {desc}", dynamic_ncols=True, **how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def start(self, recipe: Recipe) -> None:
        self.bar.set_description_str(
            f"runs {self.done}/{self.runs}, now {what(recipe)}{self._left()}"
        )

    def end(self, record: Record, seconds: float) -> None:
        self.foretold.pop(record.recipe_id, None)
        self.done, self.spent = self.done + 1, self.spent + seconds
        own = run_seconds(record) + (record.get("turns_seconds") or 0.0) + RUN_S
        self.own += min(own, seconds) if own > RUN_S else seconds
        line = f"[{self.done}/{self.runs}] {_words(record)}{self._left()}"
        self.bar.update()
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        elif record.status != "ok":
            self.bar.write(line, file=sys.stderr)

    def _left(self) -> str:
        if not self.done:
            known = [one for one in self.foretold.values() if one is not None]
            return f" · about {sum(known) / 60:.1f} min left" * (len(known) == self.runs)
        mean = self.own / self.done
        left = sum(mean if one is None else one for one in self.foretold.values())
        at_once = (time.monotonic() - self.begun) / max(self.spent, 1e-9)  # runs share the time
        return f" · {left * at_once / 60:.1f} min left"


def _watched() -> bool:
    """Whether somebody sees a bar move: in a terminal, or in a notebook that is not carried out
    by `make reproduce`, whose log is a file."""
    notebook = type(sys.stderr).__module__.startswith("ipykernel")
    return sys.stderr.isatty() or notebook and "EFFML_FIGURES" not in os.environ


def what(recipe: Recipe | Record) -> str:
    """A run in a few words."""
    return f"{recipe.model} on {recipe.data}, {recipe.precision}, seed {recipe.seed}"


def _words(record: Record) -> str:
    told = f"{what(record)}: {record.status}"
    if record.status != "ok":
        return f"{told} ({shorten(str(record.reason), max(98 - len(told), 20), placeholder=' …')})"
    name = "AUROC" if record.test_dice is None else "Dice"
    score, seconds = record.get(f"test_{name.lower()}"), record.train_seconds
    seconds = "training time unknown" if seconds is None else f"{seconds:.0f} s"
    return f"{told}, {name} {'unknown' if score is None else f'{score:.3f}'}, {seconds}"
