"""What was asked: whether the options make sense, and the rows that a table or folders name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from effml.importing.duplicates import ACTIONS
from effml.importing.folders import by_folders, masks_beside, pair_masks
from effml.importing.looking import NIFTI, SUFFIXES, Job, pictures_in
from effml.importing.output import npz_path
from effml.importing.partition import WAYS
from effml.importing.pictures import check_how
from effml.importing.table import filled, rows_of
from effml.importing.volumes import volumes_of
from effml.importing.words import counted
from effml.machine import choose

if TYPE_CHECKING:
    import pandas as pd


def check(job: Job) -> Job:
    """`job`, ready for work. Raises ValueError if an option is wrong, and as `npz_path` does."""
    job.out, job.refused, job.notes = npz_path(job.out), [], []
    choose("split_by", job.split_by, WAYS)
    choose("copies", job.copies, ACTIONS)
    check_how(size=job.size, window=job.window, colour=job.colour, fit=job.fit)
    parts = job.fractions
    if len(parts) != 3 or not min(parts) >= 0 or not parts[0] or abs(sum(parts) - 1) > 1e-6:
        advice = "give three that add up to 1, for train (not 0), val and test, such as"
        raise ValueError(f"fractions={parts}: {advice} fractions=(0.7, 0.1, 0.2).")
    return job


def rows_asked(job: Job) -> tuple["pd.DataFrame", dict[str, Any]]:
    """The rows that the table or the folders name, with their masks; and for the passport the names
    of columns, and how many pictures no table names."""
    folder, table = Path(job.folder), job.table
    inner = None if job.masks is None else Path(job.masks).resolve()
    files = pictures_in(job, folder, inner)
    if not files:
        advice = f"Give a folder with {', '.join(SUFFIXES)} files in it or below"
        raise ValueError(f"{folder} holds no pictures. {advice}.")
    if job.volumes or any(name.lower().endswith(NIFTI) for name in files):
        job.volumes = True
        check_how(size=job.size, window=job.window, colour=job.colour, fit=job.fit, volumes=True)
        files = volumes_of(job, folder, files)
    beside = masks_beside(files) if table is None or inner == folder.resolve() else {}
    theirs = {name: files.pop(name) for name in beside}
    if beside and inner is None:
        advice = f'left out here. To import them say masks="{folder}".'
        job.notes.append(f"{_masks_by_name(beside)} {advice}")
    needed = {"label"} if inner is None else set()
    needed |= {"split"} if job.split_by == "column" else set()
    if table is None:
        table = _table_of_folders(job, list(files), needed, beside)
    rows = rows_of(job, files, table, needed)
    named = {ours: str(own) for ours, own in rows.attrs["columns"].items() if ours != own}
    told = {"columns": named} if named else {}
    told["not_in_table"] = len(files) - len(rows) - sum(one["file"] in files for one in job.refused)
    return rows if inner is None else _with_masks(job, rows, theirs, beside), told


def _table_of_folders(
    job: Job, files: list[str], needed: set[str], beside: dict[str, str]
) -> "pd.DataFrame":
    """What the folders say, as a table. Raises ValueError where they do not say what is needed."""
    import pandas as pd

    columns = by_folders(files, Path(job.folder), job.notes, classes="label" in needed)
    if "split" in needed - set(columns):
        raise ValueError(
            f"The folders in {job.folder} are not called train, val and test, as "
            'split_by="column" needs. Give a table with a column split, or other split_by.'
        )
    some = {*columns.get("label", [])} - {None}
    if "label" in needed and len(some) < (2 if beside else 1):
        said = f"The folders in {job.folder} name no two classes"
        if beside:
            said += f'. If the {_masks_by_name(beside)} are the task, say masks="{job.folder}"'
        raise ValueError(f"{said}. Make a folder for each class, or give a table, or masks.")
    return pd.DataFrame({"file": files} | columns, dtype=object)


def _masks_by_name(beside: dict[str, str]) -> str:
    return f"{counted(len(beside), 'mask')} by name, such as {next(iter(beside))},"


def _with_masks(
    job: Job, rows: "pd.DataFrame", there: dict[str, Path], beside: dict[str, str]
) -> "pd.DataFrame":
    """The rows which have a mask, with its path in a column mask."""
    if not beside:
        pictures = {path.resolve() for path in rows.path}
        found = pictures_in(job, Path(job.masks))
        found = volumes_of(job, Path(job.masks), found) if job.volumes else found
        there = {name: path for name, path in found.items() if path.resolve() not in pictures}
        if not there:
            what = "the pictures themselves and no masks" if found else "no masks that can be read"
            raise ValueError(f"The folder of masks, {job.masks}, holds {what}. Give PNG files.")
    hits, how = pair_masks(list(rows.file), list(there), beside)
    if not any(hits):
        like = f"these are called like {rows.file[0]}, the masks like {next(iter(there))}"
        raise ValueError(f"No mask has the name of a picture: {like}. Give them equal names.")
    if how:
        job.notes.append(f"Masks are paired by what is left of the names of {how}.")
    rows = rows.assign(mask=[there[found[0]] if len(found) == 1 else None for found in hits])
    rows = filled(job, rows, ["mask"]).reset_index(drop=True)
    if "label" in rows and rows.label.nunique() == 1:
        job.notes.append(f"All labels are {rows.label[0]}, and left out: the task is the masks.")
        rows = rows.drop(columns="label")
    return rows
