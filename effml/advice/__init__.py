"""`advise`: which recipe to take for these images within so many minutes, bytes and Wh. Pilots
tell what recipes cost before that is spent; a search tries what fits; the validation split chooses.
The test split of the choice and of the default recipe is looked at last, and of no other."""

import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any

from effml.advice.costs import Budget
from effml.advice.ranking import AIMS, import_all, ranked
from effml.advice.search import MENUS, STRATEGIES, Search
from effml.data import fingerprint
from effml.machine import choose
from effml.recipe import Recipe
from effml.sweeping import warm_up

if TYPE_CHECKING:
    import pandas

__all__ = ["AIMS", "MENUS", "STRATEGIES", "advise"]

_BYTES = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def advise(
    data: str | os.PathLike,
    minutes: float,
    *,
    memory: str | float | None = None,
    wh: float | None = None,
    aim: str = "screening",
    size: int = 28,
    strategy: str = "climb",
    menu: Iterable[Recipe] | None = None,
    threads: int = 0,
    seed: int = 0,
    store: str | os.PathLike | None = None,
    spent_s: float = 0.0,
) -> "pandas.DataFrame":
    """Which recipe to take for these images, found within a budget: on this CPU, of classifiers.

    Args:
        data: As for `load_dataset`, with a validation split.
        minutes: On the clock, for everything.
        memory: What all processes together may hold, shared pages counted once: bytes, or "2GB",
            "2GiB". A run that holds more is ended (on Linux).
        wh: Watt-hours, by the (mostly estimated) watts of the runs. None: no limit.
        aim: What is best: "screening", specificity at sensitivity ≥ 0.95; "confirmation",
            sensitivity at specificity ≥ 0.95; "balanced", the AUROC, as for more than two classes.
        strategy: "climb", "halving" or "random" (see STRATEGIES).
        size: As for `load_dataset`.
        menu: Your recipes in place of MENUS, but for the baselines; data and size are these.
        threads: CPU threads; 0: as many as torch takes.
        seed: Of all runs, and of the strategy random.
        store: A folder for records and weights. None: a new one in results/local.
        spent_s: Seconds of the budget that are gone already.

    Returns:
        A row per run, best by the aim first, ahead of it the pick: the cheapest as good as the
        best, whose paired difference of AUROC has an interval above -0.01. Columns: rank, role,
        run_id, the recipe's fields, status, quality with its interval on validation, val_auroc, its
        difference from the best, seconds (of the run: data, training, validation, test, writing),
        joules, memory_mb (of all processes), each also foretold, began_s, ended_s, reason.
        `.attrs`: store, pick (a run id for `effml.deploy`, or None), told (for people), test.

    Raises:
        ValueError: A budget, a name or the data are impossible.
        FileNotFoundError: The data are not here.

    Example:
        >>> table = effml.advise("phantom-chest", 0.15, aim="balanced", threads=1)
        >>> len(table) > 0, table.attrs["spent_s"] < 10
        (True, True)
    """
    base = Recipe(data=os.fspath(data), size=size, threads=threads, seed=seed)
    choose("aim", aim, AIMS)
    choose("strategy", strategy, STRATEGIES)
    budget, own, place = _budget(minutes, memory, wh, spent_s), _recipes(menu, base), _place(store)
    warm_up()  # while the data are looked at, and what the ranking takes is imported
    fingerprint(data, size=size)  # data that are not here cost no budget
    import_all()
    return _searched(Search(base, budget, place, aim, own), strategy, keep=store is not None)


def _searched(search: Search, strategy: str, keep: bool) -> "pandas.DataFrame":
    try:
        with search:
            search.pilots()
            search.baselines()
            for recipe in STRATEGIES[strategy](search):
                search.run(recipe, "candidate")
        return ranked(search)
    finally:
        if not (keep or any("judged" in row for row in search.tried)):  # nothing was found
            shutil.rmtree(search.store, ignore_errors=True)


def _place(store: str | os.PathLike | None) -> Path:
    if store and Path(store).is_file():
        raise ValueError(f"store={os.fspath(store)!r} is a file: give a folder for the records.")
    return Path(store or strftime("results/local/advice-%Y%m%dT%H%M%SZ", gmtime())).resolve()


def _budget(minutes: float, memory: str | float | None, wh: float | None, spent: float) -> Budget:
    seconds = 60 * _amount("minutes", minutes, "10 or 0.5")
    if not 0 <= spent < math.inf:
        raise ValueError(f"spent_s={spent!r} is no time: give seconds, 0 or more.")
    wh = None if wh is None else _amount("wh", wh, "5 or 0.1")
    budget = Budget(seconds, memory_bytes(memory), wh)
    budget.began -= spent
    return budget


def memory_bytes(memory: str | float | None) -> float | None:
    """Bytes of "2GB", "2 GB", "2GiB", 500e6; None is no limit. ValueError for anything else."""
    if memory is None:
        return None
    number, unit = memory, ""
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]*)\s*", memory)
        number, unit = found.groups() if found else ("nan", "")
    try:
        size = _amount("memory", number, "") * _BYTES[unit.lower()]
    except (ValueError, KeyError):
        size = 0.0
    if size < 1e6:  # a forgotten unit
        units = "a number with B, kB, MB, GB, KiB, MiB or GiB behind it, such as 2GB"
        raise ValueError(f"memory={memory!r} is no size for a run: give {units}, or bytes.")
    return size


def _amount(name: str, value: Any, such: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{name}={value!r} is no budget: give a number above 0, such as {such}.")
    return number


def _recipes(menu: Iterable[Recipe] | None, base: Recipe) -> Sequence[Recipe] | None:
    if menu is None:
        return None
    menu = [menu] if isinstance(menu, Recipe) else list(menu)
    wrong = [f"holds {one!r}" for one in menu if not isinstance(one, Recipe)]
    if wrong or not menu:
        told = "give effml.Recipe(…), or a list of them, or None for MENUS"
        raise ValueError(f"The menu {(wrong or ['is empty'])[0]}: {told}.")
    here = {name: getattr(base, name) for name in ("data", "size", "threads")}
    return [recipe.but(**here) for recipe in menu]
