"""`python -m effml predict`: what a finished model says of a folder of pictures."""

import csv
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from effml.data import Split
from effml.deployment.predict_template import answered, safe
from effml.experiment.trained_model import TrainedModel, load_run
from effml.machine import whole_file
from effml.results import load_arrays

BATCH = 256


def predict_folder(
    run_id: str,
    folder: str | os.PathLike,
    *,
    out: str | os.PathLike,
    store: str | os.PathLike = "results/local",
    force: bool = False,
) -> int:
    """Write a line for each picture in `folder` and below to `out`, a CSV: its file, the
    probability of each class, the answers and in a note what was converted, or the reason why there
    are none. A ' stands before what a spreadsheet would run as a formula. Returns 1 where a picture
    has none, else 0."""
    from effml.importing.looking import passed_over, pictures_in
    from effml.importing.volumes import volumes_of

    out, refused = Path(out), []
    if out.suffix.lower() != ".csv" or out.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{out}: give --out a name that ends in .csv, outside of {folder}.")
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already. Give another --out, or --force.")
    trained, moved = midway(load_run(run_id, store), Path(store))
    if trained.task == "segmentation":
        raise ValueError(
            f"{trained.run_id} answers with masks: deploy it, its predict.py writes them."
        )
    job = SimpleNamespace(refused=refused)
    files = pictures_in(job, Path(folder))
    others = passed_over(Path(folder), files)
    if len(trained.image_shape) == 4:
        files = volumes_of(job, Path(folder), files)
    if not files:
        raise FileNotFoundError(f"There is no picture in {folder} or below: give another folder.")
    for told in (*trained.notes, *filter(None, [moved, others])):
        print(f"effml: {told}", file=sys.stderr)
    rows, names = refused, list(files.items())
    for start in range(0, len(names), BATCH):
        rows += _rows(trained, dict(names[start : start + BATCH]))
    if odd := safe(rows):
        told = "cell(s) that a spreadsheet may run as a formula: a ' was put before each"
        print(f"effml: {odd} {told}", file=sys.stderr)
    columns = ["file", *_answered(trained, np.zeros(len(trained.classes))), "note", "reason"]
    with whole_file(out) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    missing = sum("reason" in row for row in rows)
    why = "; its column reason says why the others have none" * (missing > 0)
    print(f"{len(rows) - missing} of {len(rows)} pictures have an answer: {out}{why}")
    return int(missing > 0)


def midway(
    trained: TrainedModel, store: Path, val: Split | None = None
) -> tuple[TrainedModel, str]:
    """The same with each threshold midway between the two probabilities of validation that it
    parts, and that in words: the answers there are the run's, and no rounding of another engine
    changes one. Where the run kept no probabilities and `val` is not given, they stay."""
    known = {name: cut for name, cut in trained.thresholds.items() if cut == cut}
    p = None
    with suppress(FileNotFoundError):
        p = load_arrays(store, trained.run_id).get("val_probabilities") if known else None
    if known and p is None and val is not None:
        p = trained.predict(val)
    if p is None:
        kept = (
            "Thresholds are the run's own: it kept no probabilities of validation to move them by"
        )
        return trained, kept * bool(known)
    p = p[:, trained.positive].astype(float).clip(0, 1)
    moved = {
        name: float(p[p < cut].max(initial=0) + p[p >= cut].min(initial=1)) / 2
        for name, cut in known.items()
    }
    names = ", ".join(f"{name} {cut:.6g} to {moved[name]:.6g}" for name, cut in known.items())
    told = "Thresholds were moved to the middle between the validation probabilities that they part"
    both = "where no answer changes, by `effml predict` and `effml deploy` alike"
    return replace(trained, thresholds=trained.thresholds | moved), f"{told}, {both}: {names}"


def _rows(trained: TrainedModel, files: dict[str, Path]) -> list[dict[str, Any]]:
    """A row for each file, by relative name."""
    rows, images = [], []
    for name, path in files.items():
        rows.append({"file": name})
        told: list[str] = []
        try:
            images.append(trained.read(path, told))
            rows[-1]["note"] = "; ".join(told)
        except (ValueError, OSError, ImportError) as error:
            rows[-1]["reason"] = str(error).removeprefix(f"{path} ").partition("\n")[0]
    fine = [row for row in rows if "reason" not in row]
    for row, p in zip(fine, trained.predict(np.stack(images)) if images else ()):
        row |= _answered(trained, p)
    return rows


def _answered(trained: TrainedModel, p: np.ndarray) -> dict[str, str]:
    """By column the probabilities `p` (K,) and the answers; a threshold that is NaN gives none."""
    return answered(p, trained.task, trained.classes, trained.positive, trained.thresholds)
