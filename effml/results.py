"""The table of records: a folder of files, one JSON line per run. A writer only appends, to a file
of its own: nothing is overwritten, a power cut costs the run in progress, and copying files merges
stores."""

import hashlib
import json
import math
import os
import secrets
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from effml.machine import ROOT, choose, imagenet_file, sync_folder, whole_file
from effml.recipe import COLUMNS, FORMER_NAMES, Recipe, Record
from effml.seeds import spread

if TYPE_CHECKING:
    import pandas

CLAIMS_TYPE = "application/vnd.effml.claims+json"
"""Output type of `effml.report`, by which `make reproduce` finds a notebook's verdicts."""

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


MACHINE = ["device", "device_name", "cpu_flags", "threads_used"]
"""What seconds and joules depend on besides the run: costs are compared within one machine."""

KEY = ["recipe_id", "data_sha256", "weights_sha256", "teacher_sha256", "numerics", *MACHINE]
"""Two records with the same key are the same run, done twice."""


_KINDS = (
    dict.fromkeys(["status", "run_id", "finished_utc", *KEY], str)
    | dict.fromkeys(("numerics", "threads_used", "train_seconds", "train_energy_j"), (int, float))
    | {field.name: str if field.type is str else (int, float) for field in fields(Recipe)}
)
"""What the columns hold by which records are found, sorted, joined and added, beside null."""


class RecordWriter:
    """Appends records to a new file in `folder`; each is on disk at once."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder, self._file = Path(folder), None

    def begin(self) -> Path:
        """The file, which is made with the first record if not before."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            name = f"runs-{when}-{secrets.token_hex(4)}.jsonl"
            self._file = open(self.folder / name, "x", encoding="utf-8")
            sync_folder(self.folder)
        return Path(self._file.name)

    def append(self, record: Record) -> None:
        line = json.dumps(plain_row(record), allow_nan=False) + "\n"
        self.begin()
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            empty = not self._file.tell()
            self._file.close()
            if empty:
                os.unlink(self._file.name)


def plain_row(record: Record) -> dict[str, Any]:
    """A record as JSON can hold it: plain Python values, and None for what is not finite."""
    values = ((name, x.item() if hasattr(x, "item") else x) for name, x in record.items())
    return {n: None if isinstance(x, float) and not math.isfinite(x) else x for n, x in values}


def copy_records(run_ids: Sequence[str], store: str | os.PathLike, folder: Path) -> None:
    """Put these records of a store into the file that notebooks leave for the reference profile,
    each once."""
    file, known = folder / ASKED, {row["run_id"] for row in read_records(folder)[0]}
    rows = [row for row in read_records(store)[0] if row.get("run_id") in {*run_ids} - known]
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8") as stream:
        stream.write(lines)


ASKED = "runs-asked.jsonl"


def read_records(folder: str | os.PathLike) -> tuple[list[dict[str, Any]], int]:
    """Every record of a store, in the order of its file names, and the number of lines that are
    none. `folder` may be one of its files."""
    rows, unreadable = [], 0
    folder = Path(folder)
    for path in [folder] if folder.suffix == ".jsonl" else sorted(folder.glob("runs-*.jsonl")):
        for line in path.read_bytes().splitlines() if path.is_file() else [b""]:
            try:
                row = json.loads(line)  # not pandas.read_json, which turns ids into floats
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                row = {_NOW.get(name, name): value for name, value in row.items()}
            if _is_record(row):
                rows.append(row)
            else:
                unreadable += 1
    return rows, unreadable


def _is_record(row: Any) -> bool:
    """Whether a line holds what the package counts on."""
    if not isinstance(row, dict) or not row.get("recipe_id") or not row.get("status"):
        return False
    return all(
        row.get(name) is None or isinstance(row[name], kind) and not isinstance(row[name], bool)
        for name, kind in _KINDS.items()
    )


_NOW = {was: now for now, was in FORMER_NAMES.items()}


def load_runs(folder: str | os.PathLike) -> "pandas.DataFrame":
    """The runs of a store, one row each: of several records with the same KEY the newest `ok`, else
    the newest. A recipe that two machines ran has two rows.

    Args:
        folder: The store, or one of its files. One that does not exist is empty.

    Returns:
        Recipe fields and COLUMNS, oldest first; unknown is NaN. `.attrs["unreadable"]` counts lines
        that are no records (a power cut leaves one at most).

    Example:
        >>> runs = effml.load_runs("no-such-folder")
        >>> len(runs), "test_auroc" in runs
        (0, True)
    """
    import pandas

    rows, unreadable = read_records(folder)
    newest: dict[tuple, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["status"] == "ok", row.get("finished_utc") or "")):
        newest[tuple(row.get(name) for name in KEY)] = row
    names = dict.fromkeys([*COLUMNS, *Recipe.__dataclass_fields__])
    names |= dict.fromkeys(name for row in rows for name in row)
    table = pandas.DataFrame(list(newest.values()), columns=list(names))
    table = table.sort_values("finished_utc", kind="stable", ignore_index=True)
    table.attrs["unreadable"] = unreadable
    return table


def own_or_reference(
    store: str | os.PathLike,
    want: Callable[["pandas.DataFrame"], "pandas.DataFrame"] | None = None,
    **fields: Any,
) -> "pandas.DataFrame":
    """The `ok` runs of your own that are asked for, or else those in results/reference.

    Args:
        store: Your folder of runs.
        want: Takes a table of `load_runs` and returns the rows of interest. Default: all.
        fields: Columns, each with its value or a list of those it may have. A notebook that names
            its runs by fields alone is not run again by `make reproduce` when others are added.

    Returns:
        These rows; `.attrs["whose"]` is "yours" or "reference".

    Raises:
        FileNotFoundError: Neither has any.
        ValueError: A field is no column.

    Example:
        >>> runs = effml.own_or_reference("no-such-folder", model=["resnet18"], seed=0)
        >>> runs.attrs["whose"], runs.seed.unique().tolist()
        ('reference', [0])
    """
    for whose, folder in (("yours", Path(store)), ("reference", ROOT / "results" / "reference")):
        runs = load_runs(folder)
        chosen = runs[runs.status == "ok"]
        for name, value in fields.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            chosen = chosen[chosen[choose("column", name, runs)].isin(values)]
        chosen = want(chosen) if want else chosen
        if len(chosen):
            chosen.attrs["whose"] = whose
            return chosen
    raise FileNotFoundError(
        f"Neither {store} nor results/reference holds these runs. Run the notebook they come from."
    )


NO_RUN = (None, "none", "random", "imagenet")
"""What `weights` and `teacher` say where they are no file and no run."""

Rows = list[dict[str, Any]]

CARD = ".card.json"
"""Behind a run id: what `effml.load_run` needs to know beside the weights that the run left."""


def weights_sha256(
    asked: str, store: Path | None, rows: Rows | None = None, model: str = ""
) -> str | None:
    """SHA-256 of the file that a recipe's `weights` or `teacher` stands for now; None for what is
    no file. `rows`: the records of the store, if they are read already; `model`: whose ImageNet
    weights are asked for."""
    if asked == "imagenet" and model and (file := imagenet_file(model)):
        return file_sha256(file)
    if asked in NO_RUN:
        return None
    kept = find_run(asked, store, rows)[0]
    return file_sha256(store / f"{kept['run_id']}.safetensors" if kept else Path(asked))


def file_sha256(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def left_weights(row: dict[str, Any], store: Path, *, with_card: bool = False) -> bool:
    """Whether the weights that a run left are still there, and still those."""
    if with_card and not (store / f"{row.get('run_id')}{CARD}").is_file():
        return False
    path, left = store / f"{row.get('run_id')}.safetensors", row.get("kept_sha256")
    return path.is_file() if left is None else file_sha256(path) == left


def find_run(
    asked: str, store: Path | None, rows: Rows | None = None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Of the runs of a recipe id the newest that left its weights, and the newest; or None."""
    rows = rows if rows is not None else read_records(store)[0] if store else []
    runs = [r for r in rows if r["recipe_id"] == asked and r["status"] == "ok" and r.get("run_id")]
    runs = [None, *sorted(runs, key=lambda row: row.get("finished_utc") or "")]
    return [row for row in runs if not row or left_weights(row, store)][-1], runs[-1]


def save_arrays(folder: str | os.PathLike, run_id: str, arrays: dict[str, Any]) -> None:
    """Probabilities and epoch curves of a run, compressed, beside the records."""
    import numpy

    buffer = BytesIO()
    numpy.savez_compressed(buffer, **arrays)
    save_file(Path(folder) / f"{run_id}.npz", buffer.getvalue())


def save_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as partial:
        partial.write_bytes(content)


def load_arrays(folder: str | os.PathLike, run_id: str) -> dict[str, Any]:
    """Probabilities, labels and epoch curves that a run left beside its record.

    Args:
        folder: The store.
        run_id: That of the record.

    Returns:
        Arrays by name: test_probabilities (N, K), test_labels (N,), of val too, train_loss (E,) …

    Raises:
        FileNotFoundError: The run left none there.
        ValueError: The file is damaged.

    Example:
        >>> record = effml.run(effml.Recipe(model="mlp", epochs=1), store="mine")
        >>> effml.load_arrays("mine", record.run_id)["test_probabilities"].shape
        (400, 2)
    """
    import numpy

    path = Path(folder) / f"{run_id}.npz"
    try:
        with numpy.load(BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and do the run again.") from None


def data_label(runs: "pandas.DataFrame") -> "pandas.Series":
    """The name of each run's data, saying *phantom* where the images are simulated.

    Args:
        runs: A table of `load_runs`.

    Returns:
        A label per row, for tables and figures.

    Example:
        >>> runs = effml.own_or_reference("no-such-folder", lambda runs: runs)
        >>> bool(effml.data_label(runs).str.endswith("(phantom)").eq(runs.data_phantom == 1).all())
        True
    """
    return runs.data.where(runs.data_phantom != 1, runs.data + " (phantom)")


def precision_label(runs: "pandas.DataFrame") -> "pandas.Series":
    """The precision each run was asked for, saying *emulated* where its hardware has none."""
    return runs.precision.where(~emulated(runs), runs.precision + " (emulated)")


def emulated(runs: "pandas.DataFrame") -> "pandas.Series":
    """Which runs computed in emulated bf16."""
    return runs.reindex(columns=["precision_emulated"]).precision_emulated == 1


def had_company(runs: "pandas.DataFrame") -> "pandas.Series":
    """Which runs shared their machine, with another of effml's or with other programs: their joules
    and seconds are not theirs alone, and PePR by energy or time leaves them out."""
    return runs.reindex(columns=["shared", "shared_machine"]).eq(1).any(axis=1)


def heading(column: str, runs: "pandas.DataFrame") -> str:
    """A column's name for people, with its unit, and whether its joules are estimated or its costs
    those of emulated bf16."""
    name, said = UNITS.get(column, column), []
    if column.endswith("_energy_j"):
        counted = [flag == 1 for flag in runs.get("energy_measured", [None])]
        said += [] if all(counted) else ["partly " * any(counted) + "estimated"]
    if column.endswith(("_energy_j", "_seconds")) and (slow := emulated(runs)).any():
        said += ["partly " * (not slow.all()) + "emulated bf16"]
    return f"{name} ({', '.join(said)})" if said else name


def over_seeds(
    runs: "pandas.DataFrame",
    columns: Sequence[str],
    *,
    by: Sequence[str] = ("data", "model", "precision"),
    digits: int = 3,
) -> "pandas.DataFrame":
    """Mean over seeds with its 95 % interval (Student's t) in brackets; failed runs are counted.

    Args:
        runs: A table of `load_runs`.
        columns: What to average, such as test_auroc, train_seconds.
        by: Fields that tell the rows apart: a row stands for one recipe but for its seed.
        digits: Decimals.

    Returns:
        A row per combination of `by`; with several machines also of these, a level of the index.

    Raises:
        ValueError: The runs of a row differ in more than the seed.

    Example:
        >>> recipes = effml.grid(effml.Recipe(model="mlp", epochs=1), seed=[0, 1])
        >>> table = effml.over_seeds(effml.sweep(recipes, "mine"), ["test_auroc"])
        >>> table.index.tolist(), table.seeds.tolist()
        ([('phantom-chest (phantom)', 'mlp', 'fp32')], [2])
    """
    import pandas

    levels, groups = seed_groups(runs, by)
    rows = {}
    for name, group in groups.items():
        ok = group[group.status == "ok"]
        row: dict[str, Any] = {"seeds": ok.seed.nunique() if "seed" in ok else len(ok)}
        if failed := len(group) - len(ok):
            row["failed"] = failed
        for column in columns:
            top = 1.0 if column.startswith(("test_", "val_")) else math.inf
            row[heading(column, runs)] = spread(of_each_seed(ok, column), digits, top=top)
        rows[name] = pandas.Series(row)
    return pandas.DataFrame(rows).T.rename_axis(levels)


def seed_groups(
    runs: "pandas.DataFrame", by: Sequence[str]
) -> "tuple[list[str], dict[tuple, pandas.DataFrame]]":
    """`by`, and the runs of each of its combinations: of one recipe but for the seed, on one
    machine. Where there are several, "machine" is the last of `by`. ValueError as `over_seeds`."""
    by = [by] if isinstance(by, str) else list(by)
    runs = runs.assign(data=data_label(runs)) if "data_phantom" in runs else runs
    runs = runs.assign(precision=precision_label(runs)) if "precision" in runs else runs
    asked = [field.name for field in fields(Recipe) if field.name not in ("seed", *by)]
    for name, group in runs.groupby(by, sort=False, dropna=False):
        _refuse_others(group, asked, dict(zip(by, name)))
    where = [name for name in MACHINE if name != "threads_used" or "threads" not in by]
    ok, names = runs[runs.status == "ok"], None
    if set(MACHINE) <= set(runs) and len(machines := ok[where].drop_duplicates()) > 1:
        names = runs.device_name.fillna("unknown")
        if machines.device_name.duplicated().any():
            threads = runs.threads_used.astype(float).map("{:.0f}".format)
            names = names + " (" + runs.cpu_flags.astype(str) + ", " + threads + " threads)"
    if names is not None and "machine" not in by:
        runs, by = runs.assign(machine=names), [*by, "machine"]
    groups = dict(iter(runs.groupby(by, sort=False, dropna=False)))
    for name, group in groups.items():
        _refuse_others(group[group.status == "ok"], [*_SAW, *where], dict(zip(by, name)))
    return by, groups


_SAW = ("data_sha256", "weights_sha256", "teacher_sha256", "numerics", "precision_used")
"""What a run of the same recipe may have seen or done otherwise."""


def _refuse_others(group: "pandas.DataFrame", names: Sequence[str], where: dict[str, Any]) -> None:
    """ValueError where one of the columns `names` has more than one value."""
    told = {name: group[name].dropna().unique() for name in names if name in group}
    differ = {n: v for n, v in told.items() if len(v) > 1 and not _goes_by_seed(group, n)}
    if differ:
        these = ", ".join(f"{name}={value}" for name, value in where.items())
        values = ", ".join(f"{n} ({', '.join(map(str, v[:4]))})" for n, v in differ.items())
        raise ValueError(
            f"The runs of {these} differ in more than the seed: in {values}. Add "
            f"{' and '.join(differ)} to by, or pick the runs of one value."
        )


def _goes_by_seed(group: "pandas.DataFrame", column: str) -> bool:
    """Whether these are the runs that each seed builds on: ids that differ with the seed alone."""
    field = column.removesuffix("_sha256")
    if field not in ("weights", "teacher") or not {field, "seed"} <= set(group):
        return False
    ids = group[field].str.fullmatch("r[0-9a-f]{10}").all() and group[field].nunique() > 1
    return bool(ids and (group.groupby("seed")[column].nunique() <= 1).all())


def of_each_seed(runs: "pandas.DataFrame", column: str) -> "pandas.Series":
    """A column with one value per seed: a run that was done twice is no second seed."""
    if "seed" not in runs or runs.seed.is_unique:
        return runs[column]
    values = runs[column].astype(float).groupby(runs.seed)
    return values.agg(lambda of_one: of_one.mean(skipna=False))
