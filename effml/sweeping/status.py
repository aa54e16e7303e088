"""What is done, what runs and what failed in a store, as told by its records and by a file for each
sweep that is under way."""

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from textwrap import shorten
from typing import Any, Self

from effml.printing import entry
from effml.recipe import Recipe
from effml.results import read_records
from effml.sweeping.expected import Forecast
from effml.sweeping.others import lock, unlock
from effml.sweeping.progress import what

SUFFIX = ".sweep"


class Running:
    """The file of a sweep: what it does, then a line for each run that it starts. Its lock is held
    as long as the sweep lives, whatever ends it; both are removed at the end. One that nobody locks
    tells of a sweep that was interrupted, until the next one begins."""

    def __init__(self, store: Path, todo: list[Recipe], device: str) -> None:
        for file, _, lives in _sweeps(store):
            if not lives:
                file.unlink(missing_ok=True)
        file = store / f"{token_hex(4)}{SUFFIX}"
        self.lock = lock(_lock_of(file))
        self.file = open(file, "x", encoding="utf-8")
        about = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        self._tell(about | {"device": device, "todo": [recipe.changed for recipe in todo]})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        Path(self.file.name).unlink(missing_ok=True)
        unlock(self.lock)

    def start(self, recipe: Recipe) -> None:
        """A run begins."""
        self._tell({"id": recipe.id, "at": time.time()})

    def _tell(self, line: dict[str, Any]) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def _sweeps(store: Path) -> Iterator[tuple[Path, list[dict[str, Any]], bool]]:
    """Each file of a sweep, its lines, and whether the sweep lives."""
    for file in sorted(store.glob(f"*{SUFFIX}")):
        lines = []
        with suppress(OSError, ValueError):  # it has just ended; the last line is torn
            for line in file.read_text(encoding="utf-8").splitlines():
                lines.append(json.loads(line))
        if lines and "todo" in lines[0]:  # its first line is written behind the lock
            held = lock(_lock_of(file))
            unlock(held)
            yield file, lines, isinstance(held, bool)  # another's; or no locks here: who knows


def _lock_of(file: Path) -> Path:
    return file.with_name(f".{file.name}.lock")


def status(store: Path, asked: list[Recipe] | None, left: list[Recipe], device: str) -> str:
    """What is to be said of a store: of the runs `asked`, of which `left` are to do, or of all."""
    rows, unreadable = read_records(store)
    forecast = Forecast(rows, device)
    ids = None if asked is None else {recipe.id for recipe in asked}
    newest: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["status"] == "ok", row.get("finished_utc") or "")):
        if ids is None or row["recipe_id"] in ids:
            newest[row["recipe_id"]] = row
    counts = Counter(row["status"] for row in newest.values())
    told = ", ".join(f"{counts[name]} {name}" for name in sorted(counts)) or "none"
    told += "" if store.is_dir() else f": there is no folder {store}"
    lines = [entry("recorded", told)]
    if unreadable:
        torn = f"{unreadable} torn line{'s' * (unreadable > 1)}: what it held counts as not done"
        lines.append(entry("unreadable", torn))
    if asked is not None:
        lines.append(entry("left", f"{len(left)} of {len(ids)} runs{_time(left, forecast)}"))
    for _, said, lives in _sweeps(store):
        lines += _of_sweep(said, lives, rows, forecast)
    for name, row in newest.items():
        if row["status"] != "ok":
            reason = shorten(str(row.get("reason")), 300, placeholder=" …")
            lines.append(entry(name, f"{row.get('model')}: {row['status']} ({reason})"))
    return "\n".join(lines)


def _of_sweep(
    said: list[dict[str, Any]], lives: bool, rows: list[dict[str, Any]], forecast: Forecast
) -> Iterator[str]:
    about, todo = said[0], [Recipe(**changed) for changed in said[0]["todo"]]
    ended = {row["recipe_id"] for row in rows if _finished(row) >= about["since"]}
    left = [recipe for recipe in todo if recipe.id not in ended]
    where = f"process {about['pid']} on {about['host']}"
    done = f"{len(todo) - len(left)} of {len(todo)} runs done"
    if not lives:
        yield entry("interrupted", f"{where}: {done}; the same command goes on")
        return
    started = {line["id"]: line["at"] for line in said[1:]}
    now = {recipe: time.time() - started[recipe.id] for recipe in left if recipe.id in started}
    for_s = time.time() - about["since"]
    yield entry("running", f"{where} for {for_s / 60:.1f} min: {done}{_time(left, forecast, now)}")
    for recipe, seconds in now.items():
        yield entry("now", f"{recipe.id} {what(recipe)}, for {seconds / 60:.1f} min")


def _time(
    left: Iterable[Recipe], forecast: Forecast, now: dict[Recipe, float] | None = None
) -> str:
    """How long the runs left take, those that run `now` at a time, as far as records tell."""
    now, told = now or {}, {recipe: forecast.of(recipe) for recipe in left}
    seconds = [max(one.seconds - now.get(r, 0), 0) for r, one in told.items() if one]
    words = f", about {sum(seconds) / max(len(now), 1) / 60:.1f} min left" if seconds else ""
    if unknown := sum(one is None for one in told.values()):
        words += f", {unknown} of unknown length"
    return words


def _finished(row: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(row["finished_utc"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0
