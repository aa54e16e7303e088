"""Which runs are asked for, which of them are done, and the loop which gets the rest done."""

import math
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
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
from effml.sweeping.expected import UNKNOWN, Forecast, cheapest_first, device_of, kind, pilots
from effml.sweeping.order import LEFT_OUT, Budget, Queue, share
from effml.sweeping.others import Claims
from effml.sweeping.progress import Progress
from effml.sweeping.status import Running

if TYPE_CHECKING:
    import pandas

FINAL = ("ok", "unsupported", "out of memory", "diverged")
"""Statuses that asking again on the same device would not change; TIMED_OUT would not with the same
limit or a smaller one."""

TIMED_OUT = "timed out"

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
    recipes: Iterable[Recipe] | Recipe,
    store: str | os.PathLike,
    *,
    device: str = "auto",
    keep_weights: bool = False,
    timeout_s: float | None = None,
) -> list[Recipe]:
    """The recipes, each once, that this store holds no final record of for the same data, device
    and NUMERICS (and the weights with their card, if they are to be kept; and the time-out, for
    runs that timed out)."""
    if Path(store).is_file():
        raise NotADirectoryError(f"The store {store} is a file: give a folder for the records.")
    rows, done = read_records(store)[0], {}
    for row in rows:
        whole = row["status"] != "ok" or not keep_weights
        final = row["status"] in FINAL or _timed_out(row, timeout_s)
        final = final and not row.get("ended_early")  # the recipe asked for more
        if final and (whole or left_weights(row, Path(store), with_card=True)):
            done.setdefault(row["recipe_id"], []).append(row)
    asked = _current(_listed(recipes), store, device, rows).values()
    return [r for r, now in asked if not any(_answers(row, now) for row in done.get(r.id, []))]


def _timed_out(row: Mapping[str, Any], timeout_s: float | None) -> bool:
    """Whether it timed out, and would again."""
    had = row.get("timeout_s") or 0.0
    return row["status"] == TIMED_OUT and timeout_s is not None and timeout_s <= had


def _current(
    recipes: Iterable[Recipe],
    store: str | os.PathLike,
    device: str,
    rows: list[dict[str, Any]] | None = None,
) -> dict[str, tuple[Recipe, dict[str, Any]]]:
    """By id each recipe and what a record of it would hold in SAME and FILES, were it made now."""
    rows, device = rows or read_records(store)[0], device_of(device)
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
    recipes: Iterable[Recipe] | Recipe,
    store: str | os.PathLike,
    *,
    executor: Any = None,
    device: str = "auto",
    in_flight: int = 8,
    keep_weights: bool = False,
    cheapest_first: bool = False,
    max_hours: float | None = None,
    max_kwh: float | None = None,
    timeout_s: float | None = None,
    shard: str = "1/1",
) -> "pandas.DataFrame":
    """Do the runs which `store` lacks, each in a fresh process; go on where an interrupted sweep
    stopped. Runs that want the same CPUs take turns (on Linux; see `turns_seconds` in the record);
    those that build on others come after these.

    Args:
        recipes: What to do; a single one stands for a list of one.
        store: Folder of the records; an executor's workers must see it.
        executor: Dask's client or anything with `submit(function, argument)` whose futures have
            `done()` and `result()`. Default: one run after another.
        device: auto, cpu or cuda.
        in_flight: Runs that are with the executor at a time, at most.
        keep_weights: Write the weights there too, for `load_run` and runs that build on them.
        cheapest_first: Instead of the order given; a budget implies it.
        max_hours: No run starts later, nor one that would not end by then (`forecast`). One that
            exceeds it by 5 % is ended: no record; next time it goes on from its last checkpoint.
        max_kwh: No run starts beyond it. What is left out is told, and is in `.attrs["left_out"]`.
        timeout_s: A run that takes longer is ended: a record, final up to this limit.
        shard: i/N: of the recipes the i-th of N shares, for N machines that share a folder.

    Returns:
        A row per recipe in the order given, also of those that failed: see status and reason. In
        the profile reference nothing is run: your runs, else the reference's.

    Raises:
        ValueError: A recipe is none, or of a model of your own; a limit or the shard is impossible.
        NotADirectoryError, PermissionError: `store` is a file; nothing can be written to it.

    Example:
        >>> recipes = effml.grid(effml.Recipe(model="mlp", epochs=1), seed=[0, 1])
        >>> effml.sweep(recipes, "mine").status.tolist()
        ['ok', 'ok']
    """
    recipes, budget = _listed(recipes), Budget(max_hours, max_kwh)
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"timeout_s={timeout_s!r} is no time: give seconds above 0, or None.")
    if (reference := reference_folder()) is not None:
        return _kept_rows(recipes, store, reference)
    recipes, folder = share(recipes, shard), Path(store).resolve()
    how = {"device": device, "keep_weights": keep_weights, "timeout_s": timeout_s}
    queue = _queue(pending(recipes, store, **how), folder, device, budget, cheapest_first, executor)
    if queue.waiting:
        _do(queue, folder, executor or Here(), how, in_flight)
    rows = _rows(recipes, folder, device, queue.left_out)
    if (kept := keep_folder()) is not None:
        copy_records(rows.run_id, folder, kept)
    return rows


def _queue(
    todo: list[Recipe], folder: Path, device: str, budget: Budget, cheapest: bool, executor: Any
) -> Queue:
    """The runs to do in their order, with what is known of them."""
    known = _forecast(folder, device, executor)
    return Queue(cheapest_first(todo, known) if cheapest or budget else todo, budget, known)


def _do(queue: Queue, folder: Path, executor: Any, how: dict[str, Any], in_flight: int) -> None:
    """Write the records of the runs that the queue gives."""
    todo, forecast = list(queue.waiting.values()), queue.forecast
    untold = sum(forecast.of(recipe) is None for recipe in todo) if queue.budget else 0
    if untold:
        told = f"{untold} of {len(todo)} runs have no forecast, and may start while any of the"
        print(f"{told} budget is left. effml.forecast, or --plan, makes one.", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):  # this must not cost a training first
        raise PermissionError(f"The store {folder} cannot be written to. Give another folder.")
    job = {"store": str(folder), "folder": os.getcwd(), "deadline": queue.budget.deadline, **how}
    job["environment"] = {n: value for n, value in os.environ.items() if n.startswith("EFFML_")}

    def lacking() -> set[str]:
        return {recipe.id for recipe in pending(todo, folder, **how)}

    with (
        RecordWriter(folder) as writer,
        Claims(folder, writer.begin(), lacking) as claims,
        Running(folder, todo, how["device"]) as running,
        Progress(todo, forecast) as progress,
    ):
        job["records"] = writer.begin().name  # by which a worker knows the store
        told = (running, progress)
        for record, seconds in _records(queue, executor, job, in_flight, told, claims):
            if record.status != LEFT_OUT:
                writer.append(record)
            claims.free(record.recipe_id)
            progress.end(record, seconds)
    queue.tell(len(todo))
    if claims.found:
        print(f"{claims.found} of {len(todo)} runs were done by another sweep", file=sys.stderr)


def _listed(recipes: Iterable[Recipe] | Recipe) -> list[Recipe]:
    """The recipes, all of which a store can know: two models of your own may share one."""
    recipes = [recipes] if isinstance(recipes, Recipe) else list(recipes)
    if wrong := [type(one).__name__ for one in recipes if not isinstance(one, Recipe)]:
        raise ValueError(f"recipes holds a {wrong[0]}: give effml.Recipe(…), or a list of them.")
    if own := [recipe.model for recipe in recipes if recipe.model.startswith("own:")]:
        raise ValueError(
            f"{own[0]} is your own model, which a fresh process does not have, and whose name "
            "another may have too: effml.run(recipe, model=…) takes it, and does it each time."
        )
    return recipes


def _kept_rows(
    recipes: list[Recipe], store: str | os.PathLike, reference: Path
) -> "pandas.DataFrame":
    """The reference's rows, those first that the notebook itself left: another's may come from
    another machine. Where the store has an `ok` run of the same recipe on the same data, that one
    stands in its place."""
    import pandas

    given = load_runs(reference)
    given = given[given.device == "cpu"]  # behind stored outputs; a GPU's are for load_runs alone
    left = load_runs(reference / os.environ.get("EFFML_REFERENCE_RUNS", "runs-none.jsonl"))
    given = pandas.concat([given[~given.recipe_id.isin(left.recipe_id)], left])
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
    queue: Queue,
    executor: Any,
    job: dict[str, Any],
    in_flight: int,
    told: tuple,
    claims: Claims,
) -> Iterator[tuple[Record, float]]:
    """Records in the order the runs end, and the seconds since each was handed over; a bounded
    number in flight. `told` hear of each start."""
    running: dict[Any, tuple[Recipe, float]] = {}
    try:
        while queue.waiting or running:
            recipe = queue.take(claims) if len(running) < max(in_flight, 1) else None
            if recipe:  # one at a time: `Here` has done the run when submit returns
                for one in told:
                    one.start(recipe)
                attempt = secrets.token_hex(4)  # Dask caches by value
                asked = {"recipe": recipe.to_dict(), **job, "attempt": attempt}
                started = time.monotonic()
                running[executor.submit(run_fresh, asked)] = recipe, started
            ended = [future for future in running if future.done()]
            for future in ended:
                done, started = running.pop(future)
                record = recorded(done, future, Path(job["store"]), job["device"])
                seconds = time.monotonic() - started
                queue.ended(record, seconds)
                yield record, seconds
            if not recipe and not ended:
                time.sleep(0.02)
    finally:  # Ctrl-C: jobs that nobody would hear of
        for future in running:
            with suppress(Exception):
                future.cancel()


def recorded(recipe: Recipe, future: Any, folder: Path, device: str) -> Record:
    """The record of a run whose job has ended, however it did."""
    try:
        answer = future.result()
    except Exception as error:  # a worker that was lost, a cluster that said no
        answer = {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:1000]}
    record = Record(
        recipe,
        run_id=f"{recipe.id}-{secrets.token_hex(4)}",
        numerics=NUMERICS,
        device=device_of(device),
        finished_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    record.update(answer)
    if record.data_sha256 is None and record.status in (*FINAL, TIMED_OUT):
        # it ended before it could say: without these it would never count as done
        now = _current([recipe], folder, device)[recipe.id][1]
        record.update({name: now[name] for name in ("data_sha256", *FILES)})
    return record


def _rows(
    recipes: list[Recipe], store: Path, device: str, left_out: Mapping[str, str]
) -> "pandas.DataFrame":
    """A row per recipe, but none for those left out that were never recorded: an `ok` for its data
    and weights as they are now and this device, of this model of CPU if there is one, the newest;
    else whatever was recorded last."""
    runs = load_runs(store)
    now = {name: asked for name, (_, asked) in _current(recipes, store, device).items()}
    runs = runs[(runs.numerics == NUMERICS) & runs.recipe_id.isin(now)]
    fits = [_answers(row, now[row["recipe_id"]]) for row in runs.to_dict("records")]
    order = runs.assign(fits=fits, here=runs.device_name == cpu()[0])
    order = order.assign(fine=order.fits & (order.status == "ok"))
    order = order.sort_values(["fits", "fine", "here", "finished_utc"])
    best = order.drop_duplicates("recipe_id", keep="last").set_index("recipe_id", drop=False)
    ids = [recipe.id for recipe in recipes]
    there = [name for name in ids if name in best.index or name not in left_out]
    table = best.loc[there, runs.columns].reset_index(drop=True)
    table.attrs.update(runs.attrs, left_out=dict(left_out))
    return table


def forecast(
    recipes: Iterable[Recipe] | Recipe,
    store: str | os.PathLike,
    *,
    executor: Any = None,
    device: str = "auto",
    pilot: bool = True,
    timeout_s: float | None = None,
) -> "pandas.DataFrame":
    """What a sweep of these recipes will take, before it: minutes, kWh and memory, each with a
    range, cheapest first.

    Args:
        recipes: What the sweep would do.
        store: Folder of its records. Runs like these tell: the same but for the epochs, the share
            of the images, the seed and the like, on the same CPU or GPU.
        executor: As for `sweep`.
        device: auto, cpu or cuda.
        pilot: Where no run tells, do one of one epoch (where that is short, also of three), which
            is a record like any other. False: a guess by parameters × pixels × images.
        timeout_s: As for `sweep`, also for a pilot; what has timed out gets none.

    Returns:
        A row per recipe that is not done, with its fields; columns minutes, kwh, memory_mb, each
        also with _low and _high, and source. Unknown is NaN. The start of the process that does
        the runs, some seconds for each sweep, is not in them.

    Example:
        >>> recipes = effml.grid(effml.Recipe(model="mlp"), epochs=[10, 20])
        >>> plan = effml.forecast(recipes, "mine")
        >>> plan.epochs.tolist(), set(plan.source)
        ([10, 20], {'pilot'})
    """
    import pandas

    how, failed, rows = {"device": device, "timeout_s": timeout_s}, {}, read_records(store)[0]
    late = {row["recipe_id"]: row.get("timeout_s") for row in rows if row["status"] == TIMED_OUT}
    todo = pending(recipes := _listed(recipes), store, **how)
    for _ in range(2 if pilot else 0):  # the second for those whose first was short
        untold = [recipe for recipe in todo if recipe.id not in late]
        asked = pilots(untold, _forecast(store, device, executor))
        if asked := {name: one for name, one in asked.items() if name not in failed}:
            rows = sweep(asked.values(), store, executor=executor, **how)
            told = zip(asked, rows.status)
            failed |= {name: f"pilot: {status}" for name, status in told if status != "ok"}
            todo = pending(recipes, store, **how)
    known, rows = _forecast(store, device, executor), []
    for recipe in cheapest_first(todo, known):
        why = failed.get(kind(recipe.to_dict()))
        if recipe.id in late:
            why = f"timed out after {late[recipe.id] or math.nan:.3g} s"
        lacking = replace(UNKNOWN, source=why) if why else known.guess(recipe)
        told = (known.of(recipe) or lacking).columns()
        rows.append({**recipe.to_dict(), "recipe_id": recipe.id, **told})
    columns = [*Recipe().to_dict(), "recipe_id", *UNKNOWN.columns()]
    runs = pandas.DataFrame(rows, columns=columns)
    runs.attrs["device"] = known.device
    return runs


def _forecast(store: str | os.PathLike, device: str, executor: Any) -> Forecast:
    """What the store's records tell: those of this machine, or of a cluster's workers."""
    return Forecast(read_records(store)[0], device, anyones=executor is not None)


def _sha256(recipe: Recipe) -> str | None:
    try:
        return fingerprint(recipe.data, size=recipe.size)
    except Exception:  # missing, damaged or too large: the run itself will say so
        return None
