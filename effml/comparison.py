"""`compare`: everything that tells two runs on the same data apart, in one sheet. Torch-free."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.evaluation import (
    Difference,
    Scores,
    agreement,
    evaluate,
    mcnemar,
    non_inferiority,
    operating_point,
    paired_auroc,
    paired_proportions,
    paired_scores,
)
from effml.results import MACHINE, emulated, load_arrays, load_runs

if TYPE_CHECKING:
    import pandas

COSTS = ("train_seconds", "train_energy_j", "infer_seconds", "model_file_bytes")
COLUMNS = ["a", "b", "difference", "low", "high", "p", "verdict", "ratio", "note"]
_NEEDED = ("test_probabilities", "test_labels")


def compare(
    run_a: Any,
    run_b: Any,
    *,
    store: str | os.PathLike = "results/local",
    margin: float = 0.01,
    aim: str = "screening",
    positive: int | None = None,
) -> "pandas.DataFrame":
    """Is B (small, fast) as good as A (the reference) on the same test images, and what does it save? One row per measure.

    `run_a` and `run_b` are rows of `load_runs(store)`, or a run_id or recipe_id in it; their arrays lie in `store`. Columns:
    a, b, difference = b - a with its paired 95 % interval low, high and two-sided p; verdict, `non_inferiority` with `margin`
    where higher is better; ratio = b / a for costs; note. What does not apply is NaN, or empty.

    Binary runs answer at a threshold chosen on each run's own validation split for `aim` (see `operating_point`), and B also
    at that of A, since compression shifts scores; `positive` is found by rescoring the record, and asked for where both
    classes fit it. Other tasks answer by arg max, or each label at 0.5. Intervals: AUROC DeLong; shares of right answers
    Tango, p McNemar; balanced accuracy, Brier and ECE (lower is better) percentile bootstrap, 2 000 stratified by class.

    ValueError on runs of different data (SHA-256 or labels), on runs not ok, and on runs from before effml kept labels."""
    import pandas

    rows = [_row(run, store) for run in (run_a, run_b)]
    if rows[0]["data_sha256"] != rows[1]["data_sha256"]:
        seen = [f"{_name(row)} saw {row['data']} ({str(row['data_sha256'])[:12]}…)" for row in rows]
        raise ValueError(
            f"{' and '.join(seen)}: only runs on the same data can be paired. Run one recipe on the other's data."
        )
    arrays = [_arrays(row, store) for row in rows]
    (p_a, p_b), labels = (
        (found["test_probabilities"].astype(float) for found in arrays),
        arrays[0]["test_labels"],
    )
    if not np.array_equal(labels, arrays[1]["test_labels"]):
        raise ValueError(
            "The two runs have different test labels in spite of one SHA-256: run both recipes again."
        )
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    task = "multi-label" if labels.ndim == 2 else "multi-class"
    if task == "multi-class" and np.isfinite(_number(rows[0]["test_prevalence"])):
        task, positive = "binary", _positive(rows[0], p_a, labels) if positive is None else positive
    points = [_point(found, positive, aim) if task == "binary" else (None, "") for found in arrays]
    sheet = _quality(p_a, p_b, labels, task, positive, points, margin)
    sheet |= _costs(rows)
    table = pandas.DataFrame.from_dict(sheet, orient="index", columns=COLUMNS).rename_axis(
        "measure"
    )
    return table.fillna({"verdict": "", "note": ""})


def _costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A row of the sheet for each of COSTS, with what speaks against comparing them."""
    import pandas

    notes = {
        "measured on different machines": any(str(rows[0][n]) != str(rows[1][n]) for n in MACHINE),
        "bf16 was emulated: no word on a saving": emulated(pandas.DataFrame(rows)).any(),
    }
    note = "; ".join(text for text, holds in notes.items() if holds)
    found = {}
    for name in COSTS:
        a, b = (_number(row[name]) for row in rows)
        ratio = b / a if a else np.nan
        found[name] = {"a": a, "b": b, "ratio": ratio, "note": note * (name != "model_file_bytes")}
    return found


def _quality(
    p_a: np.ndarray,
    p_b: np.ndarray,
    labels: np.ndarray,
    task: str,
    positive: int | None,
    points: list[tuple[float | None, str]],
    margin: float,
) -> dict[str, dict[str, Any]]:
    (cut_a, note_a), (cut_b, note_b) = points
    kind: dict[str, Any] = {"task": task, "positive": positive}
    a, b = (evaluate(p, labels, thresholds=cut, **kind) for p, cut in ((p_a, cut_a), (p_b, cut_b)))
    sheet = {
        "auroc": _judged(paired_auroc(p_a, p_b, labels, **kind), margin, "; ".join(a.notes)),
        "average_precision": _plain(a, b, "average_precision"),
    }
    if task == "binary":
        notes = [f"{name}: {note}" for name, note in (("A", note_a), ("B", note_b)) if note]
        sheet["threshold"] = _plain(a, b, "threshold", "; ".join(notes))
    if task != "multi-label":
        answers = (
            _answers(p, cut, positive) for p, cut in ((p_a, cut_a), (p_b, cut_b), (p_b, cut_a))
        )
        sheet |= _answered(*answers, labels, positive, margin)
    scores = paired_scores(p_a, p_b, labels, thresholds=(cut_a, cut_b), **kind)
    sheet["balanced_accuracy"] = _judged(scores["balanced_accuracy"], margin)
    sheet |= {
        name: {**asdict(scores[name]), "note": "lower is better"} for name in ("brier", "ece")
    }
    sheet["worst_class_recall"] = _plain(
        a, b, "worst_class_recall", f"A: class {a.worst_class:g}, B: class {b.worst_class:g}"
    )
    return sheet


def _answered(
    a: np.ndarray,
    b: np.ndarray,
    b_at_a: np.ndarray,
    labels: np.ndarray,
    positive: int | None,
    margin: float,
) -> dict[str, dict[str, Any]]:
    """What class indices (N,) tell apart: those of A, of B, and of B at the threshold of A."""
    right_a, right_b, right_b_at_a = a == labels, b == labels, b_at_a == labels
    sheet, test, both = {}, mcnemar(right_a, right_b), agreement(a, b, labels)
    for name, these in (
        (("sensitivity", labels == positive), ("specificity", labels != positive))
        if positive is not None
        else ()
    ):
        sheet[name] = _judged(paired_proportions(right_a[these], right_b[these]), margin)
        sheet[f"{name} at A's threshold"] = _judged(
            paired_proportions(right_a[these], right_b_at_a[these]), margin
        )
    note = f"McNemar, {test.method}: only A right {test.only_a}, only B right {test.only_b}"
    sheet["accuracy"] = _judged(paired_proportions(right_a, right_b), margin, note)
    each = both.drop(index="all")
    worst, least = each.change.idxmin(), each.agreement.idxmin()
    change = paired_proportions(right_a[labels == worst], right_b[labels == worst])
    sheet["worst change of a class's recall"] = {
        **asdict(change),
        "p": np.nan,
        "note": f"class {worst}, named after looking",
    }
    sheet["agreement"] = {
        "b": both.agreement["all"],
        "low": both.agreement_low["all"],
        "high": both.agreement_high["all"],
        "note": f"share of equal answers; the least in class {least}, {each.agreement[least]:.3f}",
    }
    return sheet


def _judged(found: Difference, margin: float, note: str = "") -> dict[str, Any]:
    return {
        **asdict(found),
        "verdict": non_inferiority(found.low, found.high, margin),
        "note": note,
    }


def _plain(a: Scores, b: Scores, name: str, note: str = "") -> dict[str, Any]:
    return {
        "a": getattr(a, name),
        "b": getattr(b, name),
        "difference": getattr(b, name) - getattr(a, name),
        "note": note,
    }


def _answers(p: np.ndarray, cut: float | None, positive: int | None) -> np.ndarray:
    """Class indices (N,)."""
    if positive is None:
        return p.argmax(axis=1)
    chance = p[:, positive] if p.ndim == 2 and p.shape[1] == 2 else p.ravel()
    return np.where(chance >= (0.5 if cut is None else cut), positive, 1 - positive)


def _point(
    arrays: Mapping[str, np.ndarray], positive: int | None, aim: str
) -> tuple[float | None, str]:
    if "val_labels" not in arrays:
        return None, "no validation split to choose on, 0.5 taken"
    point = operating_point(
        arrays["val_probabilities"], arrays["val_labels"], positive=positive, aim=aim
    )
    return point.threshold, "; ".join(point.notes)


def _positive(row: Mapping[str, Any], p: np.ndarray, labels: np.ndarray) -> int:
    """The class for which the record's scores come out again."""
    names = ("prevalence", "sensitivity", "specificity")
    told = [_number(row[f"test_{name}"]) for name in names]
    fits = []
    for positive in (0, 1):
        scores = evaluate(
            p, labels, task="binary", positive=positive, thresholds=_number(row["test_threshold"])
        )
        fits += [positive] * np.allclose(
            told, [getattr(scores, name) for name in names], atol=1e-6, equal_nan=True
        )
    if len(fits) == 1:
        return fits[0]
    raise ValueError(
        f"{_name(row)}: "
        + (
            f"both classes fit its scores: pass the positive one of {row['data']}, positive=0 or 1."
            if fits
            else "its arrays do not give the scores of its record: run its recipe again."
        )
    )


def _row(run: Any, store: str | os.PathLike) -> Any:
    if isinstance(run, str):
        runs = load_runs(store)
        found = runs[(runs.run_id == run) | (runs.recipe_id == run)]
        if found.empty:
            raise ValueError(
                f"{store} holds no run {run!r}. Choose from: {', '.join(runs.run_id.dropna()) or '(it is empty)'}"
            )
        fine = found[found.status == "ok"]  # another machine may have failed since
        run = (found if fine.empty else fine).iloc[-1]
    if run["status"] != "ok":
        raise ValueError(
            f"{_name(run)} is not ok but {run['status']} ({run['reason']}): compare runs that finished."
        )
    return run


def _arrays(row: Mapping[str, Any], store: str | os.PathLike) -> dict[str, np.ndarray]:
    try:
        arrays = load_arrays(store, row["run_id"])
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{_name(row)} left no {row['run_id']}.npz in {store}: name the store it was run into, copy the "
            "file there, or run its recipe again."
        ) from None
    if arrays["test_probabilities"].ndim > 2:
        raise ValueError(
            f"{_name(row)} draws masks, and compare is for classes: put evaluate_masks of both side by side."
        )
    if missing := [name for name in _NEEDED if name not in arrays]:
        raise ValueError(
            f"{_name(row)} was made by an older effml, which kept no {', '.join(missing)}: run its recipe again, "
            "into a new store."
        )
    return arrays


def _name(row: Mapping[str, Any]) -> str:
    return f"run {row['run_id']} ({row['model']}, {row['precision']})"


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
