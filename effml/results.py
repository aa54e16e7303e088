"""The table of records: a folder of append-only files, one JSON line per run. Torch-free.

A writer opens a new file with a name of its own and only appends, so nothing is ever overwritten, a power cut costs
the run in progress, and merging the work of five computers is copying their files into one folder.
"""

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from effml.machine import ROOT
from effml.recipe import COLUMNS, Recipe, Record

if TYPE_CHECKING:
    import pandas

CLAIMS_TYPE = "application/vnd.effml.claims+json"
"""Output type of `effml.report`, by which `make reproduce` finds the verdicts in an executed notebook."""

UNITS = {
    "test_auroc": "test AUROC",
    "test_accuracy": "test accuracy",
    "test_balanced_accuracy": "test balanced accuracy",
    "test_sensitivity": "test sensitivity",
    "test_specificity": "test specificity",
    "train_seconds": "training time, s",
    "train_energy_j": "training energy, J",
    "infer_energy_j": "inference energy, J",
    "prepare_energy_j": "preparation energy, J",
    "train_peak_memory_bytes": "peak memory, bytes",
    "train_peak_memory_mb": "peak memory, MB",
}


def claims_in(book: dict[str, Any]) -> list[dict[str, Any]]:
    """The verdicts that an executed notebook reported, in its order."""
    return [
        claim
        for cell in book.get("cells", [])
        for output in cell.get("outputs", [])
        for claim in output.get("data", {}).get(CLAIMS_TYPE, [])
    ]


KEY = ["recipe_id", "data_sha256", "device", "numerics"]
"""Two records with the same key are the same run, done twice."""


class Writer:
    """Appends records to a new file in `folder`; the file is made with the first record.

    Each line is flushed and synced before `append` returns.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder, self._file = Path(folder), None

    def append(self, record: Record) -> None:
        line = json.dumps(plain_row(record), allow_nan=False) + "\n"
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"runs-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}.jsonl"
            self._file = open(self.folder / name, "x", encoding="utf-8")
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


def plain_row(record: Record) -> dict[str, Any]:
    """A record as JSON can hold it: plain Python values, and None for what is not finite."""
    values = {
        name: value.item() if hasattr(value, "item") else value for name, value in record.items()
    }
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def read_records(folder: str | os.PathLike) -> tuple[list[dict[str, Any]], int]:
    """Every readable line of a store, in the order of its file names, and the number of unreadable lines."""
    rows, unreadable = [], 0
    for path in sorted(Path(folder).glob("runs-*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                row = json.loads(line)  # not pandas.read_json, which turns ids into floats
                row["recipe_id"], row["status"]
                rows.append(row)
            except (ValueError, TypeError, KeyError):
                unreadable += 1
    return rows, unreadable


def load_runs(folder: str | os.PathLike) -> "pandas.DataFrame":
    """The runs of a store, one row each: of several records with the same KEY the newest `ok`, else the newest.

    `.attrs["unreadable"]` counts the lines that could not be read (a power cut leaves one at most). A folder that does
    not exist is an empty store.
    """
    import pandas

    rows, unreadable = read_records(folder)
    newest: dict[tuple, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["status"] == "ok", row.get("finished_utc") or "")):
        newest[tuple(row.get(name) for name in KEY)] = row
    columns = list(
        dict.fromkeys(
            [*COLUMNS, *Recipe.__dataclass_fields__, *(name for row in rows for name in row)]
        )
    )
    table = pandas.DataFrame(list(newest.values()), columns=columns)
    table = table.sort_values("finished_utc", kind="stable", ignore_index=True)
    table.attrs["unreadable"] = unreadable
    return table


def own_or_reference(
    store: str | os.PathLike, want: Callable[["pandas.DataFrame"], "pandas.DataFrame"]
) -> "pandas.DataFrame":
    """The `ok` runs that `want` picks from `store`, or where it has none, from the committed results/reference.

    `.attrs["whose"]` is `yours` or `reference`, for the figure to say. FileNotFoundError if neither has any.
    """
    for whose, folder in (("yours", Path(store)), ("reference", ROOT / "results" / "reference")):
        runs = load_runs(folder)
        chosen = want(runs[runs.status == "ok"])
        if len(chosen):
            chosen.attrs["whose"] = whose
            return chosen
    raise FileNotFoundError(
        f"Neither {store} nor results/reference holds these runs. Run the notebook they come from first."
    )


def save_arrays(folder: str | os.PathLike, run_id: str, arrays: dict[str, Any]) -> None:
    """Probabilities and epoch curves of a run, compressed, beside the records. Whole or not at all."""
    import numpy

    buffer = BytesIO()
    numpy.savez_compressed(buffer, **arrays)
    save_file(Path(folder) / f"{run_id}.npz", buffer.getvalue())


def save_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    partial.write_bytes(content)
    partial.replace(path)


def load_arrays(folder: str | os.PathLike, run_id: str) -> dict[str, Any]:
    """What `save_arrays` wrote for a run. FileNotFoundError names the file."""
    import numpy

    with numpy.load(Path(folder) / f"{run_id}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def data_label(runs: "pandas.DataFrame") -> "pandas.Series":
    """The name of each run's data, saying *phantom* where it is one."""
    return runs.data.where(runs.data_phantom != 1, runs.data + " (phantom)")


def heading(column: str, runs: "pandas.DataFrame") -> str:
    """A column's name for people, with its unit; joules say whether counters measured them in these runs."""
    name = UNITS.get(column, column)
    if not column.endswith("_energy_j"):
        return name
    counted = [flag == 1 for flag in runs.get("energy_measured", [None])]
    return name if all(counted) else f"{name} ({'partly ' * any(counted)}estimated)"


def over_seeds(
    runs: "pandas.DataFrame",
    columns: Sequence[str],
    *,
    by: Sequence[str] = ("data", "model", "precision"),
    digits: int = 3,
) -> "pandas.DataFrame":
    """Mean over seeds of each column with its 95 % interval (Student's t) in brackets; failed runs are counted, not hidden."""
    import pandas

    def row(group: "pandas.DataFrame") -> "pandas.Series":
        ok = group[group.status == "ok"]
        cells = {
            heading(column, runs): _cell(_bounded(column, interval(ok[column])), digits)
            for column in columns
        }
        return pandas.Series(
            {
                "seeds": len(ok),
                **({"failed": len(group) - len(ok)} if len(ok) < len(group) else {}),
                **cells,
            }
        )

    runs = runs.assign(data=data_label(runs))
    rows = {name: row(group) for name, group in runs.groupby(list(by), sort=False)}
    return pandas.DataFrame(rows).T.rename_axis(list(by))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval (Student's t); low and high are NaN for fewer than two values."""
    import numpy as np

    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan, np.nan
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def _bounded(column: str, values: tuple[float, float, float]) -> tuple[float, ...]:
    """Scores lie between 0 and 1, which Student's t does not know; costs are not negative."""
    top = 1.0 if column.startswith(("test_", "val_")) else math.inf
    return tuple(value if value != value else min(max(value, 0.0), top) for value in values)


def _cell(values: tuple[float, ...], digits: int) -> str:
    mean, low, high = (f"{value:.{digits}f}" for value in values)
    return mean if low == "nan" else f"{mean} [{low}, {high}]"


def render_results(store: str | os.PathLike) -> str:
    """The runs of a store as the Markdown table of the README: means over seeds with 95 % intervals."""
    runs = load_runs(store)
    runs = runs[runs.status == "ok"].sort_values(["data", "model", "precision", "seed"])
    columns = [
        "data",
        "images",
        "model",
        "precision",
        "epochs",
        "batch",
        "seeds",
        "test AUROC",
        "test accuracy",
        "majority rate",
        "training, s",
        "training, J (range)",
    ]
    lines = [columns, ["---"] * len(columns)]
    by = ["data", "model", "precision", "epochs", "batch_size"]
    for (data, model, precision, epochs, batch_size), group in runs.assign(
        data=data_label(runs)
    ).groupby(by):
        energy = [group[f"train_energy_{end}"].mean() for end in ("j", "low_j", "high_j")]
        lines.append(
            [
                data,
                f"{group.train_n.iloc[0]:.0f}",
                model,
                precision,
                str(epochs),
                str(batch_size),
                str(len(group)),
                *(
                    _cell(_bounded(name, interval(group[name])), 3)
                    for name in ("test_auroc", "test_accuracy")
                ),
                f"{group.test_majority_rate.iloc[0]:.3f}",
                f"{group.train_seconds.mean():.0f}",
                "{:.0f} ({:.0f}–{:.0f})".format(*energy),
            ]
        )
    machine = ", ".join(
        f"{name} ({flags})"
        for name, flags in runs[["device_name", "cpu_flags"]].drop_duplicates().values
    )
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        f"{table}\n\n{len(runs)} runs, {runs.threads_used.max():.0f} threads of {machine}; "
        f"energy: {'; '.join(runs.energy_source.unique())}.\n"
    )
