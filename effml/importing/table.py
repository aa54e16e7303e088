"""What lies in a folder and what a table says of it: one row of text per picture."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from effml.importing.delimited import read_csv
from effml.importing.looking import SUFFIXES, Job, refuse
from effml.importing.words import bare, counted

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = {name: (name,) for name in ("file", "label", "group", "site", "date", "split")}
_COLUMNS |= {"file": ("file", "image", "filename"), "group": ("group", "patient", "patient_id")}
# arrays that no column may be called
_OURS = ("images", "labels", "masks", "groups", "files", "spacing")
_LOST = "named in the table, and no picture in the folder"
_FOLDER = "it is a folder: say --volumes (volumes=True) where each folder is a series of slices"
_MISSING = {"date": "no date as YYYY-MM-DD", "mask": "no mask of its name, or more than one"}


def finder(files: Iterable[str]) -> Callable[[str], list[str]]:
    """A function from a name in a table to the files it may mean.

    Tried in turn: the relative path and the mere name, each also without an extension; then the
    same in any case. So tables from another machine, with other folders, still fit.
    """
    files, index, folds = set(files), defaultdict(set), (str, str.casefold)
    for file in files:
        low = _low(file)
        for key in (str(low), low.name, bare(str(low)), bare(low.name)):
            for fold in folds:
                index[fold, fold(key)].add(file)

    def find(name: str) -> list[str]:
        if name in files:
            return [name]
        keys = ((fold, fold(key)) for fold in folds for key in (str(_low(name)), _low(name).name))
        return sorted(next((index[key] for key in keys if key in index), ()))

    return find


def rows_of(
    job: Job, files: dict[str, Path], table: "str | os.PathLike | pd.DataFrame", needed: set[str]
) -> "pd.DataFrame":
    """One row per picture, sorted by file: file and path (from `files`), the other _COLUMNS there
    are and those of `job.columns`, as text; attrs["columns"] says what the table calls them.

    Rows without a file, or without a value in label, group or a column of `needed`, are refused.
    Raises ValueError if columns are missing or two rows mean one file.
    """
    import pandas as pd

    frame = table if isinstance(table, pd.DataFrame) else read_csv(table)
    chosen = _chosen(list(frame.columns), job.columns or {}, needed)
    if frame.empty:
        raise ValueError("The table has column names and no rows. Give a row per picture.")
    values = {ours: [_text(value) for value in frame[theirs]] for ours, theirs in chosen.items()}
    rows, find = pd.DataFrame(values, dtype=object), finder(files)
    means = [find(name) if name else [] for name in rows.file]
    folders = {file.rpartition("/")[0] for file in files}
    for named, hits in zip(rows.file, means):
        reason = f"{len(hits)} files have this name: give the path in the folder"
        path = PureWindowsPath(named or "(no file name)")  # knows both kinds of slash
        own = path.name if path.anchor else path.as_posix()  # no foreign folders
        lost = _FOLDER if own in folders else _LOST
        refuse(job, [own] * (len(hits) != 1), reason if hits else lost)
    rows["file"] = [hits[0] if len(hits) == 1 else None for hits in means]
    rows = rows.dropna(subset="file")
    if len(twice := rows.file[rows.file.duplicated()].unique()):
        some = f"{', '.join(twice[:5])} ({counted(len(twice), 'file')})"
        said = f"The table has two rows or more for {some}"
        raise ValueError(f"{said}. Keep one each.")
    rows = filled(job, rows, needed | {"label", "group"} & set(rows)).fillna("")
    rows = rows.sort_values("file", ignore_index=True)
    rows = rows.assign(path=rows.file.map(files))
    rows.attrs["columns"] = chosen
    return rows


def filled(job: Job, rows: "pd.DataFrame", columns: Iterable[str]) -> "pd.DataFrame":
    """The rows with a value in each of `columns`; the others are refused."""
    for column in sorted(columns):
        missing = rows[column].isna() | (rows[column] == "")
        refuse(job, rows.file[missing], _MISSING.get(column, f"no {column}"))
        rows = rows[~missing]
    return rows


def _chosen(there: list[str], columns: dict[str, str], needed: set[str]) -> dict[str, str]:
    """{our name: the table's name} for the columns that are used."""
    its = f"Its columns: {', '.join(map(str, there))}."
    if pictures := [name for name in there if str(name).lower().endswith(SUFFIXES)]:
        said = f"The first line of the table holds {pictures[0]}, a picture"
        raise ValueError(f"{said}. Write the names of columns above it: file,label,group.")
    if missing := [f"{own} (for {ours})" for ours, own in columns.items() if own not in there]:
        raise ValueError(f"The table has no column {', '.join(missing)}. {its}")
    if bad := [ours for ours in columns if not ours.isidentifier() or ours in _OURS]:
        menu = f"{', '.join(_COLUMNS)}, or another plain word"
        raise ValueError(f"columns cannot name {', '.join(bad)}. Choose from: {menu}.")
    low = defaultdict(list)
    for name in there:
        low[str(name).strip().lower()].append(name)
    found = {
        ours: [columns[ours]] * there.count(columns[ours])
        if ours in columns
        else next((low[name] for name in _COLUMNS[ours] if name in low), [])
        for ours in _COLUMNS | columns
    }
    if twice := [ours for ours, names in found.items() if len(names) > 1]:
        said = f"The table has two columns {found[twice[0]][0]} (for {twice[0]})"
        raise ValueError(f"{said}. {its} Rename or delete one.")
    if missing := sorted(name for name in {"file"} | needed if not found[name]):
        raise ValueError(
            f"The table has no column {', '.join(missing)}. {its} Rename them, or say "
            f"columns={{'{missing[0]}': 'NAME'}} with the name in the table."
        )
    return {ours: names[0] for ours, names in found.items() if names}


def _text(value: Any) -> str | None:
    """A field as text without space around it; None if it is empty, or a data frame's NA."""
    import pandas as pd

    if not isinstance(value, str) and pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return unicodedata.normalize("NFC", str(value)).strip() or None


def _low(name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    ours = next((one for one in SUFFIXES[::-1] if path.name.lower().endswith(one)), "")
    return path.with_name(path.name[: len(path.name) - len(ours)] + ours)
