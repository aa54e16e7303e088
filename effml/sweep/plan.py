"""Which runs are asked for, which of them are done, and the loop which gets the rest done."""

import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effml.data import fingerprint
from effml.recipe import NUMERICS, Recipe, Record
from effml.results import Writer, load_runs, read_records
from effml.sweep.executors import Executor, Here, run_fresh

if TYPE_CHECKING:
    import pandas

FINAL = ("ok", "unsupported", "out of memory", "diverged")
"""Statuses that asking again on the same device would not change."""


def grid(base: Recipe, **axes: Sequence[Any]) -> list[Recipe]:
    """Every combination of the axes, the last one fastest: `grid(Recipe(), model=["lenet5", "mlp"], seed=[0, 1, 2])`."""
    for name, values in axes.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise ValueError(
                f"grid: {name}={values!r} must be a list of values: give {name}=[{values!r}]."
            )
    return [base.but(**dict(zip(axes, values))) for values in product(*axes.values())]


def pending(
    recipes: Iterable[Recipe],
    store: str | os.PathLike,
    *,
    device: str = "auto",
    keep_weights: bool = False,
) -> list[Recipe]:
    """The recipes, each once, that this store holds no final record of for the same data, device and NUMERICS (and the
    weights, if they are to be kept)."""
    done = {
        (row["recipe_id"], row.get("data_sha256"), row.get("device"), row.get("numerics"))
        for row in read_records(store)[0]
        if row["status"] in FINAL
        and (
            not keep_weights
            or row["status"] != "ok"
            or (Path(store) / f"{row['run_id']}.safetensors").is_file()
        )
    }
    device = _device(device)
    return [
        recipe
        for recipe in {recipe.id: recipe for recipe in recipes}.values()
        if (recipe.id, _sha256(recipe), device, NUMERICS) not in done
    ]


def sweep(
    recipes: Iterable[Recipe],
    store: str | os.PathLike,
    *,
    executor: Executor | None = None,
    device: str = "auto",
    in_flight: int = 8,
    keep_weights: bool = False,
) -> "pandas.DataFrame":
    """Do the runs which `store` does not hold yet, each in a fresh process; return a row per recipe in the order given.

    Without an `executor` they run one after another, since time and energy are measured. An executor is anything with
    `submit(function, argument)` whose futures have `done()` and `result()` (the standard library's, Dask's client,
    submitit's); at most `in_flight` runs are with it at a time, and its workers must see the folder `store`. Each record
    is on disk before the next is waited for: a sweep that was interrupted goes on where it stopped.
    """
    recipes = list(recipes)
    todo = pending(recipes, store, device=device, keep_weights=keep_weights)
    folder = Path(store).resolve()
    if todo:  # a store that cannot be written to must not cost a training first
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"The store {folder} cannot be written to. Give another folder.")
    started = time.monotonic()
    with Writer(folder) as writer:
        for done, record in enumerate(
            _records(todo, executor or Here(), folder, device, in_flight, keep_weights), 1
        ):
            writer.append(record)
            left = (time.monotonic() - started) / done * (len(todo) - done)
            print(
                f"[{done}/{len(todo)}] {_words(record)} · {left / 60:.1f} min left",
                file=sys.stderr,
                flush=True,
            )
    return _rows(recipes, folder, device)


def _records(
    todo: list[Recipe],
    executor: Executor,
    folder: Path,
    device: str,
    in_flight: int,
    keep_weights: bool,
) -> Iterator[Record]:
    """Records in the order the runs end, with a bounded number in flight."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("EFFML_")}
    waiting, running = list(reversed(todo)), {}
    while waiting or running:
        full = len(running) >= max(in_flight, 1) or not waiting
        if not full:  # one at a time: `Here` has done the run when submit returns, and its record must not wait for others
            recipe = waiting.pop()
            job = {
                "recipe": recipe.to_dict(),
                "device": device,
                "store": str(folder),
                "keep_weights": keep_weights,
                "environment": environment,
                "folder": os.getcwd(),
                "attempt": secrets.token_hex(4),
            }  # Dask caches by value
            running[executor.submit(run_fresh, job)] = recipe
        ended = [future for future in running if future.done()]
        for future in ended:
            yield _record(running.pop(future), future, device)
        if full and not ended:
            time.sleep(0.02)


def _record(recipe: Recipe, future: Any, device: str) -> Record:
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
    if (
        record.data_sha256 is None and record.status in FINAL
    ):  # it ended before it could say: without these two it would
        record.update(data_sha256=_sha256(recipe))  # never count as done
    return record


def _rows(recipes: list[Recipe], store: Path, device: str) -> "pandas.DataFrame":
    """A row per recipe: the newest `ok` for its data here and this device, else whatever was recorded last."""
    runs = load_runs(store)
    runs = runs[runs.numerics == NUMERICS]
    here = runs.recipe_id.map({recipe.id: _sha256(recipe) for recipe in recipes})
    fits = (runs.data_sha256 == here) & (runs.device == _device(device))
    order = runs.assign(fits=fits, fine=fits & (runs.status == "ok")).sort_values(
        ["fits", "fine", "finished_utc"]
    )
    best = (
        order.drop(columns=["fits", "fine"])
        .drop_duplicates("recipe_id", keep="last")
        .set_index("recipe_id", drop=False)
    )
    table = best.loc[[recipe.id for recipe in recipes]].reset_index(drop=True)
    table.attrs.update(runs.attrs)
    return table


def _words(record: Record) -> str:
    what = f"{record['model']} on {record['data']}, {record['precision']}, seed {record['seed']}: {record.status}"
    if record.status != "ok":
        return f"{what} ({record.reason})"
    return f"{what}, AUROC {float('nan') if record.test_auroc is None else record.test_auroc:.3f}, {record.train_seconds:.0f} s"


def _sha256(recipe: Recipe) -> str | None:
    try:
        return fingerprint(recipe.data, size=recipe.size)
    except Exception:  # missing, damaged or too large: the run itself will say so
        return None


def _device(device: str) -> str:
    """What `auto` will be, told by torch without starting CUDA."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
