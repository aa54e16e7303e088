"""What is written: the split, the arrays of the .npz, its passport and the report beside it."""

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

import effml
from effml.data.dataset import SPLITS
from effml.importing.copies import sets_of
from effml.importing.duplicates import Copies
from effml.importing.labels import classes_of, sides_of
from effml.importing.looking import Job, refuse
from effml.importing.output import write
from effml.importing.partition import given_sides
from effml.importing.pictures import Pixels
from effml.importing.words import typed

if TYPE_CHECKING:
    import pandas as pd

_INNER = ("file", "path", "mask", "label", "split")  # columns that are no arrays of their own


def finish(
    job: Job, rows: "pd.DataFrame", pixels: Pixels, passport: dict[str, Any]
) -> dict[str, Any]:
    """Look for copies, split, complete `passport`, write `job.out` and its report, which is
    returned. `rows.index` counts rows of `pixels`."""
    by, found = job.split_by, Copies.among(rows, pixels.thumbprints, pixels.masks)
    side = _dealt(job, rows, found)
    said = found.notes(side, job.copies)
    if "split" in rows and by != "column":
        said.append('The given split was not used. Say split_by="column" to keep it.')
    if "group" in rows and by == "image":
        rows = rows.drop(columns="group")
        known = "The split is by image although there are groups, which are left out"
        said.append(f"{known}: one patient may be on two sides.")
    parts = {SPLITS[s]: rows[side == s] for s in np.unique(side[side >= 0])}
    classes, index, why = classes_of(job, rows[side >= 0])
    shares = "/".join(f"{part:g}" for part in job.fractions)
    dealt = {
        "column": f"as the {'folders say' if job.table is None else 'table says'}",
        "date": f"{shares}, earlier days first",
    }
    notes = said + _lacking_sides(parts, by) + job.notes
    passport |= {
        "split": f"by {by}, " + dealt.get(by, f"{shares}, dealt with seed {job.seed}"),
        "counts": {name: len(part) for name, part in parts.items()},
        "refused": len(job.refused),
        "duplicates": found.counts(side),
        "notes": notes,
        "made_with": f"effml {effml.__version__}",
    }
    if classes:
        passport["classes"] = {
            name: {kind: int((part.label == kind).sum()) for kind in classes}
            for name, part in parts.items()
        }
        passport["positive"] = None if index is None else classes[index]
        passport["positive_from"] = why
    if "group" in rows:
        passport["groups"] = {name: int(part.group.nunique()) for name, part in parts.items()}
    refused = sorted(job.refused, key=lambda one: (one["file"], one["reason"]))
    report = {"passport": passport, "refused": refused, **found.report(side)}
    report["files"] = _files(parts)
    arrays = {"passport": np.array(json.dumps(passport, ensure_ascii=False))}
    arrays |= {"label_names": np.array(classes)} if classes else {}
    arrays |= {} if index is None else {"positive": np.array(index)}
    replaced = write(job.out, arrays | _arrays(parts, pixels, classes), report)
    for note in notes + [f"{job.out} replaced an earlier import."] * replaced:
        print(f"import: {typed(note)}", file=sys.stderr)
    return report


def _dealt(job: Job, rows: "pd.DataFrame", found: Copies) -> np.ndarray:
    """The side of every row, or -1 where it is left out, and then it is in `refused`."""
    by = job.split_by
    given = given_sides(rows.split) if by == "column" else None
    gone = found.surplus(given) if job.copies == "drop" else {}
    job.refused += gone.values()
    kept = ~np.isin(np.arange(len(rows)), list(gone))
    if not kept.any():
        said = f"all {len(rows)} pictures are copies with different labels"
        raise ValueError(f'copies="drop" leaves nothing: {said}. Mend the table.')
    share = job.copies == "group"
    units = rows.group.to_numpy(str) if by == "group" and "group" in rows else np.arange(len(rows))
    together = sets_of(found.pairs, units) if share else None
    side = np.full(len(rows), -1)
    side[kept] = sides_of(job, rows[kept], together)
    late = rows.file[kept & (side < 0)]
    refuse(job, late, "a later image of a patient who is on an earlier side")
    if share and (apart := found.apart(side)).any():
        where = f" on different sides of the split by {by}"
        said = found.said(apart, "are", where, most=10)
        raise ValueError(f"{said}. Mend that column of the table, or say --copies drop.")
    return side


def _lacking_sides(parts: dict[str, "pd.DataFrame"], split_by: str) -> list[str]:
    """What a user must know of sides without pictures."""
    if need := [name for name in ("train", "test") if name not in parts]:
        return [f"There are no pictures for {' and '.join(need)}, which a run needs."]
    if "val" not in parts and split_by == "column":
        return ["There are no pictures for val: a run then keeps its last epoch, not its best."]
    return []


def _files(parts: dict[str, "pd.DataFrame"]) -> list[dict[str, Any]]:
    """Which file is in which row of which split, with its label and group."""
    return [
        {"file": one["file"], "split": name, "row": row}
        | {key: one[key] for key in ("label", "group") if key in one}
        for name, part in parts.items()
        for row, one in enumerate(part.to_dict("records"))
    ]


def _arrays(parts: dict[str, "pd.DataFrame"], pixels: Pixels, classes: list[str]) -> dict[str, Any]:
    """What every split has, by its name in the file; of pixels all rows, and which to take."""
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays[f"{name}_images"] = pixels.images, part.index.to_numpy()
        if pixels.masks is not None:
            arrays[f"{name}_masks"] = pixels.masks, part.index.to_numpy()
        if pixels.spacing is not None:
            arrays[f"{name}_spacing"] = pixels.spacing, part.index.to_numpy()
        if classes:
            arrays[f"{name}_labels"] = part.label.map(classes.index).to_numpy(np.uint8)[:, None]
        arrays[f"{name}_files"] = part.file.to_numpy(str)
        for column in part.columns.difference(_INNER, sort=False):
            key = "groups" if column == "group" else column
            arrays[f"{name}_{key}"] = part[column].to_numpy(str)
    return arrays
