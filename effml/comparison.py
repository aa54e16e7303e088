"""`compare`: everything that tells two runs on the same data apart, in one sheet. Torch-free."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.evaluation import compare_predictions, evaluate, operating_point
from effml.results import MACHINE, emulated, had_company, load_arrays, load_runs

if TYPE_CHECKING:
    import pandas

COSTS = ("train_seconds", "train_energy_j", "infer_seconds", "model_file_bytes")
COLUMNS = ["a", "b", "difference", "low", "high", "p", "verdict", "ratio", "note"]
Arrays = Mapping[str, np.ndarray]


def compare(
    run_a: Any,
    run_b: Any,
    *,
    store: str | os.PathLike = "results/local",
    margin: float = 0.01,
    aim: str = "screening",
    positive: int | None = None,
) -> "pandas.DataFrame":
    """Is run B as good as run A on the same test images, and what does it save? A row per measure.

    Binary runs answer at a threshold chosen on their own validation split, and B also at that of A,
    since compression shifts scores. Other tasks answer by arg max, or each label at 0.5.

    Args:
        run_a: the reference: a row of `load_runs(store)`, or a run_id or recipe_id in it.
        run_b: the run to judge, in the same way.
        store: where their arrays lie.
        margin: the loss that would not matter, for the verdict (`non_inferiority`).
        aim: what the threshold is chosen for, as in `operating_point`.
        positive: the positive class of a binary task, where rescoring the record does not tell.

    Returns:
        DataFrame: the rows and columns of `compare_predictions`, then one row per cost with
        ratio = b / a. What does not apply is NaN, or "". `effml.figures.sheet` draws it. The first
        `effml.run` of a process pays for its start, too: take runs of `effml.sweep` for seconds.

    Raises:
        ValueError: on runs of different data (SHA-256 or labels), not ok, or without labels.

    Example:
        >>> recipe = effml.Recipe(model="mlp", epochs=1)
        >>> runs = effml.sweep([recipe, recipe.but(optimizer="sgd")], "store")
        >>> sheet = effml.compare(*runs.run_id, store="store", positive=1)
        >>> sheet.ratio["model_file_bytes"]
        np.float64(1.0)
    """
    import pandas

    rows = [_row(run, store) for run in (run_a, run_b)]
    arrays = _paired_arrays(rows, store)
    p, q = (found["test_probabilities"].astype(float) for found in arrays)
    labels = arrays[0]["test_labels"]
    how = {"task": "multi-label" if labels.ndim == 2 and labels.shape[1] > 1 else "multi-class"}
    points = []
    if how["task"] == "multi-class" and np.isfinite(_number(rows[0]["test_prevalence"])):
        how |= {"task": "binary", "positive": positive}
        if positive is None:
            how["positive"] = _positive(rows[0], p, labels)
        points = [_point(found, how["positive"], aim) for found in arrays]
        how["threshold"] = [threshold for threshold, _ in points]
    table = compare_predictions(p, q, labels, names=("A", "B"), margin=margin, **how)
    if points:
        notes = [f"{name}: {note}" for name, (_, note) in zip("AB", points) if note]
        table.loc["threshold", "note"] = "; ".join(notes)
    table = pandas.concat([table.rename(columns=str.lower), _costs(rows)])
    return table[COLUMNS].rename_axis("measure").fillna({"verdict": "", "note": ""})


def _paired_arrays(rows: Sequence[Mapping[str, Any]], store: str | os.PathLike) -> list[Arrays]:
    if rows[0]["data_sha256"] != rows[1]["data_sha256"]:
        seen = [f"{_name(row)} saw {row['data']} ({str(row['data_sha256'])[:12]}…)" for row in rows]
        raise ValueError(f"{' and '.join(seen)}: only runs on the same data can be paired.")
    arrays = [_arrays(row, store) for row in rows]
    if not np.array_equal(*(found["test_labels"] for found in arrays)):
        raise ValueError("The runs have different test labels in spite of one SHA-256: run again.")
    return arrays


def _costs(rows: Sequence[Mapping[str, Any]]) -> "pandas.DataFrame":
    """A row of the sheet for each of COSTS, with what speaks against comparing them."""
    import pandas

    both = pandas.DataFrame(rows)
    notes = {
        "measured on different machines": any(str(rows[0][n]) != str(rows[1][n]) for n in MACHINE),
        "bf16 was emulated: no word on a saving": emulated(both).any(),
        "a run shared its machine: no word on its joules": had_company(both).any(),
    }
    note = "; ".join(text for text, holds in notes.items() if holds)
    work = [n for n in ("epochs_run", "train_n") if n in both and both[n].dropna().nunique() > 1]
    uneven = f"the trainings differ in {' and '.join(work)}" * bool(work)
    told = {n: note for n in COSTS if n != "model_file_bytes"}
    for n in COSTS[:2]:
        told[n] = "; ".join(filter(None, [note, uneven]))
    table = pandas.DataFrame([[_number(row[n]) for row in rows] for n in COSTS], COSTS, ["a", "b"])
    table["ratio"] = table.b / table.a.where(table.a != 0)
    return table.assign(note=[told.get(name, "") for name in COSTS])


def _point(arrays: Arrays, positive: int, aim: str) -> tuple[float, str]:
    if "val_labels" not in arrays:
        return 0.5, "no validation split to choose on, 0.5 taken"
    val = arrays["val_probabilities"], arrays["val_labels"]
    point = operating_point(*val, positive=positive, aim=aim)
    return point.threshold, "; ".join(point.notes)


def _positive(row: Mapping[str, Any], p: np.ndarray, labels: np.ndarray) -> int:
    """The class for which the record's scores come out again."""
    names = ("prevalence", "sensitivity", "specificity")
    told, cut = [_number(row[f"test_{name}"]) for name in names], _number(row["test_threshold"])
    fits = []
    for positive in (0, 1):
        scores = evaluate(p, labels, task="binary", positive=positive, thresholds=cut)
        again = [getattr(scores, name) for name in names]
        fits += [positive] * np.allclose(told, again, atol=1e-6, equal_nan=True)
    if len(fits) != 1:
        why = "its arrays do not give the scores of its record: run its recipe again."
        if fits:
            data = row["data"]
            why = f"both classes fit its scores: pass the positive one of {data}, positive=0 or 1."
        raise ValueError(f"{_name(row)}: {why}")
    return fits[0]


def _row(run: Any, store: str | os.PathLike) -> Any:
    if isinstance(run, str):
        runs = load_runs(store)
        found = runs[(runs.run_id == run) | (runs.recipe_id == run)]
        if found.empty:
            menu = ", ".join(runs.run_id.dropna()) or "(it is empty)"
            told = "effml.run keeps no record in its store: give what it returned, or use sweep."
            raise ValueError(f"{store} holds no run {run!r}. Choose from: {menu}. {told}")
        fine = found[found.status == "ok"]  # another machine may have failed since
        run = (found if fine.empty else fine).iloc[-1]
    if run["status"] != "ok":
        what = f"{run['status']} ({run['reason']})"
        raise ValueError(f"{_name(run)} is not ok but {what}: compare runs that finished.")
    return run


def _arrays(row: Mapping[str, Any], store: str | os.PathLike) -> Arrays:
    try:
        arrays = load_arrays(store, row["run_id"])
    except FileNotFoundError:
        lost = f"{_name(row)} left no {row['run_id']}.npz in {store}"
        raise FileNotFoundError(f"{lost}: name the store it was run into, or run again.") from None
    if arrays["test_probabilities"].ndim > 2:
        raise ValueError(f"{_name(row)} draws masks, and compare is for classes.")
    if "test_labels" not in arrays:
        why = "was made by an older effml, which kept no test_labels"
        raise ValueError(f"{_name(row)} {why}: run its recipe again, into a new store.")
    return arrays


def _name(row: Mapping[str, Any]) -> str:
    return f"run {row['run_id']} ({row['model']}, {row['precision']})"


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
