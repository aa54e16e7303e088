"""Which runs are asked for, which of them are done, and the loop which gets the rest done."""

import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from effml.data import fingerprint
from effml.machine import cpu, keep_folder, reference_folder
from effml.recipe import NUMERICS, Recipe, Record
from effml.results import (
    RecordWriter,
    copy_records,
    left_weights,
    load_runs,
    read_records,
    weights_sha256,
)
from effml.sweeping.executors import Here, run_fresh

if TYPE_CHECKING:
    import pandas

FINAL = ("ok", "unsupported", "out of memory", "diverged")
"""Statuses that asking again on the same device would not change."""

SAME = ("recipe_id", "data_sha256", "device", "numerics")
FILES = ("weights_sha256", "teacher_sha256")
"""A record that agrees in SAME with a recipe asked for now answers it, whatever machine made it,
unless one of FILES, which the recipe begins with or learns from, has changed since."""


def grid(base: Recipe, **axes: Sequence[Any]) -> list[Recipe]:
    """Every combination of some values, the last axis fastest.

    Args:
        base: The recipe that is varied.
        axes: Lists of values by field: `model=["lenet5", "mlp"], seed=[0, 1, 2]`.

    Returns:
        The recipes; `base` alone where there are no axes.

    Raises:
        ValueError: A field is unknown or its values are no list; a value is not allowed.

    Example:
        >>> recipes = effml.grid(effml.Recipe(), model=["lenet5", "mlp"], seed=[0, 1])
        >>> [(recipe.model, recipe.seed) for recipe in recipes]
        [('lenet5', 0), ('lenet5', 1), ('mlp', 0), ('mlp', 1)]
    """
    for name, values in axes.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise ValueError(f"{name}={values!r} is no list of values: give {name}=[{values!r}].")
    return [base.but(**dict(zip(axes, values))) for values in product(*axes.values())]


def pending(
    recipes: Iterable[Recipe],
    store: str | os.PathLike,
    *,
    device: str = "auto",
    keep_weights: bool = False,
) -> list[Recipe]:
    """The recipes, each once, that this store holds no final record of for the same data, device
    and NUMERICS (and the weights with their card, if they are to be kept)."""
    rows, done = read_records(store)[0], {}
    for row in rows:
        whole = row["status"] != "ok" or not keep_weights
        if row["status"] in FINAL and (whole or left_weights(row, Path(store), with_card=True)):
            done.setdefault(row["recipe_id"], []).append(row)
    asked = _current(recipes, store, device, rows).values()
    return [r for r, now in asked if not any(_answers(row, now) for row in done.get(r.id, []))]


def _current(
    recipes: Iterable[Recipe],
    store: str | os.PathLike,
    device: str,
    rows: list[dict[str, Any]] | None = None,
) -> dict[str, tuple[Recipe, dict[str, Any]]]:
    """By id each recipe and what a record of it would hold in SAME and FILES, were it made now."""
    rows, device = rows or read_records(store)[0], _device(device)
    sha256 = cache(lambda asked, model="": weights_sha256(asked, Path(store), rows, model))
    now = {}
    for recipe in recipes:
        key = dict(zip(SAME, (recipe.id, _sha256(recipe), device, NUMERICS)))
        files = dict(zip(FILES, (sha256(recipe.weights, recipe.model), sha256(recipe.teacher))))
        now[recipe.id] = recipe, key | files
    return now


def _answers(row: Mapping[str, Any], now: dict[str, Any]) -> bool:
    """Whether a record answers what is asked; a file that is gone contradicts nobody."""
    files = all(now[name] in (None, row.get(name)) for name in FILES)
    return files and all(now[name] == row.get(name) for name in SAME)


def sweep(
    recipes: Iterable[Recipe],
    store: str | os.PathLike,
    *,
    executor: Any = None,
    device: str = "auto",
    in_flight: int = 8,
    keep_weights: bool = False,
) -> "pandas.DataFrame":
    """Do the runs which `store` lacks, each in a fresh process; go on where an interrupted sweep
    stopped. Runs that want the same CPUs take turns (on Linux; see `turns_seconds` in the record).

    Args:
        recipes: What to do.
        store: Folder of the records; an executor's workers must see it.
        executor: Dask's client or anything with `submit(function, argument)` whose futures have
            `done()` and `result()`. Default: one run after another.
        device: auto, cpu or cuda.
        in_flight: Runs that are with the executor at a time, at most.
        keep_weights: Write the weights there too, for `load_run` and runs that build on them.

    Returns:
        A row per recipe in the order given, also of those that failed: see status and reason. In
        the profile reference nothing is run: your runs, else the reference's.

    Raises:
        ValueError: A recipe is of a model of your own.
        PermissionError: Nothing can be written to `store`.

    Example:
        >>> recipes = effml.grid(effml.Recipe(model="mlp", epochs=1), seed=[0, 1])
        >>> effml.sweep(recipes, "mine").status.tolist()
        ['ok', 'ok']
    """
    recipes = list(recipes)
    _refuse_own(recipes)
    if (reference := reference_folder()) is not None:
        return _kept_rows(recipes, store, reference)
    todo = pending(recipes, store, device=device, keep_weights=keep_weights)
    folder = Path(store).resolve()
    if todo:  # a store that cannot be written to must not cost a training first
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"The store {folder} cannot be written to. Give another folder.")
    job = {"device": device, "store": str(folder), "keep_weights": keep_weights}
    job["environment"] = {n: value for n, value in os.environ.items() if n.startswith("EFFML_")}
    job["folder"] = os.getcwd()
    started = time.monotonic()
    with RecordWriter(folder) as writer:
        records = _records(todo, executor or Here(), job, in_flight)
        for done, record in enumerate(records, 1):
            writer.append(record)
            left = f"{(time.monotonic() - started) / done * (len(todo) - done) / 60:.1f} min left"
            print(f"[{done}/{len(todo)}] {_words(record)} · {left}", file=sys.stderr, flush=True)
    rows = _rows(recipes, folder, device)
    if (kept := keep_folder()) is not None:
        copy_records(rows.run_id, folder, kept)
    return rows


def _refuse_own(recipes: list[Recipe]) -> None:
    if own := [recipe.model for recipe in recipes if recipe.model.startswith("own:")]:
        raise ValueError(
            f"{own[0]} is your own model, which a fresh process does not have: "
            "effml.run(recipe, model=…) takes it."
        )


def _kept_rows(
    recipes: list[Recipe], store: str | os.PathLike, reference: Path
) -> "pandas.DataFrame":
    """The reference's rows; where the store has an `ok` run of the same recipe on the same data,
    that one stands in its place."""
    import pandas

    given = load_runs(reference)
    columns, given = list(given), given.drop_duplicates("recipe_id", keep="last")
    ids, given = [recipe.id for recipe in recipes], given.set_index("recipe_id", drop=False)
    if lacking := [recipe for recipe in recipes if recipe.id not in given.index]:
        raise ValueError(
            f"{reference} lacks {len(lacking)} of these {len(recipes)} runs, the first: "
            f"{lacking[0].changed}. Run the notebook in the profile laptop, which does them."
        )
    own = load_runs(store)
    own = own[(own.status == "ok") & (own.numerics == NUMERICS) & own.recipe_id.isin(ids)]
    own = own[own.data_sha256 == own.recipe_id.map(given.data_sha256)]
    own = own.drop_duplicates("recipe_id", keep="last").set_index("recipe_id", drop=False)
    print(_whose(len(own), len({*ids}), given.loc[ids]), file=sys.stderr)
    rest = given[~given.index.isin(own.index)]
    rows = pandas.concat([rest, own]) if len(own) else rest
    return rows.loc[ids].reset_index(drop=True).reindex(columns=columns)


def _whose(own: int, runs: int, given: "pandas.DataFrame") -> str:
    machines = ", ".join(given.device_name.dropna().unique())
    told = f"{runs - own} of {runs} runs are read from the reference, made on: {machines}"
    return told + (f"; {own} are your own: compare no seconds between machines" if own else "")


def _records(
    todo: list[Recipe], executor: Any, job: dict[str, Any], in_flight: int
) -> Iterator[Record]:
    """Records in the order the runs end, with a bounded number in flight."""
    waiting, running = list(reversed(todo)), {}
    while waiting or running:
        full = len(running) >= max(in_flight, 1) or not waiting
        if not full:  # one at a time: `Here` has done the run when submit returns
            recipe = waiting.pop()
            attempt = secrets.token_hex(4)  # Dask caches by value
            asked = {"recipe": recipe.to_dict(), **job, "attempt": attempt}
            running[executor.submit(run_fresh, asked)] = recipe
        ended = [future for future in running if future.done()]
        for future in ended:
            yield _record(running.pop(future), future, Path(job["store"]), job["device"])
        if full and not ended:
            time.sleep(0.02)


def _record(recipe: Recipe, future: Any, folder: Path, device: str) -> Record:
    try:
        answer = future.result()
    except Exception as error:  # a worker that was lost, a cluster that said no
        answer = {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:1000]}
    record = Record(
        recipe,
        run_id=f"{recipe.id}-{secrets.token_hex(4)}",
        numerics=NUMERICS,
        device=_device(device),
        finished_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    record.update(answer)
    if record.data_sha256 is None and record.status in FINAL:
        # it ended before it could say: without these it would never count as done
        now = _current([recipe], folder, device)[recipe.id][1]
        record.update({name: now[name] for name in ("data_sha256", *FILES)})
    return record


def _rows(recipes: list[Recipe], store: Path, device: str) -> "pandas.DataFrame":
    """A row per recipe: an `ok` for its data and weights as they are now and this device, of this
    model of CPU if there is one, the newest; else whatever was recorded last."""
    runs = load_runs(store)
    now = {name: asked for name, (_, asked) in _current(recipes, store, device).items()}
    runs = runs[(runs.numerics == NUMERICS) & runs.recipe_id.isin(now)]
    fits = [_answers(row, now[row["recipe_id"]]) for row in runs.to_dict("records")]
    order = runs.assign(fits=fits, here=runs.device_name == cpu()[0])
    order = order.assign(fine=order.fits & (order.status == "ok"))
    order = order.sort_values(["fits", "fine", "here", "finished_utc"])
    best = order.drop_duplicates("recipe_id", keep="last").set_index("recipe_id", drop=False)
    table = best.loc[[recipe.id for recipe in recipes], runs.columns].reset_index(drop=True)
    table.attrs.update(runs.attrs)
    return table


def _words(record: Record) -> str:
    what = f"{record.model} on {record.data}, {record.precision}, seed {record.seed}"
    what = f"{what}: {record.status}"
    if record.status != "ok":
        return f"{what} ({shorten(str(record.reason), max(98 - len(what), 20), placeholder=' …')})"
    name = "AUROC" if record.test_dice is None else "Dice"
    score, seconds = record.get(f"test_{name.lower()}"), record.train_seconds
    seconds = "training time unknown" if seconds is None else f"{seconds:.0f} s"
    return f"{what}, {name} {'unknown' if score is None else f'{score:.3f}'}, {seconds}"


def _sha256(recipe: Recipe) -> str | None:
    try:
        return fingerprint(recipe.data, size=recipe.size)
    except Exception:  # missing, damaged or too large: the run itself will say so
        return None


def _device(device: str) -> str:
    """What `auto` will be. Torch's answer starts CUDA's driver: never ask in the server."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
