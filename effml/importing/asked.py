"""What was asked: whether the options make sense, and the rows that a table or folders name."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from effml.importing.duplicates import ACTIONS
from effml.importing.folders import by_folders, masks_beside, other_files, pair_masks
from effml.importing.output import npz_path
from effml.importing.partition import WAYS
from effml.importing.pictures import SUFFIXES, check_how
from effml.importing.table import Refused, filled, pictures_in, rows_of
from effml.importing.words import counted

if TYPE_CHECKING:
    import pandas as pd

Asked = SimpleNamespace  # the arguments of `import_folder`, by their names


def check(asked: Asked) -> Asked:
    """The same. Raises ValueError if an option is wrong, and what `npz_path` raises."""
    npz_path(asked.out)
    for name, allowed in (("split_by", WAYS), ("copies", ACTIONS)):
        if (value := getattr(asked, name)) not in allowed:
            raise ValueError(f"Unknown {name} {value!r}. Choose from: {', '.join(allowed)}")
    check_how(size=asked.size, window=asked.window, colour=asked.colour, fit=asked.fit)
    parts = asked.fractions
    if len(parts) != 3 or not min(parts) >= 0 or not parts[0] or abs(sum(parts) - 1) > 1e-6:
        raise ValueError(
            f"fractions={parts}: give three that add up to 1, for train (not 0), val and test, such "
            "as fractions=(0.7, 0.1, 0.2)."
        )
    return asked


def rows_asked(
    asked: Asked, refused: Refused, notes: list[str]
) -> tuple["pd.DataFrame", dict[str, Any]]:
    """The rows that the table or the folders name, with their masks; and for the passport how many
    pictures no table names, and which of its columns have other names.
    """
    folder, table = Path(asked.folder), asked.table
    inner = None if asked.masks is None else Path(asked.masks).resolve()
    files = pictures_in(folder, refused, without=inner)
    if not files:
        kinds, there = ", ".join(SUFFIXES), other_files(folder)
        advice = f"Give a folder with {kinds} files in it or below (there: {there})."
        raise ValueError(f"{folder} holds no pictures. {advice}")
    beside = masks_beside(files) if table is None or inner == folder.resolve() else {}
    theirs = {name: files.pop(name) for name in beside}
    if beside and inner is None:
        how = f'left out here. To import them say masks="{folder}"'
        notes.append(f"{_masks_by_name(beside)}, {how}.")
    needed = {"label"} if inner is None else set()
    needed |= {"split"} if asked.split_by == "column" else set()
    if table is None:
        table = _table_of_folders(list(files), folder, needed, beside, notes)
    rows = rows_of(files, table, asked.columns or {}, folder, needed=needed, refused=refused)
    if other := rows.attrs["other_case"]:
        found = f"{counted(len(other), 'file')}, such as {other[0]}"
        notes.append(f"Found by their names in other case: {found}.")
    named = {ours: str(own) for ours, own in rows.attrs["columns"].items() if ours != own}
    told = {"columns": named} if named else {}
    told["not_in_table"] = len(files) - len(rows) - sum(one["file"] in files for one in refused)
    if inner is not None:
        rows = _with_masks(rows, Path(asked.masks), theirs, beside, refused, notes)
    return rows, told


def _table_of_folders(
    files: list[str], folder: Path, needed: set[str], beside: dict[str, str], notes: list[str]
) -> "pd.DataFrame":
    """What the folders say, as a table. Raises ValueError where they do not say what is needed."""
    import pandas as pd

    columns = by_folders(files, folder, notes, classes="label" in needed)
    if "split" in needed - set(columns):
        raise ValueError(
            'split_by="column" asks for a split, but there is no table, and the folders in '
            f"{folder} are not called train, val and test. Give a table with a column split, or "
            "another split_by."
        )
    labels = columns.get("label", [])
    if "label" in needed and beside and len(set(labels) - {None}) < 2:
        raise ValueError(
            f"No folders in {folder} name two classes, and {_masks_by_name(beside)}. If the masks "
            f'are the task, say masks="{folder}"; else give a table with the columns file and label.'
        )
    if "label" in needed and not any(labels):
        raise ValueError(
            f"No picture in {folder} has a class: without a table its class is the name of the "
            "folder it lies in. Put each class into a folder of its own, or give a table with the "
            "columns file and label, or masks."
        )
    return pd.DataFrame({"file": files} | columns, dtype=object)


def _masks_by_name(beside: dict[str, str]) -> str:
    what = "masks by their names" if len(beside) > 1 else "a mask by its name"
    return f"{counted(len(beside), 'file', 'are')} {what}, such as {next(iter(beside))}"


def _with_masks(
    rows: "pd.DataFrame",
    folder: Path,
    there: dict[str, Path],
    beside: dict[str, str],
    refused: Refused,
    notes: list[str],
) -> "pd.DataFrame":
    """The rows which have a mask, with its path in a column mask; `there` and `beside` where masks
    lie among pictures.
    """
    if not beside:
        pictures = {path.resolve() for path in rows.path}
        found = pictures_in(folder, refused)
        there = {name: path for name, path in found.items() if path.resolve() not in pictures}
        if not there:
            what = f"masks that can be read ({other_files(folder)}). Save them as PNG"
            what = (
                "the pictures themselves and no masks. Give the folder of masks" if found else what
            )
            none = "" if found else "no "
            raise ValueError(f"The folder of masks, {folder}, holds {none}{what}.")
    hits, how = pair_masks(list(rows.file), list(there), beside)
    if not any(hits):
        raise ValueError(
            f"No mask has the name of a picture. The pictures are called like {rows.file[0]}, the "
            f"masks like {next(iter(there))}. Give masks the stems of their pictures, with one "
            "ending after all of them if any."
        )
    if how:
        notes.append(f"Masks are paired by what is left of the names of {how}.")
    rows = rows.assign(mask=[there[found[0]] if len(found) == 1 else None for found in hits])
    rows = filled(rows, {"mask"}, refused).reset_index(drop=True)
    if "label" in rows and rows.label.nunique() == 1:
        notes.append(f"All labels are {rows.label[0]} and were left out: the task is the masks.")
        rows = rows.drop(columns="label")
    return rows
